//! A bulkhead: so many calls in flight, so many more that wait for their turn. The rest is refused
//! at once, so that a service that has become slow does not take everything else down with it.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::Rejection;
//! use tower_chassis_resilience::bulkhead::{BulkheadLayer, BulkheadPolicy};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! // One call at once, one that waits, for a second at the most.
//! let policy = BulkheadPolicy::new(1)?.with(|config| config.queue = 1)?;
//! let bulkhead = BulkheadLayer::new(policy).named("stock");
//! let handle = bulkhead.handle();
//! let mut stock = bulkhead.layer(service_fn(async |item: u32| Ok::<_, Infallible>(item)));
//!
//! let runs = stock.ready().await?.call(1);
//! let waits = stock.ready().await?.call(2);
//! assert_eq!((handle.in_flight(), handle.queued()), (1, 1));
//! let refused = stock.ready().await?.call(3).await.unwrap_err();
//! assert!(Rejection::find(&*refused).is_some_and(Rejection::is_overloaded));
//!
//! assert_eq!(runs.await?, 1);
//! assert_eq!(waits.await?, 2);
//! assert_eq!((handle.in_flight(), handle.queued()), (0, 0));
//! # Ok(())
//! # }
//! ```
//!
//! A call takes its permit in `call`. Who is ready and does not call holds none, so that clones which
//! idle in a router or a pool cost nobody else a place.
//!
//! Who finds no permit takes a place in the queue, in the order of arrival. A permit that comes back
//! goes to the first of them: nobody who comes later gets past. Who waits holds the request and
//! nothing of the inner service, which is made ready when the turn has come. A call that waits for
//! longer than `max_wait`, or finds the queue full, is refused.
//!
//! # Configuration
//!
//! [`BulkheadConfig`], checked into a [`BulkheadPolicy`]. It can be changed under load
//! ([`BulkheadHandle::update`], or any [`Live`](tower_chassis_core::Live)): a higher limit lets calls
//! that wait begin at once; under a lower one calls in flight go on, and none begins until there are
//! fewer.
//!
//! | field | default | means |
//! |---|---|---|
//! | `limit` | 100 | calls in flight; 1,000 a second if each takes 100 ms |
//! | `queue` | 0 | calls that may wait; with none, who finds no permit is refused at once |
//! | `max_wait` | 1 s | how long a call may wait |
//! | `queue_order` | `fifo` | who is next: the first that came, or (`adaptive-lifo`) the last while the queue is a standing one |
//! | `codel` | `false` | nobody waits for longer than `target` in a standing queue |
//! | `target` | 5 ms | see there |
//! | `interval` | 100 ms | a queue that has not been empty for so long is a standing one |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`until_end`](BulkheadLayer::until_end) | to the head | the permit is held to the end of the body |
//! | [`deadlines`](BulkheadLayer::deadlines) | not asked for | nobody waits past the deadline of its call |
//!
//! Nothing waits unless it is asked for, as in resilience4j: a queue adds its length to the time of
//! every call behind it, and helps against bursts only. Its limit of 25 is for a pool of threads;
//! Envoy's 1,024 is for a whole cluster; 100 is between them, for a route or an endpoint. A queue of
//! once or twice the limit is plenty. chi's `Throttle(limit)` is [`BulkheadPolicy::new`], its
//! `ThrottleBacklog` is [`BulkheadPolicy::throttle`]; chi answers 429, this is a 503.
//!
//! # Overload
//!
//! A queue is there for bursts. One that is never empty only makes every call late: all wait for as long as it is,
//! and those that are served had their callers wait the longest. So a queue that has not been empty for the
//! `interval` is a *standing* one. With `codel` nobody waits for longer than the `target` while it stands; a call
//! that waits when it begins to stand, and has for longer, is refused then. With `adaptive-lifo` the newest is next
//! while it stands, and the oldest run into their limit: some calls are served at once, where otherwise all would
//! be late. Both are Facebook's, in
//! ["Fail at Scale"](https://queue.acm.org/detail.cfm?id=2839461). They are made for calls of some milliseconds;
//! where calls take longer, let `target` be about what one takes and `interval` some twenty times that. Set them
//! before the overload or in it: a change is for those who come after it.
//!
//! [`BulkheadHandle::shut`] refuses all calls, also those that wait, until it is opened again: for an operator.
//!
//! # State
//!
//! One layer is one limit, however often it is layered or cloned; [`fresh`](BulkheadLayer::fresh)
//! makes another with the same settings, one for each endpoint for example, and
//! [`keyed`](BulkheadLayer::keyed) one for each key that is found in a request.
//!
//! # Keys
//!
//! So that one tenant, route or host that has become slow does not take the permits of all others:
//!
//! ```
//! use std::convert::Infallible;
//!
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_resilience::bulkhead::{BulkheadLayer, BulkheadPolicy};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let tenants = BulkheadLayer::new(BulkheadPolicy::new(1)?)
//!     .keyed(|(tenant, _): &(&'static str, u32)| Some(*tenant));
//! let handle = tenants.handle();
//! let mut stock = tenants.layer(service_fn(async |(_, item)| Ok::<u32, Infallible>(item)));
//!
//! let runs = stock.ready().await?.call(("acme", 1));
//! assert!(stock.ready().await?.call(("acme", 2)).await.is_err());
//! assert_eq!(stock.ready().await?.call(("initech", 3)).await?, 3);
//! assert_eq!(handle.get("acme").map(|acme| acme.in_flight()), Some(1));
//! assert_eq!(runs.await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! Each key has the whole limit and a queue of its own; the settings are those of all, and a change
//! reaches each. Calls without a key share one more limit. Up to
//! [`max_keys`](KeyedBulkheadLayer::max_keys) keys have one, 10,000 unless set. Those with no call in
//! flight and none that waits are forgotten as others come; one with calls never is, nor one that a
//! handle looks at. While all of them are in use, the keys that come share 64 more limits by their
//! hash: they get less than their limit, never more. A key stays with a limit that it shares until
//! nothing of that is in use. In all there is no limit but those of the keys: put another bulkhead
//! outside for that.
//!
//! Whose call it will be is not known before it is made, so readiness is that of the inner service
//! alone, and one that is not ready is waited for outside of the queues.
//!
//! # Order
//!
//! In a client: per endpoint, inside the retry, the balancer and the breaker, so that an attempt which
//! is refused is tried elsewhere, and nearest to the connection. In a server: around the handler of a
//! route, inside the timeout, so that its time includes the queue. With `until_end()` a stream that is
//! read slowly is in flight for as long, and a call that switches protocols (a websocket) until its
//! connection closes, under our server; under another one its permit comes back at the switch.
//!
//! # Events and metrics
//!
//! Each refusal, of one who finds no place and of one who waited for too long, is a `Refused`
//! [event](tower_chassis_core::events::Event) and a [`Rejection`](tower_chassis_core::Rejection) of the
//! kind `Overloaded` (503, `UNAVAILABLE`), without a time to come back: nobody knows it. Of one whose
//! [deadline](BulkheadLayer::deadlines) was over first it is `DeadlineExceeded` (504).
//!
//! What changes with every call is not reported but [read](tower_chassis_core::Events::read), at no cost for the calls:
//! `chassis_bulkhead_in_flight`, `chassis_bulkhead_queued` and `chassis_bulkhead_limit` by `name`. With keys, the first
//! two are those of all keys together, and the limit is that of each: which keys there are is up to clients, so none of
//! them is a label. [`BulkheadHandle`] reads the same, and for how long the first who waits has.
//!
//! # Cancellation
//!
//! A call that is dropped, fails or panics gives its permit back, to the first who waits; what it stood
//! for, the future of the inner service, is dropped before. One that is dropped in the queue leaves its
//! place at once, and passes its turn on if it had come.
//!
//! # Cost
//!
//! While a permit is free and nobody waits: no lock, no allocation, no timer, no look at the clock; one
//! compare-and-swap to take it, one to give it back, and no reference count. The future is the
//! inner one and 16 bytes; a call that waits allocates once. A limit of four per core or more is spread over
//! the cores (16 at the most), which then do not meet; one that finds its share used up looks for a
//! permit in the others before it is refused. There, a refusal may come one permit too early when that
//! was given back in the instant of the search; below, it is exact. The limit itself is never exceeded.
//! A refusal without a queue, or with a full one, takes no lock and allocates its error alone. Who waits, and who gives back while
//! somebody waits, takes one for some operations of constant time.
//!
//! The permits of a limit, some 400 bytes and 256 for each core, are not freed with it but used again by the next one.
//!
//! With keys, each call hashes its key, takes the lock of a shard to find its limit, and counts itself in and out of its
//! users; a key that is new allocates some 400 bytes, if no limit was given up before, and now and then looks for idle
//! ones in its shard. The permits of a key are in one word, whatever the limit: exact, and never spread over
//! the cores. A queue that was used keeps 72 bytes for each of its places, up to 1,024, until its key
//! is forgotten.

pub(crate) mod codel;
mod config;
mod future;
mod handle;
mod keyed;
mod later;
mod layer;
mod lent;
mod patience;
pub(crate) mod permits;
pub(crate) mod queue;
mod service;
mod shared;
mod stripes;
#[cfg(test)]
mod tests;

pub use config::{BulkheadConfig, BulkheadPolicy, QueueOrder};
pub use future::BulkheadFuture;
pub use handle::BulkheadHandle;
pub use keyed::{KeyedBulkhead, KeyedBulkheadHandle, KeyedBulkheadLayer};
pub use layer::BulkheadLayer;
pub use patience::{Deadlines, NoDeadlines, Patience};
pub use service::Bulkhead;
pub use shared::Ticket;
