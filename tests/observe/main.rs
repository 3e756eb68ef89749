//! However a call ends, under whatever server: what each output says of it.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

mod app;
mod asks;
mod clients;
mod ends;
#[cfg(all(feature = "log", feature = "otlp", feature = "redis"))]
mod secrets;
mod seen;
mod servers;
