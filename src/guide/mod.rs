//! The guide: what is not about one layer alone.

#[cfg(all(feature = "resilience", feature = "observe"))]
#[doc = include_str!("stacks.md")]
pub mod stacks {}

#[cfg(feature = "resilience")]
#[doc = include_str!("compile_errors.md")]
pub mod compile_errors {}

#[cfg(feature = "resilience")]
#[doc = include_str!("coming_from.md")]
#[cfg_attr(feature = "observe", doc = include_str!("coming_from_observe.md"))]
pub mod coming_from {}

#[cfg(feature = "router")]
#[doc = include_str!("routers.md")]
pub mod routers {}
