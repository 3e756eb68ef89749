//! How long to wait before the next attempt. Knows neither time nor chance: both are handed in.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::config::Jitter;

/// How far the waits of a call have grown.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    retries: u32,
    /// Where the curve of the decorrelated jitter was at the last wait.
    reached: f64,
}

impl Backoff {
    /// The next wait, never above `max`. `unit` is from 0 to 1.
    pub(super) fn next(
        &mut self,
        jitter: Jitter,
        base: Duration,
        max: Duration,
        unit: f64,
    ) -> Duration {
        let times = match jitter {
            Jitter::Decorrelated => self.decorrelated(unit),
            // Twice as wide as the regular wait is long, so that its mean is the same.
            Jitter::Full => {
                let widest = f64::from(self.retries).exp2() * 2.0;
                unit * widest.min(max.as_secs_f64() / base.as_secs_f64())
            }
            Jitter::Exponential => f64::from(self.retries).exp2() * (0.8 + 0.4 * unit),
        };
        self.retries = self.retries.saturating_add(1);
        // What is too large to be told, or no number, is the longest wait.
        Duration::try_from_secs_f64(base.as_secs_f64() * times).map_or(max, |wait| wait.min(max))
    }

    /// Polly's V2: with `f(t) = 2^t tanh(sqrt(4t))` and `t` the number of the retry plus a random part below one,
    /// the wait is the growth of `f` since the last one, times `base / 1.4`.
    fn decorrelated(&mut self, unit: f64) -> f64 {
        const P: f64 = 4.0;
        const SCALE: f64 = 1.0 / 1.4;
        let t = f64::from(self.retries) + unit;
        let reached = t.exp2() * (P * t).sqrt().tanh();
        let growth = reached - self.reached;
        self.reached = reached;
        growth * SCALE
    }

    /// Begins again at the first wait: after the service itself said how long to wait.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A seeded source of chance that threads share; used only when a call is tried again.
#[derive(Debug)]
pub(super) struct Chance(AtomicU64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// From 0 to 1, without 1.
    pub(super) fn unit(&self) -> f64 {
        let seed = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        fastrand::Rng::with_seed(seed).f64()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(25);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_wait_has_the_median_base_and_waits_grow_on_average() {
        let chance = Chance::new(7);
        let mut sums = [0.0; 4];
        let mut first = Vec::new();
        for _ in 0..20_000 {
            let mut backoff = Backoff::default();
            for (n, sum) in sums.iter_mut().enumerate() {
                let wait = backoff.next(Jitter::Decorrelated, BASE, MAX, chance.unit());
                *sum += wait.as_secs_f64();
                if n == 0 {
                    first.push(wait);
                }
            }
        }
        first.sort();
        let median = first[first.len() / 2].as_secs_f64() / BASE.as_secs_f64();
        assert!((0.85..1.15).contains(&median), "{median}");
        assert!(sums.is_sorted(), "{sums:?}");
        // The fourth wait is about 2^3 first ones.
        assert!((4.0..12.0).contains(&(sums[3] / sums[0])), "{sums:?}");
    }

    /// Computed by another program from Polly's formula, in microseconds.
    #[test]
    fn the_decorrelated_waits_are_those_of_polly() {
        for (unit, waits) in [
            (0.0, [0, 34_430, 36_502, 71_646, 142_945, 285_757]),
            (0.5, [22_435, 27_325, 50_894, 101_149, 202_091, 404_092]),
            (0.999, [34_403, 36_478, 71_597, 142_846, 285_559, 571_055]),
        ] {
            let mut backoff = Backoff::default();
            for wait in waits {
                let next = backoff
                    .next(Jitter::Decorrelated, BASE, MAX, unit)
                    .as_micros();
                assert!(next.abs_diff(wait) <= 1, "{unit}: {next}, not {wait}");
            }
        }
    }

    #[test]
    fn no_two_waits_are_alike_and_a_seed_repeats_them() {
        let draw = |seed| {
            let chance = Chance::new(seed);
            (0..100)
                .map(|_| Backoff::default().next(Jitter::Decorrelated, BASE, MAX, chance.unit()))
                .collect::<Vec<_>>()
        };
        let mut waits = draw(1);
        assert_eq!(waits, draw(1));
        assert_ne!(waits, draw(2));
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 95);
    }

    #[test]
    fn a_reset_begins_again() {
        let mut backoff = Backoff::default();
        let first = backoff.next(Jitter::Decorrelated, BASE, MAX, 0.5);
        assert!(backoff.next(Jitter::Decorrelated, BASE, MAX, 0.5) > first);
        backoff.reset();
        assert_eq!(backoff.next(Jitter::Decorrelated, BASE, MAX, 0.5), first);
    }

    #[test]
    fn full_jitter_begins_at_nothing_and_exponential_stays_near_its_powers() {
        let waits = |jitter, unit| {
            let mut backoff = Backoff::default();
            [(); 7].map(|()| backoff.next(jitter, BASE, MAX, unit).as_micros())
        };
        assert_eq!(waits(Jitter::Full, 0.0), [0; 7]);
        let half = [25, 50, 100, 200, 400, 500, 500].map(|ms| ms * 1_000);
        assert_eq!(waits(Jitter::Full, 0.5), half);
        let regular = [25, 50, 100, 200, 400, 800, 1_000].map(|ms| ms * 1_000);
        assert_eq!(waits(Jitter::Exponential, 0.5), regular);
        let least = [20, 40, 80, 160, 320, 640, 1_000].map(|ms| ms * 1_000);
        assert_eq!(waits(Jitter::Exponential, 0.0), least);
    }

    proptest! {
        #[test]
        fn never_above_the_longest(
            base in 1u64..30_000_000,
            over in 0u64..30_000_000,
            units in proptest::collection::vec(0.0..1.0f64, 1..1_100),
        ) {
            let (base, max) = (Duration::from_micros(base), Duration::from_micros(base + over));
            let mut backoff = Backoff::default();
            for jitter in [Jitter::Decorrelated, Jitter::Full, Jitter::Exponential] {
                backoff.reset();
                for unit in &units {
                    prop_assert!(backoff.next(jitter, base, max, *unit) <= max);
                }
            }
        }
    }
}
