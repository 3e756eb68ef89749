//! What answers requests by itself: health, and events as they happen.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test")]

mod health;
mod sse;
