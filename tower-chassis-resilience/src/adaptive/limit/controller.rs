//! What the limit is, and why.

use super::{
    MILLIS, Nanos, SECOND, Window,
    gradient::{Gradient, Step},
};
use crate::adaptive::{Algorithm, Reason};

/// A window is at least so long, and so long if it has so many samples. It ends at the latest after [`LONGEST`], if
/// it has [`FEWEST`]; with fewer it goes on.
pub(super) const SHORTEST: Nanos = 100 * MILLIS;
const ENOUGH: u64 = 250;
const LONGEST: Nanos = SECOND;
const FEWEST: u64 = 20;
/// A limit of which less than this share was in flight is not used.
const USED: f64 = 0.6;
/// A limit is at most so many times what was in flight.
const ROOM: f64 = 5.0;
/// What an overloaded service leaves of the limit.
const BACKOFF: f64 = 0.9;
/// Of so many calls one may find the service overloaded that is not. Some fail at any load: a tail that runs into a
/// timeout, one tenant that is over its quota, a route whose own upstream is down.
const FEW: f64 = 10.0;
/// What fails at any load, at the most, is one in so many.
const USUAL: f64 = 20.0;
/// So many calls say which share that is.
const TELLING: f64 = 400.0;

/// What a user can set.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Settings {
    pub(in super::super) algorithm: Algorithm,
    pub(in super::super) min: u32,
    pub(in super::super) max: u32,
    pub(in super::super) start: u32,
    pub(in super::super) tolerance: f64,
    /// A tenth of the calls takes longer: overloaded, for AIMD.
    pub(in super::super) slow: Nanos,
}

/// A limit that is in force from now on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Change {
    pub(in super::super) limit: u32,
    pub(in super::super) reason: Reason,
}

/// The limit. Takes windows, calls that were dropped, and what a user says.
#[derive(Debug)]
pub(in super::super) struct Controller {
    settings: Settings,
    limit: f64,
    gradient: Gradient,
    /// When the window began, and before when it does not end.
    began: Nanos,
    due: Nanos,
    /// What is counted until then comes from calls of an older limit.
    settling: bool,
    /// A call that was let in before this says nothing of the limit now: the instant after it was lowered.
    lowered: Nanos,
    /// The latest calls in windows that are over, and how many of them found the service overloaded.
    calls: f64,
    failed: f64,
    forced: Option<(u32, Nanos)>,
    shown: u32,
    reason: Reason,
}

impl Controller {
    pub(in super::super) fn new(settings: Settings, seed: u64) -> Self {
        let limit = settings.start.clamp(settings.min, settings.max);
        Self {
            settings,
            limit: f64::from(limit),
            gradient: Gradient::new(settings.tolerance, seed),
            began: 0,
            due: SHORTEST,
            settling: false,
            lowered: 0,
            calls: 0.0,
            failed: 0.0,
            forced: None,
            shown: limit,
            reason: Reason::Start,
        }
    }

    /// The limit in force, and why it is.
    pub(in super::super) const fn now(&self) -> Change {
        Change {
            limit: self.shown,
            reason: self.reason,
        }
    }

    /// How long a call takes when nothing waits in the service.
    pub(in super::super) const fn baseline(&self) -> Option<f64> {
        self.gradient.baseline()
    }

    /// What a tenth of the calls exceeds now; 0 if that is not known.
    pub(in super::super) const fn p90(&self) -> Nanos {
        self.gradient.p90()
    }

    pub(in super::super) const fn forced(&self) -> Option<(u32, Nanos)> {
        self.forced
    }

    /// Before when a call must have been let in to say nothing of the limit now.
    pub(in super::super) const fn lowered(&self) -> Nanos {
        self.lowered
    }

    /// Whether so many calls of this window that found the service overloaded, beside so many that were answered, are
    /// more than fail at any load.
    pub(in super::super) fn are_many(&self, overloaded: u32, samples: u64) -> bool {
        let (failed, calls) = (
            self.failed + f64::from(overloaded),
            self.calls + samples as f64,
        );
        // Of a few calls one in ten fails by chance, where one in twenty does in the long run: three deviations above that.
        let usual = calls / USUAL;
        failed >= calls / FEW && failed >= usual + 3.0 * usual.sqrt()
    }

    /// A window is over that had so many of both.
    pub(in super::super) fn count(&mut self, overloaded: u32, samples: u64) {
        if !self.settling {
            let kept = (1.0 - samples as f64 / TELLING).max(0.0);
            self.calls = self.calls * kept + samples as f64;
            self.failed = self.failed * kept + f64::from(overloaded);
            // A window of many counts as one of those.
            let share = (TELLING / self.calls).min(1.0);
            (self.calls, self.failed) = (self.calls * share, self.failed * share);
        }
    }

    /// No window ends before.
    pub(in super::super) const fn due(&self) -> Nanos {
        self.due
    }

