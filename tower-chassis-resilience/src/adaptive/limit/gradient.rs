//! The limit that a service can bear, found from how its latency answers to it.
//!
//! As long as calls wait nowhere in the service, its latency is what it is whatever the limit: the baseline. Beyond,
//! more calls at once only wait for longer. So a limit that is used grows while the latency is near the baseline, and
//! when it is not, falls to a little below what the service then had in work (limit × baseline / latency). The falls
//! are what keeps the baseline honest: after each the queue in the service is gone, and what is seen then is the
//! latency without one, also where the load never ends.
//!
//! What a fall does to the latency tells a queue from a service that has become slower. A queue shrinks with the
//! limit. A latency that stays is the new baseline: the old one is forgotten, and the limit comes back.

use super::{Nanos, Window, baseline::Baseline};

/// So many samples are as good as more. A window with fewer is averaged with those before, and moves the limit by
/// less.
const ENOUGH: u64 = 100;
/// A fall is judged by so many windows and samples at least.
const JUDGED_BY: (u32, u64) = (2, 100);
/// A latency so many times the baseline is as good as that.
const NEAR: f64 = 1.1;
/// A fall goes a little below what was in work, and is at least a quarter and at most a half.
const BELOW: f64 = 0.98;
const SHALLOWEST: f64 = 0.75;
const DEEPEST: f64 = 0.5;
/// What is seen after a fall is the baseline if it is below so much of what was taken for it.
const KNOWN: f64 = 0.92;
/// And at any time if it is below so much.
const FASTER: f64 = 0.8;
/// After so many falls nobody is sure of the baseline any more.
const TRUSTED: u32 = 6;
/// So often at the lowest limit and slow: no queue of ours is left, so that is how the service is.
const STUCK: u32 = 5;

/// What to do with the limit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Step {
    Keep,
    /// To so much more.
    Grow(f64),
    /// To so much, because calls wait in the service.
    Fall(f64),
    /// To so much, because what was taken for waiting was none.
    Restore(f64),
}

/// A fall that is not judged yet.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Fall {
    /// What was in flight before, and the limit now.
    from: f64,
    to: f64,
    before: f64,
}

#[derive(Debug)]
pub(super) struct Gradient {
    baseline: Baseline,
    tolerance: f64,
    /// The latest windows, so that one that is off alone changes nothing.
    last: Recent,
    seen: Mean,
    steady: Mean,
    p90: Nanos,
    windows: u32,
    fall: Option<Fall>,
    /// A fall was judged: the limit grows slowly from now on.
    found: bool,
    /// For so many falls more it is known where the queue ends: one has shown it.
    sure: u32,
    stuck: u32,
}

impl Gradient {
    pub(super) fn new(tolerance: f64, seed: u64) -> Self {
        Self {
            baseline: Baseline::new(seed),
            tolerance,
            last: Recent::default(),
            seen: Mean::default(),
            steady: Mean::default(),
            p90: 0,
            windows: 0,
            fall: None,
            found: false,
            sure: 0,
            stuck: 0,
        }
    }

    pub(super) fn tolerate(&mut self, tolerance: f64) {
        self.tolerance = tolerance;
    }

    pub(super) const fn baseline(&self) -> Option<f64> {
        self.baseline.lowest()
    }

    /// What a tenth of the calls exceeds now; 0 if that is not known.
    pub(super) const fn p90(&self) -> Nanos {
        self.p90
    }

    /// The most calls in flight in the last ten minutes.
    pub(super) fn peak(&self) -> u32 {
        self.baseline.peak()
    }

    /// The limit was changed from outside: what is seen from now on has nothing to do with what was.
    pub(super) fn interrupt(&mut self) {
        self.fall = None;
        self.begin();
    }

