//! Another answer in place of a call that failed: a value, what a closure makes, that of a second service, or the last
//! good one.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Class, Kind, Rejection, verdict::Outcome};
//! use tower_chassis_resilience::fallback::FallbackLayer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = FallbackLayer::with(|_| Response::new(Body::from("[]"))).mark();
//! let handle = layer.handle();
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |_: Request<Body>| {
//!     Err::<Response<Body>, BoxError>(Rejection::new(Kind::CircuitOpen, "breaker").into())
//! }));
//!
//! let response = service.oneshot(Request::new(Body::empty())).await?;
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.headers()["x-chassis-fallback"], "1");
//! // Nobody outside takes it for an answer of the service.
//! assert_eq!(response.verdict().class(), Class::Refused);
//! assert_eq!(handle.fallbacks(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! What answers:
//!
//! | constructor | answers | error |
//! |---|---|---|
//! | [`value`](FallbackLayer::value) | clones of a response | that of the inner service |
//! | [`with`](FallbackLayer::with) | a closure, that is told [why](Failure) | that of the inner service |
//! | [`with_request`](FallbackLayer::with_request) | the same with a part of the request | that of the inner service |
//! | [`service`](FallbackLayer::service) | a second service, with a copy of the request | [`BoxError`](tower_chassis_core::BoxError) |
//! | [`last_good`](FallbackLayer::last_good), [`last_good_http`](FallbackLayer::last_good_http) | the last good answer to the same request | [`BoxError`](tower_chassis_core::BoxError) |
//!
//! A readiness that fails, of a pool that is closed for example, is answered like a call that fails.
//!
//! # A second service
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_resilience::{fallback::FallbackLayer, retry::{Buffered, Rewrapped}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let other_region = service_fn(async |request: Request<Body>| {
//!     Ok::<_, BoxError>(Response::new(Body::from(format!("{} from afar", request.uri()))))
//! });
//! // Both take one type of body only, hence `Rewrapped`.
//! let layer = FallbackLayer::service(other_region).replay(Rewrapped::<Body>::new(Buffered::default()));
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |_: Request<Body>| {
//!     Ok::<_, BoxError>(Response::builder().status(503).body(Body::empty())?)
//! }));
//! let response = service.oneshot(Request::get("/stock").body(Body::empty())?).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//! It is given a copy of the request, by the means of a [retry](crate::retry): a request that is not idempotent and that
//! the first service may have seen goes to it only if you [say so](FallbackLayer::every_method). Where there is no
//! copy the outcome passes as it came. If both fail with errors, the error is [`BothFailed`], whose source is that of
//! the first; if the first had answered, the caller gets that answer.
//!
//! # The last good answer
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_resilience::{fallback::FallbackLayer, share::HttpKeys};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = FallbackLayer::last_good_http(Duration::from_secs(600), HttpKeys::new());
//! let get = || Request::get("/rates").body(Body::empty());
//! let well = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("1.07")))));
//! http_body_util::BodyExt::collect(well.oneshot(get()?).await?.into_body()).await?;
//!
//! let down = layer.layer(service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(BoxError::from("down"))));
//! tokio::time::advance(Duration::from_secs(60)).await;
//! let response = down.oneshot(get()?).await?;
//! assert_eq!(response.headers()["age"], "60");
//! # Ok(())
//! # }
//! ```
//! Which requests are the same, and which answers may be given to others, is said as in a [cache](crate::cache), which does
//! the same by its `stale_if_error` where answers are kept anyhow. Where there is none the outcome passes as it came.
//!
//! # Configuration
//! [`FallbackConfig`] → [`FallbackPolicy`] → [`Live`](tower_chassis_core::Live), by
//! [`policy`](FallbackLayer::policy) and [`FallbackHandle::config`].
//!
//! | field | default | answered in place of |
//! |---|---|---|
//! | `failures` | yes | 5xx, errors that nobody knows |
//! | `timeouts` | yes | no answer in time |
//! | `unreachable` | yes | no connection, or it broke before a head |
//! | `refusals` | yes | circuit open, overloaded, no endpoint, draining, deadline passed: a 5xx of ours |
//! | `rate_limited` | no | 429, of the service and of ours |
//! | `enabled` | yes | false: nothing |
//!
//! Never in place of 4xx, which tell the caller something, unless [`when`](FallbackLayer::when), a closure of the
//! verdict, says so. The verdict is that of [`Auto`](tower_chassis_core::verdict::Auto), or of
//! [`classify`](FallbackLayer::classify). It is that on the head: a body that breaks later is the caller's.
//!
//! HTTP answers are marked on [request](FallbackLayer::mark): the header, and the verdict on the call that failed, so
//! that a fallback does not make an outage look well to metrics, and is not cached outside. [`FallbackLayer::as_success`] leaves
//! the verdict out.
//!
//! # Order
//! In a client below the total deadline and above everything that can refuse: rate limit, retry, breaker. Metrics and
//! traces outside of it.
//!
//! # Events and metrics
//! [`Event::Fallback`](tower_chassis_core::events::Event::Fallback) for each answer of its own, counted as
//! `chassis_fallbacks_total`. [`FallbackHandle`] counts them, and the calls for which there was none.
//!
//! # Cancellation
//! Dropping the future drops the call, or that of the second service. While the second service is asked, a response
//! of the first that was judged a failure is held, for it may yet be the answer.
//!
//! # Cost
//! One reference count. No lock, no allocation, no look at the clock. With a second service, the copy of the head. With
//! the last good answer, the key, one reading of the clock and a lock of a shard; once a second and key, what a [cache](crate::cache) pays for a miss. The
//! future has 32 bytes more than that inside.

mod alternative;
mod backup;
mod config;
mod future;
mod last_good;
mod layer;
mod mark;
mod service;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    alternative::{Alternative, Answer, ByFn, Failure, Instead, Keep, Never, WithRequest},
    backup::{Backup, BackupFuture, BothFailed, Copy},
    config::{FallbackConfig, FallbackPolicy},
    future::FallbackFuture,
    last_good::LastGood,
    layer::FallbackLayer,
    mark::{Mark, Marked, Unmarked},
    service::Fallback,
    state::FallbackHandle,
};