    /// How long the window has lasted.
    pub(in super::super) const fn lasted(&self, now: Nanos) -> Nanos {
        now.saturating_sub(self.began)
    }

    /// Whether the window is over, at `now`, with so many samples. If it is not, it is to be asked again
    /// [when due](Self::due).
    pub(in super::super) fn is_over(&mut self, samples: u64, now: Nanos) -> bool {
        if now < self.due {
            return false;
        }
        let long = now.saturating_sub(self.began) >= LONGEST;
        let over = self.settling || samples >= ENOUGH || (long && samples >= FEWEST);
        if !over {
            self.due = now + SHORTEST;
        }
        over
    }

    /// A window is over. A forced limit whose time is over was [ended](Self::expire) before.
    pub(in super::super) fn window(&mut self, window: &Window, now: Nanos) -> Option<Change> {
        if std::mem::take(&mut self.settling) {
            self.next(now, SHORTEST);
            return self.show(self.reason);
        }
        let Settings {
            min, start, slow, ..
        } = self.settings;
        let used = f64::from(window.peak) >= USED * self.limit;
        let step = self
            .gradient
            .step(window, self.limit, used, f64::from(min), now);
        self.next(now, SHORTEST);
        if self.forced.is_some() {
            self.gradient.interrupt();
            return self.show(self.reason);
        }
        let reason = match (self.settings.algorithm, step) {
            (Algorithm::Gradient, Step::Grow(by)) => {
                self.limit += by;
                Reason::Grew
            }
            (Algorithm::Gradient, Step::Fall(to)) => {
                self.lower(to, now);
                Reason::Latency
            }
            (Algorithm::Gradient, Step::Restore(to)) => {
                self.limit = self.limit.max(to);
                Reason::Baseline
            }
            (Algorithm::Gradient, Step::Keep) => self.reason,
            (Algorithm::Aimd, _) if window.p90 > slow as f64 => {
                self.lower(self.limit * BACKOFF, now);
                Reason::Latency
            }
            (Algorithm::Aimd, _) if used => {
                self.limit += 1.0;
                Reason::Grew
            }
            (Algorithm::Aimd, _) => self.reason,
        };
        if step != Step::Keep {
            self.settle(now);
        }
        let room = (ROOM * f64::from(self.gradient.peak())).max(f64::from(start));
        if self.limit > room {
            self.limit = room;
            return self.show(Reason::Unused);
        }
        self.show(reason)
    }

    /// A call that was let in at `began` found the service overloaded.
    ///
    /// Once for each limit: who was let in under a higher one says nothing of this one.
    pub(in super::super) fn overloaded(&mut self, began: Nanos, now: Nanos) -> Option<Change> {
        if began < self.lowered || self.forced.is_some() {
            return None;
        }
        self.lower(self.limit * BACKOFF, now);
        // They have had their say. And where most calls fail no window ends, so that the others count for less and less.
        self.failed = 0.0;
        self.calls /= 2.0;
        self.gradient.interrupt();
        self.settle(now);
        self.show(Reason::Overloaded)
    }

    /// Other settings, from now on.
    pub(in super::super) fn apply(&mut self, settings: Settings) -> Option<Change> {
        self.settings = settings;
        self.gradient.tolerate(settings.tolerance);
        self.show(Reason::Configured)
    }

    /// A fixed limit until then; `None` gives it free.
    pub(in super::super) fn force(&mut self, forced: Option<(u32, Nanos)>) -> Option<Change> {
        self.forced = forced;
        self.gradient.interrupt();
        self.show(match forced {
            Some(_) => Reason::Forced,
            None => Reason::Released,
        })
    }

    /// Ends a forced limit whose time is over.
    pub(in super::super) fn expire(&mut self, now: Nanos) -> Option<Change> {
        let (_, until) = self.forced?;
        (now >= until).then(|| self.force(None)).flatten()
    }

    fn lower(&mut self, to: f64, now: Nanos) {
        self.limit = self.limit.min(to);
        // Whoever was let in at that very instant found the old limit, or came by a clock too coarse to tell.
        self.lowered = now.saturating_add(1);
    }

    /// The next window begins when those have gone that were let in before.
    fn settle(&mut self, now: Nanos) {
        if self.settings.algorithm == Algorithm::Gradient {
            self.settling = true;
            self.due = now + self.gradient.p90();
        }
    }

    fn next(&mut self, now: Nanos, length: Nanos) {
        self.began = now;
        self.due = now + length;
    }

