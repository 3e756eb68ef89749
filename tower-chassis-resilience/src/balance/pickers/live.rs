use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tower_chassis_core::Live;

use super::{PeakEwma, RoundRobin};
use crate::balance::{Algorithm, BalancePolicy, Candidates, Members, Pick, Rng};

/// The picker whose algorithm is a live setting. A change keeps what is known of the endpoints.
#[derive(Debug)]
pub struct Picker {
    algorithm: Arc<AtomicU8>,
    round_robin: RoundRobin,
}

const PEAK_EWMA: u8 = 0;
const ROUND_ROBIN: u8 = 1;

impl Picker {
    /// Picks as `policy` says.
    pub fn new(policy: impl Into<Live<BalancePolicy>>) -> Self {
        let algorithm = Arc::new(AtomicU8::new(PEAK_EWMA));
        policy.into().bind(&algorithm, |algorithm, policy| {
            let word = match policy.config().algorithm {
                Algorithm::PeakEwma => PEAK_EWMA,
                Algorithm::RoundRobin => ROUND_ROBIN,
            };
            algorithm.store(word, Ordering::Relaxed);
        });
        Self {
            algorithm,
            round_robin: RoundRobin::new(),
        }
    }
}

impl Default for Picker {
    fn default() -> Self {
        Self::new(BalancePolicy::default())
    }
}

impl Pick for Picker {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        match self.algorithm.load(Ordering::Relaxed) {
            ROUND_ROBIN => self.round_robin.pick_in(candidates, rng),
            _ => PeakEwma::pick_in(candidates, rng),
        }
    }
}
