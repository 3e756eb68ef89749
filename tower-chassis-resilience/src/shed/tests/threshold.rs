//! The threshold against a model that keeps every call.

use proptest::prelude::*;

use super::super::threshold::{Curve, LEVELS, ONE, Threshold};

const MS: u64 = 1_000_000;

fn cases() -> ProptestConfig {
    let long = std::env::var_os("CHASSIS_LONG").is_some();
    ProptestConfig::with_cases(if long { 20_000 } else { 256 })
}

fn curve() -> Curve {
    Curve {
        start: 0.8,
        full: 2.0,
        highest: 3.0,
        reaction: 100.0 * MS as f64,
    }
}

fn counts(levels: &[usize]) -> [u32; LEVELS] {
    let mut counts = [0; LEVELS];
    for &level in levels {
        counts[level] += 1;
    }
    counts
}

/// Every call with its time, and how severe it is.
#[derive(Default)]
struct Plain {
    calls: Vec<(u64, usize)>,
    severity: f64,
    last: Option<u64>,
}

impl Plain {
    fn step(&mut self, now: u64, pressure: f64, levels: &[usize], curve: &Curve) {
        self.calls.extend(levels.iter().map(|&level| (now, level)));
        let wanted = match pressure {
            p if p <= curve.start || p.is_nan() => 0.0,
            p if p >= curve.full && p <= curve.highest => 1.0,
            p if p > curve.full => (1.0 + (p - curve.highest) / 1.2).min(1.9),
            p => (p - curve.start) / 1.2,
        };
        let wanted = if self.severity < 0.95 {
            f64::min(wanted, 1.0)
        } else {
            wanted
        };
        let away = match self.last {
            None => 0.0,
            Some(last) => {
                (self.severity - wanted) * (-((now - last) as f64) / curve.reaction).exp()
            }
        };
        self.severity = wanted + away;
        if wanted == 0.0 && self.severity < 1e-3 {
            self.severity = 0.0;
        }
        self.last = Some(now);
    }

    /// How much of what counts lies below `threshold`, and how much there is, from level `from` on.
    fn below(&self, now: u64, threshold: f64, from: usize) -> (f64, f64) {
        let mut sums = (0.0, 0.0);
        for &(at, level) in self.calls.iter().filter(|call| call.1 >= from) {
            let weight = (-((now - at) as f64) / 1e9).exp();
            sums.0 += weight * (threshold - level as f64).clamp(0.0, 1.0);
            sums.1 += weight;
        }
        sums
    }
}

fn level() -> impl Strategy<Value = usize> {
    prop_oneof![0..LEVELS, Just(250), 400..LEVELS]
}

type Step = (u64, f64, Vec<usize>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pressure = prop_oneof![
        0.0..5.0_f64,
        Just(0.8),
        Just(2.0),
        Just(3.0),
        Just(f64::NAN),
        Just(1e9)
    ];
    let levels = proptest::collection::vec(level(), 1..40);
    proptest::collection::vec((1..2_000_u64, pressure, levels), 1..40)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn it_is_the_quantile_of_what_came(steps in steps()) {
        let (curve, mut threshold, mut plain) = (curve(), Threshold::new(), Plain::default());
        let mut now = 0;
        for (wait, pressure, levels) in steps {
            now += wait * MS;
            let found = threshold.calibrate(now, pressure, &counts(&levels), &curve);
            plain.step(now, pressure, &levels, &curve);
            let level = f64::from(found) / f64::from(ONE);
            let (below, all) = plain.below(now, level, 0);
            // A threshold is cut to the fixed point: by 2^-16 of a level.
            let close = all * 1e-4 + 1e-9;
            let severity = plain.severity;
            if severity <= 0.0 {
                prop_assert_eq!(found, 0);
            } else if severity <= 1.0 || pressure.is_nan() || pressure < curve.highest {
                let rank = all * severity.min(1.0);
                prop_assert!(level <= 400.0, "{level}");
                prop_assert!(below <= rank + close, "{below} of {all}, {severity}");
                prop_assert!(level == 400.0 || below >= rank - close, "{below} of {all}, {severity}");
            } else {
                prop_assert!(level >= 400.0);
                let (below, all) = plain.below(now, level, 400);
                let rank = all * (severity - 1.0);
                prop_assert!((below - rank).abs() <= all * 1e-4 + 1e-9, "{below} of {all}, {severity}");
            }
        }
    }

    /// After the same past, more pressure refuses no fewer.
    #[test]
    fn more_pressure_is_no_lower_threshold(steps in steps(), one in 0.0..5.0_f64, two in 0.0..5.0_f64) {
        let find = |last: f64| {
            let (mut threshold, mut now, mut found) = (Threshold::new(), 0, 0);
            let (end, before) = steps.split_last().unwrap();
            for (wait, pressure, levels) in before.iter().chain([&(end.0, last, end.2.clone())]) {
                now += wait * MS;
                found = threshold.calibrate(now, *pressure, &counts(levels), &curve());
            }
            found
        };
        prop_assert!(find(one.min(two)) <= find(one.max(two)));
    }
}

