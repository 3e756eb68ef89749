use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The most entries that are accepted.
const MOST: usize = 10_000_000;

/// The longest time that is accepted.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a configuration says of a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct CacheConfig {
    /// Whether answers are kept and given. True by default; false passes every call on and leaves what is there.
    pub enabled: bool,
    /// How long an answer is given out: above zero, up to a year. Default 60 s. An HTTP answer that says `max-age` or `s-maxage` less is
    /// given out for less.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub ttl: Duration,
    /// For how long after that it is given in place of a failure: up to a year. Default zero: never. An HTTP answer
    /// that says `must-revalidate` or `proxy-revalidate` is not.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub stale_if_error: Duration,
    /// How many answers are kept, 1 to 10,000,000. Default 10,000.
    pub max_entries: usize,
    /// How many bytes they take together, keys and headers included: above zero. Default 64 MiB.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::byte_size")
    )]
    pub max_bytes: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ttl: Duration::from_secs(60),
            stale_if_error: Duration::ZERO,
            max_entries: 10_000,
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A valid [`CacheConfig`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CachePolicy(CacheConfig);

impl CachePolicy {
    /// Answers are given out for `ttl`.
    ///
    /// # Errors
    /// `ttl` is zero or above a year.
    pub fn new(ttl: Duration) -> Result<Self, Invalid> {
        CacheConfig {
            ttl,
            ..CacheConfig::default()
        }
        .try_into()
    }

    /// What it says, to be changed and tried again.
    #[must_use]
    pub const fn config(&self) -> &CacheConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut CacheConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) const fn config_mut(&mut self) -> &mut CacheConfig {
        &mut self.0
    }
}

impl TryFrom<CacheConfig> for CachePolicy {
    type Error = Invalid;

    fn try_from(config: CacheConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<CachePolicy> for CacheConfig {
    fn from(policy: CachePolicy) -> Self {
        policy.0
    }
}

impl Validate for CachePolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if config.ttl.is_zero() || config.ttl > LONGEST {
            return Err(Invalid::new("ttl", "must be above 0 and at most a year"));
        }
        if config.stale_if_error > LONGEST {
            return Err(Invalid::new("stale_if_error", "must be at most a year"));
        }
        if !(1..=MOST).contains(&config.max_entries) {
            return Err(Invalid::new("max_entries", "must be from 1 to 10000000"));
        }
        if config.max_bytes == 0 {
            return Err(Invalid::new("max_bytes", "must be above 0"));
        }
        Ok(())
    }
}
