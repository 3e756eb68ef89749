//! Adaptive concurrency: as many calls at once as the service can bear, found while it runs. Nobody has to know a
//! number, and none is wrong after the next release.
//!
//! ```
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, Events};
//! use tower_chassis_resilience::adaptive::{AdaptiveLayer, AdaptivePolicy, Reason};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let policy = AdaptivePolicy::default().with(|config| config.max = 200)?;
//! let adaptive = AdaptiveLayer::new(policy).named("stock").events(Events::new());
//! let handle = adaptive.handle();
//! let mut stock = adaptive.layer(service_fn(async |_: Request<Body>| {
//!     tokio::time::sleep(Duration::from_millis(5)).await;
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::from("12 left")))
//! }));
//!
//! assert_eq!((handle.limit(), handle.reason()), (20, Reason::Start));
//! let answer = stock.ready().await?.call(Request::new(Body::empty())).await?;
//! assert_eq!((answer.status().as_u16(), handle.in_flight()), (200, 0));
//!
//! // By hand, for ten minutes.
//! handle.force_for(5, Duration::from_secs(600));
//! assert_eq!((handle.limit(), handle.forced()), (5, Some(5)));
//! # Ok(())
//! # }
//! ```
//!
//! A call takes a permit in `call`, as in a [`bulkhead`](crate::bulkhead), whose permits and queue these are. What
//! differs is who sets the limit. Calls that are answered are counted by how long they took, from the permit to the
//! head of the answer, in windows of 100 ms to 1 s and at least 20 answers (fewer calls, longer windows). Each window
//! may move the limit.
//!
//! # Gradient
//!
//! As long as calls wait nowhere in the service, its latency is what it is, whatever the limit: the *baseline*.
//! Beyond, more calls at once only wait for longer. So a limit that is used (at least 0.6 of it in flight) grows, by a
//! tenth near the baseline and by less above it. When the latency is more than `tolerance` times the baseline, it falls
//! a little below what the service then had in work, which is limit × baseline / latency (Little's law).
//!
//! * The baseline is the lowest tenth of the windows of ten minutes. After a fall nothing waits in the service, so the
//!   falls show it even where the load never ends: there is no probing, and a day of overload moves nothing.
//! * A fall is judged by what it did. A queue shrinks with the limit. A latency that stays was no queue but a service
//!   that has become slower: the limit comes back, and the baseline is the new latency. So one sample that was too
//!   good, or an upstream that got slower for good, costs a few windows and not ten minutes.
//! * A fall may be followed by another: at first, when the baseline was just taken for higher, and each seventh time. So
//!   a baseline that is wrong, because the service was overloaded from its first call on or became faster since, is
//!   found out within seconds. It is never lowered while the limit is not in the way.
//! * Latency is a mean in which no call counts for more than nine tenths of the calls took: the law holds for means,
//!   and a few calls that hang move nothing.
//! * A limit that was far above what is in flight (five times, in ten minutes) comes down to that.
//!
//! From a `start` far below what the service can do, calls that are slow take a while: a limit of 20 for a service of a
//! hundred places and half a second a call may refuse part of an admissible load for the first two minutes, since each
//! step takes a window of answers. Let such a service start near what it is known to bear; a limit that is too high comes down.
//!
//! A call that times out (here or further out), or is answered that the service is overloaded (429, 503, 504,
//! `RESOURCE_EXHAUSTED`, `UNAVAILABLE`, `DEADLINE_EXCEEDED`), lowers the limit by a tenth at once. Only if it began
//! under the limit now in force: a burst of failures lowers it once. And only if of the latest calls, some four hundred,
//! one in ten or more ended so: some fail at any load, and say nothing of it. A failure that is no sign of overload (a plain
//! 500, a connection that could not be made) counts for nothing at all. A caller that leaves counts as an answer that took
//! so long, if that is longer than most. Other failures, the caller's faults and refusals of layers further in say
//! nothing.
//!
//! The ancestors are TCP Vegas, Netflix's concurrency-limits and Envoy's adaptive concurrency filter.
//!
//! # Configuration
//!
//! [`AdaptiveConfig`], checked into an [`AdaptivePolicy`]. It can be changed under load
//! ([`AdaptiveHandle::update`], or any [`Live`](tower_chassis_core::Live)).
//!
//! | field | default | means |
//! |---|---|---|
//! | `algorithm` | `gradient` | or `aimd`: one more for each window in which it was used, a tenth less when the service is overloaded or `slow` |
//! | `start` | 20 | the limit to begin with |
//! | `min`, `max` | 1, 4,096 | its bounds |
//! | `tolerance` | 1.5 | how many times the baseline a latency may be; more is more throughput and later answers |
//! | `slow` | 5 s | for `aimd`: what a tenth of the calls must not exceed |
//! | `queue` | 2 | calls that may wait, as a multiple of the limit |
//! | `max_wait` | 100 ms | how long a call may wait; see below |
//! | `queue_order` | `adaptive-lifo` | who is next, as in the [bulkhead](crate::bulkhead#overload) |
//! | `target`, `interval` | 5 ms, 100 ms | how long a call may wait in a queue that has not been empty for the interval |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`until_end`](AdaptiveLayer::until_end) | to the head | the permit is held to the end of the body; latency is that of the head |
//! | [`classify`](AdaptiveLayer::classify), [`classify_fn`](AdaptiveLayer::classify_fn) | `Auto` | which answer counts as what |
//! | [`respond`](AdaptiveLayer::respond) | fail | answers its own refusals |
//!
//! A burst may wait for `max_wait`, a queue that stands only for `target`. So 100 ms are right where calls take different
//! times, as most do: the latency under load is then that of the `target`. Calls that all take the same time end together and
//! leave the queue empty again and again, so that it never stands; where those must be fast, say 5 ms, at the price of bursts.
//!
//! One layer is one limit, however often it is layered or cloned; [`fresh`](AdaptiveLayer::fresh) makes another with
//! the same settings.
//!
//! # Keys
//!
//! [`keyed`](AdaptiveLayer::keyed) finds a limit for each key of a request: where one service has many behind it, of
//! which each can bear something else. Up to [`max_keys`](KeyedAdaptiveLayer::max_keys), 1,000 unless set; a limit
//! without a call for a minute is forgotten as others come, with what it has learned, unless it is forced. While all of them are in use, the
//! keys that come share 64 more. The handle of the keys finds the limit of each.
//!
//! # Order
//!
//! In a client: per endpoint, inside the retry, the balancer and the breaker, nearest to the connection. In a server:
//! outside of everything that costs, inside trace and metrics, so that it sees what they see and refuses before the work
//! begins. What is measured is everything inside: no layer that waits for its own reasons (a rate limit, a retry)
//! belongs there. A route that is meant to hang (long polling) wants a limit of its own, or none.
//!
//! # Events and metrics
//!
//! Each change of the limit is a `Limit` [event](tower_chassis_core::events::Event) with its [`Reason`] (the gauge
//! `chassis_concurrency_limit`), up to ten a second under load; with keys, only those of calls without a key. Each
//! refusal is a `Refused` event and a [`Rejection`](tower_chassis_core::Rejection) of the kind `Overloaded` (503,
//! `UNAVAILABLE`). [`AdaptiveHandle`] reads the limit, why, the baseline, what is in flight and waits.
//!
//! # Cancellation
//!
//! A call that is dropped, fails or panics gives its permit back, to the next who waits. One that is dropped in the
//! queue leaves its place at once, and passes its turn on if it had come.
//!
//! # Cost
//!
//! While a permit is free and nobody waits: no lock, no allocation, no timer. One compare-and-swap to take the permit
//! and one to give it back, one reference count; for a call that is measured one reading of the clock at each end, one add.
//! Above 40,000 calls a second only some are measured, left to chance, down to one in sixteen: a window has thousands of them then.
//! All are as soon as somebody finds no permit, or calls become fewer. Permits are always counted exactly. The future is 56 bytes
//! larger than the inner one. A window is closed by a call that ends, some microseconds, ten times a second at the
//! most; no call waits for another that does. A limit holds 2 kB, and 14 kB
//! more after ten minutes under load. A call that waits allocates once.

mod config;
mod decision;
mod future;
mod handle;
mod keyed;
mod layer;
mod limit;
mod service;
mod shared;
#[cfg(test)]
mod tests;

pub use config::{AdaptiveConfig, AdaptivePolicy, Algorithm};
pub use decision::Reason;
pub use future::AdaptiveFuture;
pub use handle::AdaptiveHandle;
pub use keyed::{ByKey, KeyedAdaptiveHandle, KeyedAdaptiveLayer};
pub use layer::AdaptiveLayer;
pub use service::{Adaptive, Limits, OneLimit};
pub use shared::Ticket;
