//! A time that a call has, carried over hops, for every protocol whose request is a [`Carrier`].
//!
//! Who asks says how long it waits; who serves knows it, ends in time, and tells the services that it asks
//! itself what is left. So no hop works for a caller that has gone: a call whose time is up is refused before
//! anything is begun for it. Absolute inside of a process, relative on the wire: no two clocks need to agree.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Carrier, Rejection};
//! use tower_chassis_resilience::deadline::{DeadlineLayer, DeadlinePolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // Stands for a connection: says what it was told.
//! let prices = service_fn(async |request: Request<Body>| {
//!     Ok::<_, BoxError>(Response::new(request.headers()["x-request-timeout-ms"].clone()))
//! });
//! let prices = DeadlineLayer::propagate(DeadlinePolicy::default()).layer(prices);
//!
//! let policy = DeadlinePolicy::new(Duration::from_secs(2), Duration::from_secs(10))?;
//! let shop = ServiceBuilder::new()
//!     .layer(DeadlineLayer::accept(policy))
//!     .service(service_fn(move |incoming: Request<Body>| {
//!         let prices = prices.clone();
//!         async move {
//!             tokio::time::sleep(Duration::from_millis(300)).await;
//!             let mut outgoing = Request::new(Body::empty());
//!             // The one thing that is to be done by hand.
//!             if let Some(invocation) = incoming.invocation() {
//!                 invocation.carry(&mut outgoing);
//!             }
//!             prices.oneshot(outgoing).await
//!         }
//!     }));
//!
//! let request = Request::builder().header("x-request-timeout-ms", "1000").body(Body::empty())?;
//! let told = shop.clone().oneshot(request).await?.into_body();
//! assert!(told.to_str()?.parse::<u64>()? <= 695, "1000 less 300 that were used and a margin of 5");
//!
//! let request = Request::builder().header("x-request-timeout-ms", "0").body(Body::empty())?;
//! let error = shop.oneshot(request).await.unwrap_err();
//! assert!(Rejection::find(&*error).is_some_and(Rejection::is_timeout));
//! # Ok(())
//! # }
//! ```
//!
//! # What arrives
//! [`DeadlineLayer::accept`] takes the least of these and keeps it in the [`Invocation`], where a handler, a retry
//! and [`propagate`](DeadlineLayer::propagate) read it:
//!
//! | metadatum | read | |
//! |---|---|---|
//! | `grpc-timeout` | where the call [is one of gRPC](tower_chassis_core::Carrier::is_grpc) | up to eight digits and one of `H M S m u n` |
//! | `x-request-timeout-ms` | always | digits; what is too large is as large as can be |
//! | `x-envoy-expected-rq-timeout-ms` | with [`trust_envoy`](DeadlineLayer::trust_envoy) | as above; zero is none |
//! | the deadline that the invocation has already | always | |
//!
//! The time counts from the [start](tower_chassis_core::Invocation::start) of the invocation, which is when the call arrived, where our
//! server made it. A caller is not believed further than the maximum. `0` is a deadline that has passed; what
//! cannot be read is refused, because a caller that means one and gets another waits in vain.
//!
//! # What is sent
//! [`DeadlineLayer::propagate`] writes what is left, rounded down, less a margin of one hundredth, at most 5 ms, for
//! the way: as `grpc-timeout` in the finest unit that fits where the request is one of gRPC, else as
//! `x-request-timeout-ms`. The call ends here when that is over: the margin is for the way back to our own caller, and a
//! transport that reads what was written (tonic's) cannot end it first with an error of its own. A request that has a nearer time written in it already (tonic's `set_timeout`) keeps that.
//! When nothing is left, nothing is sent: over HTTP that is less than a millisecond. A protocol that carries no
//! metadata goes without; its calls end in time all the same.
//!
//! # A handler's own calls
//! [`Invocation::carry`] copies deadline, trace and request id of the call that is served into a request that is made
//! for it; [`Invocation::child`] is the same as a value. Without it such a request has the default of its
//! client. Nothing is kept in the task: what is spawned or queued carries it as well.
//!
//! # A protocol of your own
//! ```
//! use std::{borrow::Cow, collections::HashMap};
//! use http::Extensions;
//! use tower_chassis_core::Carrier;
//!
//! struct Frame {
//!     meta: HashMap<&'static str, String>,
//!     extensions: Extensions,
//! }
//!
//! impl Carrier for Frame {
//!     fn extensions(&self) -> &Extensions {
//!         &self.extensions
//!     }
//!     fn extensions_mut(&mut self) -> &mut Extensions {
//!         &mut self.extensions
//!     }
//!     fn meta(&self, name: &str) -> Option<&str> {
//!         self.meta.get(name).map(String::as_str)
//!     }
//!     fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
//!         self.meta.insert(name, value.into_owned());
//!         true
//!     }
//! }
//! ```
//! It speaks of `x-request-timeout-ms`, unless it says that it [is gRPC](tower_chassis_core::Carrier::is_grpc).
//!
//! # Configuration
//! [`DeadlineConfig`] → [`DeadlinePolicy`] → [`Live`](tower_chassis_core::Live), through
//! [`DeadlineHandle::config`] too. A call in flight keeps what it began with.
//!
//! | setting | default | means |
//! |---|---|---|
//! | `default` | 15 s | the time of a call that comes without a deadline |
//! | `max` | 60 s | the most that a call has, whatever it comes with |
//!
//! # Errors
//! Each is a [`Rejection`](tower_chassis_core::Rejection) by the layer `deadline`:
//!
//! | kind | when | over gRPC |
//! |---|---|---|
//! | [`Kind::DeadlineExceeded`] | the time was up before the call was made: the inner service was not called | `DEADLINE_EXCEEDED` |
//! | [`Kind::Timeout`] | the time was up while it ran | `DEADLINE_EXCEEDED` |
//! | [`Kind::BadRequest`] | what arrived cannot be read | `INTERNAL` |
//!
//! [`RescueLayer`](tower_chassis_core::RescueLayer) outside, or [`respond`](DeadlineLayer::respond), makes answers of
//! them. The time is that until the head of the response: a stream may go on.
//!
//! # Order
//! `accept` on a server inside rescue, trace and metrics, above everything that may refuse, queue or work. Again
//! on a route to give it less: the least wins.
//!
//! `propagate` on a client outermost, where it bounds all attempts and a retry reads the deadline; and once more
//! directly above the transport (a clone of the layer that is told to [`tell_only`](DeadlineLayer::tell_only)), where it
//! tells each attempt's endpoint what is left then. Without the inner one an attempt promises what was left when it was
//! prepared: a [retry](crate::retry) and a [hedge](crate::hedge) write less into later ones. It is not the timeout of a
//! try: that is [`timeout`](crate::timeout), which blames the endpoint.
//!
//! # Events and metrics
//! Each refusal, and each call that it ends, is a `Refused` [event](tower_chassis_core::events::Event), if it was
//! given [somebody](DeadlineLayer::events) to tell, and that listened when the call began.
//!
//! # Cancellation
//! When the time is up the inner future is dropped at once and not polled again, even if it could answer; the guards
//! below are told that the call was given up ([`cause`](tower_chassis_core::cause),
//! [`Verdict::CANCELLED`](tower_chassis_core::Verdict::CANCELLED)), because the time may have gone by anywhere. The
//! layer holds nothing else. Work that a handler moved to a blocking thread goes on.
//!
//! # Cost
//! `accept` allocates nothing where the request has an invocation, which it makes otherwise; `propagate` as well, but
//! for the value that the protocol keeps (HTTP: one allocation). One reading of the clock on the way in, and one
//! for each poll, so that nothing begins too late; no timer before the first `Pending`.
//!
//! [`Carrier`]: tower_chassis_core::Carrier
//! [`Invocation`]: tower_chassis_core::Invocation
//! [`Invocation::carry`]: tower_chassis_core::Invocation::carry
//! [`Invocation::child`]: tower_chassis_core::Invocation::child
//! [`Kind::BadRequest`]: tower_chassis_core::Kind::BadRequest
//! [`Kind::DeadlineExceeded`]: tower_chassis_core::Kind::DeadlineExceeded
//! [`Kind::Timeout`]: tower_chassis_core::Kind::Timeout

mod config;
pub(crate) mod dialect;
mod layer;
mod service;
mod side;
#[cfg(test)]
mod tests;

pub use config::{DeadlineConfig, DeadlinePolicy};
pub use layer::{DeadlineHandle, DeadlineLayer};
pub use service::{DeadlineFuture, Deadlined};
pub use side::{Accept, Propagate, Side};
