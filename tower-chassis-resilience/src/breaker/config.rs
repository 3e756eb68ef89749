use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The longest window, open time or probe timeout that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of a breaker, as they are written in a configuration.
///
/// Plain values; [`BreakerPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct BreakerConfig {
    /// Opens after so many failures in a row. 0 turns the rule off. Default 5.
    pub consecutive_failures: u32,
    /// Opens when this share of the calls in the window failed, 0 to 1, read to the millionth. 0
    /// turns the rule off, and then calls are not counted. Default 0.5.
    pub failure_rate: f64,
    /// The rate says nothing before the window holds so many calls, 1 to 1,000,000. Default 20.
    pub minimum_calls: u32,
    /// How far back the rate looks: ten buckets of a tenth each, 10 ms to 24 h. Default 10 s.
    ///
    /// Also the time that a breaker must stay closed for its open time to shrink by one step.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub window: Duration,
    /// The first open time, before jitter, 1 ms to `open_max`. It doubles each time that the
    /// breaker opens again. Default 5 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub open_base: Duration,
    /// The longest open time, before jitter, up to 24 h. Default 60 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub open_max: Duration,
    /// How many calls may try a half-open circuit, all of which must succeed for it to close, 1 to
    /// 1,000. Default 3.
    pub half_open_probes: u32,
    /// How long such a call may take before it counts as failed, 1 ms to 24 h. Default 10 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub probe_timeout: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_rate: 0.5,
            minimum_calls: 20,
            window: Duration::from_secs(10),
            open_base: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            half_open_probes: 3,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

/// Settings of a breaker that have been checked.
///
/// ```
/// use tower_chassis_resilience::breaker::{BreakerConfig, BreakerPolicy};
///
/// let policy = BreakerPolicy::try_from(BreakerConfig { failure_rate: 0.2, ..Default::default() })?;
/// let stricter = policy.with(|config| config.consecutive_failures = 3)?;
/// assert_eq!(stricter.config().failure_rate, 0.2);
///
/// let fault = stricter.with(|config| config.failure_rate = 20.0).unwrap_err();
/// assert_eq!(fault.to_string(), "failure_rate must be from 0 to 1");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BreakerPolicy(BreakerConfig);

impl BreakerPolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &BreakerConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut BreakerConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) fn config_mut(&mut self) -> &mut BreakerConfig {
        &mut self.0
    }

    /// The failure rate in millionths, at least one unless the rule is off.
    pub(super) fn rate_ppm(&self) -> u32 {
        if self.0.failure_rate > 0.0 {
            ((self.0.failure_rate * 1e6).round() as u32).max(1)
        } else {
            0
        }
    }
}

impl TryFrom<BreakerConfig> for BreakerPolicy {
    type Error = Invalid;

    fn try_from(config: BreakerConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<BreakerPolicy> for BreakerConfig {
    fn from(policy: BreakerPolicy) -> Self {
        policy.0
    }
}

impl Validate for BreakerPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        let millisecond = Duration::from_millis(1);
        if !(0.0..=1.0).contains(&config.failure_rate) {
            return Err(Invalid::new("failure_rate", "must be from 0 to 1"));
        }
        if !(1..=1_000_000).contains(&config.minimum_calls) {
            return Err(Invalid::new("minimum_calls", "must be from 1 to 1000000"));
        }
        if !(Duration::from_millis(10)..=DAY).contains(&config.window) {
            return Err(Invalid::new("window", "must be from 10ms to 24h"));
        }
        if !(millisecond..=DAY).contains(&config.open_base) {
            return Err(Invalid::new("open_base", "must be from 1ms to 24h"));
        }
        if !(config.open_base..=DAY).contains(&config.open_max) {
            return Err(Invalid::new("open_max", "must be from open_base to 24h"));
        }
        if !(1..=1_000).contains(&config.half_open_probes) {
            return Err(Invalid::new("half_open_probes", "must be from 1 to 1000"));
        }
        if !(millisecond..=DAY).contains(&config.probe_timeout) {
            return Err(Invalid::new("probe_timeout", "must be from 1ms to 24h"));
        }
        Ok(())
    }
}
