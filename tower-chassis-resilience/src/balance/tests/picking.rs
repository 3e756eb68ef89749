//! The pickers alone, on simulated time.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{Class, Invocation, Verdict, invocation::OnEmpty};

use super::*;
use crate::balance::snapshot::{Plan, plan_of};

fn plan(count: usize) -> Plan {
    plan_of((0..count).map(|i| endpoint(&format!("e{i}"))))
}

fn weighted(weights: &[u32]) -> Plan {
    plan_of(
        weights
            .iter()
            .enumerate()
            .map(|(i, weight)| endpoint(&format!("e{i}")).with_weight(*weight)),
    )
}

/// Calls that arrive every `gap` and end as `answer` says. Counts the picks of each endpoint, the first tenth
/// of the calls left out.
fn simulate(
    plan: &Plan,
    picker: &impl Pick,
    calls: u32,
    gap: Duration,
    mut answer: impl FnMut(usize, &mut Rng) -> (Duration, Verdict),
) -> Vec<u32> {
    let mut rng = Rng::seeded(42);
    let start = Instant::now();
    let mut picks = vec![0; plan.entries.len()];
    let mut flying: BinaryHeap<Reverse<(Instant, usize, Instant, usize)>> = BinaryHeap::new();
    let mut verdicts = Vec::new();
    let table = picker.table(&Members::new(plan));
    for call in 0..calls {
        let now = start + gap * call;
        while let Some(Reverse((end, index, began, number))) = flying.pop() {
            if end > now {
                flying.push(Reverse((end, index, began, number)));
                break;
            }
            let load = &plan.entries[index].state.load;
            load.record(end - began, verdicts[number], end);
            load.leave();
        }
        let index = plan
            .choose((picker, &table), None, None, &[], now, &mut rng)
            .unwrap();
        plan.entries[index].state.load.enter(now);
        let (took, verdict) = answer(index, &mut rng);
        flying.push(Reverse((now + took, index, now, verdicts.len())));
        verdicts.push(verdict);
        if call >= calls / 10 {
            picks[index] += 1;
        }
    }
    picks
}

fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}

/// 10 ms, give or take 2.
fn usual(rng: &mut Rng) -> Duration {
    millis(8.0 + rng.below(4_000) as f64 / 1e3)
}

fn peak_to_mean(picks: &[u32]) -> f64 {
    let total: u32 = picks.iter().sum();
    f64::from(*picks.iter().max().unwrap()) * picks.len() as f64 / f64::from(total)
}

fn share(picks: &[u32], index: usize) -> f64 {
    f64::from(picks[index]) / f64::from(picks.iter().sum::<u32>())
}

#[test]
fn round_robin_is_even() {
    for count in [1, 2, 3, 7, 100] {
        let picks = simulate(
            &plan(count),
            &RoundRobin::new(),
            100_000,
            millis(0.1),
            |_, rng| (usual(rng), Verdict::SUCCESS),
        );
        assert!(peak_to_mean(&picks) <= 1.05, "{count}: {picks:?}");
    }
}

#[test]
fn round_robin_stays_even_around_a_shut_gate() {
    let plan = plan(4);
    plan.entries[1].gate.shut();
    let picks = simulate(&plan, &RoundRobin::new(), 10_000, millis(0.1), |_, rng| {
        (usual(rng), Verdict::SUCCESS)
    });
    assert_eq!(picks[1], 0);
    assert!(
        picks.iter().max().unwrap() - picks[0].min(picks[2]).min(picks[3]) <= 2,
        "{picks:?}"
    );
}

#[test]
fn round_robin_keeps_weights_and_mixes_them() {
    let picks = simulate(
        &weighted(&[3, 1, 0, 2]),
        &RoundRobin::new(),
        60_000,
        millis(0.1),
        |_, rng| (usual(rng), Verdict::SUCCESS),
    );
    let shares: Vec<f64> = (0..4).map(|index| share(&picks, index) * 6.0).collect();
    for (share, wanted) in shares.iter().zip([3.0, 1.0, 0.0, 2.0]) {
        assert!((share - wanted).abs() < 0.03, "{shares:?}");
    }
    // Neither the heavy one nor the light ones take their turns in a block.
    let (plan, picker, mut rng) = (weighted(&[2, 1, 1]), RoundRobin::new(), Rng::seeded(1));
    let row: Vec<_> = (0..30)
        .filter_map(|_| plan.choose((&picker, &()), None, None, &[], Instant::now(), &mut rng))
        .collect();
    assert!(
        row.windows(2).all(|two| (two[0] == 0) != (two[1] == 0)),
        "{row:?}"
    );
}

