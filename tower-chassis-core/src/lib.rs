//! The words that every layer of tower-chassis shares.
//!
//! This crate knows neither routes nor policies. It holds what a layer needs to be right without
//! thinking about it again: one [verdict] for a call, one place where the end of a call is
//! judged ([`settle`]), one [rejection] with its [rescue], settings that [live], the
//! one extension of a call ([`Invocation`]), and — behind features — a [server](mod@server), a
//! [client](mod@client) and [configuration](mod@config).
//!
//! | feature | adds | brings |
//! |---|---|---|
//! | `server` | [`server`](mod@server) | hyper, hyper-util |
//! | `client` | [`client`](mod@client) | hyper, hyper-util |
//! | `tls` | https in the client | rustls with the platform's roots |
//! | `testing` | [`testing`](mod@testing): the laws of layers as a suite | tokio's test clock |
//! | `config` | [`config`](mod@config), the file source of [`discover`] | saphyr-parser, toml_edit, notify, serde |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod answered;
pub mod body;
pub mod boxed;
pub mod cause;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
pub mod deadline;
pub mod discover;
pub mod endpoint;
pub mod events;
pub mod gate;
pub mod invocation;
pub mod judge;
pub mod live;
pub mod quota;
pub mod refusal;
pub mod rejection;
pub mod rescue;
#[cfg(feature = "server")]
pub mod server;
pub mod settle;
pub mod striped;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;
pub mod upgrade;
pub mod verdict;
pub mod wire;

pub use body::Body;
pub use boxed::BoxError;
pub use deadline::Deadline;
pub use endpoint::Endpoint;
pub use events::Events;
pub use gate::Gate;
pub use invocation::{Carrier, Invocation};
pub use judge::JudgeLayer;
pub use live::Live;
pub use quota::Quota;
pub use refusal::Respond;
pub use rejection::{Kind, Rejection};
pub use rescue::RescueLayer;
pub use verdict::{Class, Verdict};
