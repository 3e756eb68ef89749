//! The detector and the record, without a balancer.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    detector::{Detector, To, Turn},
    record::{Interval, Outcome, Record, Thresholds},
    *,
};

const SECOND: Duration = Duration::from_secs(1);

fn policy(change: impl FnOnce(&mut OutlierConfig)) -> OutlierPolicy {
    OutlierPolicy::default()
        .with(|config| {
            config.jitter = 0.0;
            change(config);
        })
        .unwrap()
}

/// Counts of an interval.
fn counts(good: u32, total: u32) -> Interval {
    Interval {
        good,
        total,
        ..Interval::default()
    }
}

fn median(millis: u32, answers: u32) -> Interval {
    Interval {
        median: millis * 1_000,
        answers,
        ..counts(answers, answers)
    }
}

fn keyed(all: &[Interval]) -> Vec<(u64, Interval)> {
    (0..).zip(all.iter().copied()).collect()
}

/// Who is ejected by an interval, and why.
fn judge(policy: &OutlierPolicy, all: &[Interval]) -> Vec<(u64, &'static str)> {
    let mut turns = Vec::new();
    Detector::new(1).interval(&keyed(all), policy, Instant::now(), &mut turns);
    ejected(&turns)
}

fn ejected(turns: &[Turn]) -> Vec<(u64, &'static str)> {
    turns
        .iter()
        .filter(|turn| turn.to == To::Ejected)
        .map(|turn| (turn.key, turn.reason))
        .collect()
}

/// Percentages of good calls out of a hundred each.
fn rates<const N: usize>(rates: [u32; N]) -> Vec<Interval> {
    rates.iter().map(|good| counts(*good, 100)).collect()
}

#[test]
fn success_rates_as_envoy_and_a50_judge_them() {
    let gate = |change: fn(&mut OutlierConfig)| policy(change);
    let by_rate = "success-rate";
    let default = gate(|_| ());
    // Mean 90, deviation 20: below 52.
    let five = [50, 100, 100, 100, 100];
    for (rates, expected) in [
        (rates(five), Some(0)),
        (rates([52, 100, 100, 100, 100]), Some(0)),
        (rates([100; 5]), None),
        (rates([0; 5]), None),
        (rates([50; 5]), None),
        (rates([50, 50, 100, 100, 100]), None),
        (rates([0, 0, 0, 100, 100]), None),
        (rates([100, 100, 100, 100, 99]), Some(4)),
    ] {
        let found: Vec<_> = expected.map(|key| (key, by_rate)).into_iter().collect();
        assert_eq!(judge(&default, &rates), found, "{rates:?}");
    }
    // Too few calls of one, and so too few endpoints.
    let mut few = rates(five);
    few[4] = counts(99, 99);
    assert_eq!(judge(&default, &few), []);
    few.push(counts(100, 100));
    assert_eq!(judge(&default, &few), [(0, by_rate)]);
    assert_eq!(
        judge(
            &gate(|config| config.success_rate_factor = 2.1),
            &rates(five)
        ),
        [],
        "50 is not below 90 - 42"
    );
    assert_eq!(
        judge(&gate(|config| config.success_rate_hosts = 6), &rates(five)),
        []
    );
    assert_eq!(
        judge(
            &gate(|config| config.success_rate_volume = 101),
            &rates(five)
        ),
        []
    );
    assert_eq!(
        judge(
            &gate(|config| config.success_rate_enforce = 0),
            &rates(five)
        ),
        []
    );
    let local = |failed| Interval {
        local_failed: failed,
        ..counts(100, 100)
    };
    let unreached = [local(100), local(0), local(0), local(0), local(0)];
    assert_eq!(judge(&default, &unreached), []);
    assert_eq!(
        judge(&gate(|config| config.split_local = true), &unreached),
        [(0, "local-success-rate")]
    );
}

