//! One call for all that ask the same at the same time: whoever comes while a call of its key is in flight waits for
//! that one and gets the same answer. A page that has just gone cold is made once, not a thousand times.
//!
//! ```
//! use std::{convert::Infallible, sync::{Arc, atomic::{AtomicU32, Ordering}}, time::Duration};
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_resilience::coalesce::{CoalesceLayer, CoalescePolicy};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let calls = Arc::new(AtomicU32::new(0));
//! let layer = CoalesceLayer::new(CoalescePolicy::default(), |item: &u32| Some(*item));
//! let handle = layer.handle();
//! let mut stock = layer.layer(service_fn({
//!     let calls = Arc::clone(&calls);
//!     move |item: u32| {
//!         calls.fetch_add(1, Ordering::Relaxed);
//!         async move {
//!             tokio::time::sleep(Duration::from_millis(50)).await;
//!             Ok::<_, Infallible>(item * 10)
//!         }
//!     }
//! }));
//!
//! let (one, two) = (stock.ready().await?.call(7), stock.ready().await?.call(7));
//! assert_eq!(handle.in_flight(), 1);
//! assert_eq!((one.await?, two.await?), (70, 70));
//! assert_eq!((calls.load(Ordering::Relaxed), handle.joined()), (1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! [`CoalesceLayer::http`] does it for HTTP; which requests are the same, and which answers may be shared, says the
//! page of [`share`](crate::share). With a key of your own everything that an answer depends on belongs into the key,
//! the user above all: whoever has the same key gets the same answer.
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_resilience::{coalesce::{CoalesceLayer, CoalescePolicy}, share::HttpKeys};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let keys = HttpKeys::new().vary(["accept", "accept-language"])?;
//! let service = ServiceBuilder::new()
//!     .layer(CoalesceLayer::http(CoalescePolicy::default(), keys))
//!     .service(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("hot")))));
//! let response = service.oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # How it goes
//! The first caller of a key makes the call and polls it; the others wait, each with its own waker. What the call
//! comes to is given to all of them at once:
//!
//! | the call | the others |
//! |---|---|
//! | answers | get clones, judged by nobody: a failure is shared like a success |
//! | fails | get the error as a [`SharedError`], whose source it is |
//! | answers with what is for one alone: too long, private, about this request (400, 429) | make their own calls, each for itself |
//! | is refused for what it is or who sent it: a rejection that is a 4xx, or `DeadlineExceeded` | make their own calls, each for itself |
//! | panics | are refused with `Internal`; the panic is that of whoever polled |
//!
//! A call belongs to all who wait for it, and any of them may poll it. If the one who polls it is dropped, another goes on with it as
//! it is; only when the last of them is gone is it dropped. Whoever comes after the answer was there makes a new one.
//!
//! It is the request of the first one that is made, with all that is not part of the key: its headers, its trace, its
//! [deadline](crate::deadline). Layers inside that obey a deadline end the call for all when that of the first is over.
//!
//! A future may be neither polled nor dropped for long, as behind a `select!` in a loop that does something else. That holds nobody
//! up: when the call can move on, two are woken, the one who polled it last and one more, and whichever is polled
//! goes on with it. If both of them are such futures, the others wait until one of the two is dropped, any of the others is polled for
//! another reason, or one more caller of the key is polled. A call that was made and not polled even once is waited for
//! until it is, or is dropped: so do not `await` the second of two calls of one key before the first was polled.
//!
//! # Configuration
//! [`CoalesceConfig`] → [`CoalescePolicy`] → [`Live`](tower_chassis_core::Live), through [`CoalesceHandle::update`] too.
//!
//! | field | default | means |
//! |---|---|---|
//! | `enabled` | yes | no: each call is made for itself |
//! | `max_keys` | 10,000 | keys in flight, of any length; over it calls are made each for itself. Each of up to sixteen shards has its share |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`body_limit`](CoalesceLayer::body_limit) | 256 KiB | bodies of HTTP answers that are shared; a longer one goes to the one who polled, as it comes |
//!
//! One layer is one table of calls, however often it is layered or cloned. Layered over two services they share
//! calls of a key; give each its [`fresh`](CoalesceLayer::fresh) one unless their keys differ.
//!
//! Needs `Send` of the inner service, its future, the request and the answer: a call moves between tasks.
//!
//! # Order
//! Outside of retry, breaker and limits, so that what they count is made once. Inside of a cache, which asks only for
//! what it does not have. Inside of the timeout of each caller: it bounds its own wait, and the call goes on for
//! the others.
//!
//! The service is always ready. Whoever joins needs no place in the inner service; one that is not ready is waited for
//! in the call.
//!
//! # Events and metrics
//! [`Event::Coalesced`](tower_chassis_core::events::Event::Coalesced) for each call that joins another, counted as `chassis_coalesced_total`.
//! [`CoalesceHandle`] counts those that led and joined, and the keys in flight.
//!
//! # Cancellation
//! Dropping a caller's future leaves its place. To the call it is nothing, unless it was the last: then that is
//! dropped too, at once, and what is below learns [why](tower_chassis_core::cause). A verdict of what a caller's own
//! timeout did never reaches what is below while others wait.
//!
//! # Cost
//! One that nobody joins: two short locks of one of up to 16 shards, and no allocation: the box in which a call is made is
//! kept for the next one of its shard (one type of call for each shard; others allocate it). One that is not over at its first
//! poll makes what is shared, or the first that joins does: one allocation. Each that joins another for its request, a lock of the shard, two or three of the call,
//! and a clone of the inner service, for the case that it has to make its own call. With HTTP, one more for the key, and
//! two for the answer. Each is polled twice, and woken once at the end; two are woken each time that the call moves on. The
//! future is as large as that of the inner service, and 88 bytes at the least. An HTTP body is read to its end before
//! anybody gets the head.

mod call;
mod config;
mod flight;
mod layer;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    call::SharedError,
    config::{CoalesceConfig, CoalescePolicy},
    layer::{Coalesce, CoalesceFuture, CoalesceLayer},
    state::CoalesceHandle,
};
