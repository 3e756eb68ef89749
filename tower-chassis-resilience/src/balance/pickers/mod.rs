//! The pickers that come with the balancer.

mod live;
mod peak_ewma;
mod round_robin;

pub use live::Picker;
pub use peak_ewma::PeakEwma;
pub use round_robin::RoundRobin;