#[test]
fn failure_percentages_as_envoy_and_a50_judge_them() {
    let off = |config: &mut OutlierConfig| config.success_rate_enforce = 0;
    let on = policy(|config| {
        off(config);
        config.failure_percentage_enforce = 100;
    });
    let reason = "failure-percentage";
    for (rates, expected) in [
        (rates([15, 100, 100, 100, 100]), vec![(0, reason)]),
        (rates([16, 100, 100, 100, 100]), vec![]),
        (rates([0, 100, 100, 100, 100]), vec![(0, reason)]),
        // No more than a third of five: one.
        (rates([0, 0, 100, 100, 100]), vec![(0, reason)]),
        (rates([0; 5]), vec![(0, reason)]),
    ] {
        assert_eq!(judge(&on, &rates), expected, "{rates:?}");
    }
    let fifty = |good| counts(good, 50);
    let enough = [fifty(0), fifty(50), fifty(50), fifty(50), fifty(50)];
    assert_eq!(judge(&on, &enough), [(0, reason)]);
    let few = [fifty(0), fifty(50), fifty(50), fifty(50), counts(49, 49)];
    assert_eq!(judge(&on, &few), []);
    let default = policy(off);
    assert_eq!(judge(&default, &enough), [], "it only looks");
    // A50 has both, and nothing else.
    let a50 = OutlierPolicy::a50();
    assert_eq!(
        judge(&a50, &rates([0, 100, 100, 100, 100])),
        [(0, "success-rate")]
    );
    let all: Vec<_> = (0..20)
        .map(|i| counts(if i < 5 { 0 } else { 100 }, 100))
        .collect();
    assert_eq!(
        judge(&a50, &all),
        [(0, reason), (1, reason)],
        "a tenth of twenty"
    );
}

#[test]
fn slow_ones_are_found_after_three_intervals() {
    let (policy, mut detector) = (policy(|_| ()), Detector::new(1));
    let now = Instant::now();
    let mut judge = |all: &[Interval]| {
        let mut turns = Vec::new();
        detector.interval(&keyed(all), &policy, now, &mut turns);
        ejected(&turns)
    };
    let slow = [
        median(31, 20),
        median(10, 20),
        median(10, 20),
        median(10, 20),
    ];
    let not = [
        median(30, 20),
        median(10, 20),
        median(10, 20),
        median(10, 20),
    ];
    assert_eq!((judge(&slow), judge(&slow)), (vec![], vec![]));
    assert_eq!(judge(&not), [], "the row ends");
    assert_eq!((judge(&slow), judge(&slow)), (vec![], vec![]));
    assert_eq!(judge(&slow), [(0, "latency")]);
    for all in [
        // Too few peers, too few answers, too small a gap, all the same.
        vec![median(99, 20), median(10, 20), median(10, 20)],
        vec![
            median(99, 19),
            median(10, 20),
            median(10, 20),
            median(10, 20),
        ],
        vec![
            median(99, 20),
            median(10, 20),
            median(10, 20),
            median(10, 19),
        ],
        vec![median(5, 20), median(1, 20), median(1, 20), median(1, 20)],
        vec![median(99, 20); 5],
    ] {
        let (policy, mut detector) = (tests::policy(|_| ()), Detector::new(1));
        for _ in 0..9 {
            let mut turns = Vec::new();
            detector.interval(&keyed(&all), &policy, now, &mut turns);
            assert_eq!(ejected(&turns), [], "{all:?}");
        }
    }
}

#[test]
fn small_clusters_have_a_rule_of_their_own() {
    let policy = policy(|_| ());
    let of = |good| counts(good, 20);
    let found = vec![(0, "small-cluster")];
    for (all, expected) in [
        (vec![of(10), of(18)], found.clone()),
        (vec![of(10), of(18), of(20), of(20)], found.clone()),
        (vec![of(0), of(20)], found),
        (vec![of(11), of(20)], vec![]),
        (vec![of(10), of(17)], vec![]),
        (vec![of(0), of(0)], vec![]),
        (vec![counts(0, 19), of(20)], vec![]),
        (vec![of(0), counts(19, 19)], vec![]),
        (vec![of(0)], vec![]),
        (vec![of(0), of(20), of(20), of(20), of(20)], vec![]),
    ] {
        assert_eq!(judge(&policy, &all), expected, "{all:?}");
    }
}

