use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The settings of deadlines, as they are written in a configuration.
///
/// Plain values; [`DeadlinePolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct DeadlineConfig {
    /// The time that a call has which comes without a deadline; above 0, at most `max`. Default 15 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub default: Duration,
    /// The most time that a call has, whatever it comes with; above 0. Default 60 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max: Duration,
}

impl Default for DeadlineConfig {
    fn default() -> Self {
        Self {
            default: Duration::from_secs(15),
            max: Duration::from_secs(60),
        }
    }
}

/// Settings of deadlines that have been checked.
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_resilience::deadline::DeadlinePolicy;
///
/// let policy = DeadlinePolicy::new(Duration::from_secs(2), Duration::from_secs(10))?;
/// assert_eq!(policy.config().max, Duration::from_secs(10));
/// let error = policy.with(|config| config.max = Duration::from_secs(1)).unwrap_err();
/// assert_eq!(error.to_string(), "default must be at most `max`");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeadlinePolicy(DeadlineConfig);

impl DeadlinePolicy {
    /// What a call has that comes without a deadline, and what a call has at most.
    ///
    /// # Errors
    /// `default` is zero, or above `max`.
    pub fn new(default: Duration, max: Duration) -> Result<Self, Invalid> {
        DeadlineConfig { default, max }.try_into()
    }

    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &DeadlineConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut DeadlineConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) const fn config_mut(&mut self) -> &mut DeadlineConfig {
        &mut self.0
    }
}

impl TryFrom<DeadlineConfig> for DeadlinePolicy {
    type Error = Invalid;

    fn try_from(config: DeadlineConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<DeadlinePolicy> for DeadlineConfig {
    fn from(policy: DeadlinePolicy) -> Self {
        policy.0
    }
}

impl Validate for DeadlinePolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let DeadlineConfig { default, max } = self.0;
        if default.is_zero() {
            return Err(Invalid::new("default", "must be above 0"));
        }
        if max.is_zero() {
            return Err(Invalid::new("max", "must be above 0"));
        }
        if default > max {
            return Err(Invalid::new("default", "must be at most `max`"));
        }
        Ok(())
    }
}
