//! Spans, and the context that goes over the wire.
#![allow(clippy::panic_in_result_fn, clippy::unwrap_used, reason = "a test")]

mod propagation;
mod spans;
#[path = "../support/mod.rs"]
mod support;
