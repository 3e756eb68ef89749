//! Faults that layers of the field have, or had, each as a test that shows the opposite of its symptom.
//!
//! The numbers are those of a list of thirty that were found in peers. `tests/peers` runs the same scenarios
//! against the layers in which they were found.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that fails is to panic; the scenarios are read by `tests/peers` as well"
)]

mod adaptive;
mod balance;
mod breaker;
mod bulkhead;
mod cache;
mod clock;
mod coalesce;
mod connect;
mod fallback;
mod heap;
mod hedge;
mod memory;
mod ours;
mod plain;
mod rate_limit;
mod retry;
mod rules;
mod scenario;
mod script;
mod shared;
mod timeout;

#[global_allocator]
static ALLOCATOR: heap::Counted = heap::Counted;
