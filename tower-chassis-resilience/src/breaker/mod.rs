//! A circuit breaker: a service that fails is left alone for a while, then tried with care.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::{Rejection, Verdict};
//! use tower_chassis_resilience::breaker::{BreakerLayer, BreakerPolicy, State};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let policy = BreakerPolicy::default().with(|config| config.consecutive_failures = 2)?;
//! let breaker = BreakerLayer::new(policy).named("stock").classify_fn(
//!     |result: Result<&u32, &Infallible>| match result {
//!         Ok(0) => Verdict::FAILURE,
//!         _ => Verdict::SUCCESS,
//!     },
//! );
//! let handle = breaker.handle();
//! let mut stock = breaker.layer(service_fn(async |left: u32| Ok::<_, Infallible>(left)));
//!
//! for _ in 0..2 {
//!     stock.ready().await?.call(0).await?;
//! }
//! assert_eq!(handle.state(), State::Open);
//! let refused = stock.ready().await?.call(7).await.unwrap_err();
//! assert!(Rejection::find(&*refused).is_some_and(Rejection::is_circuit_open));
//!
//! handle.reset();
//! assert_eq!(stock.ready().await?.call(7).await?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! * **Closed**: calls pass and are counted. It opens when one of two rules says so, the first one
//!   first: so many failures in a row, or a share of failures among the calls of the last seconds,
//!   once there were enough of them. Both are decided when a call fails.
//! * **Open**: calls are refused at once, for an open time that is drawn anew each time from the
//!   upper half of `min(open_base * 2^(opens - 1), open_max)` (equal jitter). `opens` goes up by one
//!   each time, and down by one for each whole window that the breaker was closed, so that a
//!   service that flaps is not forgiven at its first success.
//! * **Half-open**: so many calls may pass as probes, at once or one after another. It closes when
//!   all of them succeeded and opens at the first that failed or took longer than the probe timeout:
//!   probes that hang cannot keep it half-open. A probe that is cancelled gives its permit to the
//!   next call.
//!
//! | how a call ended | in a row | rate | as a probe |
//! |---|---|---|---|
//! | success, the caller's fault (4xx) | ends the row | success | succeeds |
//! | failure, timeout, unreachable | counts | failure | fails |
//! | rate limited (429) | | failure | fails if there is a rate rule, else succeeds |
//! | cancelled, refused by a layer inside | | | gives its permit back |
//!
//! A call belongs to the generation of the circuit that admitted it. Its result touches nothing if
//! the circuit has moved on: a slow call from before an outage cannot close it, nor open it again.
//!
//! # Configuration
//!
//! [`BreakerConfig`], checked into a [`BreakerPolicy`]. All of it can be changed under load
//! ([`BreakerHandle::update`], or any [`Live`](tower_chassis_core::Live)); state and counts stay.
//!
//! | field | default | means |
//! |---|---|---|
//! | `consecutive_failures` | 5 | opens after so many failures in a row; 0 is off |
//! | `failure_rate` | 0.5 | opens at this share of failures; 0 is off |
//! | `minimum_calls` | 20 | calls in the window before the rate counts |
//! | `window` | 10 s | how far back the rate looks, in ten buckets |
//! | `open_base`, `open_max` | 5 s, 60 s | the first and the longest open time |
//! | `half_open_probes` | 3 | calls that must succeed for it to close |
//! | `probe_timeout` | 10 s | a probe that takes longer has failed |
//!
//! One layer is one circuit, however often it is layered or cloned; [`fresh`](BreakerLayer::fresh)
//! makes another with the same settings, one for each endpoint for example, and
//! [`keyed`](BreakerLayer::keyed) one for each key that is found in a request.
//!
//! # Order
//!
//! Around a client, inside the balancer and per endpoint, with a [gate](BreakerLayer::gate) that
//! the balancer reads: one attempt is one sample, and an endpoint that fails is passed over. In
//! front of a whole service it stands inside the retry. Inside it, a timeout's answers count as
//! failures; a timeout outside says so when it drops the call
//! ([`cause`](tower_chassis_core::cause)), and counts as well. With `until_end()`, a broken body or
//! a gRPC status in the trailers counts too.
//!
//! # Events and metrics
//!
//! Each transition is a `Breaker` [event](tower_chassis_core::events::Event) with the new state,
//! the open time and a reason: `consecutive-failures`, `failure-rate`, `probe-failed`,
//! `probe-timeout`, `open-time-over`, `probes-succeeded`, `reset`. One that opened and shut its
//! [gate](BreakerLayer::gate) is an `Ejected` event too. Each refusal is a `Refused` event with the
//! breaker's name. All of it goes to the [`Events`](tower_chassis_core::Events) that it was
//! [given](BreakerLayer::events), and nowhere else:
//! [`events::log`](tower_chassis_core::events::log) makes lines of `tracing` of it. Listeners run
//! outside the breaker's lock. A refusal is a [`Rejection`](tower_chassis_core::Rejection) of the kind `CircuitOpen` that
//! carries what is left of the open time, or of the time that the probes have.
//!
//! # Cancellation
//!
//! A call that is dropped says nothing about the service and counts as nothing; a probe's permit is
//! free again at once. A call that panics or that a timeout drops is a failure; one that is dropped because something
//! beside it panicked is not. A service that is refused after its inner one began to be readied keeps what that
//! reserved until it is used again or dropped.
//!
//! # Cost
//!
//! A call through a closed circuit takes no lock, allocates nothing and reads no clock of its own:
//! one load of the state, one reference count, one compare-and-swap in the window's bucket. A
//! refusal takes no lock either. Transitions and probes take one, for some hundred nanoseconds.
//!
//! # Source
//!
//! Consecutive failures or a rate over exact buckets: linkerd's unified breaker. Generations:
//! gobreaker. Open times that decay: Envoy's outlier ejection. Equal jitter: Finagle's failure
//! accrual.

mod buckets;
mod circuit;
mod cold;
mod config;
mod handle;
mod keyed;
mod layer;
mod mode;
mod ramp;
mod run;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod turn;
mod window;

pub use config::{BreakerConfig, BreakerPolicy, WindowType};
pub use handle::BreakerHandle;
pub use keyed::{KeyedAdmission, KeyedBreaker, KeyedBreakerHandle, KeyedBreakerLayer};
pub use layer::{Admission, Breaker, BreakerLayer, Ticket};
pub use mode::Mode;
pub use state::{Snapshot, State};
