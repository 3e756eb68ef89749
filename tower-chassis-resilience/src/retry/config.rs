use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

/// The longest wait before another attempt, whoever asks for it.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The most attempts that a call may have, as in gRPC.
const MOST_ATTEMPTS: u32 = 5;

/// What a configuration says of retries.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct RetryConfig {
    /// How many attempts a call has in all, the first one included: 1 to 5, 3 by default. 1 switches the layer
    /// off.
    pub attempts: u32,
    /// The statuses that are tried again: 502, 503 and 504 by default. From 400 to 599, without 409, 501, 505 and
    /// 511, which no repeat can heal, and 425, which has a rule of its own. So has 429 unless it is named here.
    pub statuses: Vec<u16>,
    /// The gRPC codes that are tried again: `UNAVAILABLE` (14) by default. From 2 to 16. `RESOURCE_EXHAUSTED` (8) has
    /// a rule of its own unless it is named here.
    pub grpc_codes: Vec<u16>,
    /// What may be made twice although it may have been served, by the name of its
    /// [operation](tower_chassis_core::Carrier::operation): for HTTP, methods. Empty by default: what
    /// [`Carrier::is_idempotent`](tower_chassis_core::Carrier::is_idempotent) says. Otherwise these and no others.
    pub methods: Vec<String>,
    /// The first wait, on average: above zero, 25 ms by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub backoff_base: Duration,
    /// The longest wait that the backoff chooses: from `backoff_base` to 30 s, 1 s by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub backoff_max: Duration,
    /// How chance spreads the waits: decorrelated by default.
    pub jitter: Jitter,
    /// The least time that an attempt must have: 1 ms by default, at most 30 s. Where less would be left before the
    /// deadline after the wait, the call ends at once with its last result.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub min_attempt_time: Duration,
    /// Whether a call that serves another's retry is tried again too: false by default, so that a chain of services
    /// does not multiply its attempts. What never left us is tried again in any case.
    pub retry_under_retry: bool,
    /// How many bytes of a request's body are kept to be sent again: 64 KiB by default. 0 leaves only
    /// requests without a body, and those of which nothing was sent.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::byte_size")
    )]
    pub body_limit: usize,
    /// How many retries each call allows: 0 to 10 in steps of 0.001, 0.2 by default. Ignored where the layer
    /// was given a [`Budget`](super::Budget).
    pub budget_ratio: f64,
    /// How many retries per second are allowed however few calls there are: 0 to 1,000,000, 10 by default.
    /// Ignored where the layer was given a [`Budget`](super::Budget).
    pub budget_min_per_second: f64,
    /// Which share of the calls under way may be retries: 0 to 10 in steps of 0.001, 0.2 by default. Ignored
    /// where the layer was given a [`Budget`](super::Budget).
    pub budget_in_flight_ratio: f64,
    /// How many retries may be under way however few calls are: 0 to 1,000,000, 3 by default. Ignored where the
    /// layer was given a [`Budget`](super::Budget).
    pub budget_min_in_flight: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 3,
            statuses: vec![502, 503, 504],
            grpc_codes: vec![14],
            methods: Vec::new(),
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_secs(1),
            jitter: Jitter::default(),
            min_attempt_time: Duration::from_millis(1),
            retry_under_retry: false,
            body_limit: 64 * 1024,
            budget_ratio: 0.2,
            budget_min_per_second: 10.0,
            budget_in_flight_ratio: 0.2,
            budget_min_in_flight: 3,
        }
    }
}

/// How chance spreads the waits between attempts, so that those who failed at once do not come back at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Jitter {
    /// Polly's V2: smooth, without clusters at powers of two, and growing on average; the first wait has the median
    /// `backoff_base`.
    #[default]
    Decorrelated,
    /// From nothing to `backoff_base * 2^n` for the `n`th wait, as AWS has it: the widest.
    Full,
    /// `backoff_base * 2^(n-1)` for the `n`th wait, 20 % more or less, as in gRPC (A6): the most regular.
    Exponential,
}

/// A valid [`RetryConfig`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RetryPolicy(RetryConfig);

