//! Answers that are kept for a while and given again: a small memo in front of a slow or dear service, for any
//! protocol.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::verdict::OkIsSuccess;
//! use tower_chassis_resilience::cache::{CacheLayer, CachePolicy};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let cache = CacheLayer::new(CachePolicy::new(Duration::from_secs(30))?, |item: &u32| Some(*item));
//! // A response of HTTP, or one that has an `Outcome`, says by itself whether it is good.
//! let cache = cache.classify(OkIsSuccess);
//! let handle = cache.handle();
//! let mut prices = cache.layer(service_fn(async |item: u32| Ok::<_, Infallible>(item * 10)));
//! for _ in 0..3 {
//!     assert_eq!(prices.ready().await?.call(7).await?, 70);
//! }
//! assert_eq!((handle.hits(), handle.misses(), handle.len()), (2, 1, 1));
//! # Ok(())
//! # }
//! ```
//!
//! For HTTP, [`CacheLayer::http`]. Which requests are the same, and which answers may be given to others, says the
//! page of [`share`](crate::share): what one user was answered is not given to another unless its service says nothing of it and the
//! request shows nothing of it.
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_resilience::{cache::{CacheLayer, CachePolicy}, share::HttpKeys};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = CachePolicy::new(Duration::from_secs(5))?.with(|config| config.stale_if_error = Duration::from_secs(60))?;
//! let service = ServiceBuilder::new()
//!     .layer(CacheLayer::http(policy, HttpKeys::new().vary(["accept-encoding"])?))
//!     .service(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("front page")))));
//! let get = || Request::get("/").body(Body::empty());
//! http_body_util::BodyExt::collect(service.clone().oneshot(get()?).await?.into_body()).await?;
//! let again = service.oneshot(get()?).await?;
//! assert_eq!(again.headers()["age"], "0");
//! # Ok(())
//! # }
//! ```
//! This is no HTTP cache in the sense of RFC 9111: nothing is validated, no `Warning` is made, an unsafe request
//! takes nothing away ([`CacheHandle::remove`] does), and the time to live is the policy's, unless the answer names
//! a shorter one (`s-maxage`, `max-age`; one that has an `expires` and neither of them is not kept). With a key of your own everything that an answer depends on belongs into
//! the key, the user above all.
//!
//! # Configuration
//! [`CacheConfig`] → [`CachePolicy`] → [`Live`](tower_chassis_core::Live), through [`CacheHandle::update`] too.
//!
//! | field | default | means |
//! |---|---|---|
//! | `ttl` | 60 s | for how long an answer is given |
//! | `stale_if_error` | 0 | for how long after that in place of a failure, a timeout, a refusal of ours |
//! | `max_entries` | 10,000 | answers that are kept |
//! | `max_bytes` | 64 MiB | bytes that they take, with keys and headers |
//! | `enabled` | yes | no: every call passes, nothing is kept |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`body_limit`](CacheLayer::body_limit) | 64 KiB | a longer HTTP body passes as it comes and is not kept |
//! | [`weigh`](CacheLayer::weigh), [`weigh_keys`](CacheLayer::weigh_keys) | the size of the type | bytes of an answer, of a key of your own |
//! | [`classify`](CacheLayer::classify) | [`Auto`](tower_chassis_core::verdict::Auto) | only successes are kept |
//!
//! A cloned answer (not HTTP) counts with the size of its type, a key of yours too. What they hold on the heap is seen only by
//! [`weigh`](CacheLayer::weigh) and [`weigh_keys`](CacheLayer::weigh_keys): where clients choose how long they are, say it, or bound
//! their number. What the table itself takes, some 200 bytes for each answer, is not counted.
//!
//! What is evicted first is what nobody asked for again (S3-FIFO), so a scan does not empty it. The bounds are those
//! of up to sixteen shards, each its share: a cache may be full a little before its bounds, never over them.
//! One layer is one cache, however often it is layered or cloned; layered over two services it gives the answers of one
//! for the other, unless their keys differ, so give each its [`fresh`](CacheLayer::fresh) one.
//!
//! # Order
//! Outside of [`coalesce`](crate::coalesce), which makes one call of many misses, and of everything that a hit need not pass: retry,
//! breaker, limits. Inside of metrics, of what makes answers of errors, and of authentication. An answer of a
//! [marked fallback](crate::fallback) is not kept.
//!
//! The service is always ready: a hit needs nothing of the inner one, and a miss waits for it in its call.
//!
//! # Events and metrics
//! [`Event::Cache`](tower_chassis_core::events::Event::Cache) for each call, counted as `chassis_cache_requests_total` by `result`:
//! `hit`, `miss`, `bypass` (no key), and `stale` for a miss that failed and was answered all the same.
//! [`Event::CacheEvicted`](tower_chassis_core::events::Event::CacheEvicted) for answers that make room for others, counted as
//! `chassis_cache_evictions_total`: many of them beside few hits say that the cache is too small. An answer that is
//! replaced, too old or taken away by hand is none of them.
//! [`CacheHandle`] counts hits, misses and evictions, and shows and changes what is kept.
//!
//! # Cancellation
//! A call that is dropped keeps nothing, nor does an HTTP body that is not read to its end.
//!
//! # Cost
//! A hit: one reading of the clock, a lock of a shard, a reference count or two; for HTTP one allocation for the
//! key and the copy of the head. A miss, in addition, three allocations for what is kept; an HTTP body streams through while
//! it is copied, and the caller waits for nothing.

mod config;
mod layer;
pub(crate) mod memo;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    config::{CacheConfig, CachePolicy},
    layer::{Cache, CacheFuture, CacheLayer},
    state::CacheHandle,
};
