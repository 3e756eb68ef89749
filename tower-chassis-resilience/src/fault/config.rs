use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use tower_chassis_core::live::{Invalid, Validate};

use super::kinds::{Abort, Delay, Dose};
use crate::dice::MILLION;

/// The most rules of a policy: each is a label of a metric.
const MOST_RULES: usize = 100;

/// The longest delay that is accepted.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The settings of fault injection, as they are written in a configuration.
///
/// Plain values; [`FaultPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct FaultConfig {
    /// The rules, up to 100. The first one that is armed and matches a call decides alone. Default: none.
    pub rules: Vec<FaultRule>,
    /// Another seed is another choice of calls. Give all hops the same one. Default 0.
    pub seed: u64,
    /// How many calls may be under a fault at once, 1 to 1,000,000; those above are left alone. Default 100.
    pub max_active: u32,
    /// No fault has a larger share than this, whatever its rule or a header says. Default 1,000,000: all calls.
    pub max_ppm: u32,
    /// Paths that never have a fault, with all below them; for HTTP and gRPC, and what has a
    /// [path](tower_chassis_core::Carrier::path). Default `/admin`, `/health`, `/healthz`,
    /// `/livez`, `/readyz`, `/metrics` and `/grpc.health.v1.Health`.
    pub exclude: Vec<String>,
    /// What the headers of a trusted peer may ask for. Default: nothing. Needs
    /// [`FaultLayer::trusted`](super::FaultLayer::trusted) as well.
    pub headers: Option<HeaderControl>,
}

impl Default for FaultConfig {
    fn default() -> Self {
        let exclude = [
            "/admin",
            "/health",
            "/healthz",
            "/livez",
            "/readyz",
            "/metrics",
            "/grpc.health.v1.Health",
        ];
        Self {
            rules: Vec::new(),
            seed: 0,
            max_active: 100,
            max_ppm: MILLION,
            exclude: exclude.map(str::to_owned).to_vec(),
            headers: None,
        }
    }
}

/// Which calls get which faults.
#[derive(Clone, PartialEq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct FaultRule {
    /// Its name in marks, metrics and the choice of calls: up to 64 letters, digits, `-`, `_` and `.`. A rule that
    /// keeps its name keeps its calls.
    pub id: String,
    /// What it asks of a call. Default: nothing, it matches all.
    pub matches: FaultMatch,
    /// Makes calls wait before they are made.
    pub delay: Option<Dose<Delay>>,
    /// Fails calls in place of making them; after the delay, if both hit.
    pub abort: Option<Dose<Abort>>,
    /// Lets the body of the answer through at so many bytes a second. HTTP and gRPC only.
    pub throttle: Option<Dose<u64>>,
    /// Breaks the body of the answer off after so many bytes. HTTP and gRPC only.
    pub truncate: Option<Dose<u64>>,
    /// Chooses anew for each attempt of a call. Default: a call that is chosen is so on every attempt.
    pub per_attempt: bool,
    /// When it ends. In production a rule must end within 24 hours. In a configuration: `2026-11-21T16:00:00Z`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "rfc3339"))]
    pub expires_at: Option<SystemTime>,
}

impl FaultRule {
    /// A rule without a fault, that matches every call.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// Makes a share of the calls, in parts per million, wait.
    #[must_use]
    pub fn delay(mut self, ppm: u32, delay: Delay) -> Self {
        self.delay = Some(Dose { ppm, of: delay });
        self
    }

    /// Fails a share of the calls, in parts per million.
    #[must_use]
    pub fn abort(mut self, ppm: u32, abort: Abort) -> Self {
        self.abort = Some(Dose { ppm, of: abort });
        self
    }

    /// Slows the bodies of the answers of a share of the calls down to so many bytes a second.
    #[must_use]
    pub fn throttle(mut self, ppm: u32, bytes_per_second: u64) -> Self {
        let of = bytes_per_second;
        self.throttle = Some(Dose { ppm, of });
        self
    }

    /// Breaks the bodies of the answers of a share of the calls off after so many bytes.
    #[must_use]
    pub fn truncate(mut self, ppm: u32, after: u64) -> Self {
        self.truncate = Some(Dose { ppm, of: after });
        self
    }

    /// Also asks for something of a call.
    #[must_use]
    pub fn matching(mut self, change: impl FnOnce(&mut FaultMatch)) -> Self {
        change(&mut self.matches);
        self
    }

    /// Chooses anew for each attempt.
    #[must_use]
    pub const fn per_attempt(mut self) -> Self {
        self.per_attempt = true;
        self
    }

    /// Ends it so long after now.
    #[must_use]
    pub fn expires_in(mut self, after: Duration) -> Self {
        self.expires_at = SystemTime::now().checked_add(after);
        self
    }
}

/// What a rule asks of a call: all of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct FaultMatch {
    /// One of these, in the terms of the protocol: for HTTP the methods. Any if there are none.
    pub operations: Vec<String>,
    /// The service that is called, as the invocation names it.
    pub service: Option<String>,
    /// This path, or one below it: `/api` matches `/api` and `/api/x`, not `/apix`. For HTTP and gRPC, and what has a
    /// [path](tower_chassis_core::Carrier::path); with other protocols such a rule matches nothing.
    pub path_prefix: Option<String>,
    /// Metadata (for HTTP the headers) with these values.
    pub meta: BTreeMap<String, String>,
}

