use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// What a configuration says of outlier detection.
///
/// Plain values; [`OutlierPolicy::try_from`] checks them. Each rule has an `_enforce`: the percentage of its findings
/// that it acts on, 0 to 100. What it does not act on is reported as `would-eject`.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct OutlierConfig {
    /// Whether anything is counted. True by default. A change to false readmits all that a rule ejected.
    pub enabled: bool,
    /// How often the calls since the last time are judged: 10 ms to 1 h, 10 s by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub interval: Duration,
    /// How long an endpoint stays out the first time; the second time twice as long, and so on: 10 ms to 24 h, 30 s by
    /// default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub base_ejection: Duration,
    /// The longest that one stays out, if that is more than `base_ejection`: up to 24 h, 300 s by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_ejection: Duration,
    /// Which part of the time may be added to it at random: 0 to 1, 0.1 by default.
    pub jitter: f64,
    /// The percentage of the endpoints that may be out at once: 0 to 100. Nothing by default: 10, and 34 where there
    /// are fewer than ten.
    pub max_ejected: Option<u32>,
    /// Whether one may be out whatever `max_ejected` says. True by default. The only endpoint is never ejected.
    pub at_least_one: bool,
    /// Whether an endpoint without an answer (not reached, or too late) is judged apart from one that answers badly.
    /// False by default: both are failures.
    pub split_local: bool,
    /// Failures in a row: 1 to 1,000,000, 5 by default.
    pub consecutive_failures: u32,
    /// 100 by default.
    pub consecutive_failures_enforce: u32,
    /// Failures in a row that say that somebody on the way or behind the endpoint is ill: HTTP 502, 503 and 504, gRPC
    /// `UNAVAILABLE`, no answer. 1 to 1,000,000, 5 by default.
    pub consecutive_gateway: u32,
    /// 0 by default.
    pub consecutive_gateway_enforce: u32,
    /// Calls in a row without an answer, with `split_local`: 1 to 1,000,000, 5 by default.
    pub consecutive_local: u32,
    /// 100 by default.
    pub consecutive_local_enforce: u32,
    /// By how many standard deviations the success rate must be below the mean of all: 0 to 100, 1.9 by default.
    pub success_rate_factor: f64,
    /// With how many endpoints that have enough calls the rates are compared: 1 to 1,000,000, 5 by default.
    pub success_rate_hosts: u32,
    /// How many calls in an interval are enough: 1 to 1,000,000, 100 by default.
    pub success_rate_volume: u32,
    /// 100 by default.
    pub success_rate_enforce: u32,
    /// From which percentage of failures on: 0 to 100, 85 by default.
    pub failure_percentage: u32,
    /// With how many endpoints that have enough calls: 1 to 1,000,000, 5 by default.
    pub failure_percentage_hosts: u32,
    /// How many calls in an interval are enough: 1 to 1,000,000, 50 by default.
    pub failure_percentage_volume: u32,
    /// 0 by default.
    pub failure_percentage_enforce: u32,
    /// How many times the median latency of the others the own median must be: 1 to 1,000, 3 by default.
    pub latency_factor: f64,
    /// In how many intervals in a row: 1 to 1,000, 3 by default.
    pub latency_intervals: u32,
    /// With how many others that have enough calls: 1 to 1,000,000, 3 by default.
    pub latency_peers: u32,
    /// How many answers in an interval are enough, of which the last 32 are kept: 1 to 32, 20 by default.
    pub latency_volume: u32,
    /// How much slower one must be at least: 5 ms by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub latency_gap: Duration,
    /// 100 by default.
    pub latency_enforce: u32,
    /// Of two to four endpoints, for which the rates above say nothing: from which percentage of failures on, while
    /// each other one fails at most 10. 11 to 100, 50 by default.
    pub small_cluster: u32,
    /// How many calls in an interval are enough: 1 to 1,000,000, 20 by default.
    pub small_cluster_volume: u32,
    /// 100 by default.
    pub small_cluster_enforce: u32,
    /// In which time the share of an endpoint that came back grows from a tenth to the whole: up to 1 h, 10 s by
    /// default, 0 for at once.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub slow_start: Duration,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            jitter: 0.1,
            max_ejected: None,
            at_least_one: true,
            split_local: false,
            consecutive_failures: 5,
            consecutive_failures_enforce: 100,
            consecutive_gateway: 5,
            consecutive_gateway_enforce: 0,
            consecutive_local: 5,
            consecutive_local_enforce: 100,
            success_rate_factor: 1.9,
            success_rate_hosts: 5,
            success_rate_volume: 100,
            success_rate_enforce: 100,
            failure_percentage: 85,
            failure_percentage_hosts: 5,
            failure_percentage_volume: 50,
            failure_percentage_enforce: 0,
            latency_factor: 3.0,
            latency_intervals: 3,
            latency_peers: 3,
            latency_volume: 20,
            latency_gap: Duration::from_millis(5),
            latency_enforce: 100,
            small_cluster: 50,
            small_cluster_volume: 20,
            small_cluster_enforce: 100,
            slow_start: Duration::from_secs(10),
        }
    }
}