impl RetryPolicy {
    /// What it says, to be changed and tried again.
    #[must_use]
    pub const fn config(&self) -> &RetryConfig {
        &self.0
    }

    /// Its part about the budget.
    #[must_use]
    pub const fn budget(&self) -> BudgetPolicy {
        BudgetPolicy(BudgetConfig {
            ratio: self.0.budget_ratio,
            min_per_second: self.0.budget_min_per_second,
            in_flight_ratio: self.0.budget_in_flight_ratio,
            min_in_flight: self.0.budget_min_in_flight,
        })
    }
}

impl From<RetryPolicy> for RetryConfig {
    fn from(policy: RetryPolicy) -> Self {
        policy.0
    }
}

impl TryFrom<RetryConfig> for RetryPolicy {
    type Error = Invalid;

    fn try_from(config: RetryConfig) -> Result<Self, Invalid> {
        if !(1..=MOST_ATTEMPTS).contains(&config.attempts) {
            return Err(Invalid::new("attempts", "must be from 1 to 5"));
        }
        for status in &config.statuses {
            if !(400..=599).contains(status) {
                return Err(Invalid::new(
                    "statuses",
                    format!("must be from 400 to 599, and {status} is not"),
                ));
            }
            let why = match status {
                409 | 501 | 505 | 511 => "which no repeat can heal",
                425 => "which is tried again once in any case",
                _ => continue,
            };
            return Err(Invalid::new(
                "statuses",
                format!("must not hold {status}, {why}"),
            ));
        }
        for code in &config.grpc_codes {
            if !(2..=16).contains(code) {
                return Err(Invalid::new(
                    "grpc_codes",
                    format!("must be from 2 to 16, and {code} is not"),
                ));
            }
        }
        if config.methods.iter().any(String::is_empty) {
            return Err(Invalid::new("methods", "must not hold an empty name"));
        }
        if config.backoff_base.is_zero() {
            return Err(Invalid::new("backoff_base", "must be above 0"));
        }
        if config.backoff_max < config.backoff_base {
            return Err(Invalid::new(
                "backoff_max",
                "must not be below backoff_base",
            ));
        }
        if config.backoff_max > LONGEST_WAIT {
            return Err(Invalid::new("backoff_max", "must not be above 30 s"));
        }
        if config.min_attempt_time > LONGEST_WAIT {
            return Err(Invalid::new("min_attempt_time", "must not be above 30 s"));
        }
        let policy = Self(config);
        check(
            &policy.budget().0,
            [
                "budget_ratio",
                "budget_min_per_second",
                "budget_in_flight_ratio",
                "budget_min_in_flight",
            ],
        )?;
        Ok(policy)
    }
}

impl Validate for RetryPolicy {}

/// What a configuration says of a [`Budget`](super::Budget).
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct BudgetConfig {
    /// How many retries each call allows: 0 to 10 in steps of 0.001, 0.2 by default.
    pub ratio: f64,
    /// How many retries per second are allowed however few calls there are: 0 to 1,000,000, 10 by default.
    pub min_per_second: f64,
    /// Which share of the calls under way may be retries: 0 to 10 in steps of 0.001, 0.2 by default.
    pub in_flight_ratio: f64,
    /// How many retries may be under way however few calls are: 0 to 1,000,000, 3 by default.
    pub min_in_flight: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        RetryPolicy::default().budget().0
    }
}

/// A valid [`BudgetConfig`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BudgetPolicy(BudgetConfig);

impl BudgetPolicy {
    /// What it says, to be changed and tried again.
    #[must_use]
    pub const fn config(&self) -> &BudgetConfig {
        &self.0
    }
}

impl From<BudgetPolicy> for BudgetConfig {
    fn from(policy: BudgetPolicy) -> Self {
        policy.0
    }
}

impl TryFrom<BudgetConfig> for BudgetPolicy {
    type Error = Invalid;

    fn try_from(config: BudgetConfig) -> Result<Self, Invalid> {
        let fields = [
            "ratio",
            "min_per_second",
            "in_flight_ratio",
            "min_in_flight",
        ];
        check(&config, fields)?;
        Ok(Self(config))
    }
}

