//! How many calls at once: the logic, without tower, a clock or a task. Time is nanoseconds since any instant.
//!
//! Calls that are answered go into a [`Histogram`]; each [`Window`] of it is shown to the [`Controller`], which says
//! what the limit is from then on. [`Meter`] is both, shared between threads.

mod baseline;
mod controller;
mod gradient;
mod histogram;
mod meter;

pub(super) use controller::{Change, Controller, Settings};
pub(super) use histogram::{Histogram, Window};
pub(super) use meter::Meter;

/// Nanoseconds.
pub(super) type Nanos = u64;

pub(super) const MILLIS: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MILLIS;
