//! Where lines go, and what `tracing` writes there.
#![allow(clippy::panic_in_result_fn, clippy::unwrap_used, reason = "a test")]

#[cfg(feature = "log")]
mod log;
mod output;