/// What headers of a trusted peer may ask for.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct HeaderControl {
    /// The longest delay; a longer one is cut. Default 10 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_delay: Duration,
    /// The largest share of calls, in parts per million. Default 1,000,000.
    pub max_ppm: u32,
    /// Whether calls may be failed. Default true.
    pub abort: bool,
    /// When it ends, as that of a rule.
    #[cfg_attr(feature = "config", serde(deserialize_with = "rfc3339"))]
    pub expires_at: Option<SystemTime>,
}

impl Default for HeaderControl {
    fn default() -> Self {
        Self {
            max_delay: Duration::from_secs(10),
            max_ppm: MILLION,
            abort: true,
            expires_at: None,
        }
    }
}

#[cfg(feature = "config")]
fn rfc3339<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    use serde::{Deserialize, de::Error};
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    let time = humantime::parse_rfc3339(&text)
        .map_err(|_| D::Error::custom(format!("not a time: {text:?}; write 2026-11-21T16:00:00Z")));
    time.map(Some)
}

/// A valid [`FaultConfig`].
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_resilience::fault::{Delay, FaultPolicy, FaultRule};
///
/// let slow = FaultRule::new("slow").delay(10_000, Delay::Fixed(Duration::from_millis(200)));
/// assert_eq!(FaultPolicy::new([slow.clone()])?.config().max_active, 100);
///
/// let invalid = FaultPolicy::new([slow.clone(), slow]).unwrap_err();
/// assert_eq!(invalid.to_string(), "rules[1].id must not be that of rules[0]");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FaultPolicy(FaultConfig);

impl FaultPolicy {
    /// These rules, and everything else as it is by default.
    ///
    /// # Errors
    /// The first field of a rule that is out of its range.
    pub fn new(rules: impl IntoIterator<Item = FaultRule>) -> Result<Self, Invalid> {
        let rules = rules.into_iter().collect();
        FaultConfig {
            rules,
            ..FaultConfig::default()
        }
        .try_into()
    }

    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &FaultConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut FaultConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) const fn config_mut(&mut self) -> &mut FaultConfig {
        &mut self.0
    }
}

impl TryFrom<FaultConfig> for FaultPolicy {
    type Error = Invalid;

    fn try_from(config: FaultConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<FaultPolicy> for FaultConfig {
    fn from(policy: FaultPolicy) -> Self {
        policy.0
    }
}

fn is_share(ppm: u32) -> bool {
    ppm <= MILLION
}

const A_SHARE: &str = "must be at most 1000000";

impl Validate for FaultPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if config.rules.len() > MOST_RULES {
            return Err(Invalid::new("rules", "must be at most 100"));
        }
        for (index, rule) in config.rules.iter().enumerate() {
            let at = |field: &str| format!("rules[{index}].{field}");
            if let Some(first) = config.rules[..index]
                .iter()
                .position(|other| other.id == rule.id)
            {
                return Err(Invalid::new(
                    at("id"),
                    format!("must not be that of rules[{first}]"),
                ));
            }
            rule.check()
                .map_err(|fault| Invalid::new(at(fault.field()), fault.why().to_owned()))?;
        }
        if !(1..=MILLION).contains(&config.max_active) {
            return Err(Invalid::new("max_active", "must be from 1 to 1000000"));
        }
        if !is_share(config.max_ppm) {
            return Err(Invalid::new("max_ppm", A_SHARE));
        }
        for (index, path) in config.exclude.iter().enumerate() {
            if !path.starts_with('/') {
                return Err(Invalid::new(
                    format!("exclude[{index}]"),
                    "must start with `/`",
                ));
            }
        }
        if let Some(headers) = &config.headers {
            if !is_share(headers.max_ppm) {
                return Err(Invalid::new("headers.max_ppm", A_SHARE));
            }
            if headers.max_delay > HOUR {
                return Err(Invalid::new("headers.max_delay", "must be at most 1h"));
            }
        }
        Ok(())
    }
}

impl FaultRule {
    fn check(&self) -> Result<(), Invalid> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(named) {
            return Err(Invalid::new(
                "id",
                "must be 1 to 64 letters, digits, `-`, `_` or `.`",
            ));
        }
        if self.id == super::rules::BY_HEADER {
            return Err(Invalid::new("id", "must not be `header`, which is taken"));
        }
        if let Some(prefix) = &self.matches.path_prefix
            && !prefix.starts_with('/')
        {
            return Err(Invalid::new("matches.path_prefix", "must start with `/`"));
        }
        let shares = [
            ("delay.ppm", self.delay.as_ref().map(|dose| dose.ppm)),
            ("abort.ppm", self.abort.as_ref().map(|dose| dose.ppm)),
            ("throttle.ppm", self.throttle.as_ref().map(|dose| dose.ppm)),
            ("truncate.ppm", self.truncate.as_ref().map(|dose| dose.ppm)),
        ];
        for (field, ppm) in shares {
            if ppm.is_some_and(|ppm| !is_share(ppm)) {
                return Err(Invalid::new(field, A_SHARE));
            }
        }
        if let Some(delay) = &self.delay {
            delay.of.check(HOUR)?;
        }
        match self.abort.as_ref().map(|dose| dose.of) {
            Some(Abort::Status(status)) if !(400..=599).contains(&status) => {
                return Err(Invalid::new("abort.of.status", "must be from 400 to 599"));
            }
            Some(Abort::Grpc(code)) if !(1..=16).contains(&code) => {
                return Err(Invalid::new("abort.of.grpc", "must be from 1 to 16"));
            }
            _ => {}
        }
        if self.throttle.as_ref().is_some_and(|dose| dose.of == 0) {
            return Err(Invalid::new("throttle.of", "must be above 0"));
        }
        Ok(())
    }
}