#[test]
fn up_to_the_start_nothing_is_refused_and_the_highest_only_above_its_own() {
    let all: Vec<usize> = (0..LEVELS).collect();
    for (pressure, level) in [
        (0.0, 0.0),
        (0.8, 0.0),
        (1.4, 250.0),
        (1.999, 400.0),
        (2.0, 400.0),
        (3.0, 400.0),
        (3.6, 450.0),
        (1e9, 490.0),
        (f64::INFINITY, 490.0),
        (f64::NAN, 0.0),
        (-1.0, 0.0),
    ] {
        let mut threshold = Threshold::new();
        let mut found = 0;
        for second in 0..5 {
            found = threshold.calibrate(second * 1_000 * MS, pressure, &counts(&all), &curve());
        }
        let found = f64::from(found) / f64::from(ONE);
        assert!((found - level).abs() < 0.01, "{pressure}: {found}");
    }
}

#[test]
fn it_follows_with_its_reaction_and_comes_back_to_nothing() {
    let all: Vec<usize> = (0..LEVELS).collect();
    let mut threshold = Threshold::new();
    let mut at = |now: u64, pressure: f64| {
        let found = threshold.calibrate(now * MS, pressure, &counts(&all), &curve());
        f64::from(found) / f64::from(ONE)
    };
    assert_eq!(at(0, 0.0), 0.0);
    // 63 % of the way to 250, whatever the number of steps.
    assert!((at(50, 1.4) - 98.4).abs() < 1.0);
    assert!((at(100, 1.4) - 158.0).abs() < 1.0);
    assert!((at(2_000, 1.4) - 250.0).abs() < 1.0);
    assert!(at(2_100, 0.8) > 80.0);
    assert_eq!(at(4_000, 0.8), 0.0);
}

/// The levels that came once are forgotten.
#[test]
fn it_is_of_what_comes_now() {
    let mut threshold = Threshold::new();
    for now in 0..50 {
        threshold.calibrate(now * 20 * MS, 1.4, &counts(&[450; 100]), &curve());
    }
    let mut found = 0;
    for now in 50..400 {
        found = threshold.calibrate(now * 20 * MS, 1.4, &counts(&[150; 100]), &curve());
    }
    let found = f64::from(found) / f64::from(ONE);
    assert!((found - 150.5).abs() < 0.1, "{found}");
}

/// Nobody came for so long that nothing is left.
#[test]
fn nothing_is_known_without_calls() {
    let mut threshold = Threshold::new();
    assert_eq!(threshold.calibrate(0, 1.5, &[0; LEVELS], &curve()), 0);
    threshold.calibrate(MS, 1.5, &counts(&[3]), &curve());
    assert_eq!(
        threshold.calibrate(u64::MAX, 1.5, &[0; LEVELS], &curve()),
        0
    );
    // A clock that goes back is one that stands.
    assert!(threshold.calibrate(0, 1.5, &counts(&[3]), &curve()) > 0);
}
