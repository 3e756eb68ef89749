//! Which calls have a line, while it runs.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tower_chassis_core::{
    Class, Live, Verdict,
    live::{Invalid, Validate},
};

use super::{AccessLog, Format, State};

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
    /// A call that took as long as this always has a line. 0 is off, the default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub slow: Duration,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            successes: 1.0,
            slow: Duration::ZERO,
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
    }

    /// Whether a call has a line.
    pub(super) fn wants(&self, verdict: Verdict, time: Duration) -> bool {
        let below = self.below.load(Relaxed);
        below == u64::MAX
            || verdict.class() != Class::Success
            || time.as_nanos() >= u128::from(self.slow.load(Relaxed))
            || (below > 0 && fastrand::u64(..) < below)
    }
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

    /// How many lines the sink has not taken: it was full, and [said so](super::Taken).
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
        &self.0.0.format
    }

    /// Which calls have a line, shared with every layer that was made from the same [`Live`]. A change reaches
    /// calls that end after it.
    #[must_use]
    pub fn config(&self) -> &Live<AccessLogPolicy> {
        &self.0.0.live
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
        self.with_policy(self.0.live.clone())
    }

    pub(super) fn with_policy(&self, live: Live<AccessLogPolicy>) -> Self {
        let State {
            format,
            settings,
            sink,
            ..
        } = &*self.0;
        Self::new(format.clone(), live, *settings, Arc::clone(sink))
    }
}
