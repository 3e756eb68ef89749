//! The guide: what is not about one layer alone.

#[cfg(all(feature = "resilience", feature = "observe"))]
#[doc = include_str!("stacks.md")]
pub mod stacks {}
