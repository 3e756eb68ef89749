use tower_chassis_core::live::{Invalid, Validate};

#[cfg(doc)]
use super::{PeakEwma, RoundRobin};

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
