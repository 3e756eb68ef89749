//! Whether a rule may do anything at all. A plain function of what is built in, what the environment says and what
//! the rule says.

use std::{
    env,
    time::{Duration, SystemTime},
};

/// How long a rule may live in production.
pub const LONGEST_IN_PRODUCTION: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether faults may be injected here: what an operator of the process says, and no rule can.
///
/// Read once, when a layer is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arming {
    built: bool,
    enabled: bool,
    production: bool,
}

impl Arming {
    /// What the environment of the process says: `CHASSIS_FAULTS` must be `enabled`, and `CHASSIS_ENVIRONMENT` names
    /// the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let var = |name| env::var(name).ok();
        Self::new(
            var("CHASSIS_FAULTS").as_deref() == Some("enabled"),
            var("CHASSIS_ENVIRONMENT").as_deref(),
        )
    }

    /// `enabled` or not, in the environment `label`. What has a word in it that is `live` or `prd` or begins with `prod` is
    /// production, in any case: `production`, `Prod`, `eu-prod-1`; unless the word before it is `pre`, `non`, `no` or `not`. So
    /// is an environment without a name, because nobody has said that it is not.
    ///
    /// Where the crate is built without the feature `fault-injection`, nothing is ever armed.
    #[must_use]
    pub fn new(enabled: bool, label: Option<&str>) -> Self {
        Self::of(cfg!(feature = "fault-injection"), enabled, label)
    }

    pub(super) fn of(built: bool, enabled: bool, label: Option<&str>) -> Self {
        let label = label.unwrap_or_default().trim().to_ascii_lowercase();
        let words = || label.split(|char: char| !char.is_ascii_alphanumeric());
        let before = std::iter::once("").chain(words());
        let names_it = |(before, word): (&str, &str)| {
            (word.starts_with("prod") || ["prd", "live"].contains(&word))
                && !["pre", "non", "no", "not"].contains(&before)
        };
        Self {
            built,
            enabled,
            production: label.is_empty() || before.zip(words()).any(names_it),
        }
    }

    /// Whether rules need an expiry here.
    #[must_use]
    pub const fn is_production(&self) -> bool {
        self.production
    }
}

/// Whether a rule is armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guarded {
    /// It injects faults.
    Armed,
    /// It does nothing.
    Disarmed(Why),
}

/// Why a rule does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// The crate was built without the feature `fault-injection`.
    NotBuilt,
    /// The environment does not say `CHASSIS_FAULTS=enabled`.
    NotEnabled,
    /// In production a rule must say when it ends.
    NoExpiry,
    /// In production a rule must end within 24 hours.
    ExpiryTooFar,
    /// Its time is over.
    Expired,
}

impl Guarded {
    /// Whether it is.
    #[must_use]
    pub const fn is_armed(self) -> bool {
        matches!(self, Self::Armed)
    }
}

/// Whether a rule that ends at `expires_at` is armed at `now`.
///
/// | built | enabled | environment | expiry | |
/// |---|---|---|---|---|
/// | no | | | | [`NotBuilt`](Why::NotBuilt) |
/// | yes | no | | | [`NotEnabled`](Why::NotEnabled) |
/// | yes | yes | any | over | [`Expired`](Why::Expired) |
/// | yes | yes | not production | none, or to come | armed |
/// | yes | yes | production | none | [`NoExpiry`](Why::NoExpiry) |
/// | yes | yes | production | in more than 24 h | [`ExpiryTooFar`](Why::ExpiryTooFar) |
/// | yes | yes | production | within 24 h | armed |
#[must_use]
pub fn guard(arming: &Arming, expires_at: Option<SystemTime>, now: SystemTime) -> Guarded {
    if !arming.built {
        return Guarded::Disarmed(Why::NotBuilt);
    }
    if !arming.enabled {
        return Guarded::Disarmed(Why::NotEnabled);
    }
    let left = match expires_at {
        None if arming.production => return Guarded::Disarmed(Why::NoExpiry),
        None => return Guarded::Armed,
        Some(at) => at.duration_since(now).unwrap_or_default(),
    };
    if left.is_zero() {
        Guarded::Disarmed(Why::Expired)
    } else if arming.production && left > LONGEST_IN_PRODUCTION {
        Guarded::Disarmed(Why::ExpiryTooFar)
    } else {
        Guarded::Armed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table: two times two times fourteen environments times five expiries.
    #[test]
    fn the_table() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let second = Duration::from_secs(1);
        let labels = [
            (None, true),
            (Some(""), true),
            (Some("production"), true),
            (Some(" Prod "), true),
            (Some("staging"), false),
            (Some("non-production"), false),
            // As clusters and regions are called.
            (Some("prod-eu-1"), true),
            (Some("acme_PROD"), true),
            (Some("production2"), true),
            (Some("eu.prd"), true),
            (Some("live"), true),
            (Some("pre-prod"), false),
            (Some("nonprod"), false),
            (Some("preprod-eu"), false),
        ];
        let expiries = [
            None,
            Some(now - second),
            Some(now),
            Some(now + LONGEST_IN_PRODUCTION),
            Some(now + LONGEST_IN_PRODUCTION + second),
        ];
        use Guarded::{Armed, Disarmed};
        let in_production = [
            Disarmed(Why::NoExpiry),
            Disarmed(Why::Expired),
            Disarmed(Why::Expired),
            Armed,
            Disarmed(Why::ExpiryTooFar),
        ];
        let elsewhere = [
            Armed,
            Disarmed(Why::Expired),
            Disarmed(Why::Expired),
            Armed,
            Armed,
        ];
        let mut rows = 0;
        for built in [false, true] {
            for enabled in [false, true] {
                for (label, production) in labels {
                    for (index, expiry) in expiries.into_iter().enumerate() {
                        let arming = Arming::of(built, enabled, label);
                        assert_eq!(arming.is_production(), production, "{label:?}");
                        let wanted = match (built, enabled) {
                            (false, _) => Disarmed(Why::NotBuilt),
                            (true, false) => Disarmed(Why::NotEnabled),
                            (true, true) if production => in_production[index],
                            (true, true) => elsewhere[index],
                        };
                        assert_eq!(
                            guard(&arming, expiry, now),
                            wanted,
                            "{built} {enabled} {label:?} {expiry:?}"
                        );
                        rows += 1;
                    }
                }
            }
        }
        assert_eq!(rows, 280);
        assert_eq!(
            Arming::new(true, Some("test")),
            Arming::of(cfg!(feature = "fault-injection"), true, Some("test"))
        );
    }
}