#[test]
fn ejections_grow_and_fade() {
    let policy = policy(|config| config.max_ejection = 100 * SECOND);
    let (mut now, mut detector) = (Instant::now(), Detector::new(1));
    let eject = |detector: &mut Detector, now: &mut Instant| {
        let mut turns = Vec::new();
        detector.rows((7, [true, false, false]), 9, &policy, *now, &mut turns);
        let lasts = turns[0].lasts.unwrap();
        turns.clear();
        detector.readmit_due(*now + lasts - Duration::from_millis(1), &mut turns);
        assert_eq!(turns, []);
        *now += lasts;
        detector.readmit_due(*now, &mut turns);
        assert_eq!((turns[0].to, turns.len()), (To::Readmitted, 1));
        lasts.as_secs()
    };
    let times: Vec<u64> = (0..6).map(|_| eject(&mut detector, &mut now)).collect();
    assert_eq!(times, [30, 60, 90, 100, 100, 100]);
    let intervals = |detector: &mut Detector, count| {
        for _ in 0..count {
            detector.interval(
                &[(7, counts(9, 9))],
                &tests::policy(|_| ()),
                now,
                &mut vec![],
            );
        }
    };
    // It was out in part of the first.
    intervals(&mut detector, 1 + 3);
    let mut later = now;
    let again = eject(&mut detector, &mut later);
    assert!((60..=90).contains(&again), "{again}");
    intervals(&mut detector, 99);
    assert_eq!(eject(&mut detector, &mut later), 30);
    assert_eq!(detector.status(7, later), (None, 8));
}

#[test]
fn jitter_adds_up_to_a_tenth() {
    let policy = OutlierPolicy::default();
    let times: BTreeSet<Duration> = (0..100)
        .map(|seed| {
            let mut turns = Vec::new();
            let mut detector = Detector::new(seed);
            detector.rows(
                (7, [true, false, false]),
                9,
                &policy,
                Instant::now(),
                &mut turns,
            );
            turns[0].lasts.unwrap()
        })
        .collect();
    let (first, last) = (times.first().unwrap(), times.last().unwrap());
    assert!(
        *first >= 30 * SECOND && *last <= 33 * SECOND,
        "{first:?} {last:?}"
    );
    assert!(*last - *first > 2 * SECOND);
}

#[test]
fn no_more_than_the_share_is_out() {
    let out = |hosts: u64, change: fn(&mut OutlierConfig)| {
        let (policy, mut detector) = (policy(change), Detector::new(1));
        let mut turns = Vec::new();
        for key in 0..hosts {
            let rows = (key, [true, true, true]);
            detector.rows(rows, hosts as usize, &policy, Instant::now(), &mut turns);
        }
        let overflow = turns.iter().filter(|turn| turn.reason == "max-ejected");
        let out = ejected(&turns).len();
        assert!(out as u64 == hosts || overflow.count() > 0);
        out
    };
    for (hosts, most) in [
        (1, 0),
        (2, 1),
        (3, 1),
        (5, 1),
        (6, 2),
        (9, 3),
        (10, 1),
        (29, 2),
        (30, 3),
    ] {
        assert_eq!(out(hosts, |_| ()), most, "{hosts}");
    }
    assert_eq!(out(2, |config| config.at_least_one = false), 0);
    assert_eq!(out(1, |config| config.max_ejected = Some(100)), 0);
    assert_eq!(out(8, |config| config.max_ejected = Some(100)), 8);
    assert_eq!(out(8, |config| config.max_ejected = Some(0)), 1);
}

#[test]
fn a_rule_that_is_enforced_in_part() {
    let enforced = |percent| {
        let policy = policy(|config| config.consecutive_failures_enforce = percent);
        let find = |seed| {
            let mut turns = Vec::new();
            Detector::new(seed).rows(
                (7, [true, false, false]),
                9,
                &policy,
                Instant::now(),
                &mut turns,
            );
            turns[0].to
        };
        (0..1_000).filter(|seed| find(*seed) == To::Ejected).count()
    };
    assert_eq!((enforced(0), enforced(100)), (0, 1_000));
    assert!((250..350).contains(&enforced(30)), "{}", enforced(30));
}

#[test]
fn what_somebody_said_outlives_the_rules() {
    let (now, mut detector) = (Instant::now(), Detector::new(1));
    let mut turns = Vec::new();
    detector.rows(
        (1, [true, false, false]),
        9,
        &policy(|_| ()),
        now,
        &mut turns,
    );
    detector.force(2, 9 * SECOND, now);
    turns.clear();
    detector.switch_off(&mut turns);
    assert_eq!(
        (turns.len(), turns[0].key, turns[0].reason),
        (1, 1, "disabled")
    );
    assert!(detector.is_ejected(2));
    assert_eq!(detector.next(None), Some(now + 9 * SECOND));
    assert_eq!(detector.pardon(2).map(|turn| turn.to), Some(To::Readmitted));
    assert_eq!((detector.pardon(2), detector.pardon(3)), (None, None));
}

