//! Which calls are recorded, and what of them.

use std::time::Duration;

use http::{HeaderName, Method};
use tower_chassis_core::{
    Class,
    live::{Invalid, Validate},
};

use super::rule::Rule;
use crate::fault::CLASSES;

/// Which calls are recorded, as it is written in a configuration.
///
/// Plain values; [`AuditPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AuditConfig {
    /// The first one that fits a call decides; a call that none fits is not recorded. Without rules every call is, the
    /// default.
    pub rules: Vec<AuditRule>,
    /// Whether a record has the path, and not the template of the route alone. Paths hold names and tokens. Never the
    /// query. Default false.
    pub paths: bool,
    /// Headers of the request that a record has; what is secret by its name is not shown. Default none.
    pub headers: Vec<String>,
    /// So long a call waits for a place for its record, where [none may be lost](super::LosslessAuditLayer), up to an
    /// hour. Default 1 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub max_wait: Duration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            paths: false,
            headers: Vec::new(),
            max_wait: Duration::from_secs(1),
        }
    }
}

/// A rule: a call fits that fits each of its lists; an empty list fits all.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AuditRule {
    /// Templates of routes, `/admin/*`: a star is anything, everything else is itself. A call without a route fits
    /// only `*`.
    pub routes: Vec<String>,
    /// Methods: `POST`.
    pub methods: Vec<String>,
    /// How it ended: `success`, `client-fault`, `failure`, `timeout`, `unreachable`, `rate-limited`, `cancelled`,
    /// `refused`.
    pub classes: Vec<String>,
    /// Whether such a call is recorded. Default true.
    pub record: bool,
}

impl Default for AuditRule {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            methods: Vec::new(),
            classes: Vec::new(),
            record: true,
        }
    }
}

/// An [`AuditConfig`] that has been checked.
///
/// ```
/// use tower_chassis_observe::audit::{AuditPolicy, AuditRule};
///
/// // What changes something, and who was turned away; not the health checks.
/// let policy = AuditPolicy::default().with(|config| {
///     config.rules = vec![
///         AuditRule { routes: vec!["/health".into()], record: false, ..AuditRule::default() },
///         AuditRule { methods: vec!["POST".into(), "DELETE".into()], ..AuditRule::default() },
///         AuditRule { classes: vec!["refused".into()], ..AuditRule::default() },
///     ];
/// })?;
/// let fault = policy.with(|config| config.rules[2].classes[0] = "refusd".into()).unwrap_err();
/// assert_eq!(fault.to_string(), "rules[2].classes[0] is no class: \"refusd\"");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct AuditPolicy {
    config: AuditConfig,
    rules: Vec<Rule>,
    headers: Vec<HeaderName>,
}

impl AuditPolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &AuditConfig {
        &self.config
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut AuditConfig)) -> Result<Self, Invalid> {
        change(&mut self.config);
        Self::try_from(self.config)
    }

    /// Whether a call of that method may be recorded, whatever becomes of it.
    pub(super) fn may(&self, method: &Method) -> bool {
        self.rules.is_empty()
            || self
                .rules
                .iter()
                .any(|rule| rule.records() && rule.fits_method(method))
    }

    /// Whether a call is recorded.
    pub(super) fn wants(&self, method: &Method, route: Option<&str>, class: Class) -> bool {
        let first = self
            .rules
            .iter()
            .find(|rule| rule.fits(method, route, class));
        first.map_or(self.rules.is_empty(), Rule::records)
    }

    pub(super) fn headers(&self) -> &[HeaderName] {
        &self.headers
    }
}

impl TryFrom<AuditConfig> for AuditPolicy {
    type Error = Invalid;
    fn try_from(config: AuditConfig) -> Result<Self, Invalid> {
        if config.max_wait > Duration::from_secs(3_600) {
            return Err(Invalid::new("max_wait", "must be at most 1h"));
        }
        let rules = config.rules.iter().enumerate();
        let rules = rules
            .map(|(nth, rule)| Rule::read(nth, rule))
            .collect::<Result<_, _>>()?;
        let headers = config.headers.iter().enumerate();
        let headers = headers
            .map(|(nth, name)| {
                HeaderName::try_from(name).map_err(|_| {
                    Invalid::new(format!("headers[{nth}]"), format!("is no header: {name:?}"))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            config,
            rules,
            headers,
        })
    }
}

/// Valid by construction.
impl Validate for AuditPolicy {}

/// The place of a class in a set of them.
pub(super) fn class(name: &str) -> Option<usize> {
    CLASSES.iter().position(|class| *class == name)
}