/// Settings of outlier detection that have been checked.
///
/// ```
/// use tower_chassis_resilience::balance::OutlierPolicy;
///
/// let policy = OutlierPolicy::default().with(|config| config.consecutive_failures = 3)?;
/// assert_eq!(policy.config().consecutive_failures, 3);
/// let wrong = policy.with(|config| config.jitter = 2.0).unwrap_err();
/// assert_eq!(wrong.to_string(), "jitter must be from 0 to 1");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OutlierPolicy(OutlierConfig);

impl OutlierPolicy {
    /// As gRPC does it (A50): by success rate and failure percentage, both enforced, and by nothing else.
    #[must_use]
    pub fn a50() -> Self {
        Self(OutlierConfig {
            max_ejected: Some(10),
            consecutive_failures_enforce: 0,
            consecutive_local_enforce: 0,
            failure_percentage_enforce: 100,
            latency_enforce: 0,
            small_cluster_enforce: 0,
            ..OutlierConfig::default()
        })
    }

    /// What it says.
    #[must_use]
    pub const fn config(&self) -> &OutlierConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut OutlierConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Whether any rule can eject.
    pub(super) fn acts(&self) -> bool {
        let config = &self.0;
        config.enabled
            && [
                config.consecutive_failures_enforce,
                config.consecutive_gateway_enforce,
                config.consecutive_local_enforce,
                config.success_rate_enforce,
                config.failure_percentage_enforce,
                config.latency_enforce,
                config.small_cluster_enforce,
            ]
            .iter()
            .any(|enforce| *enforce > 0)
    }
}

impl TryFrom<OutlierConfig> for OutlierPolicy {
    type Error = Invalid;

    fn try_from(config: OutlierConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<OutlierPolicy> for OutlierConfig {
    fn from(policy: OutlierPolicy) -> Self {
        policy.0
    }
}

impl Validate for OutlierPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        const SHORTEST: Duration = Duration::from_millis(10);
        const HOUR: Duration = Duration::from_secs(3_600);
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        let c = &self.0;
        let percentages = [
            (
                "consecutive_failures_enforce",
                c.consecutive_failures_enforce,
            ),
            ("consecutive_gateway_enforce", c.consecutive_gateway_enforce),
            ("consecutive_local_enforce", c.consecutive_local_enforce),
            ("success_rate_enforce", c.success_rate_enforce),
            ("failure_percentage_enforce", c.failure_percentage_enforce),
            ("failure_percentage", c.failure_percentage),
            ("latency_enforce", c.latency_enforce),
            ("small_cluster_enforce", c.small_cluster_enforce),
            ("max_ejected", c.max_ejected.unwrap_or_default()),
        ];
        let counts = [
            ("consecutive_failures", c.consecutive_failures),
            ("consecutive_gateway", c.consecutive_gateway),
            ("consecutive_local", c.consecutive_local),
            ("success_rate_hosts", c.success_rate_hosts),
            ("success_rate_volume", c.success_rate_volume),
            ("failure_percentage_hosts", c.failure_percentage_hosts),
            ("failure_percentage_volume", c.failure_percentage_volume),
            ("latency_peers", c.latency_peers),
            ("small_cluster_volume", c.small_cluster_volume),
        ];
        let percentages = percentages
            .iter()
            .find(|(_, percentage)| *percentage > 100)
            .map(|(field, _)| (*field, "must be from 0 to 100"));
        let counts = counts
            .iter()
            .find(|(_, count)| !(1..=1_000_000).contains(count))
            .map(|(field, _)| (*field, "must be from 1 to 1000000"));
        let others = [
            (
                (SHORTEST..=HOUR).contains(&c.interval),
                "interval",
                "must be from 10ms to 1h",
            ),
            (
                (SHORTEST..=DAY).contains(&c.base_ejection),
                "base_ejection",
                "must be from 10ms to 24h",
            ),
            (
                c.max_ejection <= DAY,
                "max_ejection",
                "must not be above 24h",
            ),
            (
                (0.0..=1.0).contains(&c.jitter),
                "jitter",
                "must be from 0 to 1",
            ),
            (
                (0.0..=100.0).contains(&c.success_rate_factor),
                "success_rate_factor",
                "must be from 0 to 100",
            ),
            (
                (1.0..=1_000.0).contains(&c.latency_factor),
                "latency_factor",
                "must be from 1 to 1000",
            ),
            (
                (1..=1_000).contains(&c.latency_intervals),
                "latency_intervals",
                "must be from 1 to 1000",
            ),
            (
                (1..=32).contains(&c.latency_volume),
                "latency_volume",
                "must be from 1 to 32",
            ),
            (
                (11..=100).contains(&c.small_cluster),
                "small_cluster",
                "must be from 11 to 100",
            ),
            (c.latency_gap <= HOUR, "latency_gap", "must not be above 1h"),
            (c.slow_start <= HOUR, "slow_start", "must not be above 1h"),
        ];
        let others = others
            .iter()
            .find(|(holds, ..)| !holds)
            .map(|(_, field, why)| (*field, *why));
        match percentages.or(counts).or(others) {
            Some((field, why)) => Err(Invalid::new(field, why)),
            None => Ok(()),
        }
    }
}