#[test]
fn what_counts_and_as_what() {
    let failure = |gateway, local| Some(Outcome::Failure { gateway, local });
    let http = |status| Verdict::http(http::StatusCode::from_u16(status).unwrap());
    for (verdict, expected) in [
        (http(200), Some(Outcome::Good)),
        (http(404), Some(Outcome::Good)),
        (http(429), Some(Outcome::Limited)),
        (http(500), failure(false, false)),
        (http(502), failure(true, false)),
        (http(503), failure(true, false)),
        (http(504), failure(true, false)),
        (Verdict::grpc(0), Some(Outcome::Good)),
        (Verdict::grpc(2), failure(false, false)),
        (Verdict::grpc(14), failure(true, false)),
        (Verdict::FAILURE, failure(false, false)),
        (Verdict::new(Class::Unreachable), failure(true, true)),
        (Verdict::new(Class::Timeout), failure(true, true)),
        (Verdict::CANCELLED, None),
        (Verdict::new(Class::Refused), None),
    ] {
        assert_eq!(outcome(verdict), expected, "{verdict:?}");
    }
}

const THREE: Thresholds = Thresholds {
    rows: [3; 3],
    split: false,
};
const FAILED: Outcome = Outcome::Failure {
    gateway: false,
    local: false,
};
const GATEWAY: Outcome = Outcome::Failure {
    gateway: true,
    local: false,
};
const UNREACHED: Outcome = Outcome::Failure {
    gateway: true,
    local: true,
};

#[test]
fn rows_end_with_a_success_and_tell_once() {
    let record = Record::default();
    let tell = |outcomes: &[Outcome]| {
        let told = outcomes
            .iter()
            .filter(|outcome| record.count(**outcome, &THREE))
            .count();
        (told, record.take_rows(&THREE))
    };
    assert_eq!(tell(&[FAILED, FAILED, Outcome::Good, FAILED, FAILED]).0, 0);
    assert_eq!(tell(&[Outcome::Limited, FAILED]), (1, [true, false, false]));
    assert_eq!(tell(&[FAILED, FAILED]), (0, [false; 3]));
    assert_eq!(
        tell(&[Outcome::Good, GATEWAY, GATEWAY, FAILED]),
        (1, [true, false, false])
    );
    assert_eq!(
        tell(&[Outcome::Good, GATEWAY, GATEWAY, GATEWAY]).1,
        [true, true, false]
    );
    assert_eq!(
        tell(&[Outcome::Good, UNREACHED, UNREACHED, UNREACHED]).1,
        [true, true, false]
    );
    record.take();
    let split = Thresholds {
        split: true,
        ..THREE
    };
    let told = [UNREACHED; 3].map(|outcome| record.count(outcome, &split));
    assert_eq!(
        (told, record.take_rows(&split)),
        ([false, false, true], [false, false, true])
    );
    let taken = record.take();
    assert_eq!((taken.good, taken.total, taken.local_failed), (0, 0, 3));
}

#[test]
fn the_median_is_of_the_last_answers() {
    let record = Record::default();
    for micros in 1..=100 {
        record.count(Outcome::Good, &THREE);
        record.sample(micros, 0);
    }
    let taken = record.take();
    assert_eq!((taken.good, taken.total, taken.answers), (100, 100, 32));
    assert_eq!(taken.median, 84, "of 69 to 100");
    assert_eq!(record.take(), Interval::default());
}

#[test]
fn eight_threads_lose_no_call() {
    let calls = if std::env::var_os("CHASSIS_LONG").is_some() {
        1_000_000
    } else {
        50_000
    };
    let (record, mut sum) = (Record::default(), (0_u64, 0_u64));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for call in 0..calls {
                        let outcome = if call % 3 == 0 { FAILED } else { Outcome::Good };
                        record.count(outcome, &THREE);
                        record.sample(call, 0);
                    }
                })
            })
            .collect();
        let mut add = || {
            let taken = record.take();
            assert!(taken.good <= taken.total);
            sum = (
                sum.0 + u64::from(taken.good),
                sum.1 + u64::from(taken.total),
            );
        };
        while !threads.iter().all(|thread| thread.is_finished()) {
            add();
        }
        add();
    });
    let bad = u64::from(calls.div_ceil(3)) * 8;
    assert_eq!(sum, (u64::from(calls) * 8 - bad, u64::from(calls) * 8));
}

