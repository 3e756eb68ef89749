//! Failures on purpose: a share of the calls waits, fails, hangs, or gets a slow or broken answer, so that timeouts,
//! retries and breakers are seen at work before they are needed. The same request meets the same fault on every hop,
//! attempt and run.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use http::{Request, Response};
//! use tokio::time::Instant;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_resilience::fault::{Abort, Arming, Delay, FaultLayer, FaultPolicy, FaultRule};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Every call to /stock waits for a second, and all fail.
//! let rule = FaultRule::new("stock-is-down")
//!     .matching(|call| call.path_prefix = Some("/stock".to_owned()))
//!     .delay(1_000_000, Delay::Fixed(Duration::from_secs(1)))
//!     .abort(1_000_000, Abort::Status(503));
//! let faults = FaultLayer::new(FaultPolicy::new([rule])?)
//!     .arming(Arming::new(true, Some("test"))) // Without this, what the environment says.
//!     .http();
//! let handle = faults.handle();
//! let service = ServiceBuilder::new().layer(faults).service(service_fn(async |_: Request<()>| {
//!     Ok::<_, Infallible>(Response::new(Body::full("fine")))
//! }));
//! let get = |path: &str| Request::get(path).body(());
//! # if !cfg!(feature = "fault-injection") {
//! #     return Ok(()); // Nothing is armed.
//! # }
//!
//! let began = Instant::now();
//! let response = service.clone().oneshot(get("/stock/7")?).await?;
//! assert_eq!((response.status().as_u16(), began.elapsed().as_secs()), (503, 1));
//! assert_eq!(response.headers()["x-chassis-fault"], "stock-is-down");
//! assert_eq!(service.clone().oneshot(get("/prices")?).await?.status(), 200);
//!
//! handle.kill();
//! assert_eq!(service.oneshot(get("/stock/7")?).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Faults
//!
//! | fault | does | needs |
//! |---|---|---|
//! | [`Delay`] | the call waits before it is made: a fixed, uniform or Pareto length | |
//! | [`Abort`] | the call is not made: a status, a gRPC code, a reset, a hang | |
//! | throttle | the body of the answer passes at so many bytes a second | [`http`](FaultLayer::http) |
//! | truncate | the body of the answer breaks after so many bytes, whatever was announced | [`http`](FaultLayer::http) |
//!
//! Where a delay and an abort both hit, the call waits and then fails. A wait or a hang ends at the deadline of the
//! call, as `Timeout`, and not later.
//!
//! Without [`http`](FaultLayer::http) the layer is for any protocol: every abort is an error, a
//! [`Rejection`](tower_chassis_core::Rejection) of the kind `Injected` whose verdict is what the rule says, so that
//! breakers count it and [`RescueLayer`](tower_chassis_core::RescueLayer) answers it as the rule says. With it aborts
//! are answers: of HTTP, or of gRPC by the content type of the request. A reset is an error in both: without a rescue
//! outside of it a server breaks the connection off.
//!
//! # Which calls
//!
//! The first rule that is armed and matches a call decides alone. For each of its faults a die is thrown: XXH64 of the
//! id of the request, seeded by the rule, the fault and the [seed](FaultConfig::seed). So the same id meets the same
//! faults wherever the rule is in force: on all hops, on every attempt (unless [`per_attempt`](FaultRule::per_attempt)),
//! on each architecture, in a replay. One fault says nothing of another. The id is that of the
//! [invocation](tower_chassis_core::Invocation::request_id), else the header `x-request-id`, else
//! [what you say](FaultLayer::request_id); a call that has none is chosen by its turn.
//!
//! Never: what [`exclude`](FaultLayer::exclude) says, the [paths](FaultConfig::exclude) of health checks and admin
//! pages, and the copies that a [mirror](crate::mirror) made.
//!
//! # Safety
//!
//! A rule does nothing unless it is armed, which takes three things that no rule can say of itself ([`guard`] has the
//! table): the Cargo feature `fault-injection`, `CHASSIS_FAULTS=enabled` in the environment of the process, and
//! `CHASSIS_ENVIRONMENT` to name another environment than production. In production, and where the environment has no
//! name, a rule is armed only if it ends within 24 hours, so that none is forgotten. The environment is read when the
//! layer is made. [`FaultHandle::rules`] says of each rule whether it is armed, and why not.
//!
//! [`FaultHandle::kill`] ends everything at once, what waits and hangs too. No more than
//! [`max_active`](FaultConfig::max_active) calls are under a fault at a time; no share is above
//! [`max_ppm`](FaultConfig::max_ppm). An expiry counts from the time at which its policy went live, on a clock that
//! nobody sets.
//!
//! # Headers
//!
//! A peer that is [trusted](FaultLayer::trusted) may ask for faults, if the policy has a [`HeaderControl`], which cuts
//! what is asked to its caps and is armed as a rule is. It goes before the rules.
//!
//! | header | asks for |
//! |---|---|
//! | `x-chassis-fault-delay-ms` | a delay, in milliseconds |
//! | `x-chassis-fault-abort` | `503` (400 to 599), `grpc-14` (1 to 16), `reset`, `hang` |
//! | `x-chassis-fault-throttle` | bytes a second |
//! | `x-chassis-fault-truncate` | bytes |
//! | `x-chassis-fault-ppm` | for how many of a million requests; all unless said |
//!
//! The headers go on to the next hop, which asks whether it trusts this one.
//!
//! # Configuration
//!
//! [`FaultConfig`], checked into a [`FaultPolicy`]; live.
//!
//! | field | default | means |
//! |---|---|---|
//! | `rules` | none | [`FaultRule`]s, up to 100 |
//! | `seed` | 0 | another choice of calls |
//! | `max_active` | 100 | calls under a fault at once |
//! | `max_ppm` | 1,000,000 | the largest share of any fault |
//! | `exclude` | health checks, `/admin`, `/metrics` | paths that never have a fault |
//! | `headers` | none | what trusted peers may ask for |
//!
//! ```yaml
//! rules:
//!   - id: slow-stock
//!     matches: { operations: [GET], path_prefix: /stock, meta: { x-tenant: acme } }
//!     delay: { ppm: 10000, of: { pareto: { min: 20ms, shape: 1.2, max: 5s } } }
//!     abort: { ppm: 1000, of: { status: 503 } }   # or { grpc: 14 }, reset, hang
//!     throttle: { ppm: 5000, of: 16384 }
//!     truncate: { ppm: 500, of: 100 }
//!     expires_at: 2026-11-21T18:00:00Z
//! ```
//!
//! # Order
//!
//! In a client: below retry, so that resilience is what is tried, and above the balancer. A breaker above the layer
//! counts the faults as failures, which is what they are for; those of the endpoints, below, never see them. In a
//! server: inside the deadline and outside of the handler.
//!
//! # Events and metrics
//!
//! Each fault is a `FaultInjected` [event](tower_chassis_core::events::Event), counted as
//! `chassis_faults_total{rule,fault}`. Rules are named by the policy alone, so that nobody outside makes up series.
//! Every answer of a call under a fault has the header `x-chassis-fault: <rule>`; every error holds an
//! [`InjectedFault`].
//!
//! # Cancellation
//!
//! A call under a fault that is dropped gives its place back at once, and the service that was readied for it. Bodies
//! hold theirs to their end.
//!
//! # Cost
//!
//! Where no rule is armed: one load; no allocation, no clock, no look at the request; the future is larger than the
//! inner one by a word. With armed rules each call reads the clock and the rules, and hashes its id once for each
//! fault of the rule that it matches. Only a call that is hit allocates: a box, and another for a body.

mod body;
mod config;
mod error;
mod future;
mod guard;
mod handle;
mod kinds;
mod layer;
mod protocol;
mod rules;
mod service;
mod shared;
mod switch;
// Without it nothing is armed.
#[cfg(test)]
#[cfg(feature = "fault-injection")]
mod tests;
mod view;

pub use body::FaultBody;
pub use config::{FaultConfig, FaultMatch, FaultPolicy, FaultRule, HeaderControl};
pub use error::InjectedFault;
pub use future::FaultFuture;
pub use guard::{Arming, Guarded, LONGEST_IN_PRODUCTION, Why, guard};
pub use handle::{FaultHandle, RuleStatus};
pub use kinds::{Abort, Delay, Dose};
pub use layer::FaultLayer;
pub use protocol::{AnyProtocol, Http, Mark, Protocol};
pub use service::Fault;
pub use view::{ByCarrier, Excluding, Matching, Trusting, View, WithId};
