use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

use super::rule::{MOST_IN_A_WINDOW, Rule};

/// The longest time in which a bucket may fill up.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The longest wait that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How calls are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Algorithm {
    /// The generic cell rate algorithm, which decides as a token bucket of `burst` tokens does that gets `rate`
    /// of them in each `per`.
    #[default]
    #[cfg_attr(feature = "config", serde(alias = "token-bucket"))]
    #[doc(alias = "TokenBucket")]
    Gcra,
    /// `rate` calls in a window of `per`. The calls of the window before this one count by the share of it that is
    /// less than a window ago, as in chi's `httprate`. `burst` and `max_wait` have no meaning.
    SlidingWindow,
}

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
    /// The calls that are allowed in each `per`, in the long run; above 0, may be a fraction. Default 100. With a
    /// sliding window, a whole number from 1 to 1,000,000.
    pub rate: f64,
    /// The calls that are allowed at once after a pause, at least 1. Default 100.
    pub burst: u32,
    /// The time that `rate` counts for. Default 1 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub per: Duration,
    /// How calls are counted. Default GCRA.
    pub algorithm: Algorithm,
    /// A call that would be allowed within this time waits for it, up to 24 h; one that would wait longer is refused at
    /// once. Default 0: nobody waits.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_wait: Duration,
    /// Lengthens the wait that a refused call is told by a random part of it up to this, 0 to 1, so that those who were
    /// refused together do not come back together. Default 0.
    pub jitter: f64,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            rate: 100.0,
            burst: 100,
            per: Duration::from_secs(1),
            algorithm: Algorithm::Gcra,
            max_wait: Duration::ZERO,
            jitter: 0.0,
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

    /// A bucket of `capacity` tokens that gets `refill` of them in each `per`: another name for the same settings.
    ///
    /// # Errors
    /// `refill` is not above 0, or `capacity` or `per` is 0.
    #[doc(alias = "TokenBucket")]
    pub fn token_bucket(capacity: u32, refill: f64, per: Duration) -> Result<Self, Invalid> {
        RateLimitConfig {
            rate: refill,
            burst: capacity,
            per,
            ..Default::default()
        }
        .try_into()
    }

    /// At most `limit` calls in a window of `per`, which slides: what chi calls `httprate.Limit`.
    ///
    /// # Errors
    /// `limit` is 0 or above 1,000,000, or `per` is 0.
    #[doc(alias = "httprate")]
    pub fn sliding_window(limit: u32, per: Duration) -> Result<Self, Invalid> {
        RateLimitConfig {
            rate: limit.into(),
            per,
            algorithm: Algorithm::SlidingWindow,
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
        match self.0.algorithm {
            Algorithm::Gcra => Rule::new(self.nanos() as u64, self.0.burst),
            Algorithm::SlidingWindow => Rule::Window {
                length: self.0.per.as_nanos() as u64,
                limit: self.0.rate as u32,
            },
        }
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
        if config.max_wait > DAY {
            return Err(Invalid::new("max_wait", "must be at most 24h"));
        }
        if !(0.0..=1.0).contains(&config.jitter) {
            return Err(Invalid::new("jitter", "must be from 0 to 1"));
        }
        if config.algorithm == Algorithm::SlidingWindow {
            let most = f64::from(MOST_IN_A_WINDOW);
            if !(1.0..=most).contains(&config.rate) || config.rate.fract() != 0.0 {
                return Err(Invalid::new(
                    "rate",
                    "must be a whole number from 1 to 1000000 with a sliding window",
                ));
            }
            if config.per > LONGEST {
                return Err(Invalid::new("per", "must be at most ten years"));
            }
            if !config.max_wait.is_zero() {
                return Err(Invalid::new("max_wait", "must be 0 with a sliding window"));
            }
            return Ok(());
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
