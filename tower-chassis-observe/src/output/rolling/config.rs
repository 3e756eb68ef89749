//! When a file is rolled, and what stays of it.

use std::{path::PathBuf, time::Duration};

use tower_chassis_core::live::{Invalid, Validate};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A file that rolls, as it is written in a configuration.
///
/// Plain values; [`RollingPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct RollingConfig {
    /// The file. Folders that are missing are made. Default `log/chassis.log`.
    pub path: PathBuf,
    /// Off, the file grows and nothing is deleted. Default true.
    pub rotate: bool,
    /// A file that would become larger than so many bytes is rolled, 1 KB to 1 TB. Default 10 MB.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::byte_size")
    )]
    pub size: u64,
    /// A file that is so old is rolled when the next line comes, up to a year; 0 is never. Default one day.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub age: Duration,
    /// So many rolled files stay, up to 10,000; the oldest are deleted. Default 7.
    pub backups: u32,
    /// Rolled files that are older are deleted; 0, the default, is never.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub keep: Duration,
    /// Compresses rolled files (gzip). Needs the feature `compress`. Default false.
    pub compress: bool,
}

impl Default for RollingConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("log/chassis.log"),
            rotate: true,
            size: 10_000_000,
            age: DAY,
            backups: 7,
            keep: Duration::ZERO,
            compress: false,
        }
    }
}

/// A [`RollingConfig`] that has been checked.
///
/// ```
/// use tower_chassis_observe::output::RollingPolicy;
///
/// let policy = RollingPolicy::at("/var/log/orders.log").with(|config| config.backups = 30)?;
/// let fault = policy.with(|config| config.size = 1).unwrap_err();
/// assert_eq!(fault.to_string(), "size must be from 1 KB to 1 TB");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RollingPolicy(RollingConfig);

impl RollingPolicy {
    /// The file `path`, and else the default.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(RollingConfig {
            path: path.into(),
            ..RollingConfig::default()
        })
    }

    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &RollingConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut RollingConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }
}

impl TryFrom<RollingConfig> for RollingPolicy {
    type Error = Invalid;
    fn try_from(config: RollingConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl Validate for RollingPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if config.path.file_name().is_none() {
            return Err(Invalid::new("path", "must name a file"));
        }
        if !(1_000..=1_000_000_000_000).contains(&config.size) {
            return Err(Invalid::new("size", "must be from 1 KB to 1 TB"));
        }
        if config.age > 366 * DAY {
            return Err(Invalid::new("age", "must be at most 366 days"));
        }
        if config.backups > 10_000 {
            return Err(Invalid::new("backups", "must be at most 10000"));
        }
        if config.compress && cfg!(not(feature = "compress")) {
            return Err(Invalid::new("compress", "needs the feature \"compress\""));
        }
        Ok(())
    }
}
