//! Load shedding: under overload calls are refused at once, those that matter least first.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use http::Request;
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::Rejection;
//! use tower_chassis_resilience::{
//!     bulkhead::{BulkheadLayer, BulkheadPolicy},
//!     shed::{Priority, PriorityClass, ShedLayer, ShedPolicy},
//! };
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), tower_chassis_core::BoxError> {
//! let bulkhead = BulkheadLayer::new(BulkheadPolicy::throttle(100, 200, Duration::from_secs(1))?);
//! let shed = ShedLayer::new(ShedPolicy::default())
//!     .watch(bulkhead.handle())
//!     .priority(|request: &Request<()>| match request.uri().path() {
//!         "/health" => Priority::VERY_HIGH,
//!         "/thumbnails" => Priority::LOW,
//!         _ => Priority::NORMAL,
//!     });
//! let handle = shed.handle();
//! let handler = service_fn(async |_: Request<()>| Ok::<_, Infallible>("here you are"));
//! let mut shop = shed.layer(bulkhead.layer(handler));
//! let get = |path: &str| Request::get(path).body(()).unwrap();
//!
//! assert_eq!(shop.ready().await?.call(get("/thumbnails")).await?, "here you are");
//!
//! // More than the service can bear. (Here nobody calls, so we say it.)
//! handle.set_pressure(3.0);
//! tokio::time::sleep(Duration::from_secs(1)).await;
//! let refused = shop.ready().await?.call(get("/thumbnails")).await.unwrap_err();
//! assert!(Rejection::find(&*refused).is_some_and(Rejection::is_overloaded));
//! assert_eq!(handle.refused(PriorityClass::Low), 1);
//! # Ok(())
//! # }
//! ```
//!
//! There are two reasons to refuse, and both may be used alone.
//!
//! # An inner service that is not ready
//!
//! [`ShedLayer::new`] alone is tower's `LoadShed`: it asks the inner service whether that is ready, and where it is not,
//! the call is refused instead of waiting. The inner service is asked in `poll_ready`, by the instance that is called,
//! and keeps what it knows: its waker, its place in a queue, the connection that it was making.
//!
//! `max_unready` is how long it may have been unready before that begins. So long a call waits; where others have
//! waited before it and it was never ready, only for the rest, so that in a long outage nobody waits any more. If
//! nobody has called for twice that time, nobody knows, and it begins anew. The clones of a service know it together,
//! two services that were layered apart do not. Nobody waits longer than `max_unready`.
//!
//! # Priority
//!
//! A call has a [`Priority`]: one of five classes, and a level in it, 0 to 99, so there are 500 levels. Which class,
//! [`priority`](ShedLayer::priority) says, a closure that knows the route; or the caller in `x-chassis-priority`, where
//! [`trusted`](ShedLayer::trusted) says that it may. The level is drawn for each call; with
//! [`user`](Priority::user) it is that of the user, and whoever tries again gets the same answer.
//!
//! The *pressure* is a number that is 1 where a service has all that it can work on. It is
//! [watched](ShedLayer::watch) (calls in flight and waiting over the limit, of a bulkhead or an adaptive limit inside;
//! or your closure: the load of the CPU, the lag of a queue) or [set](ShedHandle::set_pressure). Up to `start` nothing
//! is refused. Between `start` and `full` the share of calls that is to be refused goes from none to all. It is the
//! lowest levels that are: the *threshold* is that quantile of the levels that came in the last second, about. So it
//! follows what comes: a third of the calls is a third, whatever their classes.
//!
//! * The threshold follows with the time constant `reaction`, in both directions, so that it does not swing.
//! * From `full` on only `VeryHigh` passes. Where what is watched has a queue, that is so at once, for each call and
//!   before the threshold has followed: in a burst, or when an adaptive limit falls, the others leave the rest of the
//!   queue to it. With `full` at 1 nothing else waits there, but the one call that found the limit reached.
//! * `VeryHigh` is never refused while the pressure is below `highest`. Above, once nearly everything else is refused and
//!   that does not help, a share of it is that grows as that of the others did, up to nine tenths.
//! * A signal that ends at 1, as the load of a CPU does, wants all three below that: `start` 0.7, `full` 0.85, `highest`
//!   0.95.
//! * It is a balance: at three times what a service can do, two thirds are refused, and the pressure stays where that
//!   is so, which is 1.6 with the defaults. What is watched must be able to go there: give the bulkhead a queue of
//!   twice its limit. One without a queue refuses by itself at 1, blindly: in front of it say `start` 0.5, `full` 1.
//! * An adaptive limit is above what the service can work on at once, and its queue is for bursts: who waits in it for
//!   long is refused there, whatever its class. In front of it say `full` 1, so that its queue is for `VeryHigh`.
//!   Where that needs more than half of the service by itself, also say `min`, what it needs, give the queue the order
//!   `fifo` and a `target` of what a call takes, and for more throughput `full` 1.2: the limit falls by a third or more
//!   at times, while as many calls are in flight.
//!
//! In virtual time, twelve seeds, 20 s from a cold start:
//!
//! | calls | limit inside | of `VeryHigh` passes | of `High`, `Normal`, the rest | served, of the capacity |
//! |---|---|---|---|---|
//! | 2 × the capacity, a tenth of them `VeryHigh`, the others `Normal` | adaptive, `full` 1 | 100 % | about 44 % of `Normal` | 101 % |
//! | 3 × the capacity, five classes alike | bulkhead, the defaults | 100 % | about 60 %, 5 %, below 0.5 % | 98 % or more |
//! | the same | adaptive, `full` 1.2, `min`, `fifo` as above | 100 % | about 48 %, 8 %, below 1 % | 90 % or more |
//!
//! In the first row 99 of 100 calls of `VeryHigh` take at most 1.8 times as long as without overload
//! (`examples/simulations`).
//!
//! The classes, levels and quantile are those of failsafe-go's prioritizer; WeChat's DAGOR
//! ([Zhou et al., 2018](https://arxiv.org/abs/1806.04075)) has the levels of users.
//!
//! # Configuration
//!
//! [`ShedConfig`], checked into a [`ShedPolicy`]. It can be changed under load ([`ShedHandle::update`], or any
//! [`Live`](tower_chassis_core::Live)).
//!
//! | field | default | means |
//! |---|---|---|
//! | `max_unready` | 0 s | how long the inner service may have been unready |
//! | `start` | 0.8 | the pressure up to which nothing is refused |
//! | `full` | 2 | the pressure from which all but `VeryHigh` are |
//! | `highest` | 3 | the pressure above which some of `VeryHigh` are |
//! | `interval` | 10 ms | how often the pressure is read, at the most |
//! | `reaction` | 50 ms | how fast the threshold follows |
//! | `rotate` | 24 h | how long users keep their levels; 0: for ever |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`priority`](ShedLayer::priority) | none: no call is refused by it | which priority a call has |
//! | [`trusted`](ShedLayer::trusted) | nobody | which callers may say it |
//! | [`watch`](ShedLayer::watch) | nothing | where the pressure is read |
//! | [`seed`](ShedLayer::seed) | 0 for users, chance for what is drawn | levels that repeat |
//! | [`respond`](ShedLayer::respond) | fail | answers its own refusals |
//! | [`named`](ShedLayer::named) | `shed` | its name in events and gauges |
//! | [`events`](ShedLayer::events) | nobody | who hears of refusals, and reads the threshold |
//!
//! [`ShedHandle::force`] holds the threshold, for an operator who knows better, with an end if one is given;
//! [`ShedHandle::disable`] lets everything pass.
//!
//! # Order
//!
//! In a server: inside trace, metrics and rescue, outside of everything that costs, and outside of the bulkhead or the
//! adaptive limit that it watches. What comes from an identity is known after authentication only: then put one
//! without priority before, and one with it behind. In a client: outside of the bulkhead that it watches.
//!
//! A limit that makes its callers wait in `poll_ready`, as tower's `ConcurrencyLimit` does, gives a permit to the
//! instance that asked, also if its call is refused then; it is kept until that instance calls again or is dropped. Limits
//! of this crate take permits in `call`.
//!
//! # Events and metrics
//!
//! Each refusal is a `Refused` [event](tower_chassis_core::events::Event) and a
//! [`Rejection`](tower_chassis_core::Rejection) of the kind `Overloaded` (503, `UNAVAILABLE`) without a time to come
//! back. The gauge `chassis_shed_threshold` by `name` is the threshold, 0 to 500; it is
//! [read](tower_chassis_core::Events::read). [`ShedHandle`] reads the pressure, and what came and was refused by class.
//!
//! # Cancellation
//!
//! A call holds nothing here. A service that is dropped while it waits for the inner one drops its timer.
//!
//! # Cost
//!
//! Without priority: a flag. With it: the clock (or the reading of a layer outside), an addition in a cell of the thread
//! for the level, a load of the threshold; drawing a level is a few instructions, that of a user a hash of its name. For
//! each bulkhead or adaptive limit that is watched, a load of how many wait in it. No lock, no allocation. Once in an `interval` a call reads the pressure and finds the threshold, some microseconds,
//! under a lock that others do not wait for. The future is the inner one and 8 bytes at the most. A layer holds 2 kB for
//! each core (16 at the most) and 4 kB more, each service that is layered 256 bytes for each core. A call that waits
//! for the inner service allocates a timer.

mod config;
mod future;
mod handle;
mod layer;
mod pressure;
mod priority;
mod seen;
mod service;
mod shared;
#[cfg(test)]
mod tests;
mod threshold;
mod unready;

pub use config::{ShedConfig, ShedPolicy};
pub use future::ShedFuture;
pub use handle::ShedHandle;
pub use layer::ShedLayer;
pub use pressure::Pressure;
pub use priority::{ByFn, NoPriority, PRIORITY, Priority, PriorityClass, PriorityOf, Trusted};
pub use service::Shed;
