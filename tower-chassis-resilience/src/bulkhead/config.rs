use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The most permits, and the most places to wait, that are accepted.
const MOST: u32 = 1_000_000;

/// The longest wait that is accepted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of a bulkhead, as they are written in a configuration.
///
/// Plain values; [`BulkheadPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct BulkheadConfig {
    /// How many calls may be in flight at once, 1 to 1,000,000. Default 100.
    pub limit: u32,
    /// How many more may wait for their turn, up to 1,000,000. Default 0: who finds no permit is
    /// refused at once.
    pub queue: u32,
    /// How long a call may wait in the queue, 1 ms to 24 h. Default 1 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_wait: Duration,
    /// Who of those who wait is next. Default the first that came.
    pub queue_order: QueueOrder,
    /// Whether nobody waits for longer than `target` in a queue that has not been empty for the `interval`. Default
    /// `false`.
    pub codel: bool,
    /// How long a call may wait in such a queue, with `codel`, 1 ms to 24 h. Default 5 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub target: Duration,
    /// How long a queue absorbs a burst: one that has not been empty for so long is a standing one, for `codel` and
    /// [`AdaptiveLifo`](QueueOrder::AdaptiveLifo), 1 ms to 24 h. Default 100 ms.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub interval: Duration,
}

/// Who of those who wait is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum QueueOrder {
    /// The first that came.
    #[default]
    Fifo,
    /// The last that came while the queue is a standing one, else the first: under overload some calls are served in
    /// time, where in order of arrival all would be late.
    AdaptiveLifo,
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self {
            limit: 100,
            queue: 0,
            max_wait: Duration::from_secs(1),
            queue_order: QueueOrder::Fifo,
            codel: false,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }
}

/// Settings of a bulkhead that have been checked.
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_resilience::bulkhead::BulkheadPolicy;
///
/// let policy = BulkheadPolicy::new(20)?.with(|config| config.queue = 40)?;
/// assert_eq!((policy.config().limit, policy.config().queue), (20, 40));
/// assert_eq!(policy.config().max_wait, Duration::from_secs(1));
/// assert_eq!(BulkheadPolicy::new(0).unwrap_err().to_string(), "limit must be from 1 to 1000000");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BulkheadPolicy(BulkheadConfig);

impl BulkheadPolicy {
    /// So many calls at once; who finds no permit is refused at once.
    ///
    /// # Errors
    /// `limit` is 0 or above 1,000,000.
    pub fn new(limit: u32) -> Result<Self, Invalid> {
        BulkheadConfig {
            limit,
            ..Default::default()
        }
        .try_into()
    }

    /// So many calls at once, and `backlog` more that wait up to `backlog_timeout`: what chi calls
    /// `ThrottleBacklog`. Its `Throttle` is [`new`](Self::new).
    ///
    /// # Errors
    /// `limit` is 0 or above 1,000,000, `backlog` is above 1,000,000, or `backlog_timeout` is below
    /// 1 ms or above 24 h.
    #[doc(alias = "Throttle")]
    #[doc(alias = "ThrottleBacklog")]
    pub fn throttle(limit: u32, backlog: u32, backlog_timeout: Duration) -> Result<Self, Invalid> {
        BulkheadConfig {
            limit,
            queue: backlog,
            max_wait: backlog_timeout,
            ..Default::default()
        }
        .try_into()
    }

    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &BulkheadConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut BulkheadConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) fn config_mut(&mut self) -> &mut BulkheadConfig {
        &mut self.0
    }
}

impl TryFrom<BulkheadConfig> for BulkheadPolicy {
    type Error = Invalid;

    fn try_from(config: BulkheadConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<BulkheadPolicy> for BulkheadConfig {
    fn from(policy: BulkheadPolicy) -> Self {
        policy.0
    }
}

impl Validate for BulkheadPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if !(1..=MOST).contains(&config.limit) {
            return Err(Invalid::new("limit", "must be from 1 to 1000000"));
        }
        if config.queue > MOST {
            return Err(Invalid::new("queue", "must be at most 1000000"));
        }
        let times = [
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
