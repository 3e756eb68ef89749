//! A rate limit: so many calls per time, for all or for each key. A call that comes too early is
//! refused at once and told when to come again.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::Rejection;
//! use tower_chassis_resilience::rate_limit::{RateLimitLayer, RateLimitPolicy};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! // Ten calls per second and user, two at once.
//! let limit = RateLimitLayer::new(RateLimitPolicy::new(10.0, 2)?)
//!     .keyed(|user: &&'static str| (!user.is_empty()).then_some(*user));
//! let mut hello = limit.layer(service_fn(async |user: &'static str| Ok::<_, Infallible>(user.len())));
//!
//! hello.ready().await?.call("ann").await?;
//! hello.ready().await?.call("ann").await?;
//! let refused = hello.ready().await?.call("ann").await.unwrap_err();
//! let wait = Rejection::find(&*refused).and_then(Rejection::retry_after);
//! assert_eq!(wait, Some(Duration::from_millis(100)));
//! hello.ready().await?.call("bob").await?;
//! assert_eq!(limit.handle().keys(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! The generic cell rate algorithm, as in ATM networks and the `governor` crate: a key is one
//! number, a decision is exact, and so is the wait. It decides as a token bucket does, under
//! [which name](RateLimitPolicy::token_bucket) the same settings can be made. In any stretch of time `t`, at most
//! `burst + rate * t` calls are allowed: there is no edge between windows at which twice as many
//! pass. A [sliding window](RateLimitPolicy::sliding_window), as in chi's `httprate`, is there for who needs its figures.
//!
//! Clients name the keys, so the number of keys is bounded. A bucket that has filled up again is
//! the same as a new one; those are dropped when room is needed, and no other, so that a flood of
//! new keys cannot make the limiter forget a client that it limits. Where every key is in use,
//! those that find no room share buckets by their hash, some four thousand: they may be limited too
//! much and never too little, and the memory stays.
//!
//! It is the limit of this process: `n` instances allow `n` times as much. [`remote`] counts in a store that they share,
//! for example Redis.
//!
//! # Configuration
//!
//! [`RateLimitConfig`], checked into a [`RateLimitPolicy`]. It can be changed under load
//! ([`RateLimitHandle::update`], or any [`Live`](tower_chassis_core::Live)): each bucket keeps the
//! share that is left of it, so what a client owes is never more than one empty bucket.
//!
//! | field | default | means |
//! |---|---|---|
//! | `rate` | 100 | calls in each `per`, in the long run |
//! | `burst` | 100 | calls at once after a pause |
//! | `per` | 1 s | the time that `rate` counts for |
//! | `algorithm` | `gcra` | or `sliding-window`: `rate` is the limit of a window of `per` |
//! | `max_wait` | 0 | a call that would be allowed within this time waits for it |
//! | `jitter` | 0 | the part by which the wait that a refusal tells is lengthened at random |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`keyed`](RateLimitLayer::keyed) | one bucket | whose call it is; [`ip_key`](crate::keyed::ip_key) for addresses |
//! | [`max_keys`](RateLimitLayer::max_keys) | 100,000 | keys with a bucket of their own |
//! | [`cost`](RateLimitLayer::cost) | 1 | how many calls a call counts for |
//! | [`exact`](RateLimitLayer::exact) | off | no call is taken in advance |
//! | [`headers`](RateLimitLayer::headers) | off | answers say what is left |
//! | [`respond`](RateLimitLayer::respond) | off | refusals are answers |
//! | [`remote`](RateLimitLayer::remote) | off | instances share the limit |
//!
//! One layer is one limit, however often it is layered or cloned; [`fresh`](RateLimitLayer::fresh)
//! makes another. The [handle](RateLimitHandle) reads what is left, fills a bucket up, and
//! [forces](RateLimitHandle::force) every call to be allowed or refused for a time.
//!
//! The closures that find a key and a cost may be called more than once for a call.
//!
//! # Waiting
//!
//! With `max_wait`, a call that comes too early takes its place in time at once and is made when that has come, so those
//! who wait are served in the order in which they came. Who would wait longer is refused at once. At most `rate * max_wait`
//! calls wait, for each key. While a call waits it holds nothing of the inner service, which is made ready for it
//! when its time has come. Timers are exact to a millisecond, and never early.
//!
//! # Header fields
//!
//! A refusal says `Retry-After`, in whole seconds, rounded up, at least 1 (gRPC: `grpc-retry-pushback-ms`), where
//! [`RescueLayer`](tower_chassis_core::RescueLayer) or [`respond`](RateLimitLayer::respond) answers it. With
//! [`headers`](RateLimitLayer::headers) every answer has the pair of the IETF's draft,
//! [`legacy_headers`](RateLimitLayer::legacy_headers) adds the usual three:
//!
//! ```text
//! RateLimit-Policy: "api";q=100;w=60        X-RateLimit-Limit: 100
//! RateLimit: "api";r=7;t=12                 X-RateLimit-Remaining: 7
//!                                           X-RateLimit-Reset: 1789000000
//! ```
//!
//! By GCRA `q` is the burst and `w` the time in which it fills up; `t` is when nothing of what was used counts any more.
//!
//! # Order
//!
//! In a server: outside of authentication and everything that costs, where the key is an address;
//! inside of authentication where it is a user; and always inside the layer that finds the client's
//! address behind proxies. In a client: outside of the retry to bound what callers ask for, or
//! inside it to bound what the service gets. It refuses in `call` and never in `poll_ready`, where
//! it would look like a broken service.
//!
//! # Events and metrics
//!
//! Each refusal is a `Refused` [event](tower_chassis_core::events::Event), with the layer's name if it has one, and counts in
//! `chassis_refused_total`. It is a [`Rejection`](tower_chassis_core::Rejection) of the kind `RateLimited` (429,
//! `RESOURCE_EXHAUSTED`) with the exact wait; one that costs more than a burst has none, and [`TooCostly`] as its source.
//!
//! # Cancellation
//!
//! A call counts when it is made. One that is dropped unfinished has used its place; one that was
//! readied and never made has not. One that is dropped while it waits gives its place up if nobody has come after it;
//! otherwise the place is lost, because those behind have theirs.
//!
//! # Cost
//!
//! One bucket, cold: one reading of the clock, unless a layer outside has just read it, and a compare-and-swap; no lock and
//! no allocation. A bucket that is asked more than 64 times in a millisecond is *hot*: a thread takes up to eight calls at
//! once, fewer where little is left, and spends them without the time and without meeting other threads. It never allows
//! more for that. It may refuse a call while others hold some that they took in advance, at most seven for each of
//! up to 16 threads and an eighth of a burst together; and a bucket that was full and hot counts as if it had lost as much.
//! When little is left of it, or it is asked less, what was taken in advance goes back and it is exact. A key that calls
//! more often than each millisecond, of a burst of 800 or more, takes eight at once in the same way.
//! [`exact`](RateLimitLayer::exact) switches that off.
//!
//! Keyed: a seeded hash of the key, and one of 64 locks for a look-up in a map; a new key that finds its
//! shard full sweeps it, at most once per millisecond and some 50 ns for each key. A waiting call is one allocation, a refused one
//! two. The future is as large as that of the inner service, and 16 bytes at the most.

mod answer;
mod bucket;
mod cells;
mod config;
mod cost;
mod future;
mod handle;
mod layer;
mod refusal;
pub mod remote;
mod rule;
mod service;
mod shared;
mod store;
#[cfg(test)]
mod tests;

pub use self::{
    answer::{Answer, Tell, Tells},
    config::{Algorithm, RateLimitConfig, RateLimitPolicy},
    cost::{CostOf, Priced},
    future::RateLimitFuture,
    handle::RateLimitHandle,
    layer::RateLimitLayer,
    refusal::TooCostly,
    service::RateLimit,
    shared::Force,
};
