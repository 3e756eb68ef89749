use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

use super::limit::Settings;
use crate::bulkhead::{QueueOrder, codel::Discipline};

/// The highest limit that is accepted.
const MOST: u32 = 1_000_000;

/// The longest time that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How a limit is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Algorithm {
    /// From how the latency answers to the limit. See the [module](super#gradient) page.
    #[default]
    Gradient,
    /// One more for each window in which it was used, a tenth less when the service is overloaded or `slow`:
    /// additive increase, multiplicative decrease, as TCP does.
    Aimd,
}

/// The settings of an adaptive limit, as they are written in a configuration.
///
/// Plain values; [`AdaptivePolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AdaptiveConfig {
    /// How the limit is found. Default [`Gradient`](Algorithm::Gradient).
    pub algorithm: Algorithm,
    /// The limit to begin with, 1 to 1,000,000. Default 20.
    pub start: u32,
    /// The limit never falls below, 1 to 1,000,000. Default 1.
    pub min: u32,
    /// The limit never rises above, `min` to 1,000,000. Default 4,096.
    pub max: u32,
    /// How many times its baseline a latency may be before the limit falls, for [`Gradient`](Algorithm::Gradient):
    /// 1.1 to 10. Default 1.5.
    pub tolerance: f64,
    /// A service of which a tenth of the calls takes longer is overloaded, for [`Aimd`](Algorithm::Aimd): 1 ms to 24
    /// h. Default 5 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub slow: Duration,
    /// How many calls may wait for their turn, as a multiple of the limit in force: 0 to 100. Default 2; with 0, who
    /// finds no permit is refused at once.
    pub queue: f64,
    /// How long a call may wait in the queue, 1 ms to 24 h. Default 100 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_wait: Duration,
    /// Who of those who wait is next. Default
    /// [newest first while the queue stands](QueueOrder::AdaptiveLifo).
    pub queue_order: QueueOrder,
    /// How long a call may wait in a queue that has not been empty for the `interval`, 1 ms to 24 h. Default 5 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub target: Duration,
    /// How long a queue absorbs a burst: one that has not been empty for so long is a standing one, 1 ms to 24 h.
    /// Default 100 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub interval: Duration,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Gradient,
            start: 20,
            min: 1,
            max: 4_096,
            tolerance: 1.5,
            slow: Duration::from_secs(5),
            queue: 2.0,
            max_wait: Duration::from_millis(100),
            queue_order: QueueOrder::AdaptiveLifo,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }
}

impl AdaptiveConfig {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            algorithm: self.algorithm,
            min: self.min,
            max: self.max,
            start: self.start,
            tolerance: self.tolerance,
            slow: u64::try_from(self.slow.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// How many may wait under a limit.
    pub(super) fn places(&self, limit: u32) -> u32 {
        (f64::from(limit) * self.queue).ceil() as u32
    }

    /// How those are treated that wait.
    pub(super) fn discipline(&self) -> Discipline {
        Discipline {
            max_wait: self.max_wait,
            target: Some(self.target),
            interval: self.interval,
            newest_first: self.queue_order == QueueOrder::AdaptiveLifo,
        }
    }
}

/// Settings of an adaptive limit that have been checked.
///
/// ```
/// use tower_chassis_resilience::adaptive::{AdaptivePolicy, Algorithm};
///
/// let policy = AdaptivePolicy::default().with(|config| config.max = 200)?;
/// assert_eq!((policy.config().start, policy.config().max), (20, 200));
/// assert_eq!(policy.config().algorithm, Algorithm::Gradient);
/// let refused = AdaptivePolicy::default().with(|config| config.min = 5_000);
/// assert_eq!(refused.unwrap_err().to_string(), "max must be from min to 1000000");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AdaptivePolicy(AdaptiveConfig);

impl AdaptivePolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &AdaptiveConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut AdaptiveConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) fn config_mut(&mut self) -> &mut AdaptiveConfig {
        &mut self.0
    }
}

impl TryFrom<AdaptiveConfig> for AdaptivePolicy {
    type Error = Invalid;

    fn try_from(config: AdaptiveConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<AdaptivePolicy> for AdaptiveConfig {
    fn from(policy: AdaptivePolicy) -> Self {
        policy.0
    }
}

impl Validate for AdaptivePolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        for (name, limit) in [("start", config.start), ("min", config.min)] {
            if !(1..=MOST).contains(&limit) {
                return Err(Invalid::new(name, "must be from 1 to 1000000"));
            }
        }
        if !(config.min..=MOST).contains(&config.max) {
            return Err(Invalid::new("max", "must be from min to 1000000"));
        }
        if !(1.1..=10.0).contains(&config.tolerance) {
            return Err(Invalid::new("tolerance", "must be from 1.1 to 10"));
        }
        if !(0.0..=100.0).contains(&config.queue) {
            return Err(Invalid::new("queue", "must be from 0 to 100"));
        }
        let times = [
            ("slow", config.slow),
            ("max_wait", config.max_wait),
            ("target", config.target),
            ("interval", config.interval),
        ];
        for (name, time) in times {
            if !(Duration::from_millis(1)..=DAY).contains(&time) {
                return Err(Invalid::new(name, "must be from 1ms to 24h"));
            }
        }
        Ok(())
    }
}
