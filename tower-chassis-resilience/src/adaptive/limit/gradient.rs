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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    struct Bench {
        gradient: Gradient,
        now: Nanos,
        min: f64,
    }

    impl Bench {
        /// So many windows of 10 ms are known, each for itself.
        fn new(known: u32) -> Self {
            let mut bench = Self {
                gradient: Gradient::new(1.5, 7),
                now: 0,
                min: 1.0,
            };
            for _ in 0..known {
                assert_eq!(bench.step(10.0, 100, 20.0, false), Step::Keep);
            }
            bench
        }

        fn step(&mut self, millis: f64, samples: u64, limit: f64, used: bool) -> Step {
            self.now += 1_200 * super::super::MILLIS;
            let window = Window {
                samples,
                p90: 3.0 * millis * MS,
                mean: millis * MS,
                peak: limit as u32,
            };
            let step = self.gradient.step(&window, limit, used, self.min, self.now);
            assert_eq!(self.gradient.p90(), window.p90 as Nanos);
            step
        }

        /// One with as many samples as there need be, in which the limit was used.
        fn see(&mut self, millis: f64, limit: f64) -> Step {
            self.step(millis, 100, limit, true)
        }

        fn baseline(&self) -> f64 {
            self.gradient.baseline().unwrap() / MS
        }

        /// A fall has shown where the queue ends, and it is sure of that for two more.
        fn found() -> Self {
            let mut bench = Self::new(20);
            (bench.gradient.found, bench.gradient.sure) = (true, 2);
            bench
        }
    }

    fn same<const N: usize>(steps: [Step; N], expected: [Step; N]) {
        let near = |pair: (&Step, &Step)| match pair {
            (Step::Grow(a), Step::Grow(b))
            | (Step::Fall(a), Step::Fall(b))
            | (Step::Restore(a), Step::Restore(b)) => (a - b).abs() < 1e-6,
            (a, b) => a == b,
        };
        let alike = steps.iter().zip(&expected).all(near);
        assert!(alike, "{steps:?}, not {expected:?}");
    }

    #[test]
    fn near_the_baseline_it_grows_by_a_quarter_at_first() {
        let mut bench = Bench::new(0);
        let steps = [
            bench.see(10.0, 20.0),
            bench.see(14.9, 20.0),
            // At least one, and less where fewer samples say so.
            bench.see(10.0, 3.0),
            bench.step(10.0, 50, 20.0, true),
            bench.step(10.0, 400, 20.0, true),
            bench.step(10.0, 100, 20.0, false),
        ];
        let grown = [5.0, 5.0, 1.0, 2.5, 5.0].map(Step::Grow);
        same(
            steps,
            [grown[0], grown[1], grown[2], grown[3], grown[4], Step::Keep],
        );
        assert_eq!((bench.baseline(), bench.gradient.peak()), (10.0, 20));
    }

    #[test]
    fn slow_it_falls_to_what_the_service_had_in_work() {
        for (millis, limit, fall) in [
            (15.0, 30.0, 30.0 * 0.98 / 1.5),
            (18.0, 30.0, 30.0 * 0.98 / 1.8),
            (19.6, 30.0, 15.0),
            (100.0, 30.0, 15.0),
            (100.0, 12.0, 8.0),
        ] {
            let mut bench = Bench::new(20);
            bench.min = 8.0;
            same([bench.see(millis, limit)], [Step::Fall(fall)]);
        }
        let mut bench = Bench::new(20);
        bench.gradient.tolerate(1.1);
        same([bench.see(12.0, 20.0)], [Step::Fall(15.0)]);
        // Of what was in flight, where that is less.
        let mut bench = Bench::new(20);
        same([bench.see(20.0, 20.9)], [Step::Fall(10.0)]);
        // Few samples know nothing of it.
        let mut bench = Bench::new(20);
        bench.gradient.interrupt();
        same([bench.step(20.0, 99, 30.0, true)], [Step::Keep]);
        same([bench.step(20.0, 1, 30.0, true)], [Step::Fall(15.0)]);
    }

    #[test]
    fn few_samples_are_no_baseline_unless_there_is_none() {
        let mut bench = Bench::new(0);
        let _ = bench.step(10.0, 99, 20.0, false);
        assert_eq!(bench.baseline(), 10.0);
        bench.gradient.interrupt();
        let _ = bench.step(5.0, 99, 20.0, false);
        assert_eq!(bench.baseline(), 10.0);
        let _ = bench.step(5.0, 1, 20.0, false);
        assert_eq!(bench.baseline(), 5.0);
    }

    #[test]
    fn a_fall_is_judged_by_two_windows_and_a_hundred_samples() {
        for (samples, windows) in [(100, 2), (50, 2), (49, 3), (34, 3), (33, 4)] {
            let mut bench = Bench::new(20);
            same([bench.see(20.0, 20.0)], [Step::Fall(10.0)]);
            for _ in 1..windows {
                same([bench.step(20.0, samples, 10.0, true)], [Step::Keep]);
            }
            same(
                [bench.step(20.0, samples, 10.0, true)],
                [Step::Restore(20.0)],
            );
        }
    }

    #[test]
    fn what_stays_slow_is_the_baseline_and_what_was_lowered_comes_back() {
        for (after, back) in [(20.0, 20.0), (25.0, 20.0), (15.1, 15.1)] {
            let mut bench = Bench::new(20);
            let _ = bench.see(20.0, 20.0);
            let steps = [bench.see(after, 10.0), bench.see(after, 10.0)];
            same(steps, [Step::Keep, Step::Restore(back)]);
            assert!((bench.baseline() - after).abs() < 1e-6);
            assert_eq!(bench.gradient.sure, 0);
        }
        // One that is hardly slower than what is known: that stays.
        for (slow, known, sure) in [(12.0, 10.0, TRUSTED), (12.1, 12.1, 0)] {
            let mut bench = Bench::new(20);
            bench.gradient.tolerate(1.44);
            let _ = bench.see(15.0, 20.0);
            let fall = bench.gradient.fall.unwrap();
            bench.gradient.fall = Some(Fall {
                before: slow * MS,
                ..fall
            });
            let steps = [bench.see(slow, 13.0), bench.see(slow, 13.0)];
            same(steps, [Step::Keep, Step::Restore(20.0)]);
            assert!((bench.baseline() - known).abs() < 1e-6, "{slow}");
            assert_eq!(bench.gradient.sure, sure);
        }
    }

    #[test]
    fn while_nobody_is_sure_it_falls_on_until_the_latency_follows_no_more() {
        let mut bench = Bench::new(20);
        let steps = [
            bench.see(20.0, 20.0),
            // Half of it: follows. So on, by a quarter.
            bench.see(10.0, 10.0),
            bench.see(10.0, 10.0),
            // A quarter less: follows.
            bench.see(7.5, 7.0),
            bench.see(7.5, 7.0),
        ];
        let fell = [20.0 * 0.5, 7.5, 7.0 * 0.75].map(Step::Fall);
        same(steps, [fell[0], Step::Keep, fell[1], Step::Keep, fell[2]]);
        assert_eq!(bench.gradient.sure, 0);
        // And what stays is how it is.
        let steps = [bench.see(7.5, 5.0), bench.see(7.5, 5.0)];
        same(steps, [Step::Keep, Step::Restore(7.0)]);
        assert_eq!(bench.gradient.sure, TRUSTED);
    }

    #[test]
    fn a_latency_that_hardly_follows_ends_the_search() {
        // From 20 ms at 20 to so many at 10: less than 0.625 of it follows.
        for (after, deeper) in [(12.4, true), (12.5, false), (14.9, false)] {
            let mut bench = Bench::new(20);
            let _ = bench.see(20.0, 20.0);
            let _ = bench.see(after, 10.0);
            let judged = bench.see(after, 10.0);
            assert_eq!(
                matches!(judged, Step::Fall(_)),
                deeper,
                "{after}: {judged:?}"
            );
            assert_eq!(bench.gradient.sure, if deeper { 0 } else { TRUSTED });
        }
        // Half of the way it still follows, so it is the service that is slow.
        let mut bench = Bench::new(20);
        let steps = [20.0, 15.0, 15.0].map(|millis| bench.see(millis, 20.0));
        same(
            steps,
            [Step::Fall(10.0), Step::Keep, Step::Fall(20.0 * 0.98 / 1.5)],
        );
    }

    #[test]
    fn while_it_is_sure_it_grows_slowly_and_falls_once() {
        let mut bench = Bench::found();
        let steps = [bench.see(10.0, 100.0), bench.see(10.9, 100.0)];
        same(steps, [Step::Grow(10.0), Step::Grow(10.0)]);
        bench.gradient.interrupt();
        let steps = [bench.see(11.0, 100.0), bench.see(11.0, 10.0)];
        same(steps, [Step::Grow(3.0), Step::Grow(1.0)]);
        for sure in [1, 0, TRUSTED] {
            bench.gradient.interrupt();
            let deeper = sure == TRUSTED;
            let steps = [
                bench.see(20.0, 20.0),
                bench.see(10.0, 10.0),
                bench.see(10.0, 10.0),
            ];
            let last = if deeper {
                Step::Fall(7.5)
            } else {
                Step::Grow(1.0)
            };
            same(steps, [Step::Fall(10.0), Step::Keep, last]);
            assert_eq!(bench.gradient.sure, if deeper { 0 } else { sure });
        }
    }

    #[test]
    fn lower_than_it_was_known_to_be_is_the_baseline() {
        for (after, known, sure) in [(9.1, 9.1, 0), (9.2, 10.0, 1)] {
            let mut bench = Bench::found();
            let _ = bench.see(20.0, 20.0);
            let _ = bench.see(after, 10.0);
            let _ = bench.see(after, 10.0);
            assert!((bench.baseline() - known).abs() < 1e-6, "{after}");
            assert_eq!(bench.gradient.sure, sure, "{after}");
        }
    }

    #[test]
    fn a_service_that_has_become_faster_is_known_at_once() {
        for (millis, known) in [(8.0, 10.0), (7.9, 7.9)] {
            let mut bench = Bench::new(20);
            bench.gradient.interrupt();
            let _ = bench.see(millis, 20.0);
            assert!((bench.baseline() - known).abs() < 1e-6, "{millis}");
            let mut bench = Bench::new(20);
            bench.gradient.interrupt();
            let _ = bench.step(millis, 99, 20.0, true);
            assert_eq!(bench.baseline(), 10.0);
        }
        // It is judged by what it is then.
        let mut bench = Bench::found();
        same([bench.step(5.0, 100, 100.0, true)], [Step::Grow(10.0)]);
    }

    #[test]
    fn at_the_lowest_limit_it_is_slow_five_times_before_that_is_how_it_is() {
        let mut bench = Bench::new(20);
        bench.min = 5.0;
        for limit in [5.0, 5.0, 4.0, 5.0] {
            same([bench.see(40.0, limit)], [Step::Keep]);
        }
        // Any that is not breaks the row.
        bench.gradient.interrupt();
        same([bench.see(10.0, 5.0)], [Step::Grow(1.25)]);
        bench.gradient.interrupt();
        for stuck in 1..=5 {
            assert_eq!(bench.baseline(), 10.0);
            same([bench.see(40.0, 5.0)], [Step::Keep]);
            assert_eq!(bench.gradient.stuck, stuck % 5);
        }
        assert_eq!(bench.baseline(), 40.0);
    }

    #[test]
    fn a_change_from_outside_is_no_fall() {
        let mut bench = Bench::new(20);
        let _ = bench.see(20.0, 20.0);
        bench.gradient.interrupt();
        assert_eq!((bench.gradient.fall, bench.gradient.windows), (None, 0));
        same([bench.see(20.0, 10.0)], [Step::Fall(5.0)]);
    }

    #[test]
    fn the_median_of_three_and_the_lower_of_two() {
        let mut recent = Recent::default();
        let medians = [5.0, 7.0, 3.0, 9.0, 1.0, 2.0, 2.0].map(|now| recent.median(now));
        assert_eq!(medians, [5.0, 5.0, 5.0, 7.0, 3.0, 2.0, 2.0]);
        let mut recent = Recent::default();
        assert_eq!([7.0, 5.0].map(|now| recent.median(now)), [7.0, 5.0]);
    }

    #[test]
    fn a_mean_is_one_of_samples_of_which_a_hundred_count() {
        let mut mean = Mean::default();
        let steps = [
            (7.0, 0),
            (10.0, 50),
            (20.0, 50),
            (35.0, 50),
            (5.0, 400),
            (9.0, 0),
            (15.0, 10),
        ];
        let means = steps.map(|(now, samples)| mean.add(now, samples));
        assert_eq!(means, [0.0, 10.0, 15.0, 25.0, 5.0, 5.0, 6.0]);
    }
}
