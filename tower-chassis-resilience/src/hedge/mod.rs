//! A second attempt of a call that is late, and the first good answer of the two, for HTTP and for
//! [a protocol of your own](#a-protocol-of-your-own).
//!
//! Most calls of a service are quick, and a few of them are not: a pause of its collector, a full queue, a lost packet.
//! Which ones is chance, so another attempt is most likely quick. It is sent when a call has taken longer than
//! nearly all calls did of late, so it costs little: at the percentile 0.98 two calls of a hundred are made twice.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use http::{Request, Response};
//! use tokio::time::{Instant, sleep};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Carrier, Invocation};
//! use tower_chassis_resilience::hedge::{HedgeLayer, HedgePolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = HedgePolicy::after(Duration::from_millis(20))?;
//! // The inner service takes one type of body only, hence `rewrap`.
//! let layer = HedgeLayer::new(policy).rewrap::<Body>();
//! let handle = layer.handle();
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |request: Request<Body>| {
//!     let attempt = request.invocation().map_or(1, Invocation::attempt);
//!     sleep(Duration::from_millis(if attempt == 1 { 1_000 } else { 5 })).await;
//!     Ok::<_, BoxError>(Response::new(Body::from(format!("attempt {attempt}"))))
//! }));
//! let begun = Instant::now();
//! let response = service.oneshot(Request::get("/").body(Body::empty())?).await?;
//! assert!(begun.elapsed() < Duration::from_millis(30));
//! assert_eq!((handle.sent(), handle.won()), (1, 1));
//! # drop(response);
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent, and whose answer it is
//! Only [idempotent](tower_chassis_core::Carrier::is_idempotent) requests are hedged, as a [retry](crate::retry)
//! understands it; others pass. A hedge is sent when its delay has passed, the budget has a token, the body of the
//! request was read to its end (or is empty), and a clone of the inner service is ready, which is waited for while the
//! first attempt goes on.
//!
//! | an attempt | comes to |
//! |---|---|
//! | answers, and the service is well: a success, or the caller's own fault | its answer is the caller's, all others are dropped |
//! | fails, is late, is refused by a layer of ours, while others are under way | it is dropped, the others go on |
//! | the same, and no other is under way | its answer is the caller's |
//! | asks for a wait (`Retry-After`, `grpc-retry-pushback-ms`) | the next hedge is not sent before that |
//! | forbids another (a negative pushback), or is told that there are too many (429, `RESOURCE_EXHAUSTED`) | no more are sent |
//!
//! So a first attempt that fails before a hedge was sent is simply the answer: to try again is a retry's business,
//! around this layer. With [`on_failure`](HedgeConfig::on_failure) it sends the next at once, if a retry
//! would try again and when the service's pushback says, as gRPC's hedging policy has it.
//!
//! # The delay
//! Fixed, or a percentile of what calls took in the last 20 to 30 seconds, looked up every quarter of a second, with
//! an error of at most 1/32 upwards. Before there are [`min_samples`](HedgeConfig::min_samples) nothing is hedged, and
//! where the percentile is above [`max_delay`](HedgeConfig::max_delay) neither. What counts is the time of attempts
//! that answered well or timed out; a quick failure would make hedges come too soon. Of an attempt that was dropped
//! only a lower bound is known: it counts if it outlasted the delay, so that a service whose calls are all rescued by
//! hedges is still known to be slow.
//!
//! A delay below [`min_delay`](HedgeConfig::min_delay) is that; timers have a resolution of a millisecond.
//! [`HedgeLayer::keyed`] measures calls of each kind by themselves.
//!
//! # A protocol of your own
//! A request that is `Clone` and a [`Carrier`](tower_chassis_core::Carrier) is hedged with
//! [`clone_body`](HedgeLayer::clone_body). The response need not be `Clone`; it says by
//! [`Outcome`](tower_chassis_core::verdict::Outcome) how the call went.
//! ```
//! use std::time::Duration;
//! use http::Extensions;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{BoxError, Carrier, verdict::Outcome};
//! use tower_chassis_resilience::hedge::{HedgeLayer, HedgePolicy};
//!
//! #[derive(Clone)]
//! struct Lookup {
//!     key: u64,
//!     extensions: Extensions,
//! }
//!
//! impl Carrier for Lookup {
//!     fn extensions(&self) -> &Extensions {
//!         &self.extensions
//!     }
//!     fn extensions_mut(&mut self) -> &mut Extensions {
//!         &mut self.extensions
//!     }
//!     fn is_idempotent(&self) -> bool {
//!         true
//!     }
//! }
//!
//! struct Found(u64);
//! impl Outcome for Found {}
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = HedgeLayer::new(HedgePolicy::after(Duration::from_millis(20))?).clone_body();
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |lookup: Lookup| {
//!     if lookup.invocation().is_none_or(|invocation| invocation.attempt() == 1) {
//!         std::future::pending::<()>().await;
//!     }
//!     Ok::<_, BoxError>(Found(lookup.key))
//! }));
//! let Found(key) = service.oneshot(Lookup { key: 7, extensions: Extensions::new() }).await?;
//! assert_eq!(key, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//! [`HedgeConfig`] → [`HedgePolicy`] → [`Live`](tower_chassis_core::Live), through [`HedgeHandle::config`] too.
//!
//! | setting | default | |
//! |---|---|---|
//! | `hedges` | 1 | attempts beside the first, up to 4 |
//! | `delay` | none | a fixed delay before each |
//! | `percentile` | 0.98 | the share of calls that is over by then |
//! | `min_samples` | 100 | in half a minute; with fewer nothing is hedged |
//! | `min_delay`, `max_delay` | 1 ms, 2 s | a smaller percentile is raised, a greater one is no reason to hedge |
//! | `on_failure` | false | a failure sends the next at once |
//! | `body_limit` | 64 KiB | what is kept of a body |
//! | `budget_ratio`, `budget_min_per_second` | 0.1, 1 | hedges per call and per second at the most |
//! | `budget_in_flight_ratio` | 0.2 | which share of the calls under way may be hedges |
//! | `budget_min_in_flight` | 3 | and so many in any case |
//!
//! * **Budget.** It bounds what hedges add when all calls become slow at once, before the percentile has followed. One per
//!   layer, or one [shared](HedgeLayer::budget) with retries of the same service; where the retry is
//!   around this layer, [`budget_of_retry`](HedgeLayer::budget_of_retry), so that a call pays once.
//! * **Body.** As with a retry: recorded while the first attempt reads it, [cloned](HedgeLayer::clone_body),
//!   [rewrapped](HedgeLayer::rewrap).
//! * **Judge.** The verdict of [`Auto`](tower_chassis_core::verdict::Auto), or [`HedgeLayer::classify`], on heads: a
//!   body that breaks after a good head is the caller's.
//! * **Switch.** [`HedgeHandle::switch_off`] ends hedging without a change of settings.
//!
//! # Order
//! Where a retry would be, or inside of it: below the total timeout and a rate limit, which see one call; above the
//! timeout of a try and the balancer, so that the hedge has its own time and lands on another endpoint. Each copy
//! carries its number and what was tried in its [`Invocation`](tower_chassis_core::Invocation), made here if there is
//! none.
//!
//! A loser is neither good nor bad to a breaker below. A service that never answers is hidden from it as long as hedges
//! come in time; the balancer's latencies show it, and it is what a timeout of a try below this layer is for.
//!
//! # Events and metrics
//! [`Event::Hedged`](tower_chassis_core::events::Event::Hedged) for each hedge when it is over, and how:
//! `chassis_hedges_total{name,outcome}`, where `won` and `lost` together tell what hedging is worth.
//! [`Event::BudgetExhausted`](tower_chassis_core::events::Event::BudgetExhausted) where one was wanted and not in the
//! budget. Hedges whose `content-type` is gRPC's carry `grpc-previous-rpc-attempts`.
//!
//! # Cancellation
//! Losers are dropped before the answer is handed out, and the guards below are told
//! [`CANCELLED`](tower_chassis_core::Verdict::CANCELLED). Dropping the future drops all attempts. A token that was
//! taken for a hedge whose service was never ready is not put back. A failed response, its body and its connection
//! are dropped while others are waited for.
//!
//! # Cost
//! For a call that is answered in time: a reading of the clock on the way in, which the layers below share, and, with
//! a percentile, one on the way out; two additions to atomics; the copy of the head, or the clone of the request. The
//! copy is not made for a request that cannot be hedged now: the delay is not known, the budget is empty, the
//! deadline is nearer, the body is too long. A request without an [`Invocation`](tower_chassis_core::Invocation)
//! gets one (four allocations; see [`HedgeLayer::untracked`]). No timer before the first `Pending`. A future takes
//! some 200 bytes beside the inner one and the copy, most of them the timer. A hedge costs four allocations and a clone of
//! the inner service. A key's percentile takes 12 KiB.

mod config;
mod copies;
mod future;
mod handle;
mod latency;
mod layer;
mod race;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod timed;

pub use self::{
    config::{HedgeConfig, HedgePolicy},
    future::HedgeFuture,
    handle::HedgeHandle,
    layer::HedgeLayer,
    service::Hedge,
};
