//! Lines of the access log, their sizes and excerpts, and records of the audit.
#![allow(clippy::panic_in_result_fn, clippy::unwrap_used, reason = "a test")]

mod audit;
#[cfg(feature = "axum")]
mod axum;
mod endings;
mod excerpts;
mod formats;
#[path = "../support/frames.rs"]
mod frames;
mod lines;
mod redaction;
#[path = "../support/mod.rs"]
mod support;
