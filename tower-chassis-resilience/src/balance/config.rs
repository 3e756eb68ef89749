use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tower_chassis_core::{
    Live,
    live::{Invalid, Validate},
};

use super::pick::{Candidates, Members, PeakEwma, Pick, Rng, RoundRobin};

/// The settings of a balancer, as they are written in a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct BalanceConfig {
    /// How an endpoint is picked. Default `peak_ewma`.
    pub algorithm: Algorithm,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Algorithm {
    /// The better of two drawn endpoints, by latency and calls in flight: [`PeakEwma`].
    #[default]
    PeakEwma,
    /// One after the other: [`RoundRobin`].
    RoundRobin,
}

/// Settings of a balancer that have been checked.
///
/// ```
/// use tower_chassis_resilience::balance::{Algorithm, BalanceConfig, BalancePolicy};
///
/// let policy = BalancePolicy::try_from(BalanceConfig { algorithm: Algorithm::RoundRobin })?;
/// assert_eq!(policy.config().algorithm, Algorithm::RoundRobin);
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BalancePolicy(BalanceConfig);

impl BalancePolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &BalanceConfig {
        &self.0
    }
}

impl TryFrom<BalanceConfig> for BalancePolicy {
    type Error = Invalid;

    fn try_from(config: BalanceConfig) -> Result<Self, Invalid> {
        Ok(Self(config))
    }
}

impl Validate for BalancePolicy {}

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
            let word = match policy.0.algorithm {
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
