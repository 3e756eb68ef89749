//! Models of what synchronises without a lock, run through every interleaving that the memory model of C11
//! allows (within loom's bounds).
//!
//! The files under test are the real ones: `#[path]` pulls them in, and `std` and `arc_swap` are loom's here. A
//! module below is named as the one it models; what it declares beside the models are the neighbours that the files
//! expect.
//! `tests/models.rs` runs everything.
#![cfg(chassis_loom)]

extern crate chassis_loom_arc_swap as arc_swap;
extern crate chassis_loom_std as std;

pub mod adaptive;
pub mod breaker;
pub mod bulkhead;
pub mod coalesce;
pub mod events;
pub mod fault;
pub mod hedge;
pub mod live;
pub mod outlier;
pub mod output;
pub mod rate_limit;
pub mod registry;
pub mod retry;
pub mod shed;

/// Every interleaving; `LOOM_MAX_PREEMPTIONS` bounds them.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    loom::model(model);
}