    /// Puts the limit in force. A change, if it is one.
    fn show(&mut self, reason: Reason) -> Option<Change> {
        let (min, max) = (self.settings.min, self.settings.max);
        self.limit = self.limit.clamp(f64::from(min), f64::from(max));
        let limit = self.forced.map_or(self.limit as u32, |(limit, _)| limit);
        let changed = limit != self.shown;
        if changed {
            self.shown = limit;
            self.reason = reason;
        }
        changed.then_some(Change { limit, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AIMD: Settings = Settings {
        algorithm: Algorithm::Aimd,
        min: 1,
        max: 400,
        start: 20,
        tolerance: 1.5,
        slow: SECOND,
    };
    const GRADIENT: Settings = Settings {
        algorithm: Algorithm::Gradient,
        ..AIMD
    };

    fn controller(settings: Settings) -> Controller {
        Controller::new(settings, 7)
    }

    fn window(latency: Nanos, peak: u32) -> Window {
        Window {
            samples: 250,
            p90: latency as f64,
            mean: latency as f64,
            peak,
        }
    }

    fn change(limit: u32, reason: Reason) -> Option<Change> {
        Some(Change { limit, reason })
    }

    #[test]
    fn it_begins_within_its_bounds() {
        for (min, max, limit) in [(1, 400, 20), (30, 400, 30), (1, 10, 10)] {
            let control = controller(Settings { min, max, ..AIMD });
            assert_eq!(Some(control.now()), change(limit, Reason::Start));
            assert_eq!(
                (control.baseline(), control.p90(), control.forced()),
                (None, 0, None)
            );
        }
    }

    #[test]
    fn a_window_is_over_with_enough_samples_or_after_a_second_with_some() {
        let mut control = controller(AIMD);
        assert!(!control.is_over(250, 100 * MILLIS - 1));
        assert!(!control.is_over(249, 100 * MILLIS));
        // It is asked again after as long.
        assert_eq!(control.due(), 200 * MILLIS);
        assert!(!control.is_over(1_000, 200 * MILLIS - 1));
        assert!(control.is_over(250, 200 * MILLIS));
        assert!(!control.is_over(249, SECOND - 1));
        control.due = 0;
        assert!(control.is_over(20, SECOND));
        assert!(!control.is_over(19, SECOND));
        assert_eq!(control.due(), SECOND + 100 * MILLIS);
        // The next one begins where this one ends.
        assert_eq!(control.lasted(7), 7);
        assert_eq!(control.window(&window(MILLIS, 1), 5 * SECOND), None);
        assert_eq!((control.lasted(5 * SECOND + 7), control.lasted(0)), (7, 0));
        assert_eq!(control.due(), 5 * SECOND + 100 * MILLIS);
        assert!(!control.is_over(249, 6 * SECOND - 1) && !control.is_over(19, 7 * SECOND));
        control.due = 0;
        assert!(control.is_over(20, 6 * SECOND));
    }

    #[test]
    fn a_tenth_is_many_and_of_a_few_calls_what_chance_does_not_do() {
        let control = controller(AIMD);
        for (calls, many) in [
            (1, 1),
            (10, 3),
            (80, 10),
            (100, 12),
            (180, 18),
            (400, 40),
            (2_000, 200),
        ] {
            assert!(control.are_many(many, calls), "{many} of {calls}");
            assert!(!control.are_many(many - 1, calls), "{many} of {calls}");
        }
    }

    #[test]
    fn the_last_four_hundred_calls_count() {
        let mut control = controller(AIMD);
        control.count(40, 200);
        control.count(10, 100);
        // 250, and 40 of them.
        assert!(control.are_many(0, 150) && !control.are_many(0, 151));
        assert!(control.are_many(1, 160) && !control.are_many(1, 161));
        control.count(300, 1_000);
        // As if they had been 400.
        assert!(control.are_many(0, 800) && !control.are_many(0, 801));
        // Who was told is not told again, and those who were well count for half.
        let _ = control.overloaded(0, 0);
        assert!(control.are_many(20, 0) && !control.are_many(19, 0));
    }

    #[test]
    fn aimd_adds_one_and_takes_a_tenth() {
        let mut control = controller(AIMD);
        assert_eq!(control.window(&window(SECOND, 11), 1), None);
        assert_eq!(
            control.window(&window(SECOND, 12), 2),
            change(21, Reason::Grew)
        );
        assert_eq!((control.lowered(), control.p90()), (0, SECOND));
        // 18.9
        assert_eq!(
            control.window(&window(SECOND + 1, 1), 3),
            change(18, Reason::Latency)
        );
        assert_eq!((control.lowered(), control.limit), (4, 21.0 * 0.9));
        assert_eq!(Some(control.now()), change(18, Reason::Latency));
        // What was let in before says nothing of it.
        assert_eq!(control.overloaded(3, 5), None);
        assert_eq!(control.overloaded(4, 5), change(17, Reason::Overloaded));
        assert_eq!((control.lowered(), control.limit), (6, 21.0 * 0.9 * 0.9));
        // Nothing is left of calls of an older limit to wait for.
        assert!(!control.settling);
    }

    #[test]
    fn a_limit_is_no_more_than_five_times_what_was_in_flight() {
        let mut control = controller(Settings { start: 100, ..AIMD });
        assert_eq!(control.window(&window(MILLIS, 3), 1), None);
        assert_eq!(control.apply(AIMD), None);
        assert_eq!(
            control.window(&window(MILLIS, 3), 2),
            change(20, Reason::Unused)
        );
        let mut control = controller(Settings { start: 100, ..AIMD });
        let _ = control.apply(AIMD);
        assert_eq!(
            control.window(&window(MILLIS, 7), 2),
            change(35, Reason::Unused)
        );
        assert_eq!(control.window(&window(MILLIS, 7), 3), None);
    }

    #[test]
    fn what_is_forced_holds_until_its_end() {
        let mut control = controller(AIMD);
        assert_eq!(control.expire(5), None);
        assert_eq!(control.force(Some((7, 50))), change(7, Reason::Forced));
        assert_eq!(control.forced(), Some((7, 50)));
        assert_eq!(control.window(&window(MILLIS, 20), 10), None);
        assert_eq!(control.window(&window(2 * SECOND, 20), 11), None);
        assert_eq!(control.overloaded(12, 12), None);
        assert_eq!(control.expire(49), None);
        assert_eq!(control.expire(50), change(20, Reason::Released));
        assert_eq!((control.forced(), control.lowered()), (None, 0));
        let _ = control.force(Some((7, 90)));
        assert_eq!(control.force(None), change(20, Reason::Released));
    }

    #[test]
    fn other_bounds_are_in_force_at_once() {
        let mut control = controller(AIMD);
        let bounds = |min, max| Settings { min, max, ..AIMD };
        assert_eq!(control.apply(bounds(1, 10)), change(10, Reason::Configured));
        assert_eq!(
            control.apply(bounds(15, 400)),
            change(15, Reason::Configured)
        );
        assert_eq!(control.apply(bounds(2, 300)), None);
        assert_eq!(Some(control.now()), change(15, Reason::Configured));
        assert_eq!(
            control.window(&window(MILLIS, 15), 2),
            change(16, Reason::Grew)
        );
    }

    /// What comes in after a step was let in before it.
    #[test]
    fn after_a_step_the_gradient_waits_for_those_of_the_old_limit() {
        let mut control = controller(GRADIENT);
        let grown = control.window(&window(30 * MILLIS, 20), 100 * MILLIS);
        assert_eq!(grown, change(25, Reason::Grew));
        assert_eq!(
            (control.due(), control.baseline()),
            (130 * MILLIS, Some(30e6))
        );
        // What they say does not count.
        control.count(50, 100);
        assert!(!control.are_many(9, 100));
        assert!(!control.is_over(1_000, 130 * MILLIS - 1) && control.is_over(0, 130 * MILLIS));
        assert_eq!(control.window(&window(SECOND, 20), 130 * MILLIS), None);
        assert_eq!((control.due(), control.p90()), (230 * MILLIS, 30 * MILLIS));
        assert!(!control.is_over(0, 230 * MILLIS) && !control.settling);
        // One that changes nothing is followed by the next.
        assert_eq!(control.window(&window(30 * MILLIS, 1), 300 * MILLIS), None);
        assert!(!control.settling);
        assert_eq!(control.due(), 400 * MILLIS);
        let lowered = control.overloaded(300 * MILLIS, 350 * MILLIS);
        assert_eq!(lowered, change(22, Reason::Overloaded));
        assert!(control.settling);
        assert_eq!(control.due(), 380 * MILLIS);
    }

    #[test]
    fn the_gradient_falls_and_takes_it_back_where_the_latency_stays() {
        let mut control = controller(GRADIENT);
        let mut now = 0;
        let mut next = |control: &mut Controller, latency: Nanos| {
            now += SECOND;
            if control.settling {
                assert_eq!(control.window(&window(latency, 1), now), None);
                now += SECOND;
            }
            let peak = control.now().limit;
            (control.window(&window(latency, peak), now), now)
        };
        assert_eq!(next(&mut control, 10 * MILLIS).0, change(25, Reason::Grew));
        assert_eq!(next(&mut control, 10 * MILLIS).0, change(31, Reason::Grew));
        // Twice as slow: to the half, all but a little.
        let (fell, at) = next(&mut control, 20 * MILLIS);
        assert_eq!(fell, change(15, Reason::Latency));
        assert_eq!(control.lowered(), at + 1);
        // And as slow as before: that is how it is.
        assert_eq!(next(&mut control, 20 * MILLIS).0, None);
        let (back, _) = next(&mut control, 20 * MILLIS);
        assert_eq!(back, change(31, Reason::Baseline));
        assert_eq!(
            (control.lowered(), control.baseline()),
            (at + 1, Some(20e6))
        );
    }
}
