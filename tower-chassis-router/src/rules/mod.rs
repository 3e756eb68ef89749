//! Traffic rules: which part of a service gets a request.
//!
//! The first [`Rule`] that matches a request chooses one of its destinations by weight; a request that
//! no rule matches goes to the whole service. [`TrafficLayer`] writes the choice into the request's
//! [`Invocation`](tower_chassis_core::Invocation) as a
//! [`Subset`](tower_chassis_core::invocation::Subset) and does nothing else: the balancer below reads
//! it.
//!
//! # Example
//!
//! A tenth of the traffic, and all of the testers', goes to version 2:
//!
//! ```
//! use tower_chassis_core::Live;
//! use tower_chassis_router::rules::{Destination, HeaderMatch, Rule, TrafficLayer, TrafficPolicy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let testers = Rule::new("testers", [Destination::new([("version", "2")], 1)])
//!     .header(HeaderMatch::exact("x-tester", "yes"));
//! let canary =
//!     Rule::new("canary", [Destination::new([("version", "1")], 90), Destination::new([("version", "2")], 10)]);
//!
//! let policy = Live::new(TrafficPolicy::new(vec![testers, canary.clone()], 42)?);
//! let layer = TrafficLayer::new(policy.clone());
//!
//! policy.set(TrafficPolicy::new(vec![canary], 42)?)?; // under load, at once
//! # let _ = layer;
//! # Ok(()) }
//! ```
//!
//! # Configuration
//!
//! [`TrafficPolicy::new`] compiles a list of [`Rule`]s and names every fault with its place (`rules[1].to[0].tags`).
//!
//! # Weights
//!
//! Destinations take turns in an even mixture: in every cycle of as many requests as the weights add up to
//! (divided by their greatest common divisor), each gets exactly its share, however many clones and
//! threads call. Where in a cycle a destination has its turns differs from one to the next, so that traffic with
//! a rhythm of its own, every second request a write for example, is split by weight at every beat. A change of the policy does not start the turns of a rule
//! anew, as long as it keeps its name.
//!
//! # Order
//!
//! Above the balancer, so that it finds the subset; below retry and hedging, so that each attempt takes
//! its turn.
//!
//! # Cancellation
//!
//! The choice is made in `call`. A call that is dropped later has used up its turn.
//!
//! # Cost
//!
//! One atomic addition, shared by all callers of a rule, and the copy of one reference count. The
//! future is the inner service's. A request without an `Invocation` gets one.

mod layer;
mod policy;
mod rule;
mod share;
#[cfg(test)]
mod tests;

pub use tower_chassis_core::invocation::OnEmpty;

pub(crate) use self::policy::Test;
pub use self::{
    layer::{Traffic, TrafficLayer},
    policy::{InvalidRules, TrafficPolicy},
    rule::{Destination, HeaderMatch, Matches, Rule, ValueMatch},
};
