use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The most names that are accepted.
const MOST: usize = 1_000_000;

/// The longest time that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a configuration says of a directory of upstreams.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct UpstreamsConfig {
    /// How many upstreams may be built at once, and how many names may be asked for at once, 1 to 1,000,000. Default
    /// 1,024.
    pub max_names: usize,
    /// How long an upstream is kept that nobody calls, 1 ms to 24 h; it goes within an eighth more. Default 10 min.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub idle: Duration,
    /// How long a name that discovery does not know is refused without asking again, 1 ms to 24 h. Default 5 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub unknown_for: Duration,
    /// How many unknown names are remembered, 1 to 1,000,000. Default 1,024.
    pub max_unknown: usize,
    /// How long the first calls of a name wait for the answer of discovery, 1 ms to 24 h. Default 1 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub discovery_wait: Duration,
}

impl Default for UpstreamsConfig {
    fn default() -> Self {
        Self {
            max_names: 1_024,
            idle: Duration::from_secs(600),
            unknown_for: Duration::from_secs(5),
            max_unknown: 1_024,
            discovery_wait: Duration::from_secs(1),
        }
    }
}

/// A valid [`UpstreamsConfig`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamsPolicy(UpstreamsConfig);

impl UpstreamsPolicy {
    /// What it says, to be changed and tried again.
    #[must_use]
    pub const fn config(&self) -> &UpstreamsConfig {
        &self.0
    }
}

impl TryFrom<UpstreamsConfig> for UpstreamsPolicy {
    type Error = Invalid;

    fn try_from(config: UpstreamsConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<UpstreamsPolicy> for UpstreamsConfig {
    fn from(policy: UpstreamsPolicy) -> Self {
        policy.0
    }
}

impl Validate for UpstreamsPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        for (field, value) in [
            ("max_names", config.max_names),
            ("max_unknown", config.max_unknown),
        ] {
            if !(1..=MOST).contains(&value) {
                return Err(Invalid::new(field, "must be from 1 to 1000000"));
            }
        }
        for (field, value) in [
            ("idle", config.idle),
            ("unknown_for", config.unknown_for),
            ("discovery_wait", config.discovery_wait),
        ] {
            if !(Duration::from_millis(1)..=DAY).contains(&value) {
                return Err(Invalid::new(field, "must be from 1ms to 24h"));
            }
        }
        Ok(())
    }
}
