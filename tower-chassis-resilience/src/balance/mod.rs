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
//! | picker | picks |
//! |---|---|
//! | [`PeakEwma`] (default) | the better of two drawn endpoints, by latency times calls in flight |
//! | [`RoundRobin`] | one after the other |
//! | [`Picker`] | as [`BalancePolicy`] says, now |
//! | a [`Pick`] of your own | from the [`Candidates`] |
//!
//! Each takes the weights of the endpoints into account. What may be picked is the same for all:
//!
//! 1. In the [`Subset`](tower_chassis_core::invocation::Subset) that traffic rules chose. Without a usable endpoint
//!    there, the whole service serves (`OnEmpty::Any`) or the call is refused (`OnEmpty::Refuse`).
//! 2. With an open [gate](tower_chassis_core::Gate).
//! 3. Not tried by another attempt of the call, unless all were.
//! 4. With a weight above 0, unless there is no other. If no endpoint has one, all are equal.
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
//! | `chassis_balance_endpoints` | gauge, of a balancer with a name: endpoints whose gate is `open`, and `shut` |
//! | [`BalanceHandle::endpoints`] | per endpoint: gate, calls in flight, latency, attempts, failures |
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
//! No lock and no allocation: two draws, two endpoints looked at, two readings of the clock, one clone of the
//! endpoint's service. Nothing that all calls share is counted per call. Calls that carry a subset of few among
//! many endpoints, and those that must wait, look at all of them; waiting allocates.
//! A set of 10,000 endpoints is rebuilt by the worker while calls go on.

mod alias;
mod config;
mod future;
mod handle;
mod load;
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
