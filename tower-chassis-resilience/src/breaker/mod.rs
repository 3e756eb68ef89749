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
//! * **Closed**: calls pass and are counted. It opens when a rule says so, the first one first: so many failures in a
//!   row; a share of failures, or of slow calls, among the last calls, once there were enough of them; an answer that
//!   asks for a pause. All are decided when a call ends.
//! * **Open**: calls are refused at once, for an open time that is drawn anew each time from the
//!   upper half of `min(open_base * 2^(opens - 1), open_max)` (equal jitter), or for as long as an answer asked. `opens`
//!   goes up by one each time, and down by one for each whole window that the breaker was closed, so that a
//!   service that flaps is not forgiven at its first success.
//! * **Half-open**: so many calls may pass as probes, at once or one after another. It closes when enough of them
//!   succeeded, and opens as soon as that is out of reach. A probe that takes longer than the probe timeout has failed:
//!   probes that hang cannot keep it half-open. A probe that is cancelled gives its permit to the next call.
//! * **Recovering**, if that is set: after the probes a growing share of the calls pass,
//!   `min(1, from + (1 - from) * (t / T)^(1 / aggression))`, evenly and without chance; the others are refused. The rules
//!   hold, rates with half the calls, and lead straight back to open.
//!
//! | how a call ended | in a row | rate | as a probe |
//! |---|---|---|---|
//! | success, the caller's fault (4xx) | ends the row | success | succeeds |
//! | failure, timeout, unreachable | counts | failure | fails |
//! | rate limited (429) | | failure | fails if there is a rate rule, else succeeds |
//! | slow, if there is a rule for that | as above | slow, and as above | fails |
//! | cancelled, refused by a layer inside | | | gives its permit back |
//!
//! A call is slow by the time to its head, or to its failure: how fast a body is read is up to the caller.
//!
//! A call belongs to the generation of the circuit that admitted it. Its result touches nothing if
//! the circuit has moved on: a slow call from before an outage cannot close it, nor open it again. And what was counted
//! is forgotten in a silence: two failures a day apart are not in a row.
//!
//! # Configuration
//!
//! [`BreakerConfig`], checked into a [`BreakerPolicy`]. All of it can be changed under load
//! ([`BreakerHandle::update`], or any [`Live`](tower_chassis_core::Live)); state, counts and what is forced stay. Another
//! length or type of the window begins with empty counts.
//!
//! | field | default | means |
//! |---|---|---|
//! | `consecutive_failures` | 5 | opens after so many failures in a row; 0 is off |
//! | `failure_rate` | 0.5 | opens at this share of failures; 0 is off |
//! | `slow_call` | 0 s | what takes longer is slow; 0 is off |
//! | `slow_rate` | 0.8 | opens at this share of slow calls; 0 is off |
//! | `minimum_calls` | 20 | calls in the window before a rate counts, at the most what it holds |
//! | `window_type` | `time` | `time`: the calls of the last `window`. `count`: the last `window_calls` |
//! | `window` | 10 s | how far back a window of time looks, in ten buckets; and how long a silence is |
//! | `window_calls` | 100 | how many calls a window of calls holds, up to 1,000 |
//! | `open_base`, `open_max` | 5 s, 60 s | the first and the longest open time |
//! | `open_on_retry_after` | false | opens for as long as an answer asks (`Retry-After`), up to 5 minutes |
//! | `half_open_probes` | 3 | calls that may try it |
//! | `half_open_success` | 1 | the share of them that must succeed for it to close |
//! | `probe_timeout` | 10 s | a probe that takes longer has failed |
//! | `recovery` | 0 s | how long the share of the calls grows after the probes; 0 is off |
//! | `recovery_from` | 0.1 | the share with which that begins |
//! | `recovery_aggression` | 1 | 1 is even, more is faster at first |
//!
//! Recovery is off by default because it refuses calls of a service that has just shown that it is well: for one that
//! falls over under its whole traffic it is right, behind a balancer a start at a small weight does the same without a
//! refusal. A closure instead of `open_on_retry_after` is [`trip_on`](BreakerLayer::trip_on).
//!
//! One layer is one circuit, however often it is layered or cloned; [`fresh`](BreakerLayer::fresh)
//! makes another with the same settings, one for each endpoint for example, and
//! [`keyed`](BreakerLayer::keyed) one for each key that is found in a request.
//!
//! # By hand
//!
//! [`BreakerHandle::force`] says over the rules what a breaker does, and for how long, so that nobody forgets it:
//! [`ForcedOpen`](Mode::ForcedOpen), [`ForcedClosed`](Mode::ForcedClosed), [`Disabled`](Mode::Disabled), or
//! [`ObserveOnly`](Mode::ObserveOnly), which tries a setting out on real calls and only reports where it would have
//! opened. [`KeyedBreakerHandle::force`] says it of all keys, those to come as well. [`BreakerHandle::reset`] closes and
//! forgets.
//!
//! # Order
//!
//! Around a client, inside the balancer and per endpoint, with a [gate](BreakerLayer::gate) that
//! the balancer reads: one attempt is one sample, and an endpoint that fails is passed over. Calls that come all the same
//! are refused in `call`; readiness never waits for the open time. In
//! front of a whole service it stands inside the retry. Inside it, a timeout's answers count as
//! failures; a timeout outside says so when it drops the call
//! ([`cause`](tower_chassis_core::cause)), and counts as well. With `until_end()`, a broken body or
//! a gRPC status in the trailers counts too.
//!
//! # Events and metrics
//!
//! Each transition is a `Breaker` [event](tower_chassis_core::events::Event) with the new state,
//! the open time and a reason: `consecutive-failures`, `failure-rate`, `slow-rate`, `verdict`, `probe-failed`,
//! `probe-slow`, `probe-timeout`, `open-time-over`, `probes-succeeded`, `recovered`, `forced`, `released`, `reset`. One that
//! opened and shut its
//! [gate](BreakerLayer::gate) is an `Ejected` event too. Each refusal is a `Refused` event with the
//! breaker's name. What is forced, and its end, is a `BreakerForced` event; what one that only observes would have done is
//! a `BreakerWouldOpen` event, once for each time that it would have been open. All of it goes to the
//! [`Events`](tower_chassis_core::Events) that it was
//! [given](BreakerLayer::events), and nowhere else:
//! [`events::log`](tower_chassis_core::events::log) makes lines of `tracing` of it, `tower-chassis-observe` the metrics
//! `chassis_breaker_transitions_total`, `chassis_breaker_state`, `chassis_breaker_mode`,
//! `chassis_breaker_would_open_total`, `chassis_ejections_total` and `chassis_refused_total`. Listeners run
//! outside the breaker's lock. A refusal is a [`Rejection`](tower_chassis_core::Rejection) of the kind `CircuitOpen` that
//! carries what is left of the open time, of the time that the probes have, or of the recovery; nothing where it is forced
//! open without an end.
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
//! A call through a closed circuit that succeeds takes no lock and allocates nothing. It writes a reference count of its
//! core, twice, and one word of the window by one atomic addition, of either type; all else it only reads. It is counted without a
//! reading of the clock of its own if it was answered in its first poll and there is no rule for slow calls: then it
//! counts as of its beginning. What a call carries is 24 bytes in its future. A refusal takes no lock either.
//! Transitions and probes take one, for some hundred nanoseconds, and so does the first failure after a silence. A
//! circuit holds some 900 bytes, and 400 more with a window of calls.
//!
//! # Source
//!
//! Consecutive failures or a rate over exact buckets: linkerd's unified breaker. Generations:
//! gobreaker. Open times that decay: Envoy's outlier ejection. Equal jitter: Finagle's failure
//! accrual. Slow calls, a window of calls, forced states: resilience4j. The ramp: Envoy's slow start.

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
