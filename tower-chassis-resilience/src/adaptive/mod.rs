//! Adaptive concurrency.

mod config;
mod decision;
mod future;
mod handle;
mod layer;
mod limit;
mod service;
mod shared;
#[cfg(test)]
mod tests;

pub use config::{AdaptiveConfig, AdaptivePolicy, Algorithm};
pub use decision::Reason;
pub use future::AdaptiveFuture;
pub use handle::AdaptiveHandle;
pub use layer::AdaptiveLayer;
pub use service::{Adaptive, Limits, OneLimit};
pub use shared::Ticket;