/// The rules again, plainly: who is out, who may be, and for how long.
#[derive(Default)]
struct Model {
    /// By key: until when it is out, how often the base, back since the last interval.
    hosts: std::collections::BTreeMap<u64, (Option<u64>, u64, bool)>,
}

impl Model {
    fn out(&self) -> Vec<u64> {
        let out = self.hosts.iter().filter(|(_, host)| host.0.is_some());
        out.map(|(key, _)| *key).collect()
    }

    fn find(&mut self, key: u64, hosts: usize, now: u64) {
        let out = self.out();
        let share = if hosts < 10 { 34 } else { 10 };
        let fits = (out.len() + 1) as f64 / hosts as f64 <= f64::from(share) / 100.0;
        if hosts > 1 && !out.contains(&key) && (out.is_empty() || fits) {
            let host = self.hosts.entry(key).or_default();
            host.1 = (host.1 + 1).min(11);
            host.0 = Some(now + (30 * host.1).min(300));
        }
    }

    fn interval(&mut self, rates: &[(u64, u32, u32)], now: u64) {
        let out = self.out();
        let enough: Vec<(u64, f64)> = rates
            .iter()
            .filter(|(key, _, total)| *total >= 100 && !out.contains(key))
            .map(|(key, good, total)| (*key, f64::from(*good) * 100.0 / f64::from(*total)))
            .collect();
        if enough.len() >= 5 {
            let count = enough.len() as f64;
            let mean = enough.iter().map(|(_, rate)| rate).sum::<f64>() / count;
            let squares: f64 = enough
                .iter()
                .map(|(_, rate)| (rate - mean) * (rate - mean))
                .sum();
            let least = mean - 1.9 * (squares / count).sqrt();
            for (key, rate) in enough {
                if rate < least {
                    self.find(key, rates.len(), now);
                }
            }
        }
        for host in self.hosts.values_mut().filter(|host| host.0.is_none()) {
            if host.2 {
                host.2 = false;
            } else {
                host.1 = host.1.saturating_sub(1);
            }
        }
    }

    fn due(&mut self, now: u64) {
        for host in self.hosts.values_mut() {
            if host.0.is_some_and(|until| until <= now) {
                (host.0, host.2) = (None, true);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Row(u64),
    Interval(Vec<(u32, u32)>),
}

fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
    (1_usize..25).prop_flat_map(|hosts| {
        let rates = prop::collection::vec((0_u32..=100, 60_u32..300), hosts);
        let step = prop_oneof![
            (0_u64..90).prop_map(Step::Wait),
            (0..hosts as u64).prop_map(Step::Row),
            rates.prop_map(Step::Interval),
        ];
        (Just(hosts), prop::collection::vec(step, 1..60))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("CHASSIS_LONG").is_some() { 10_000 } else { 256 }
    ))]

    #[test]
    fn the_detector_does_as_a_plain_model((hosts, steps) in steps()) {
        let policy = policy(|config| {
            config.latency_enforce = 0;
            config.small_cluster_enforce = 0;
        });
        let (start, mut detector, mut model) = (Instant::now(), Detector::new(1), Model::default());
        let (mut seconds, mut turns) = (0, Vec::new());
        for step in steps {
            let now = start + SECOND * seconds as u32;
            match step {
                Step::Wait(time) => seconds += time,
                Step::Row(key) => {
                    detector.rows((key, [true, false, false]), hosts, &policy, now, &mut turns);
                    model.find(key, hosts, seconds);
                }
                Step::Interval(rates) => {
                    let of = |good: u32, total: u32| total * good / 100;
                    let all: Vec<_> = (0..)
                        .zip(&rates)
                        .map(|(key, (good, total))| (key, counts(of(*good, *total), *total)))
                        .collect();
                    detector.interval(&all, &policy, now, &mut turns);
                    let all: Vec<_> = (0..)
                        .zip(&rates)
                        .map(|(key, (good, total))| (key, of(*good, *total), *total))
                        .collect();
                    model.interval(&all, seconds);
                }
            }
            let now = start + SECOND * seconds as u32;
            detector.readmit_due(now, &mut turns);
            model.due(seconds);
            for key in 0..hosts as u64 {
                let left = model
                    .hosts
                    .get(&key)
                    .and_then(|host| host.0)
                    .map(|until| Duration::from_secs(until - seconds));
                prop_assert_eq!(detector.status(key, now).0, left, "{}", key);
            }
        }
    }
}
