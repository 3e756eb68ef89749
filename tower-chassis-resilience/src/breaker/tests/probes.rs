use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn closes_when_all_probes_succeeded() {
    let mut bench = half_open();
    let probes = [bench.probe(), bench.probe(), bench.probe()];
    assert_eq!(
        (bench.admit(), bench.gate_open()),
        (Err(SECOND * 10), false)
    );
    for (n, probe) in probes.into_iter().enumerate() {
        assert_eq!(bench.state(), State::HalfOpen, "{n}");
        bench.finish(
            probe,
            if n == 0 {
                Class::ClientFault
            } else {
                Class::Success
            },
        );
        // A success keeps its permit: no fourth probe.
        assert_eq!(bench.gate_open(), n == 2);
    }
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.reasons(), ["open-time-over", "probes-succeeded"]);
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::Closed, "begins with an empty row");
}

#[test]
fn opens_again_at_the_first_probe_that_fails() {
    for class in FAILURES {
        let mut bench = half_open();
        let (good, bad, late) = (bench.probe(), bench.probe(), bench.probe());
        bench.finish(good, Class::Success);
        bench.finish(bad, class);
        assert_eq!((bench.state(), bench.gate_open()), (State::Open, false));
        assert_eq!(bench.reasons(), ["open-time-over", "probe-failed"]);
        let before = bench.snapshot();
        bench.finish(late, Class::Success);
        assert_eq!(bench.snapshot(), before);
    }
}

#[test]
fn a_rate_limited_probe_fails_only_where_the_rate_counts() {
    for (rate, state) in [(0.0, State::Closed), (0.5, State::Open)] {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = 2;
            config.failure_rate = rate;
            config.half_open_probes = 1;
        });
        bench.calls(2, Class::Failure);
        bench.wait();
        bench.call(Class::RateLimited);
        assert_eq!(bench.state(), state);
    }
}

#[test]
fn a_probe_that_ends_without_a_result_gives_its_permit_back() {
    for class in [Class::Cancelled, Class::Refused] {
        let mut bench = half_open();
        for _ in 0..100 {
            let probes = [bench.probe(), bench.probe(), bench.probe()];
            assert!(bench.admit().is_err() && !bench.gate_open());
            for probe in probes {
                bench.finish(probe, class);
                assert!(bench.gate_open());
            }
        }
        bench.calls(3, Class::Success);
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn a_probe_that_hangs_counts_as_failed() {
    let mut bench = half_open();
    let hung = bench.probe();
    bench.advance(SECOND * 4);
    bench.call(Class::Success);
    let second = bench.probe();
    assert_eq!(bench.admit(), Err(SECOND * 6), "until the first is overdue");
    bench.advance(SECOND * 6 - Duration::from_nanos(1));
    assert!(!bench.gate_open() || bench.admit().is_err());
    bench.advance(Duration::from_nanos(1));
    assert!(bench.gate_open());
    assert!(bench.admit().is_err());
    assert_eq!(bench.reasons(), ["open-time-over", "probe-timeout"]);
    for late in [hung, second] {
        bench.finish(late, Class::Success);
    }
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn each_probe_has_its_own_time() {
    let mut bench = half_open();
    bench.call(Class::Success);
    bench.advance(SECOND * 9);
    let second = bench.probe();
    bench.advance(SECOND * 9);
    bench.finish(second, Class::Success);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.advance(SECOND * 3_600);
    bench.call(Class::Success);
    assert_eq!(bench.state(), State::Closed, "nobody was late");
}

#[test]
fn a_probe_that_was_late_has_failed_whatever_it_says() {
    for class in [Class::Success, Class::Cancelled] {
        let mut bench = half_open();
        let probe = bench.probe();
        bench.advance(SECOND * 10);
        bench.finish(probe, class);
        assert_eq!(bench.reasons(), ["open-time-over", "probe-timeout"]);
    }
}

#[test]
fn a_good_head_that_was_late_does_not_count() {
    for (late, reason) in [
        (Duration::ZERO, "probe-timeout"),
        (Duration::from_nanos(1), "probes-succeeded"),
    ] {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = 1;
            config.half_open_probes = 1;
        });
        bench.call(Class::Failure);
        bench.advance(SECOND * 5);
        let mut probe = bench.probe();
        bench.advance(SECOND * 10 - late);
        bench.head(&mut probe, true);
        bench.finish(probe, Class::Success);
        assert_eq!(bench.reasons()[2], reason);
    }
}

#[test]
fn fewer_or_more_probes_while_half_open() {
    let mut bench = half_open();
    let probes = [bench.probe(), bench.probe(), bench.probe()];
    bench.apply(BreakerConfig {
        half_open_probes: 4,
        ..Default::default()
    });
    assert!(bench.gate_open());
    bench.finish(probes[0], Class::Success);
    bench.finish(probes[1], Class::Success);
    bench.finish(probes[2], Class::Cancelled);
    bench.apply(BreakerConfig {
        half_open_probes: 1,
        ..Default::default()
    });
    assert!(bench.gate_open());
    assert!(!bench.admit().unwrap().is_probe());
    assert_eq!(bench.state(), State::Closed);
}

/// Six probes of which half must succeed.
fn half_of_six() -> Bench {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 1;
        config.half_open_probes = 6;
        config.half_open_success = 0.5;
    });
    bench.call(Class::Failure);
    bench.wait();
    bench.changes.clear();
    bench
}

