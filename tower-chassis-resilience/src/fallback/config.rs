use tower_chassis_core::{
    Class, Verdict,
    live::{Invalid, Validate},
};

/// What a configuration says of a fallback: which outcomes it answers in place of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct FallbackConfig {
    /// Whether it does anything. True by default; false passes every outcome on, for a drill.
    pub enabled: bool,
    /// The service failed: 5xx, an error that nobody knows. True by default.
    pub failures: bool,
    /// No answer in time. True by default.
    pub timeouts: bool,
    /// No connection, or it broke before there was a head. True by default.
    pub unreachable: bool,
    /// A layer inside refused, and the fault was not the caller's: circuit open, overloaded, no endpoint. True by
    /// default.
    pub refusals: bool,
    /// The service, or a rate limit of ours inside, asks for less (429). False by default: whoever is told to slow down should hear it.
    pub rate_limited: bool,
}

impl Default for FallbackConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: true,
            timeouts: true,
            unreachable: true,
            refusals: true,
            rate_limited: false,
        }
    }
}

/// A valid [`FallbackConfig`]. Every one is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FallbackPolicy(FallbackConfig);

impl FallbackPolicy {
    /// What it says, to be changed and tried again.
    #[must_use]
    pub const fn config(&self) -> &FallbackConfig {
        &self.0
    }

    /// The outcomes as bits.
    pub(super) fn bits(&self) -> u8 {
        let config = &self.0;
        let bits = [
            (config.failures, FAILURES),
            (config.timeouts, TIMEOUTS),
            (config.unreachable, UNREACHABLE),
            (config.refusals, REFUSALS),
            (config.rate_limited, RATE_LIMITED),
        ];
        let on = bits.into_iter().filter(|(on, _)| *on && config.enabled);
        on.fold(0, |all, (_, bit)| all | bit)
    }
}

const FAILURES: u8 = 1;
const TIMEOUTS: u8 = 2;
const UNREACHABLE: u8 = 4;
const REFUSALS: u8 = 8;
const RATE_LIMITED: u8 = 16;

/// The bit of a verdict; 0 for an outcome that is the caller's or nobody's.
pub(super) fn bit(verdict: Verdict) -> u8 {
    match verdict.class() {
        Class::Failure => FAILURES,
        Class::Timeout => TIMEOUTS,
        Class::Unreachable => UNREACHABLE,
        Class::RateLimited => RATE_LIMITED,
        Class::Refused => match verdict.http_status() {
            Some(429) => RATE_LIMITED,
            // Not authenticated, not allowed: another answer would let the caller past.
            Some(400..=499) => 0,
            _ => REFUSALS,
        },
        _ => 0,
    }
}

impl From<FallbackConfig> for FallbackPolicy {
    fn from(config: FallbackConfig) -> Self {
        Self(config)
    }
}

impl From<FallbackPolicy> for FallbackConfig {
    fn from(policy: FallbackPolicy) -> Self {
        policy.0
    }
}

impl Validate for FallbackPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}