#[test]
fn peak_ewma_is_even_among_equals() {
    for gap in [0.05, 0.5] {
        let picks = simulate(
            &plan(100),
            &PeakEwma::new(),
            200_000,
            millis(gap),
            |_, rng| (usual(rng), Verdict::SUCCESS),
        );
        assert!(peak_to_mean(&picks) <= 1.5, "{gap}: {picks:?}");
    }
}

#[test]
fn peak_ewma_leaves_a_slow_endpoint() {
    for count in [2, 3, 10] {
        let picks = simulate(
            &plan(count),
            &PeakEwma::new(),
            100_000,
            millis(1.0),
            |index, rng| {
                (
                    if index == 0 {
                        usual(rng) * 100
                    } else {
                        usual(rng)
                    },
                    Verdict::SUCCESS,
                )
            },
        );
        assert!(share(&picks, 0) <= 0.01, "{count}: {picks:?}");
        assert!(picks[0] > 0, "it is looked at again");
    }
}

#[test]
fn peak_ewma_leaves_an_endpoint_that_fails_fast() {
    for class in [
        Class::Failure,
        Class::Unreachable,
        Class::RateLimited,
        Class::Refused,
    ] {
        let picks = simulate(
            &plan(3),
            &PeakEwma::new(),
            100_000,
            millis(1.0),
            |index, rng| match index {
                0 => (millis(0.1), Verdict::new(class)),
                _ => (usual(rng), Verdict::SUCCESS),
            },
        );
        assert!(share(&picks, 0) <= 0.01, "{class:?}: {picks:?}");
    }
}

#[test]
fn peak_ewma_comes_back_to_an_endpoint_that_is_well_again() {
    let failed = std::cell::Cell::new(false);
    // 200 calls a second for 12 seconds, answered within half a millisecond but for one.
    let picks = simulate(
        &plan(3),
        &PeakEwma::new(),
        2_400,
        millis(5.0),
        |index, _| {
            if index == 0 && !failed.replace(true) {
                return (millis(0.1), Verdict::new(Class::Unreachable));
            }
            (millis(0.5), Verdict::SUCCESS)
        },
    );
    assert!(share(&picks, 0) >= 0.25, "{picks:?}");
}

#[test]
fn peak_ewma_avoids_a_black_hole_by_its_calls_in_flight() {
    let picks = simulate(
        &plan(3),
        &PeakEwma::new(),
        50_000,
        millis(1.0),
        |index, rng| match index {
            0 => (Duration::from_secs(1_000_000), Verdict::SUCCESS),
            _ => (usual(rng), Verdict::SUCCESS),
        },
    );
    // Asked once in a while, and ever less: its calls in flight count.
    assert!(share(&picks, 0) <= 0.002, "{picks:?}");
}

#[test]
fn peak_ewma_keeps_weights_idle_and_busy() {
    for (gap, slack) in [(15.0, 0.5), (1.0, 0.9), (0.05, 0.5)] {
        let picks = simulate(
            &weighted(&[100, 1]),
            &PeakEwma::new(),
            200_000,
            millis(gap),
            |_, _| (millis(10.0), Verdict::SUCCESS),
        );
        let (light, wanted) = (share(&picks, 1), 1.0 / 101.0);
        assert!(
            (light / wanted - 1.0).abs() <= slack,
            "gap {gap}: {}",
            light / wanted
        );
        let picks = simulate(
            &weighted(&[2, 1]),
            &PeakEwma::new(),
            100_000,
            millis(gap),
            |_, _| (millis(10.0), Verdict::SUCCESS),
        );
        let ratio = f64::from(picks[0]) / f64::from(picks[1]);
        assert!((1.6..2.4).contains(&ratio), "gap {gap}: {ratio}");
    }
}

#[test]
fn an_endpoint_that_nobody_measured_gets_one_call_at_a_time() {
    let (plan, mut rng, now) = (plan(4), Rng::seeded(3), Instant::now());
    for entry in &plan.entries[1..] {
        entry.state.load.record(millis(10.0), Verdict::SUCCESS, now);
    }
    let mut probes = 0;
    for _ in 0..1_000 {
        let index = plan
            .choose((&PeakEwma::new(), &()), None, None, &[], now, &mut rng)
            .unwrap();
        plan.entries[index].state.load.enter(Instant::now());
        probes += u32::from(index == 0);
    }
    assert_eq!(probes, 1);
}

#[test]
fn after_hours_without_a_call_the_calls_in_flight_still_count() {
    let (plan, mut rng, now) = (plan(2), Rng::seeded(3), Instant::now());
    for entry in &plan.entries {
        entry.state.load.record(millis(10.0), Verdict::SUCCESS, now);
    }
    plan.entries[0].state.load.enter(Instant::now());
    let later = now + Duration::from_secs(7_200);
    for _ in 0..100 {
        assert_eq!(
            plan.choose((&PeakEwma::new(), &()), None, None, &[], later, &mut rng),
            Some(1)
        );
    }
}

