use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// What a configuration says of a timeout.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct TimeoutConfig {
    /// How long a call may take until the head of its response. Above zero; 15 s by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub after: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(15),
        }
    }
}

/// A valid [`TimeoutConfig`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeoutPolicy {
    pub(super) after: Duration,
}

impl TimeoutPolicy {
    /// A timeout of `after`.
    ///
    /// # Errors
    /// `after` is zero.
    pub fn new(after: Duration) -> Result<Self, Invalid> {
        if after.is_zero() {
            return Err(Invalid::new("after", "must be above 0"));
        }
        Ok(Self { after })
    }

    /// How long a call may take.
    #[must_use]
    pub const fn after(&self) -> Duration {
        self.after
    }
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        Self {
            after: TimeoutConfig::default().after,
        }
    }
}

impl TryFrom<TimeoutConfig> for TimeoutPolicy {
    type Error = Invalid;
    fn try_from(config: TimeoutConfig) -> Result<Self, Invalid> {
        Self::new(config.after)
    }
}

impl Validate for TimeoutPolicy {}
