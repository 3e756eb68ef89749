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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn cold() -> Cold {
        let config = BreakerConfig {
            window: 10 * SECOND,
            open_base: SECOND,
            open_max: 60 * SECOND,
            probe_timeout: 5 * SECOND,
            ..BreakerConfig::default()
        };
        Cold::new(&config, Some(7))
    }

    const fn at(seconds: u64) -> u64 {
        seconds * 1_000_000_000
    }

    #[test]
    fn a_step_is_forgotten_for_each_window_that_it_was_closed() {
        let mut cold = cold();
        (cold.opens, cold.closed_since) = (5, at(100));
        let opens = [0, 100, 110, 149, 150, 10_000].map(|seconds| cold.opens(at(seconds)));
        assert_eq!(opens, [5, 5, 4, 1, 0, 0]);
        assert_eq!((cold.opens(at(110) - 1), cold.opens(u64::MAX)), (5, 0));
    }

    #[test]
    fn open_times_double_to_the_longest_and_are_half_jitter() {
        let mut cold = cold();
        for (opens, full) in [
            (0, 1_000),
            (1, 1_000),
            (2, 2_000),
            (6, 32_000),
            (7, 60_000),
            (33, 60_000),
            (u32::MAX, 60_000),
        ] {
            let mut drawn = [(); 1_000].map(|()| cold.draw(opens).as_millis());
            drawn.sort_unstable();
            let (least, most) = (drawn[0], drawn[999]);
            assert!(
                (full / 2..full * 51 / 100).contains(&least),
                "{opens}: {least}"
            );
            assert!((full * 99 / 100..=full).contains(&most), "{opens}: {most}");
        }
    }

    #[test]
    fn a_mode_is_in_force_until_its_end() {
        let mut cold = cold();
        (cold.mode, cold.mode_until) = (Mode::Disabled, 7);
        assert_eq!(
            [0, 6, 7, 8].map(|now| cold.mode(now)),
            [Mode::Disabled, Mode::Disabled, Mode::Auto, Mode::Auto]
        );
        cold.mode_until = FOREVER;
        assert_eq!(cold.mode(FOREVER - 1), Mode::Disabled);
    }

    #[test]
    fn the_first_probe_is_due_first() {
        let mut cold = cold();
        assert_eq!(cold.overdue_at(), NEVER);
        cold.probes.extend([9, 3, 4].map(|seconds| Probe {
            began: at(seconds),
            headed: false,
        }));
        assert_eq!((cold.overdue_at(), cold.due(at(1))), (at(8), at(6)));
        // What ends is neither for ever nor never.
        assert_eq!(cold.due(u64::MAX), FOREVER - 1);
        assert_eq!(NEVER - FOREVER, 1);
    }

    #[test]
    fn other_settings_are_in_force_at_once() {
        let mut cold = cold();
        (cold.opens, cold.open_for) = (5, 3 * SECOND);
        cold.apply(&BreakerConfig {
            window: 20 * SECOND,
            open_base: 2 * SECOND,
            open_max: 2 * SECOND,
            probe_timeout: SECOND,
            ..BreakerConfig::default()
        });
        assert_eq!(
            (cold.opens(at(39)), cold.due(0), cold.open_for),
            (4, at(1), 3 * SECOND)
        );
        assert!((SECOND..=2 * SECOND).contains(&cold.draw(9)));
    }

    #[test]
    fn nanoseconds_are_counted_as_far_as_they_go() {
        assert_eq!(nanos(Duration::from_millis(1_500)), 1_500_000_000);
        assert_eq!(nanos(Duration::from_nanos(u64::MAX - 1)), u64::MAX - 1);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}