fn chosen(plan: &Plan, call: Option<&Invocation>, awaited: &[u64]) -> Vec<usize> {
    let mut rng = Rng::seeded(5);
    let mut seen: Vec<usize> = (0..200)
        .flat_map(|_| {
            let now = Instant::now();
            let other = plan.choose(
                (&RoundRobin::new(), &()),
                None,
                call,
                awaited,
                now,
                &mut rng,
            );
            [
                plan.choose((&PeakEwma::new(), &()), None, call, awaited, now, &mut rng),
                other,
            ]
        })
        .flatten()
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

#[test]
fn tried_endpoints_come_last() {
    let plan = plan(3);
    let mut call = Invocation::new(Instant::now());
    call.note_endpoint(plan.entries[0].state.key);
    assert_eq!(
        chosen(&plan, Some(&call), &[]),
        [0, 1, 2],
        "the first attempt tried nothing"
    );
    call.set_attempt(2);
    call.note_endpoint(plan.entries[2].state.key);
    call.set_attempt(3);
    assert_eq!(chosen(&plan, Some(&call), &[]), [1]);
    call.note_endpoint(plan.entries[1].state.key);
    call.set_attempt(4);
    assert_eq!(chosen(&plan, Some(&call), &[]), [0, 1, 2]);
}

#[test]
fn weight_0_serves_only_alone() {
    let plan = weighted(&[0, 1, 5]);
    assert_eq!(chosen(&plan, None, &[]), [1, 2]);
    plan.entries[1].gate.shut();
    assert_eq!(chosen(&plan, None, &[]), [2]);
    plan.entries[2].gate.shut();
    assert_eq!(chosen(&plan, None, &[]), [0]);
    assert_eq!(
        chosen(&weighted(&[0, 0]), None, &[]),
        [0, 1],
        "without any weight all are equal"
    );
}

#[test]
fn a_call_that_waits_leaves_out_what_it_waits_for() {
    let plan = weighted(&[1, 1, 1, 0]);
    let keys: Vec<u64> = plan.entries.iter().map(|entry| entry.state.key).collect();
    assert_eq!(chosen(&plan, None, &keys[..2]), [2]);
    assert_eq!(
        chosen(&plan, None, &keys[..3]),
        [],
        "one that is drained is not for the overflow"
    );
}

#[test]
fn a_subset_is_kept_until_it_is_empty() {
    let tagged = |id: &str, version: &str| endpoint(id).with_tags([("version", version)]);
    let plan = plan_of([
        tagged("a", "v1"),
        tagged("b", "v2"),
        tagged("c", "v2"),
        tagged("d", "v1"),
    ]);
    for on_empty in [OnEmpty::Any, OnEmpty::Refuse] {
        let mut call = Invocation::new(Instant::now());
        call.set_subset(Some(Arc::new(Subset::new([("version", "v2")], on_empty))));
        plan.entries[1..3]
            .iter()
            .for_each(|entry| entry.gate.open());
        assert_eq!(chosen(&plan, Some(&call), &[]), [1, 2]);
        plan.entries[1].gate.shut();
        assert_eq!(chosen(&plan, Some(&call), &[]), [2]);
        assert_eq!(
            chosen(&plan, Some(&call), &[plan.entries[2].state.key]),
            [],
            "it waits in its subset"
        );
        plan.entries[2].gate.shut();
        let rest: &[usize] = if on_empty == OnEmpty::Any {
            &[0, 3]
        } else {
            &[]
        };
        assert_eq!(chosen(&plan, Some(&call), &[]), rest);
    }
}

#[test]
fn the_median_is_what_a_new_endpoint_starts_with() {
    let now = Instant::now();
    let found: discover::Snapshot = (0..3).map(|i| endpoint(&format!("e{i}"))).collect();
    let make = |_: &MakeEndpoint<'_>| ();
    let mut builder = snapshot::Builder::new(make, std::sync::Weak::<()>::new());
    let first = builder.next(None, &found, &PeakEwma::new());
    assert_eq!(first.plan.typical, 0.0);
    for (entry, ms) in first.plan.entries.iter().zip([1.0, 5.0, 900.0]) {
        entry.state.load.record(millis(ms), Verdict::SUCCESS, now);
    }
    let second = builder.next(Some(&first), &found, &PeakEwma::new());
    assert!(
        (4_900.0..5_001.0).contains(&second.plan.typical),
        "{}",
        second.plan.typical
    );
}
