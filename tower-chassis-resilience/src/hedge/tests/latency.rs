//! The percentile against all times in a list.

use proptest::prelude::*;

use crate::hedge::latency::{Latency, NEVER, REFRESH, Rule, WINDOW, WINDOWS};

const ANY: Rule = Rule {
    share: 980_000,
    min_samples: 1,
    floor: 0,
    ceiling: NEVER - 1,
};

/// What is remembered at `now`, sorted.
fn remembered(all: &[(u64, u64)], now: u64) -> Vec<u64> {
    let oldest = (now / WINDOW).saturating_sub(WINDOWS as u64 - 1);
    let kept = |(_, at): &&(u64, u64)| at / WINDOW >= oldest && at / WINDOW <= now / WINDOW;
    let mut took: Vec<_> = all.iter().filter(kept).map(|(took, _)| *took).collect();
    took.sort_unstable();
    took
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("CHASSIS_LONG").is_some() { 5_000 } else { 256 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn at_most_a_thirty_second_above_the_exact_one_and_never_below(
        // Of every magnitude, from nanoseconds to minutes, and how long after the one before.
        times in prop::collection::vec((0u32..40, any::<u64>(), 0u64..4 * WINDOW / 10), 1..300),
        share in 500_000u32..=999_900,
        min_samples in 1u32..200,
    ) {
        let (latency, mut all, mut now) = (Latency::new(), Vec::new(), 0);
        let rule = Rule { share, min_samples, ..ANY };
        for (magnitude, noise, later) in times {
            now += later;
            let took = noise % (1 << magnitude);
            latency.record(took, now);
            all.push((took, now));
            let kept = remembered(&all, now);
            let found = latency.look_up(now, rule);
            if kept.len() < min_samples as usize {
                prop_assert_eq!(found, NEVER);
                continue;
            }
            let rank = (kept.len() as u64 * u64::from(share)).div_ceil(1_000_000).max(1);
            let exact = kept[rank as usize - 1];
            if exact >= 1 << 36 {
                prop_assert_eq!(found, NEVER);
            } else if exact < 1 << 20 {
                prop_assert_eq!(found, 1 << 20);
            } else {
                prop_assert!(found > exact && found <= exact + exact / 32 + 1, "{found} {exact}");
            }
        }
    }
}

#[test]
fn the_floor_raises_it_and_the_ceiling_ends_it() {
    let latency = Latency::new();
    latency.record(30_000_000, 0);
    let found = latency.look_up(0, ANY);
    let with = |floor, ceiling| {
        let rule = Rule {
            floor,
            ceiling,
            ..ANY
        };
        latency.look_up(0, rule)
    };
    assert_eq!(with(50_000_000, NEVER - 1), 50_000_000);
    assert_eq!(with(0, found), found);
    assert_eq!(with(0, found - 1), NEVER);
}

#[test]
fn it_is_looked_up_four_times_a_second_at_most() {
    let latency = Latency::new();
    let asked = |now| {
        let mut asked = false;
        latency.delay(now, || {
            asked = true;
            ANY
        });
        asked
    };
    assert!(asked(0) && !asked(0) && !asked(REFRESH - 1) && asked(REFRESH));
    latency.record(1 << 20, REFRESH);
    assert_eq!(latency.delay(REFRESH, || ANY), NEVER);
    assert_ne!(latency.delay(2 * REFRESH, || ANY), NEVER);
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let latency = Latency::new();
    latency.delay(0, || ANY);
    latency.record(1 << 21, 0);
    let end = REFRESH + WINDOW * WINDOWS as u64;
    assert!(!latency.is_idle(end) && latency.is_idle(end + 1));
    assert_eq!(latency.look_up(end, ANY), NEVER);
}

/// All that several threads record is counted, also while a window begins.
#[test]
fn threads_lose_nothing() {
    let latency = Latency::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..30_000 {
                    latency.record(1 << 21, n * WINDOW / 10_000);
                }
            });
        }
    });
    let counted = |min_samples| latency.look_up(2 * WINDOW, Rule { min_samples, ..ANY }) != NEVER;
    assert!(counted(120_000) && !counted(120_001));
}
