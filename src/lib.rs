//! A microservice chassis made of tower layers.
//!
//! | feature | modules | default |
//! |---|---|---|
//! | `router` | [`router`] | yes |
//! | `resilience` | [`adaptive`], [`balance`], [`breaker`], [`bulkhead`], [`cache`], [`coalesce`], [`deadline`], [`fallback`], [`fault`], [`hedge`], [`mirror`], [`rate_limit`], [`retry`], [`shed`], [`stack`], [`timeout`], [`upstreams`] | yes |
//! | `fault-injection` | [`fault`] can be armed | no |
//! | `axum` | handlers and routers of axum on our routes (`router::interop`) | no |
//! | `redis` | a [`rate_limit`] that instances share through Redis | no |
//! | `observe` | [`access_log`], [`metrics`], [`prometheus`], [`trace`]; [`observe`]: audit, health, events as a stream, output, runtime | yes |
//! | `log`, `otlp`, `profile`, `vcr`, `compress` | modules of [`observe`] by the same name; gzip | no |
//! | `server` | [`server`](mod@server) | yes |
//! | `client` | `client` | no |
//! | `tls` | https in the client | no |
//! | `config` | `config` | no |
//! | `gateway` | `gateway`, `admin`, the binary; switches `log`, `compress` and `otlp` on, with `profile` it can make profiles | no |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
pub use tower_chassis_core::client;
#[cfg(feature = "config")]
pub use tower_chassis_core::config;
#[cfg(feature = "server")]
pub use tower_chassis_core::server;
pub use tower_chassis_core::{
    Body, BoxError, Carrier, Class, Deadline, Endpoint, Events, Gate, Invocation, JudgeLayer, Kind,
    Live, Rejection, RescueLayer, Respond, Verdict, body, boxed, cause, clock, discover, endpoint,
    events, gate, invocation, judge, live, refusal, rejection, rescue, settle, upgrade, verdict,
    wire,
};
#[cfg(feature = "observe")]
pub use tower_chassis_observe as observe;
#[cfg(feature = "observe")]
pub use tower_chassis_observe::{ObserveLayer, access_log, metrics, prometheus, trace};
#[cfg(feature = "resilience")]
pub use tower_chassis_resilience::{
    adaptive, balance, breaker, bulkhead, cache, coalesce, deadline, fallback, fault, hedge, keyed,
    mirror, rate_limit, retry, share, shed, stack, timeout, upstreams,
};
#[cfg(feature = "router")]
pub use tower_chassis_router as router;

#[cfg(feature = "gateway")]
pub mod admin;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod guide;
#[cfg(all(feature = "resilience", feature = "observe"))]
pub mod stacks;

/// The snippets of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
