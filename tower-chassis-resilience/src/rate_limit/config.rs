use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

use super::gcra::Rule;

/// The longest time in which a bucket may fill up.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The settings of a rate limit, as they are written in a configuration.
///
/// Plain values; [`RateLimitPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct RateLimitConfig {
    /// The calls that are allowed in each `per`, in the long run; above 0, may be a fraction.
    /// Default 100.
    pub rate: f64,
    /// The calls that are allowed at once after a pause, at least 1. Default 100.
    pub burst: u32,
    /// The time that `rate` counts for. Default 1 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub per: Duration,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            rate: 100.0,
            burst: 100,
            per: Duration::from_secs(1),
        }
    }
}

/// Settings of a rate limit that have been checked.
///
/// One call is allowed per `per / rate`, rounded up to whole nanoseconds, so that the rate in force
/// is never above the one that is set; the error is below 1 % up to ten million calls per second.
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_resilience::rate_limit::RateLimitPolicy;
///
/// let policy = RateLimitPolicy::new(20.0, 5)?;
/// assert_eq!(policy.interval(), Duration::from_millis(50));
/// let hourly = policy.with(|config| config.per = Duration::from_secs(3_600))?;
/// assert_eq!(hourly.interval(), Duration::from_secs(180));
/// assert_eq!(RateLimitPolicy::new(20.0, 0).unwrap_err().to_string(), "burst must be at least 1");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RateLimitPolicy(RateLimitConfig);

impl RateLimitPolicy {
    /// So many calls per second, and so many at once.
    ///
    /// # Errors
    /// `rate` is not above 0, or `burst` is 0.
    pub fn new(rate: f64, burst: u32) -> Result<Self, Invalid> {
        RateLimitConfig {
            rate,
            burst,
            ..Default::default()
        }
        .try_into()
    }

    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &RateLimitConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut RateLimitConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// The time in which one more call is allowed.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.nanos() as u64)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) fn config_mut(&mut self) -> &mut RateLimitConfig {
        &mut self.0
    }

    pub(super) fn rule(&self) -> Rule {
        Rule::new(self.nanos() as u64, self.0.burst)
    }

    fn nanos(&self) -> f64 {
        (self.0.per.as_nanos() as f64 / self.0.rate).ceil()
    }
}

impl TryFrom<RateLimitConfig> for RateLimitPolicy {
    type Error = Invalid;

    fn try_from(config: RateLimitConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<RateLimitPolicy> for RateLimitConfig {
    fn from(policy: RateLimitPolicy) -> Self {
        policy.0
    }
}

impl Validate for RateLimitPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if !(config.rate > 0.0 && config.rate.is_finite()) {
            return Err(Invalid::new("rate", "must be above 0"));
        }
        if config.per.is_zero() {
            return Err(Invalid::new("per", "must be above 0"));
        }
        if config.burst == 0 {
            return Err(Invalid::new("burst", "must be at least 1"));
        }
        let interval = self.nanos();
        if config.per.as_nanos() as f64 / config.rate < 1.0 {
            return Err(Invalid::new(
                "rate",
                "must be at most one call per nanosecond",
            ));
        }
        if interval * f64::from(config.burst) > LONGEST.as_nanos() as f64 {
            return Err(Invalid::new(
                "rate",
                "must allow `burst` calls within ten years",
            ));
        }
        Ok(())
    }
}
