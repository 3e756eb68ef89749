//! A bulkhead.
mod config;
mod future;
mod handle;
mod layer;
mod permits;
mod queue;
mod service;
mod shared;
mod stripes;
#[cfg(test)]
mod tests;

pub use config::{BulkheadConfig, BulkheadPolicy};
pub use future::BulkheadFuture;
pub use handle::BulkheadHandle;
pub use layer::BulkheadLayer;
pub use service::Bulkhead;
pub use shared::Ticket;
