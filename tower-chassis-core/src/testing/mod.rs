//! The laws of layers, and what tests of layers need. Behind the feature `testing`, for tests only.
//!
//! [`contract`] tries every [`Law`] on any [`Layer`](tower_layer::Layer); [`contract_service`] on a service
//! without one. [`faulty`] is a layer that can be made to break each law, one at a time: it shows what they mean,
//! and that the suite finds them.
//!
//! ```
//! use tower_chassis_core::testing::{Case, contract, faulty::LimitLayer};
//!
//! contract(|| {
//!     let limit = LimitLayer::new(2);
//!     let handle = limit.handle();
//!     Case::new(limit).limit(2).held(move || handle.in_use()).calls_once()
//! })
//! .assert();
//! ```
//!
//! What a case declares:
//!
//! | declaration | when |
//! |---|---|
//! | [`held`](Case::held) | the layer holds something for its calls that a handle shows: permits, probes, a queue |
//! | [`reads`](Case::reads) | its handle shows anything else: counts, a state, settings |
//! | [`limit`](Case::limit) | at most so many calls are let in at once |
//! | [`answers`](Case::answers) | inner errors become answers |
//! | [`calls_once`](Case::calls_once) | one call is one inner call (not for a retry) |
//! | [`before`](Case::before) | the laws are to hold in another state than the first: half-open |
//! | [`script`](Case::script) | the common script does not show the layer's state |
//! | [`skip`](Case::skip) | a law is not for this layer, and why |
//! | [`Case::with`] | the protocol is not HTTP, or the request must be a certain one |
//!
//! What does the work is there for other tests as well: [`ControlledService`], an inner service that does what
//! its [`Control`] says; [`Hand`], a future that is polled by hand with a waker that counts; [`settle`] and
//! [`advance`] for the paused clock; and [`TestClient`], a client of a service in the same process.

mod client;
mod contract;
mod controlled;
pub mod faulty;
mod hand;
#[cfg(test)]
mod tests;

pub use self::{
    client::{TestClient, TestRequest, TestResponse},
    contract::{
        Answer, Case, Finding, Law, Reply, Report, Skipped, Step, contract, contract_service,
    },
    controlled::{Control, ControlledFuture, ControlledService, Counts, Marked, Plan},
    hand::{CountingWaker, Hand, Polled, advance, poll_once, settle},
};
pub use crate::{assert_pending, assert_ready};
