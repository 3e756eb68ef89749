use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

use super::{latency::Rule, state::nanos};
use crate::retry::{BudgetConfig, BudgetPolicy};

/// The most attempts of a call are five, as in gRPC.
const MOST_HEDGES: u32 = 4;
/// The longest wait before a hedge: what a histogram of ours can tell.
const LONGEST: Duration = Duration::from_secs(60);

/// What a configuration says of hedging.
///
/// Plain values; [`HedgePolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct HedgeConfig {
    /// How many attempts a call may have beside the first: 0 to 4, 1 by default. 0 switches the layer off.
    pub hedges: u32,
    /// A fixed wait before each of them, up to 60 s. Nothing by default: as long as `percentile` says.
    #[cfg_attr(feature = "config", serde(with = "optional"))]
    pub delay: Option<Duration>,
    /// The share of calls that is over by the time a hedge is sent: 0.5 to 0.9999, 0.98 by default. What is left to 1
    /// is the load that hedges add.
    pub percentile: f64,
    /// With fewer calls in the last half minute nothing is known, and nothing is hedged: 1 to 1,000,000, 100 by
    /// default.
    pub min_samples: u32,
    /// The shortest wait that the percentile chooses: 1 ms by default, which is also the least.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub min_delay: Duration,
    /// If the percentile is above this nothing is hedged, because a service that usually takes so long is not helped
    /// by more of the same: from `min_delay` to 60 s, 2 s by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_delay: Duration,
    /// Whether an attempt that failed in a way that another may heal sends the next at once, without waiting for
    /// the delay, as in gRPC. False by default: that is [retry](crate::retry)'s business.
    pub on_failure: bool,
    /// How many bytes of a request's body are kept to be sent again: 64 KiB by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::byte_size")
    )]
    pub body_limit: usize,
    /// How many hedges each call allows, whatever the percentile says: 0 to 10 in steps of 0.001, 0.1 by default.
    /// Ignored where the layer was given a [`Budget`](crate::retry::Budget).
    pub budget_ratio: f64,
    /// How many hedges per second are allowed however few calls there are: 0 to 1,000,000, 1 by default. Ignored
    /// where the layer was given a [`Budget`](crate::retry::Budget).
    pub budget_min_per_second: f64,
    /// Which share of the calls under way may be hedges: 0 to 10 in steps of 0.001, 0.2 by default. Ignored where the
    /// layer was given a [`Budget`](crate::retry::Budget).
    pub budget_in_flight_ratio: f64,
    /// How many hedges may be under way however few calls are: 0 to 1,000,000, 3 by default. Ignored where the layer
    /// was given a [`Budget`](crate::retry::Budget).
    pub budget_min_in_flight: u32,
}

/// A length of time or nothing.
#[cfg(feature = "config")]
mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};
    use tower_chassis_core::config::Span;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Span>::deserialize(deserializer)?.map(Span::get))
    }
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            hedges: 1,
            delay: None,
            percentile: 0.98,
            min_samples: 100,
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_secs(2),
            on_failure: false,
            body_limit: 64 * 1024,
            budget_ratio: 0.1,
            budget_min_per_second: 1.0,
            budget_in_flight_ratio: 0.2,
            budget_min_in_flight: 3,
        }
    }
}

/// Settings of hedging that have been checked.
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_resilience::hedge::HedgePolicy;
///
/// let policy = HedgePolicy::percentile(0.95)?.with(|config| config.hedges = 2)?;
/// assert_eq!(policy.config().delay, None);
/// assert_eq!(HedgePolicy::after(Duration::from_millis(20))?.config().hedges, 1);
/// let wrong = HedgePolicy::percentile(1.0).unwrap_err();
/// assert_eq!(wrong.to_string(), "percentile must be from 0.5 to 0.9999");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HedgePolicy(HedgeConfig);

impl HedgePolicy {
    /// One more attempt after a fixed wait.
    ///
    /// # Errors
    /// `delay` is above 60 s.
    pub fn after(delay: Duration) -> Result<Self, Invalid> {
        Self::default().with(|config| config.delay = Some(delay))
    }

    /// One more attempt when so great a share of the calls would be over.
    ///
    /// # Errors
    /// `percentile` is not from 0.5 to 0.9999.
    pub fn percentile(percentile: f64) -> Result<Self, Invalid> {
        Self::default().with(|config| config.percentile = percentile)
    }

    /// What it says.
    #[must_use]
    pub const fn config(&self) -> &HedgeConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut HedgeConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) const fn config_mut(&mut self) -> &mut HedgeConfig {
        &mut self.0
    }

    /// Its part about the budget.
    #[must_use]
    pub fn budget(&self) -> BudgetPolicy {
        // It was checked with the rest.
        self.checked_budget().unwrap_or_default()
    }

    fn checked_budget(&self) -> Result<BudgetPolicy, Invalid> {
        let config = BudgetConfig {
            ratio: self.0.budget_ratio,
            min_per_second: self.0.budget_min_per_second,
            in_flight_ratio: self.0.budget_in_flight_ratio,
            min_in_flight: self.0.budget_min_in_flight,
        };
        BudgetPolicy::try_from(config).map_err(|wrong| {
            let field = format!("budget_{}", wrong.field());
            Invalid::new(field, wrong.why().to_owned())
        })
    }

    pub(super) fn rule(&self) -> Rule {
        let config = &self.0;
        Rule {
            // In range, so that the cast loses no more than the fraction.
            share: (config.percentile * 1e6).round() as u32,
            min_samples: config.min_samples,
            floor: nanos(config.min_delay),
            ceiling: nanos(config.max_delay),
        }
    }
}

impl TryFrom<HedgeConfig> for HedgePolicy {
    type Error = Invalid;

    fn try_from(config: HedgeConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<HedgePolicy> for HedgeConfig {
    fn from(policy: HedgePolicy) -> Self {
        policy.0
    }
}

impl Validate for HedgePolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if config.hedges > MOST_HEDGES {
            return Err(Invalid::new("hedges", "must be from 0 to 4"));
        }
        if config.delay.is_some_and(|delay| delay > LONGEST) {
            return Err(Invalid::new("delay", "must not be above 60s"));
        }
        if !(0.5..=0.9999).contains(&config.percentile) {
            return Err(Invalid::new("percentile", "must be from 0.5 to 0.9999"));
        }
        if !(1..=1_000_000).contains(&config.min_samples) {
            return Err(Invalid::new("min_samples", "must be from 1 to 1000000"));
        }
        if config.min_delay < Duration::from_millis(1) {
            return Err(Invalid::new("min_delay", "must not be below 1ms"));
        }
        if config.max_delay < config.min_delay {
            return Err(Invalid::new("max_delay", "must not be below min_delay"));
        }
        if config.max_delay > LONGEST {
            return Err(Invalid::new("max_delay", "must not be above 60s"));
        }
        self.checked_budget().map(drop)
    }
}
