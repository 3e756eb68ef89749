//! One service out of many endpoints: [`Balance`] picks one for each call, and knows how each of them does.
//!
//! The endpoints come from a [watch](tower_chassis_core::discover) and may change at any time; what is known of
//! one is kept by its id. Picking takes `&self` and no lock: a balancer is cloned, not put behind a buffer.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response};
//! use tower::{ServiceExt, service_fn};
//! use tower_chassis_core::{Endpoint, discover::{Discover, StaticDiscover}};
//! use tower_chassis_resilience::balance::{Balance, Picker};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let discover = StaticDiscover::new();
//! discover.set("shop", [Endpoint::new("http://10.0.0.1:80")?, Endpoint::new("http://10.0.0.2:80")?]);
//!
//! // The stack of one endpoint. A breaker in it shuts `make.gate()`, and the endpoint is passed over.
//! let (balance, worker) = Balance::new(
//!     discover.watch("shop"),
//!     |make| {
//!         let address = make.endpoint().address().to_string();
//!         service_fn(move |_: Request<()>| {
//!             let response = Response::new(address.clone());
//!             async { Ok::<_, Infallible>(response) }
//!         })
//!     },
//!     Picker::default(),
//! );
//! worker.spawn();
//!
//! let response = balance.clone().oneshot(Request::new(())).await?;
//! assert!(response.body().starts_with("http://10.0.0."));
//! assert_eq!(balance.handle().endpoints().iter().map(|status| status.attempts).sum::<u64>(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//!
//! The algorithm is live, and a change of it keeps what is known of the endpoints:
//!
//! ```
//! use tower_chassis_core::Live;
//! use tower_chassis_resilience::balance::{Algorithm, BalanceConfig, BalancePolicy, Picker};
//!
//! let policy = Live::new(BalancePolicy::default());
//! let picker = Picker::new(policy.clone());
//! policy.set(BalanceConfig { algorithm: Algorithm::RoundRobin }.try_into()?)?;
//! # drop(picker);
//! # Ok::<(), tower_chassis_core::live::Invalid>(())
//! ```
//!
//! In a file it is a word, or a map of the word and its parameters:
//!
//! ```yaml
//! algorithm: least_request
//! ```
//! ```yaml
//! algorithm:
//!   ring:
//!     points: 320                                  # 160; at most 65,536
//!     bounded: 1.25                                # none
//!     hash_on:                                     # the address of the client
//!     - { header: x-user, terminal: true }
//!     - client
//! ```
//!
//! | picker, and its word | picks | when | cost of a pick |
//! |---|---|---|---|
//! | [`PeakEwma`], `peak_ewma` | the better of two drawn, by latency times calls in flight | by default | two endpoints, one clock |
//! | [`LeastRequest`], `least_request` (`choices`) | of 2 to 10 drawn, the fewest calls in flight | calls take alike everywhere | `choices` endpoints |
//! | [`RoundRobin`], `round_robin` | one after the other | calls are small and alike; weights are few | one counter for all calls |
//! | [`SmoothRoundRobin`], `smooth_round_robin` | one after the other, weights mixed as nginx does | the same order as nginx | one counter; a round of at most 65,536 turns is kept |
//! | [`Random`], `random` | any | nothing may be shared between calls; weights do not matter | one endpoint |
//! | [`WeightedRandom`], `weighted_random` | any, by weight | as above, with weights | one endpoint |
//! | [`Ring`], `ring` (`points`, `bounded`, `hash_on`) | the next point after the hash | caches and sessions; the set changes often; hot keys (`bounded`) | log of the points; `bounded` looks at up to 128 endpoints |
//! | [`Ring::ketama`], `ketama` (`bounded`, `hash_on`) | as nginx's `hash … consistent` | beside nginx | the same |
//! | [`Maglev`], `maglev` (`size`, `hash_on`) | the place of the hash in a table | as a ring, evener; a few more requests move when the set changes | one look; 256 KiB a set |
//! | [`Rendezvous`], `rendezvous` (`hash_on`) | the highest draw for the hash | up to some 50 endpoints: exact weights, no table | all endpoints |
//! | [`WeightedResponse`], `weighted_response` | the fastest 7 of 10 times, else one after the other | as go-chassis did | up to 32 endpoints |
//! | [`Picker`] | as [`BalancePolicy`] says, now | the algorithm is a setting | one comparison |
//! | a [`Pick`] of your own | from the [`Candidates`] | | |
//!
//! A change takes effect once the [`Worker`] has made what the algorithm needs: a ring, a round, a table.
//!
//! ## By a hash of the request
//!
//! A request with a user goes where that user's others go, any other by its client's address. Without either it goes
//! to any endpoint.
//!
//! ```
//! use http::Request;
//! use tower_chassis_resilience::balance::{HashOn, Maglev, Pick, Ring};
//!
//! let ring = Ring::new()
//!     .bounded(1.25)
//!     .hash_on([HashOn::header("x-user").terminal(), HashOn::client()]);
//! let of = |user: &str| Request::builder().header("x-user", user).body(());
//! assert_eq!(ring.hash(&of("ann")?), ring.hash(&of("ann")?));
//! assert_ne!(ring.hash(&of("ann")?), ring.hash(&of("bob")?));
//! assert_eq!(ring.hash(&Request::new(())), None);
//!
//! // Or by what one knows oneself.
//! let by_shard = Maglev::new().by(|call| call.meta("x-shard")?.parse().ok());
//! # drop(by_shard);
//! # Ok::<(), http::Error>(())
//! ```
//!
//! Hashes are XXH64 with seed 0 (CRC-32 for `ketama`), the same in every process and version. Of several parts that
//! are there, each turns the hash by one bit and is added by exclusive or. Where an endpoint may not be called, its
//! requests go on to others, each to its own, and those of the rest stay. An endpoint's place comes from its
//! [`hash_key`](tower_chassis_core::Endpoint::hash_key).
//!
//! The places are those of others, checked by their numbers: ring and table of Envoy (test vectors of its ring hash and
//! Maglev balancers), ring of nginx (its vectors, and a live nginx), rounds of nginx.
//!
//! ## A picker of one's own
//!
//! ```
//! use tower_chassis_resilience::balance::{Candidates, Members, Pick, Rng};
//!
//! /// The endpoints with the tag `disk: ssd` first.
//! struct Fast;
//!
//! impl Pick for Fast {
//!     type Table = Vec<usize>;
//!
//!     fn table(&self, members: &Members<'_>) -> Vec<usize> {
//!         let fast = |index: &usize| members.endpoint(*index).is_some_and(|e| e.tag("disk") == Some("ssd"));
//!         (0..members.len()).filter(fast).collect()
//!     }
//!
//!     fn pick(&self, candidates: &Candidates<'_, Vec<usize>>, rng: &mut Rng) -> Option<usize> {
//!         let mut fast = candidates.table().iter().copied();
//!         fast.find(|index| candidates.is_candidate(*index)).or_else(|| candidates.draw(rng))
//!     }
//! }
//! # drop(tower_chassis_resilience::balance::Balance::<(), _>::new(
//! #     tokio::sync::watch::channel(Default::default()).1, |_| (), Fast));
//! ```
//!
//! ## What may be picked
//!
//! All but [`Random`] take the weights of the endpoints into account. What may be picked is the same for all:
//!
//! 1. In the [`Subset`](tower_chassis_core::invocation::Subset) that traffic rules chose. Without a usable endpoint
//!    there, the whole service serves (`OnEmpty::Any`) or the call is refused (`OnEmpty::Refuse`).
//! 2. With an open [gate](tower_chassis_core::Gate).
//! 3. Not tried by another attempt of the call, unless all were.
//! 4. With a weight above 0, unless there is no other. If no endpoint has one, all are equal.
//! 5. No [outlier](#outliers), unless there is no other.
//!
//! An endpoint of that kind whose service is not ready is passed over: up to three are awaited together, and
//! the first that is ready is called. Who waits hears of a change of the set and of gates whose time comes (not
//! of [`Gate::open`](tower_chassis_core::Gate::open)). Without an endpoint that may be picked the call is refused
//! at once, with `NoEndpoint`, or with `CircuitOpen` and the time until the first gate opens. An endpoint that
//! fails while it is made ready fails the call, as one that fails later does: a retry above tries another.
//!
//! [`until_end`](Balance::until_end) counts a call as in flight until its body ended. Ids that discovery names
//! twice are one endpoint with the sum of the weights. An empty set is applied like any other: to keep the
//! last good one is up to its source.
//!
//! # Outliers
//!
//! With [`outlier`](Balance::outlier) the balancer counts how the calls of each endpoint end, and passes over those that do
//! worse than the others. Every setting is live; all are on [`OutlierConfig`].
//!
//! ```
//! # use tower::service_fn;
//! # use tower_chassis_core::{discover::{Discover, StaticDiscover}, Live};
//! # use tower_chassis_resilience::balance::{Balance, OutlierPolicy, Picker};
//! # let discover = StaticDiscover::new();
//! # let make = |_: &tower_chassis_resilience::balance::MakeEndpoint<'_>| service_fn(
//! #     async |_: http::Request<()>| Ok::<_, std::convert::Infallible>(http::Response::new(())));
//! let live = Live::new(OutlierPolicy::default());
//! let (balance, worker) = Balance::new(discover.watch("shop"), make, Picker::default());
//! let balance = balance.outlier(live.clone());
//! live.set(OutlierPolicy::default().with(|config| config.consecutive_failures = 3)?)?;
//! # drop((balance, worker));
//! # Ok::<(), tower_chassis_core::live::Invalid>(())
//! ```
//!
//! | rule | ejects | looked at |
//! |---|---|---|
//! | `consecutive_failures` | 5 failures in a row | at once |
//! | `consecutive_gateway` (0 % enforced) | 5 in a row of 502, 503, 504, `UNAVAILABLE`, no answer | at once |
//! | `consecutive_local`, with `split_local` | 5 in a row without an answer | at once |
//! | `success_rate` | a rate 1.9 standard deviations below the mean, of 5 endpoints with 100 calls | every 10 s |
//! | `failure_percentage` (0 % enforced) | 85 % failed, of 5 endpoints with 50 calls | every 10 s |
//! | `latency` | a median 3 times that of the others and 5 ms above, in 3 intervals in a row | every 10 s |
//! | `small_cluster`, of 2 to 4 endpoints | 50 % failed where each other one failed 10 % at most | every 10 s |
//!
//! The rules and their defaults are Envoy's and gRPC's (A50: [`OutlierPolicy::a50`]); the last two are not theirs. The
//! verdict on a call says what is a failure. The caller's own faults are good calls, rate limits are no good calls and no
//! failures, and what a layer of ours refused or a caller gave up does not count.
//!
//! At most 10 % of the endpoints are out at once, 34 % of fewer than ten, always one of two or more, and never the only
//! one. An ejection lasts 30 s, the next one 60 s, up to 300 s, and a tenth of that more by chance; each interval without
//! one takes a step back. Who comes back gets one call at a time until the first good answer, and then a share that grows
//! from a tenth to the whole in 10 s. Nobody is refused because of an ejection: an outlier serves what no other endpoint
//! can, and keeps its connections.
//!
//! [`BalanceHandle::eject`] and [`readmit`](BalanceHandle::readmit) say it over the rules, also where there are none.
//!
//! # Order
//!
//! Below [`retry`](crate::retry), so that the next attempt lands elsewhere, and below traffic rules, which write
//! the subset. Above the stack of each endpoint (breaker, bulkhead, connection), which `make` builds. That stack's
//! limits hold for its endpoint alone; what is to hold for the service goes above.
//!
//! # Events and metrics
//!
//! | what | when |
//! |---|---|
//! | [`Event::Endpoints`](tower_chassis_core::events::Event::Endpoints) | the worker starts, the set changed |
//! | [`Event::Refused`](tower_chassis_core::events::Event::Refused), layer `balance` | no endpoint, all gates shut |
//! | [`Event::EndpointTurned`](tower_chassis_core::events::Event::EndpointTurned) | an outlier is ejected, readmitted, or would be ejected |
//! | `chassis_balance_endpoints` | gauge, of a balancer with a name: endpoints whose gate is `open`, and `shut` |
//! | [`BalanceHandle::endpoints`] | per endpoint: gate, calls in flight, latency, attempts, failures, ejections |
//!
//! # Cancellation
//!
//! A future may be dropped at any time: the endpoint is free again at once, also if it was not ready or its
//! service panicked. The time that the call had taken counts as a latency if it is longer than the average, so
//! that an endpoint that accepts and stays silent is avoided; a [timeout](crate::timeout) above counts as a
//! failure. A call that waits keeps the worker alive; if every balancer is gone before it is first polled, it waits
//! for the endpoint that it chose and hears of no change.
//!
//! # Cost
//!
//! By default, no lock and no allocation: two draws, two endpoints looked at, two readings of the clock, one clone of the
//! endpoint's service. Nothing that all calls share is counted per call. Calls that carry a subset of few among
//! many endpoints, and those that must wait, look at all of them; waiting allocates.
//! A set of 10,000 endpoints is rebuilt by the worker while calls go on.

mod alias;
mod config;
mod future;
mod handle;
mod load;
mod outlier;
mod pick;
mod pickers;
mod service;
mod snapshot;
mod waiting;
mod worker;

pub use config::{
    Algorithm, BalanceConfig, BalancePolicy, KetamaConfig, LeastRequestConfig, MaglevConfig,
    RendezvousConfig, RingConfig,
};
pub use future::{ResponseFuture, Ticket};
pub use handle::{BalanceHandle, EndpointStatus};
pub use load::Load;
pub use outlier::{OutlierConfig, OutlierPolicy};
pub use pick::{Candidates, Members, Pick, Rng};
pub use pickers::{
    Cycle, HashOn, LeastRequest, Maglev, MaglevTable, PeakEwma, Picker, PickerTable, Random,
    Rendezvous, Ring, RingTable, RoundRobin, SmoothRoundRobin, WeightedRandom, WeightedResponse,
};
pub use service::Balance;
pub use snapshot::MakeEndpoint;
pub use worker::Worker;

#[cfg(test)]
mod tests;
