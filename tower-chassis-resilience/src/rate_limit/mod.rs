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
//! number, a decision is exact, and so is the wait. In any stretch of time `t`, at most
//! `burst + rate * t` calls are allowed: there is no edge between windows at which twice as many
//! pass.
//!
//! Clients name the keys, so the number of keys is bounded. A bucket that has filled up again is
//! the same as a new one; those are dropped when room is needed, and no other, so that a flood of
//! new keys cannot make the limiter forget a client that it limits. Where every key is in use,
//! those that find no room share buckets by their hash, some four thousand: they may be limited too
//! much and never too little, and the memory stays.
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
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`keyed`](RateLimitLayer::keyed) | one bucket | whose call it is; [`ip_key`](crate::keyed::ip_key) for addresses |
//! | [`max_keys`](RateLimitLayer::max_keys) | 100,000 | keys with a bucket of their own |
//!
//! One layer is one limit, however often it is layered or cloned; [`fresh`](RateLimitLayer::fresh)
//! makes another. It is the limit of this process: `n` instances allow `n` times as much.
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
//! Each refusal is a `Refused` [event](tower_chassis_core::events::Event). It is a
//! [`Rejection`](tower_chassis_core::Rejection) of the kind `RateLimited` (429,
//! `RESOURCE_EXHAUSTED`) with the exact wait.
//!
//! # Cancellation
//!
//! A call counts when it is made. One that is dropped unfinished has used its place; one that was
//! readied and never made has not.
//!
//! # Cost
//!
//! One bucket: a compare-and-swap, no lock, no allocation. Keyed: one SipHash of the key, and one
//! of 64 locks for a lookup in a map, because clients choose the keys; a new key that finds its
//! shard full sweeps it at most once per millisecond.

mod answer;
mod bucket;
mod cells;
mod config;
mod cost;
mod future;
mod handle;
mod layer;
mod refusal;
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
