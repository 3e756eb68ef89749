//! Which calls have a line, while it runs.

use std::{fmt, sync::atomic::Ordering::Relaxed, time::Duration};

use tower_chassis_core::{
    Class, Live, Verdict,
    live::{Invalid, Validate},
};

use http::HeaderName;

use super::{AccessLog, Excerpt, Format, Level, State, Template};

/// Which calls have a line, as it is written in a configuration.
///
/// Plain values; [`AccessLogPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AccessLogConfig {
    /// This share of the calls that succeeded has a line, 0 to 1; of all others each has one. 0 logs only what
    /// went wrong. Default 1.
    pub successes: f64,
    /// A call that took as long as this has a line, at least of the level `warn`, whatever its luck. 0 is off, the default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub slow: Duration,
    /// Lines of less than this level are left out. Default `debug`: none is.
    pub level: Level,
    /// Routes whose successes have no line, unless they were slow: `/livez`, `/static/*`. A `*` stands for any letters. What
    /// matched no route is compared by its path. Default none.
    pub skip: Vec<String>,
    /// Which lines show pieces of headers and bodies. Those of bodies, and of the response, need the [`ExcerptLayer`](super::ExcerptLayer) inside the
    /// log. [`Format::Common`], [`Format::Combined`] and [`Format::Template`] have no place for them. Default off.
    pub excerpts: Excerpt,
    /// How many bytes of a body are shown, up to 65,536. Default 1,024; with 0 none.
    pub excerpt_bytes: usize,
    /// Types of bodies that are shown besides JSON, forms and plain text: `text/html`, `text/*`. Secrets are found in them as
    /// in plain text, not by their own rules. Default none.
    pub excerpt_types: Vec<String>,
    /// Headers that are shown. Default `content-type` and `origin`.
    pub excerpt_headers: Vec<String>,
}

/// The largest `excerpt_bytes`.
const LONGEST: usize = 64 * 1024;

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            successes: 1.0,
            slow: Duration::ZERO,
            level: Level::Debug,
            skip: Vec::new(),
            excerpts: Excerpt::Off,
            excerpt_bytes: 1024,
            excerpt_types: Vec::new(),
            excerpt_headers: ["content-type", "origin"].map(Into::into).into(),
        }
    }
}

/// Settings of an access log that have been checked.
///
/// ```
/// use std::time::Duration;
/// use tower_chassis_observe::access_log::AccessLogPolicy;
///
/// // One success of a hundred, whatever took a second, and all that went wrong.
/// let policy = AccessLogPolicy::default().with(|config| {
///     config.successes = 0.01;
///     config.slow = Duration::from_secs(1);
/// })?;
/// let fault = policy.with(|config| config.successes = 2.0).unwrap_err();
/// assert_eq!(fault.to_string(), "successes must be from 0 to 1");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct AccessLogPolicy(AccessLogConfig);

impl AccessLogPolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &AccessLogConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut AccessLogConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Random numbers below it are chosen.
    fn below(&self) -> u64 {
        // 1 saturates: all.
        (self.0.successes * u64::MAX as f64) as u64
    }

    /// In nanoseconds.
    fn slow(&self) -> u64 {
        match self.0.slow.as_nanos() {
            0 => u64::MAX,
            nanos => u64::try_from(nanos).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<AccessLogConfig> for AccessLogPolicy {
    type Error = Invalid;
    fn try_from(config: AccessLogConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl Validate for AccessLogPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        if !(0.0..=1.0).contains(&self.0.successes) {
            return Err(Invalid::new("successes", "must be from 0 to 1"));
        }
        if self.0.excerpt_bytes > LONGEST {
            return Err(Invalid::new("excerpt_bytes", "must be at most 65536"));
        }
        let is_header = |name: &String| HeaderName::try_from(name).is_ok();
        if !self.0.excerpt_headers.iter().all(is_header) {
            return Err(Invalid::new("excerpt_headers", "must be names of headers"));
        }
        if !self.0.excerpt_types.iter().all(|name| name.contains('/')) {
            return Err(Invalid::new(
                "excerpt_types",
                "must be media types, as text/html",
            ));
        }
        Ok(())
    }
}

pub(super) const BEGAN: usize = 0;
pub(super) const WRITTEN: usize = 1;
pub(super) const SKIPPED: usize = 2;
pub(super) const DROPPED: usize = 3;

impl State {
    pub(super) fn apply(&self, policy: &AccessLogPolicy) {
        self.below.store(policy.below(), Relaxed);
        self.slow.store(policy.slow(), Relaxed);
        self.level.store(policy.0.level as u8, Relaxed);
        self.skips.store(!policy.0.skip.is_empty(), Relaxed);
        self.excerpts.store(policy.0.excerpts as u8, Relaxed);
    }

    /// Whether the line of a call shows its excerpts.
    pub(super) fn shows(&self, verdict: Verdict, slow: bool) -> bool {
        let excerpts = self.excerpts.load(Relaxed);
        let failed = slow || verdict.class() != Class::Success;
        excerpts == Excerpt::All as u8 || (excerpts == Excerpt::Failures as u8 && failed)
    }

    /// Whether a call took as long as what is slow.
    pub(super) fn is_slow(&self, time: Duration) -> bool {
        time.as_nanos() >= u128::from(self.slow.load(Relaxed))
    }

    /// Whether a call has a line; `about` is its route, or its path.
    pub(super) fn wants<'a>(
        &self,
        verdict: Verdict,
        slow: bool,
        level: Level,
        about: impl FnOnce() -> &'a str,
    ) -> bool {
        if (level as u8) < self.level.load(Relaxed) {
            return false;
        }
        if verdict.class() != Class::Success || slow {
            return true;
        }
        if self.skips.load(Relaxed) && self.skipped(about()) {
            return false;
        }
        let below = self.below.load(Relaxed);
        below == u64::MAX || (below > 0 && fastrand::u64(..) < below)
    }

    #[cold]
    fn skipped(&self, about: &str) -> bool {
        let policy = self.setup.live.load();
        let mut skip = policy.0.skip.iter();
        skip.any(|glob| matches(glob.as_bytes(), about.as_bytes()))
    }
}

/// Whether a text is what a glob says. In time of the product of their lengths at worst.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    // Behind the last star, and where its text began.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            g += 1;
            star = Some((g, t));
        } else if glob.get(g) == text.get(t) {
            (g, t) = (g + 1, t + 1);
        } else if let Some((after, began)) = star {
            (g, t) = (after, began + 1);
            star = Some((after, t));
        } else {
            return false;
        }
    }
    glob.get(g..)
        .is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

