//! Adaptive concurrency.

mod config;
mod decision;
mod limit;
#[cfg(test)]
mod tests;

pub use config::{AdaptiveConfig, AdaptivePolicy, Algorithm};
pub use decision::Reason;
