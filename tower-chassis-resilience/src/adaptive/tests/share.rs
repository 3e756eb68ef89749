//! A service of which some calls fail whatever the limit is.

use super::sim::{Entry, Gate, Limited, MS, Nanos, SECOND, Shape, Work, World, run};
use crate::adaptive::AdaptiveConfig;

/// Some calls fail at any load.
struct SomeFail(Limited, f64, fastrand::Rng);

impl Gate for SomeFail {
    fn arrive(&mut self, call: u32, now: Nanos) -> Entry {
        self.0.arrive(call, now)
    }
    fn expire(&mut self, call: u32, now: Nanos) -> bool {
        self.0.expire(call, now)
    }
    fn answered(&mut self, began: Nanos, in_time: bool, now: Nanos) {
        let fails = self.2.f64() < self.1;
        self.0.answered(began, in_time && !fails, now);
    }
    fn next(&mut self, now: Nanos) -> Option<u32> {
        self.0.next(now)
    }
    fn limit(&self) -> u32 {
        self.0.limit()
    }
}

/// A few that fail for reasons of their own, up to one in twenty, do not lower the limit, and do not refuse the others.
#[test]
fn a_few_that_fail_at_any_load_do_not_lower_the_limit() {
    let seeds = match std::env::var_os("CHASSIS_LONG") {
        Some(_) => 1..=20,
        None => 1..=3,
    };
    for seed in seeds {
        for (servers, mean, load) in [(20, 20 * MS, 0.5), (100, 10 * MS, 0.8), (20, 500 * MS, 0.7)]
        {
            let shape = Shape { servers, mean };
            // With few calls in a window the limit takes longer to get to where it belongs, with failures or without.
            let (from, to) = if mean > 100 * MS {
                (180, 300)
            } else {
                (20, 60)
            };
            let run = |share| {
                let world = World::new(shape, Work::Exponential, load, to as u64 * SECOND, seed);
                let rng = fastrand::Rng::with_seed(seed);
                let limited = Limited::new(AdaptiveConfig::default(), seed);
                let mut gate = SomeFail(limited, share, rng);
                let record = run(&world, &mut gate).part(from, to);
                let (limit, goodput, lowered) =
                    (record.limit().0, record.goodput(), gate.0.lowered);
                println!(
                    "{share} of {load} x {servers} fail, seed {seed}: {goodput:.1}/s, limit {limit:.1}, lowered {lowered}"
                );
                (goodput, lowered)
            };
            let (without, _) = run(0.0);
            for share in [0.001, 0.01, 0.05] {
                let (goodput, lowered) = run(share);
                assert!(lowered <= 2, "{share}: lowered {lowered} times");
                assert!(goodput >= 0.9 * without, "{share}: {goodput}");
                let offered = load * f64::from(servers) * SECOND as f64 / mean as f64;
                assert!(goodput >= 0.85 * offered, "{share}: {goodput}");
            }
            let (_, lowered) = run(0.3);
            assert!(lowered >= 5, "lowered {lowered} times");
        }
    }
}