/// A view of an [`AccessLogLayer`](super::AccessLogLayer) and all of its services. Clones are views of the same
/// one.
#[derive(Clone)]
pub struct AccessLogHandle(pub(super) AccessLog);

impl AccessLogHandle {
    /// How many lines the sink has taken.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.0.tally.sum(WRITTEN)
    }

    /// How many lines the sink has not taken: it was full, and [said so](super::Taken), or it panicked.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.0.tally.sum(DROPPED)
    }

    /// How many calls had no line, by the policy or because the log was turned off meanwhile.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.0.tally.sum(SKIPPED)
    }

    /// How many calls are in flight whose line is still to come. Those that begin or end meanwhile may be
    /// counted or not, those that began with [`Format::Off`] are not.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.0.tally.between(BEGAN, [WRITTEN, SKIPPED, DROPPED])
    }

    /// How a line is written. [`Format::Off`] reaches calls in flight too, the others call by call as they end.
    #[must_use]
    pub fn format(&self) -> &Live<Format> {
        &self.0.0.setup.format
    }

    /// What a line of [`Format::Template`] looks like. Reaches calls that end after it; a header that was not asked for when
    /// a call began is not in its line.
    #[must_use]
    pub fn template(&self) -> &Live<Template> {
        &self.0.0.setup.template
    }

    /// Which calls have a line, shared with every layer that was made from the same [`Live`]. A change reaches
    /// calls that end after it.
    #[must_use]
    pub fn config(&self) -> &Live<AccessLogPolicy> {
        &self.0.0.setup.live
    }

    /// Changes settings: `handle.update(|config| config.successes = 0.1)`.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut AccessLogConfig)) -> Result<(), Invalid> {
        self.config().update(|policy| change(&mut policy.0))
    }
}

impl fmt::Debug for AccessLogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLogHandle")
            .field("format", self.format())
            .field("policy", self.config())
            .field("written", &self.written())
            .finish_non_exhaustive()
    }
}

impl AccessLog {
    pub(super) fn handle(&self) -> AccessLogHandle {
        AccessLogHandle(self.clone())
    }

    pub(super) fn fresh(&self) -> Self {
        Self::new(self.0.setup.clone())
    }

    pub(super) fn with_policy(&self, live: Live<AccessLogPolicy>) -> Self {
        self.with(|setup| setup.live = live)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs() {
        for (glob, text, hit) in [
            ("", "", true),
            ("", "/", false),
            ("/livez", "/livez", true),
            ("/livez", "/livez2", false),
            ("/health/*", "/health/a/b", true),
            ("/health/*", "/health", false),
            ("*", "", true),
            ("/*/x", "/a/b/x", true),
            ("/*/x", "/a/b/y", false),
            ("/static/{*rest}", "/static/{*rest}", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXcYb", false),
        ] {
            assert_eq!(
                matches(glob.as_bytes(), text.as_bytes()),
                hit,
                "{glob} {text}"
            );
        }
    }

    /// The plainest reading of a glob.
    fn plain(glob: &[u8], text: &[u8]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| plain(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && plain(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_glob_is_read_as_plainly(glob in "[ab*]{0,8}", text in "[ab]{0,12}") {
            let (glob, text) = (glob.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(glob, text), plain(glob, text));
        }
    }
}