    /// A window passed under `limit`, which was `used` or not and cannot fall below `min`.
    pub(super) fn step(
        &mut self,
        window: &Window,
        limit: f64,
        used: bool,
        min: f64,
        now: Nanos,
    ) -> Step {
        self.windows += 1;
        self.p90 = window.p90 as Nanos;
        let seen = self.seen.add(window.mean, window.samples);
        // Before the first fall every window is another limit.
        let median = match self.found {
            true => self.last.median(window.mean),
            false => window.mean,
        };
        let steady = self.steady.add(median, window.samples);
        self.baseline.used(window.peak, now);
        // Of few samples the lowest are lower than the service ever is.
        let known = self.seen.1 >= ENOUGH;
        if known || self.baseline.lowest().is_none() {
            self.baseline.add(seen, now);
        }
        let Some(mut baseline) = self.baseline.lowest() else {
            return Step::Keep;
        };
        // The service has become faster: else it would take many windows until a tenth of them show it, and each of
        // them would let the limit grow.
        if known && steady < FASTER * baseline {
            self.baseline.forget();
            self.baseline.add(steady, now);
            baseline = steady;
        }
        let slower = steady / baseline.max(1.0);

        let mut deeper = false;
        if let Some(fall) = self.fall {
            if self.windows < JUDGED_BY.0 || self.steady.1 < JUDGED_BY.1 {
                return Step::Keep;
            }
            self.fall = None;
            let stayed = steady / fall.before.max(1.0);
            let followed = fall.to / fall.from;
            self.found = true;
            if stayed > f64::midpoint(1.0, followed) {
                self.sure = TRUSTED;
                if slower > self.tolerance.sqrt() {
                    self.sure = 0;
                    self.baseline.forget();
                    self.baseline.add(steady, now);
                }
                return Step::Restore(fall.from * stayed.min(1.0));
            }
            // Lower than it was taken to be.
            let lower = steady < KNOWN * baseline;
            if lower {
                self.baseline.forget();
                self.baseline.add(steady, now);
            }
            // Nobody knows for how long it has been overloaded, at first; nor later whether it did not become slower in
            // the very moment of a fall, or faster since. On, until the latency follows no more.
            let follows = stayed < followed + 0.25 * (1.0 - followed);
            deeper = follows && (lower || self.sure == 0);
            self.sure = match self.sure {
                _ if deeper => 0,
                0 => TRUSTED,
                more => more - 1,
            };
        }
        if !used || (!known && !deeper && slower >= self.tolerance) {
            return Step::Keep;
        }
        if !deeper && slower < self.tolerance {
            self.stuck = 0;
            let share = match self.found {
                false => 0.25,
                true if slower < NEAR => 0.1,
                true => 0.03,
            };
            let informed = (window.samples as f64 / ENOUGH as f64).min(1.0);
            return Step::Grow((limit * share).max(1.0) * informed);
        }
        if limit <= min {
            self.stuck += 1;
            if self.stuck >= STUCK {
                self.stuck = 0;
                self.baseline.forget();
                self.baseline.add(steady, now);
            }
            return Step::Keep;
        }
        let from = limit.min(f64::from(window.peak.max(1)));
        let to = from * (BELOW / slower).clamp(DEEPEST, SHALLOWEST);
        self.fall = Some(Fall {
            from,
            to: to.max(min),
            // What is steady is a little behind a limit that grew.
            before: steady.max(window.mean),
        });
        self.begin();
        Step::Fall(to.max(min))
    }

    fn begin(&mut self) {
        self.windows = 0;
        self.last = Recent::default();
        self.seen = Mean::default();
        self.steady = Mean::default();
    }
}

/// The median of the last three.
#[derive(Default, Debug)]
struct Recent([Option<f64>; 2]);

impl Recent {
    fn median(&mut self, now: f64) -> f64 {
        let [older, old] = self.0;
        self.0 = [old, Some(now)];
        match (older, old) {
            (Some(older), Some(old)) => older.max(old).min(older.min(old).max(now)),
            // Of two, the one that changes less.
            (_, Some(old)) => old.min(now),
            _ => now,
        }
    }
}

/// A mean of windows by their samples, in which the last [`ENOUGH`] count.
#[derive(Default, Debug)]
struct Mean(f64, u64);

impl Mean {
    fn add(&mut self, now: f64, samples: u64) -> f64 {
        self.1 = (self.1 + samples).min(ENOUGH.max(samples));
        self.0 += (now - self.0) * samples as f64 / self.1.max(1) as f64;
        self.0
    }
}
