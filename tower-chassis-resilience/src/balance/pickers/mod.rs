//! The pickers that come with the balancer.

mod hash_on;
mod least_request;
mod live;
mod maglev;
mod peak_ewma;
mod random;
mod rendezvous;
mod ring;
mod round_robin;
mod smooth;
mod weighted_response;

pub use hash_on::HashOn;
pub use least_request::LeastRequest;
pub use live::{Picker, PickerTable};
pub use maglev::{Maglev, MaglevTable};
pub use peak_ewma::PeakEwma;
pub use random::{Random, WeightedRandom};
pub use rendezvous::Rendezvous;
pub use ring::{Ring, RingTable};
pub use round_robin::RoundRobin;
pub use smooth::{Cycle, SmoothRoundRobin};
pub use weighted_response::WeightedResponse;

pub(super) use maglev::{LARGEST as LARGEST_MAGLEV, is_prime};
pub(super) use ring::MOST_POINTS;
