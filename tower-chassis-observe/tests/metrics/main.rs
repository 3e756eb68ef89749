//! Metrics as Prometheus sees them.
#![allow(clippy::panic_in_result_fn, clippy::unwrap_used, reason = "a test")]

mod calls;
mod cardinality;
mod http;
mod prometheus;
mod recorders;
mod served;
#[path = "../support/mod.rs"]
mod support;
