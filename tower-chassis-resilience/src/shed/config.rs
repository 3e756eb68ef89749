use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The longest time that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest that users keep their levels.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The highest pressure that is accepted.
const MOST: f64 = 1_000.0;

/// The settings of load shedding, as they are written in a configuration.
///
/// Plain values; [`ShedPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ShedConfig {
    /// How long the inner service may have been unready before calls are refused, up to 24 h. Default 0: at once.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_unready: Duration,
    /// The pressure above which calls are refused by their priority, 0 to 1,000. Default 0.8.
    pub start: f64,
    /// The pressure at which all classes but the highest are refused: above `start`, up to 1,000. Default 2.
    pub full: f64,
    /// The pressure above which the highest class is refused as well, in part: at least `full`, up to 1,000. Default 3.
    pub highest: f64,
    /// How often the pressure is read, at the most, 1 ms to 10 s. Default 10 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub interval: Duration,
    /// How fast the threshold follows the pressure: after so long it has gone 63 % of the way. 1 ms to 24 h. Default
    /// 50 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub reaction: Duration,
    /// How long a user keeps its level, 1 min to 365 days, by the clock of the system in UTC; 0: for ever. Default a
    /// day.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub rotate: Duration,
}

impl Default for ShedConfig {
    fn default() -> Self {
        Self {
            max_unready: Duration::ZERO,
            start: 0.8,
            full: 2.0,
            highest: 3.0,
            interval: Duration::from_millis(10),
            reaction: Duration::from_millis(50),
            rotate: DAY,
        }
    }
}

/// Settings of load shedding that have been checked.
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_resilience::shed::ShedPolicy;
///
/// let policy = ShedPolicy::default().with(|config| config.max_unready = Duration::from_secs(1))?;
/// assert_eq!((policy.config().start, policy.config().full), (0.8, 2.0));
/// let wrong = policy.with(|config| config.full = 0.5);
/// assert_eq!(wrong.unwrap_err().to_string(), "full must be above start and at most 1000");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ShedPolicy(ShedConfig);

impl ShedPolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &ShedConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut ShedConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) fn config_mut(&mut self) -> &mut ShedConfig {
        &mut self.0
    }
}

impl TryFrom<ShedConfig> for ShedPolicy {
    type Error = Invalid;

    fn try_from(config: ShedConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<ShedPolicy> for ShedConfig {
    fn from(policy: ShedPolicy) -> Self {
        policy.0
    }
}

impl Validate for ShedPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if config.max_unready > DAY {
            return Err(Invalid::new("max_unready", "must be at most 24h"));
        }
        if !(0.0..=MOST).contains(&config.start) {
            return Err(Invalid::new("start", "must be from 0 to 1000"));
        }
        // Not merely different: what is between them is divided by.
        if !(config.start + 1e-6..=MOST).contains(&config.full) {
            let why = "must be above start and at most 1000";
            return Err(Invalid::new("full", why));
        }
        if !(config.full..=MOST).contains(&config.highest) {
            let why = "must be at least full and at most 1000";
            return Err(Invalid::new("highest", why));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&config.interval) {
            return Err(Invalid::new("interval", "must be from 1ms to 10s"));
        }
        if !(Duration::from_millis(1)..=DAY).contains(&config.reaction) {
            return Err(Invalid::new("reaction", "must be from 1ms to 24h"));
        }
        if !config.rotate.is_zero() && !(Duration::from_secs(60)..=YEAR).contains(&config.rotate) {
            return Err(Invalid::new("rotate", "must be 0s or from 1m to 8760h"));
        }
        Ok(())
    }
}
