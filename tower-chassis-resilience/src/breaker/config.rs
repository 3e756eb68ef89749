use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

use super::slots::MAX_CALLS;

/// The longest window, open time or probe timeout that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the rates look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum WindowType {
    /// The calls that ended in the last [`window`](BreakerConfig::window).
    #[default]
    Time,
    /// The last [`window_calls`](BreakerConfig::window_calls) calls.
    Count,
}

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
    /// turns the rule off. Default 0.5.
    pub failure_rate: f64,
    /// A call that takes longer is slow, whether it succeeds or not, up to 24 h. The time is that to its head. 0
    /// turns the rule off. Default 0.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub slow_call: Duration,
    /// Opens when this share of the calls in the window was slow, 0 to 1, read to the millionth. 0 turns the rule
    /// off. Default 0.8.
    pub slow_rate: f64,
    /// The rates say nothing before the window holds so many calls, 1 to 1,000,000; a window of fewer calls has to
    /// be full. Half as many while it recovers. Default 20.
    pub minimum_calls: u32,
    /// Whether the rates look at the calls of a time or at so many calls: `time` or `count`. Default `time`.
    pub window_type: WindowType,
    /// How many calls a window of calls holds, 1 to 1,000. Default 100.
    pub window_calls: u32,
    /// How far back a window of time looks: ten buckets of a tenth each, 10 ms to 24 h. Default 10 s.
    ///
    /// Also how long nobody may call before a row of failures and a window of calls are forgotten, and the time that
    /// a breaker must stay closed for its open time to shrink by one step.
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
    /// Opens for as long as an answer that is no success asks for (`Retry-After`, `grpc-retry-pushback-ms`), 5
    /// minutes at the most. Default false.
    pub open_on_retry_after: bool,
    /// How many calls may try a half-open circuit, 1 to 1,000. Default 3.
    pub half_open_probes: u32,
    /// The share of them that must succeed for it to close, above 0 up to 1, rounded up to whole probes. It opens
    /// again as soon as that cannot be reached any more. Default 1.
    pub half_open_success: f64,
    /// How long such a call may take before it counts as failed, 1 ms to 24 h. Default 10 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub probe_timeout: Duration,
    /// How long a service that is back is spared: a growing share of its calls pass, the others are refused. Up to
    /// 24 h; 0 turns it off. Default 0.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub recovery: Duration,
    /// The share with which that begins, 0 to 1. Default 0.1.
    pub recovery_from: f64,
    /// How it grows, 0.1 to 10: evenly at 1, faster at first above that, slower at first below. Default 1.
    pub recovery_aggression: f64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_rate: 0.5,
            slow_call: Duration::ZERO,
            slow_rate: 0.8,
            minimum_calls: 20,
            window_type: WindowType::Time,
            window_calls: 100,
            window: Duration::from_secs(10),
            open_base: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            open_on_retry_after: false,
            half_open_probes: 3,
            half_open_success: 1.0,
            probe_timeout: Duration::from_secs(10),
            recovery: Duration::ZERO,
            recovery_from: 0.1,
            recovery_aggression: 1.0,
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
        ppm(self.0.failure_rate)
    }

    /// The rate of slow calls in millionths, at least one unless the rule is off.
    pub(super) fn slow_ppm(&self) -> u32 {
        if self.0.slow_call.is_zero() {
            0
        } else {
            ppm(self.0.slow_rate)
        }
    }

    /// The calls of a window of calls; 0 for one of time.
    pub(super) const fn calls(&self) -> u32 {
        match self.0.window_type {
            WindowType::Time => 0,
            WindowType::Count => self.0.window_calls,
        }
    }

    /// The calls before a rate counts.
    pub(super) fn minimum(&self) -> u32 {
        match self.calls() {
            0 => self.0.minimum_calls,
            calls => self.0.minimum_calls.min(calls),
        }
    }

    /// The probes that must succeed.
    pub(super) fn needed(&self) -> u32 {
        let share = u64::from(ppm(self.0.half_open_success));
        let needed = (share * u64::from(self.0.half_open_probes)).div_ceil(1_000_000);
        u32::try_from(needed).unwrap_or(u32::MAX)
    }
}

fn ppm(rate: f64) -> u32 {
    if rate > 0.0 {
        ((rate * 1e6).round() as u32).max(1)
    } else {
        0
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
        let shares = [
            ("failure_rate", config.failure_rate),
            ("slow_rate", config.slow_rate),
            ("recovery_from", config.recovery_from),
        ];
        for (field, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(Invalid::new(field, "must be from 0 to 1"));
            }
        }
        for (field, length) in [
            ("slow_call", config.slow_call),
            ("recovery", config.recovery),
        ] {
            if length > DAY {
                return Err(Invalid::new(field, "must be at most 24h"));
            }
        }
        if !(1..=1_000_000).contains(&config.minimum_calls) {
            return Err(Invalid::new("minimum_calls", "must be from 1 to 1000000"));
        }
        if !(1..=MAX_CALLS).contains(&config.window_calls) {
            return Err(Invalid::new("window_calls", "must be from 1 to 1000"));
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
        if !(config.half_open_success > 0.0 && config.half_open_success <= 1.0) {
            return Err(Invalid::new(
                "half_open_success",
                "must be above 0 and at most 1",
            ));
        }
        if !(0.1..=10.0).contains(&config.recovery_aggression) {
            return Err(Invalid::new(
                "recovery_aggression",
                "must be from 0.1 to 10",
            ));
        }
        if !(millisecond..=DAY).contains(&config.probe_timeout) {
            return Err(Invalid::new("probe_timeout", "must be from 1ms to 24h"));
        }
        Ok(())
    }
}
