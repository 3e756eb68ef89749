//! A copy of some calls for a second service, whose answers nobody sees: a new version meets real traffic before
//! anybody depends on it. The call itself is never altered, delayed or failed by it.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_resilience::mirror::{MirrorLayer, MirrorPolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! // The new version never answers.
//! let next = service_fn(async |request: Request<Body>| {
//!     assert_eq!(request.headers()["x-chassis-shadow"], "1");
//!     std::future::pending::<Result<Response<Body>, Infallible>>().await
//! });
//! let mirror = MirrorLayer::new(MirrorPolicy::new(1_000_000)?, next);
//! let handle = mirror.handle();
//! let service = ServiceBuilder::new().layer(mirror).service(service_fn(async |_: Request<_>| {
//!     Ok::<_, Infallible>(Response::new("fine"))
//! }));
//!
//! let response = service.oneshot(Request::new(Full::<bytes::Bytes>::default())).await?;
//! assert_eq!(*response.body(), "fine");
//! assert_eq!((handle.sent(), handle.in_flight()), (1, 1));
//!
//! // Its own deadline ends it.
//! tokio::time::sleep(handle.config().load().config().timeout * 2).await;
//! assert_eq!((handle.failed(), handle.in_flight()), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! # The copy
//!
//! Of an HTTP request: method, URI, version, headers and body, but none of the extensions other than an
//! [`Invocation`](tower_chassis_core::Invocation) of its own, with the request id, trace, service and client of the
//! call and a deadline of its own. Credentials in headers are copied too: a shadow must be trusted as the service is. What
//! is said to one hop is not: `connection` and what it names, `transfer-encoding`, `proxy-authorization`, `expect`. What
//! asks for another protocol, by `upgrade` or CONNECT, has no copy. It is sent when the last of the body has been read by
//! the service itself, without one at once. Nothing is read ahead, and nothing that the service leaves unread is read for
//! the copy. A body above `body_limit`, one that breaks or is not read to its end has no copy.
//!
//! Of a protocol of your own: a clone, with [`clone_request`](MirrorLayer::clone_request), which is what
//! [`Carrier::detach`] leaves of it.
//!
//! A copy has the header (metadatum) `x-chassis-shadow: 1`, by which a service can leave out what it must not do twice.
//! Anybody can send it, so take it away at the edge from those whom you do not trust, as the gateway does with every
//! `x-chassis-…`.
//! A mirror makes no copy of a copy, and [`fault`](crate::fault) leaves it alone.
//!
//! It runs on a task of its own: on the runtime in which the call is. There is no retry. The answer is read up to
//! `drain_limit` and dropped.
//!
//! # Which calls
//!
//! A die is thrown for the id of the request, as in [`fault`](crate::fault): the same request is mirrored on each
//! attempt and run.
//!
//! # Configuration
//!
//! [`MirrorConfig`], checked into a [`MirrorPolicy`]; live.
//!
//! | field | default | means |
//! |---|---|---|
//! | `ppm` | 0 | the share of calls, in parts per million |
//! | `max_in_flight` | 1,024 | copies at once, those whose body is still read included; more are dropped |
//! | `timeout` | 5 s | for a copy, whatever deadline its call has |
//! | `body_limit` | 64 KiB | the longest body that is copied |
//! | `drain_limit` | 64 KiB | how much of an answer is read |
//! | `host_suffix` | none | put after the name of the host (`-shadow`); addresses stay |
//! | `cancel_with_primary` | false | a call that is dropped takes its copy along |
//! | `seed` | 0 | another choice of calls |
//!
//! At most `max_in_flight` × `body_limit` bytes are kept: 64 MiB with the defaults.
//!
//! # Order
//!
//! In a client: below retry (or each attempt of a call that is mirrored is), after the traffic rules, above the
//! balancer of the service. The shadow brings its own stack, without retry. In a server: outside of the route.
//!
//! # Events and metrics
//!
//! What becomes of each copy is a `Mirrored` [event](tower_chassis_core::events::Event), counted as
//! `chassis_mirrored_total{outcome}`:
//!
//! | outcome | |
//! |---|---|
//! | `ok`, `failed` | the shadow answered, and the verdict on that; an error is `failed` |
//! | `timeout` | it took longer than `timeout` |
//! | `panicked` | it panicked |
//! | `aborted` | the mirror was shut down, or the call was dropped and `cancel_with_primary` is set |
//! | `dropped` | `max_in_flight` were under way, or there was no runtime |
//! | `skipped` | the body was too long, or not read to its end, or another protocol was asked for |
//!
//! # Cancellation
//!
//! A call that is dropped leaves its copy alone, unless its body was not whole, or `cancel_with_primary` is set. Copies
//! under way are dropped by [`shut_down`](MirrorHandle::shut_down), and when the last layer, service and handle is gone.
//! A panic of the shadow ends its task and nothing else.
//!
//! # Cost
//!
//! Where nothing is mirrored: one load; the future is larger than the inner one by a word, the body by a word. With a
//! share, a call that is not chosen hashes its id. One that is allocates the copy of its head, a task, and what its body
//! needs; no lock of ours is taken, and the shadow is cloned on the task.

mod config;
mod handle;
mod layer;
mod service;
mod shared;
mod tap;
mod task;
#[cfg(test)]
mod tests;

use tower_chassis_core::Carrier;

pub use config::{MirrorConfig, MirrorPolicy};
pub use handle::MirrorHandle;
pub use layer::MirrorLayer;
pub use service::{Mirror, MirrorFuture};
pub use tap::{Discard, MirrorBody, Start, Tap, Tee};

/// In the extensions of a request: it is a copy that a mirror made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shadow;

/// Whether a request is a copy that a mirror made, here or on another hop.
pub fn is_shadow<Req: Carrier + ?Sized>(request: &Req) -> bool {
    request.extensions().get::<Shadow>().is_some() || request.meta("x-chassis-shadow").is_some()
}