impl Validate for BudgetPolicy {}

/// The names are those of the fields where they are written.
fn check(config: &BudgetConfig, names: [&'static str; 4]) -> Result<(), Invalid> {
    let [ratio, min_per_second, in_flight_ratio, min_in_flight] = names;
    let within = |name, most: f64, value: f64| {
        if (0.0..=most).contains(&value) {
            Ok(())
        } else {
            Err(Invalid::new(name, format!("must be from 0 to {most}")))
        }
    };
    within(ratio, 10.0, config.ratio)?;
    within(min_per_second, 1_000_000.0, config.min_per_second)?;
    within(in_flight_ratio, 10.0, config.in_flight_ratio)?;
    within(min_in_flight, 1_000_000.0, config.min_in_flight.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_checked_and_named() {
        let ok = RetryConfig::default;
        let ms = Duration::from_millis;
        for (config, field) in [
            (
                RetryConfig {
                    attempts: 0,
                    ..ok()
                },
                "attempts",
            ),
            (
                RetryConfig {
                    attempts: 6,
                    ..ok()
                },
                "attempts",
            ),
            (
                RetryConfig {
                    statuses: vec![503, 200],
                    ..ok()
                },
                "statuses",
            ),
            (
                RetryConfig {
                    statuses: vec![600],
                    ..ok()
                },
                "statuses",
            ),
            (
                RetryConfig {
                    statuses: vec![505],
                    ..ok()
                },
                "statuses",
            ),
            (
                RetryConfig {
                    statuses: vec![409],
                    ..ok()
                },
                "statuses",
            ),
            (
                RetryConfig {
                    statuses: vec![425],
                    ..ok()
                },
                "statuses",
            ),
            (
                RetryConfig {
                    grpc_codes: vec![14, 1],
                    ..ok()
                },
                "grpc_codes",
            ),
            (
                RetryConfig {
                    methods: vec![String::new()],
                    ..ok()
                },
                "methods",
            ),
            (
                RetryConfig {
                    min_attempt_time: ms(30_001),
                    ..ok()
                },
                "min_attempt_time",
            ),
            (
                RetryConfig {
                    backoff_base: Duration::ZERO,
                    ..ok()
                },
                "backoff_base",
            ),
            (
                RetryConfig {
                    backoff_max: ms(24),
                    ..ok()
                },
                "backoff_max",
            ),
            (
                RetryConfig {
                    backoff_max: ms(30_001),
                    ..ok()
                },
                "backoff_max",
            ),
            (
                RetryConfig {
                    budget_ratio: -0.1,
                    ..ok()
                },
                "budget_ratio",
            ),
            (
                RetryConfig {
                    budget_ratio: f64::NAN,
                    ..ok()
                },
                "budget_ratio",
            ),
            (
                RetryConfig {
                    budget_min_per_second: f64::INFINITY,
                    ..ok()
                },
                "budget_min_per_second",
            ),
            (
                RetryConfig {
                    budget_in_flight_ratio: 10.1,
                    ..ok()
                },
                "budget_in_flight_ratio",
            ),
            (
                RetryConfig {
                    budget_min_in_flight: 1_000_001,
                    ..ok()
                },
                "budget_min_in_flight",
            ),
        ] {
            assert_eq!(RetryPolicy::try_from(config).unwrap_err().field(), field);
        }
        let edge = RetryConfig {
            attempts: 5,
            statuses: vec![],
            body_limit: 0,
            budget_ratio: 0.0,
            ..ok()
        };
        let policy = RetryPolicy::try_from(edge.clone()).unwrap();
        assert_eq!(
            (policy.config(), RetryConfig::from(policy.clone())),
            (&edge, edge.clone())
        );
        assert_eq!(BudgetPolicy::default(), RetryPolicy::default().budget());
        let bad = BudgetConfig {
            in_flight_ratio: f64::NAN,
            ..BudgetConfig::default()
        };
        let fault = BudgetPolicy::try_from(bad).unwrap_err();
        assert_eq!(fault.field(), "in_flight_ratio");
    }
}