#[test]
fn a_share_of_the_probes_is_enough() {
    let mut bench = half_of_six();
    for class in [
        Class::Failure,
        Class::Success,
        Class::Failure,
        Class::Success,
    ] {
        bench.call(class);
        assert_eq!(bench.state(), State::HalfOpen);
    }
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::HalfOpen, "the last one decides");
    bench.call(Class::Success);
    assert_eq!(bench.reasons(), ["open-time-over", "probes-succeeded"]);
}

#[test]
fn it_opens_again_as_soon_as_the_share_is_out_of_reach() {
    let mut bench = half_of_six();
    bench.calls(3, Class::Failure);
    assert_eq!(bench.state(), State::HalfOpen);
    let late = bench.probe();
    bench.call(Class::Failure);
    assert_eq!(bench.reasons(), ["open-time-over", "probe-failed"]);
    bench.finish(late, Class::Success);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn probes_that_hang_are_failures_and_no_more() {
    let mut bench = half_of_six();
    let hung: Vec<_> = (0..3).map(|_| bench.probe()).collect();
    bench.advance(SECOND * 10);
    bench.calls(2, Class::Success);
    assert_eq!(
        (bench.state(), bench.snapshot().probes),
        (State::HalfOpen, 0)
    );
    for late in hung {
        bench.finish(late, Class::Cancelled);
    }
    bench.call(Class::Success);
    assert_eq!(bench.reasons(), ["open-time-over", "probes-succeeded"]);

    let mut bench = half_of_six();
    let _hung: Vec<_> = (0..4).map(|_| bench.probe()).collect();
    bench.advance(SECOND * 10);
    assert!(bench.admit().is_err());
    assert_eq!(bench.reasons(), ["open-time-over", "probe-timeout"]);
}

#[test]
fn the_needed_share_is_rounded_up() {
    for (probes, share, needed) in [
        (3, 1.0, 3),
        (3, 0.5, 2),
        (10, 0.01, 1),
        (10, 0.7, 7),
        (1_000, 0.999, 999),
    ] {
        let policy = BreakerPolicy::default()
            .with(|config| (config.half_open_probes, config.half_open_success) = (probes, share))
            .unwrap();
        assert_eq!(policy.needed(), needed, "{share} of {probes}");
    }
}

#[test]
fn probes_under_way_can_be_counted() {
    let mut bench = half_open();
    let (one, two) = (bench.probe(), bench.probe());
    assert_eq!(bench.snapshot().probes, 2);
    bench.finish(one, Class::Success);
    assert_eq!(bench.snapshot().probes, 1);
    bench.finish(two, Class::Cancelled);
    assert_eq!(bench.snapshot().probes, 0);
}

#[test]
fn probes_never_exceed_their_permits() {
    for round in 0..50 {
        let mut bench = half_open();
        bench.advance(SECOND);
        let (circuit, now) = (&bench.circuit, bench.now);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (running, most) = (&running, &most);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(round * 8 + thread);
                    for _ in 0..300 {
                        let (Ok(pass), _) = circuit.admit(now) else {
                            continue;
                        };
                        if !pass.is_probe() {
                            continue;
                        }
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        if rng.bool() {
                            std::thread::yield_now();
                        }
                        running.fetch_sub(1, Ordering::SeqCst);
                        end(circuit, pass, Class::Cancelled, None, now);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert!(bench.gate_open(), "all permits are back");
        bench.calls(3, Class::Success);
        assert_eq!(bench.state(), State::Closed);
    }
}

/// Between the look at the generation and the lock the circuit may have moved on, and back.
#[test]
fn a_probe_that_comes_late_to_the_lock_is_of_its_own_generation() {
    for good in [false, true] {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = 2;
            config.half_open_probes = 2;
        });
        bench.calls(2, Class::Failure);
        bench.wait();
        let (mut late, failing) = (bench.probe(), bench.probe());
        if good {
            bench.head(&mut late, true);
        }
        bench.finish(failing, Class::Failure);
        assert_eq!(bench.state(), State::Open);
        bench.wait();
        let now = bench.probe();
        let at = bench.circuit.since(bench.now);
        for class in [Class::Failure, Class::Success, Class::Cancelled] {
            let change = bench.circuit.finish_probe(late, class, false, None, at);
            assert_eq!(change, None, "{class:?}");
        }
        assert_eq!(
            (bench.state(), bench.snapshot().probes),
            (State::HalfOpen, 1)
        );
        bench.finish(now, Class::Success);
        bench.call(Class::Success);
        assert_eq!(bench.state(), State::Closed);
    }
}
