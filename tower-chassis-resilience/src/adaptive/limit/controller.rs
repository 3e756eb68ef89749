//! What the limit is, and why.

use super::{
    MILLIS, Nanos, SECOND, Window,
    gradient::{Gradient, Step},
};
use crate::adaptive::{Algorithm, Reason};

/// A window is at least so long, and so long if it has so many samples. It ends at the latest after [`LONGEST`], if
/// it has [`FEWEST`]; with fewer it goes on.
const SHORTEST: Nanos = 100 * MILLIS;
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
/// So many calls say which share that is.
const TELLING: f64 = 100.0;

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
    /// A call that was let in before says nothing of the limit now.
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
        (self.failed + f64::from(overloaded)) * FEW >= self.calls + samples as f64
    }

    /// A window is over that had so many of both.
    pub(in super::super) fn count(&mut self, overloaded: u32, samples: u64) {
        if !self.settling {
            let kept = (1.0 - samples as f64 / TELLING).max(0.0);
            self.calls = self.calls * kept + samples as f64;
            self.failed = self.failed * kept + f64::from(overloaded);
        }
    }

    /// No window ends before.
    pub(in super::super) const fn due(&self) -> Nanos {
        self.due
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
        self.lowered = now;
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
