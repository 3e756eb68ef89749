//! How much passes while a service comes back.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use super::{BreakerConfig, cold::nanos};

/// Admits a share of the calls that grows with time, evenly: after any number of calls it has admitted the sum of
/// their shares, give or take one.
#[derive(Debug, Default)]
pub(super) struct Ramp {
    /// In nanoseconds; 0 is off.
    length: AtomicU64,
    /// That of the recovery that runs, which a change leaves as it is.
    running: AtomicU64,
    /// In millionths.
    from: AtomicU32,
    /// In thousandths.
    aggression: AtomicU32,
    /// The shares of all calls so far, in parts of 2^64; each time that it runs over, one passes.
    sum: AtomicU64,
}

impl Ramp {
    pub(super) fn apply(&self, config: &BreakerConfig) {
        self.length.store(nanos(config.recovery), Relaxed);
        self.from
            .store((config.recovery_from * 1e6).round() as u32, Relaxed);
        self.aggression
            .store((config.recovery_aggression * 1e3).round() as u32, Relaxed);
    }

    pub(super) fn length(&self) -> u64 {
        self.length.load(Relaxed)
    }

    /// Begins anew. The first call passes.
    pub(super) fn restart(&self) {
        self.running.store(self.length(), Relaxed);
        self.sum.store(u64::MAX, SeqCst);
    }

    /// Whether a call passes when `left` nanoseconds are left.
    pub(super) fn admits(&self, left: u64) -> bool {
        // 2^64; what is more becomes the largest there is.
        let share = (self.share(left) * 18_446_744_073_709_551_616.0) as u64;
        let before = self.sum.fetch_add(share, SeqCst);
        before.checked_add(share).is_none()
    }

    /// `from + (1 - from) * (t / length) ^ (1 / aggression)`.
    fn share(&self, left: u64) -> f64 {
        let length = self.running.load(Relaxed);
        if length == 0 || self.length() == 0 {
            // Turned off meanwhile.
            return 1.0;
        }
        let from = f64::from(self.from.load(Relaxed)) / 1e6;
        let gone = length.saturating_sub(left) as f64 / length as f64;
        let gone = match self.aggression.load(Relaxed) {
            1_000 => gone,
            aggression => gone.powf(1e3 / f64::from(aggression.max(1))),
        };
        from + (1.0 - from) * gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ramp(from: f64, aggression: f64) -> Ramp {
        let ramp = Ramp::default();
        ramp.apply(&BreakerConfig {
            recovery: Duration::from_nanos(1_000_000),
            recovery_from: from,
            recovery_aggression: aggression,
            ..BreakerConfig::default()
        });
        ramp.restart();
        ramp
    }

    #[test]
    fn grows_from_its_first_share_to_all() {
        for (from, aggression, at_half) in [
            (0.1, 1.0, 0.55),
            (0.2, 1.0, 0.6),
            (0.0, 2.0, 0.707),
            (0.0, 0.5, 0.25),
        ] {
            let ramp = ramp(from, aggression);
            for (left, share) in [(1_000_000, from), (500_000, at_half), (0, 1.0)] {
                assert!(
                    (ramp.share(left) - share).abs() < 0.001,
                    "{from} {aggression} {left}"
                );
            }
        }
    }

    #[test]
    fn admits_the_sum_of_the_shares_and_spreads_them() {
        let mut rng = fastrand::Rng::with_seed(7);
        for from in [0.001, 0.1, 0.37, 0.999] {
            let ramp = ramp(from, 1.0);
            let (mut due, mut admitted, mut left) = (0.0, 0_u32, 1_000_000);
            assert!(ramp.admits(left), "the first");
            while left > 0 {
                due += ramp.share(left);
                admitted += u32::from(ramp.admits(left));
                assert!(
                    (f64::from(admitted) - due).abs() <= 1.0,
                    "{admitted} of {due}"
                );
                left = u64::saturating_sub(left, rng.u64(..300));
            }
        }
    }
    #[test]
    fn turned_off_all_pass_and_another_length_is_for_the_next_time() {
        let recovery = |millis| BreakerConfig {
            recovery: Duration::from_millis(millis),
            recovery_from: 0.0,
            recovery_aggression: 1.0,
            ..BreakerConfig::default()
        };
        let ramp = ramp(0.0, 1.0);
        ramp.apply(&recovery(2));
        assert_eq!((ramp.length(), ramp.share(500_000)), (2_000_000, 0.5));
        // More is left than it takes.
        assert_eq!(ramp.share(5_000_000), 0.0);
        ramp.apply(&recovery(0));
        assert_eq!((ramp.length(), ramp.share(500_000)), (0, 1.0));
        assert!((0..10).all(|_| ramp.admits(1_000_000)));
        ramp.restart();
        ramp.apply(&recovery(2));
        assert_eq!(ramp.share(500_000), 1.0);
        ramp.restart();
        assert_eq!(ramp.share(500_000), 0.75);
    }
}
