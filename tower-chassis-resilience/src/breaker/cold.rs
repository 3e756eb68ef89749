//! What only transitions and probes need: open times and the probes under way.

use std::time::Duration;

use super::{BreakerConfig, Mode};

/// `until` of a half-open circuit that waits for nobody.
pub(super) const NEVER: u64 = u64::MAX;
/// `until` of what was forced without an end.
pub(super) const FOREVER: u64 = u64::MAX - 1;

/// A probe that holds a permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Probe {
    /// In nanoseconds.
    pub(super) began: u64,
    /// The head of its answer was good; what is left is the body.
    pub(super) headed: bool,
}

/// What only transitions and probes touch.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) rng: fastrand::Rng,
    pub(super) opens: u32,
    pub(super) closed_since: u64,
    pub(super) open_for: Duration,
    pub(super) probes: Vec<Probe>,
    pub(super) window: Duration,
    pub(super) open_base: Duration,
    pub(super) open_max: Duration,
    pub(super) probe_timeout: Duration,
    pub(super) mode: Mode,
    /// Until when the mode is in force, in nanoseconds.
    pub(super) mode_until: u64,
    /// The mode was said of all keys, and a new circuit would have it as well.
    pub(super) inherited: bool,
}

impl Cold {
    /// As long as it has never opened. Without a seed, every circuit draws other open times.
    pub(super) fn new(config: &BreakerConfig, seed: Option<u64>) -> Self {
        Self {
            rng: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            opens: 0,
            closed_since: 0,
            open_for: Duration::ZERO,
            probes: Vec::new(),
            window: config.window,
            open_base: config.open_base,
            open_max: config.open_max,
            probe_timeout: config.probe_timeout,
            mode: Mode::Auto,
            mode_until: FOREVER,
            inherited: false,
        }
    }

    /// Puts other settings in force. An open time that runs stays.
    pub(super) fn apply(&mut self, config: &BreakerConfig) {
        self.window = config.window;
        self.open_base = config.open_base;
        self.open_max = config.open_max;
        self.probe_timeout = config.probe_timeout;
    }

    /// The step of the open time at `now`, one less for each window that the circuit was closed.
    pub(super) fn opens(&self, now: u64) -> u32 {
        let windows = now.saturating_sub(self.closed_since) / nanos(self.window).max(1);
        self.opens
            .saturating_sub(u32::try_from(windows).unwrap_or(u32::MAX))
    }

    /// An open time: doubled with each step, equally jittered.
    pub(super) fn draw(&mut self, opens: u32) -> Duration {
        let factor = 1_u32
            .checked_shl(opens.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let full = nanos(self.open_base.saturating_mul(factor).min(self.open_max));
        Duration::from_nanos(self.rng.u64(full / 2..=full))
    }

    /// What is in force at `now`.
    pub(super) fn mode(&self, now: u64) -> Mode {
        if now < self.mode_until {
            self.mode
        } else {
            Mode::Auto
        }
    }

    /// When a probe that began at `began` has had its time.
    pub(super) fn due(&self, began: u64) -> u64 {
        began
            .saturating_add(nanos(self.probe_timeout))
            .min(FOREVER - 1)
    }

    /// When the first of the probes has had its time.
    pub(super) fn overdue_at(&self) -> u64 {
        let first = self.probes.iter().map(|probe| probe.began).min();
        first.map_or(NEVER, |first| self.due(first))
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}
