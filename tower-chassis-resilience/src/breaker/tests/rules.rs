use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn opens_at_exactly_so_many_failures_in_a_row() {
    for class in FAILURES {
        let mut bench = Bench::new(|_| {});
        bench.calls(4, class);
        assert_eq!((bench.state(), bench.gate_open()), (State::Closed, true));
        bench.call(class);
        assert_eq!((bench.state(), bench.gate_open()), (State::Open, false));
        assert_eq!(bench.reasons(), ["consecutive-failures"]);
    }
}

#[test]
fn what_ends_a_row_and_what_does_not() {
    for (class, ends) in [
        (Class::Success, true),
        (Class::ClientFault, true),
        (Class::RateLimited, false),
        (Class::Cancelled, false),
        (Class::Refused, false),
    ] {
        let mut bench = two_in_a_row();
        bench.calls(3, class);
        assert_eq!(bench.state(), State::Closed, "{class:?}");
        bench.call(Class::Failure);
        bench.call(class);
        bench.call(Class::Failure);
        assert_eq!(bench.state() == State::Closed, ends, "{class:?}");
    }
}

#[test]
fn opens_at_exactly_the_rate_and_not_before_the_minimum() {
    let mut bench = Bench::new(|config| config.consecutive_failures = 0);
    bench.calls(19, Class::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.reasons(), ["failure-rate"]);

    let mut bench = Bench::new(|config| config.consecutive_failures = 0);
    bench.calls(30, Class::Success);
    bench.calls(29, Class::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::Open, "30 of 60");
}

#[test]
fn rates_are_exact_where_floating_point_is_not() {
    for (rate, bad, all) in [
        (0.07, 7, 100),
        (0.29, 29, 100),
        (0.1, 3, 30),
        (0.7, 14, 20),
        (1.0, 20, 20),
    ] {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = 0;
            config.failure_rate = rate;
        });
        bench.calls(all - bad, Class::Success);
        bench.calls(bad - 1, Class::RateLimited);
        assert_eq!(bench.state(), State::Closed, "{rate}");
        bench.call(Class::RateLimited);
        assert_eq!(bench.state(), State::Open, "{rate}");
    }
}

#[test]
fn rate_limits_degrade_the_rate_and_not_the_row() {
    let mut bench = Bench::new(|_| {});
    bench.calls(19, Class::RateLimited);
    assert_eq!(
        (bench.state(), bench.snapshot().consecutive),
        (State::Closed, 0)
    );
    bench.call(Class::RateLimited);
    assert_eq!(bench.reasons(), ["failure-rate"]);
}

#[test]
fn the_row_is_named_first_when_both_rules_open() {
    let mut bench = Bench::new(|config| config.minimum_calls = 5);
    bench.calls(5, Class::Failure);
    assert_eq!(bench.reasons(), ["consecutive-failures"]);
}

#[test]
fn with_both_rules_off_it_never_opens_and_counts_nothing() {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 0;
        config.failure_rate = 0.0;
    });
    bench.calls(1_000, Class::Failure);
    assert_eq!((bench.state(), bench.snapshot().total), (State::Closed, 0));
}

#[test]
fn cancellations_do_not_count() {
    let mut bench = Bench::new(|_| {});
    bench.calls(1_000, Class::Cancelled);
    bench.calls(1_000, Class::Refused);
    let snapshot = bench.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.total, snapshot.consecutive),
        (State::Closed, 0, 0)
    );
}

#[test]
fn after_a_long_silence_it_begins_cold() {
    for gap in [10, 11, 1_000, 10 * 16_384, 1_000_000_000] {
        let mut bench = Bench::new(|config| config.consecutive_failures = 0);
        bench.calls(19, Class::Failure);
        bench.advance(SECOND * gap);
        bench.calls(19, Class::Failure);
        assert_eq!(bench.state(), State::Closed, "{gap} s");
        bench.call(Class::Failure);
        assert_eq!(bench.state(), State::Open, "{gap} s");
    }
}

#[test]
fn failures_that_are_far_apart_are_not_in_a_row() {
    let window = SECOND * 10;
    let nanosecond = Duration::from_nanos(1);
    for (gap, in_a_row) in [
        (Duration::ZERO, true),
        (window, true),
        (window + nanosecond, false),
        (SECOND * 86_400, false),
    ] {
        let mut bench = two_in_a_row();
        bench.call(Class::Failure);
        bench.advance(gap);
        bench.call(Class::Failure);
        assert_eq!(bench.state() == State::Open, in_a_row, "{gap:?}");
        assert_eq!(bench.snapshot().consecutive, u32::from(!in_a_row));
        if !in_a_row {
            bench.call(Class::Failure);
            assert_eq!(
                bench.reasons(),
                ["consecutive-failures"],
                "a row of its own"
            );
        }
    }
    // Calls that take long, one after the other: there was no silence.
    let mut bench = two_in_a_row();
    for _ in 0..2 {
        let pass = bench.admit().unwrap();
        bench.advance(window * 2);
        bench.finish(pass, Class::Timeout);
    }
    assert_eq!(bench.state(), State::Open);
}

fn last_ten(change: impl FnOnce(&mut BreakerConfig)) -> Bench {
    Bench::new(|config| {
        config.consecutive_failures = 0;
        config.window_type = WindowType::Count;
        config.window_calls = 10;
        config.minimum_calls = 4;
        change(config);
    })
}

#[test]
fn a_window_of_calls_slides_and_keeps_to_its_minimum() {
    // Fault 1 of others: after a thousand good calls it took a thousand bad ones.
    let mut bench = last_ten(|_| ());
    bench.calls(1_000, Class::Success);
    bench.calls(4, Class::Failure);
    assert_eq!((bench.state(), bench.snapshot().total), (State::Closed, 10));
    bench.call(Class::Failure);
    assert_eq!(bench.reasons(), ["failure-rate"]);
    // Fault 2: the minimum is not the whole window.
    let mut bench = last_ten(|_| ());
    bench.calls(3, Class::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::Open);
    // A minimum above the window is the window.
    let mut bench = last_ten(|config| config.minimum_calls = 1_000);
    bench.calls(9, Class::Failure);
    assert_eq!(bench.state(), State::Closed);
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_window_of_calls_looks_at_no_time_unless_all_is_silent() {
    let mut bench = last_ten(|_| ());
    for _ in 0..4 {
        assert_eq!(bench.state(), State::Closed);
        bench.call(Class::Failure);
        bench.advance(SECOND * 9);
    }
    assert_eq!(bench.state(), State::Open);
    let mut bench = last_ten(|_| ());
    bench.calls(3, Class::Failure);
    bench.advance(SECOND * 86_400);
    bench.calls(3, Class::Failure);
    assert_eq!((bench.state(), bench.snapshot().total), (State::Closed, 3));
}

#[test]
fn another_window_begins_cold_and_another_threshold_does_not() {
    let base = |config: &mut BreakerConfig| config.minimum_calls = 1_000;
    let changes: [(bool, fn(&mut BreakerConfig)); 8] = [
        (true, |c| c.failure_rate = 0.9),
        (true, |c| (c.slow_call, c.slow_rate) = (SECOND, 0.3)),
        (true, |c| c.recovery = SECOND),
        (true, |c| c.window_calls = 20),
        (false, |c| c.window = SECOND),
        (false, |c| c.window_type = WindowType::Count),
        (false, |c| {
            (c.window_type, c.window_calls) = (WindowType::Count, 20)
        }),
        (false, |_| ()),
    ];
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 0;
        base(config);
    });
    let mut config = BreakerConfig {
        consecutive_failures: 0,
        ..BreakerConfig::default()
    };
    base(&mut config);
    for (n, (kept, change)) in changes.into_iter().enumerate() {
        bench.calls(3, Class::Failure);
        let before = bench.snapshot().total;
        let mut next = if n < 4 {
            config.clone()
        } else {
            BreakerConfig {
                consecutive_failures: 0,
                ..BreakerConfig::default()
            }
        };
        base(&mut next);
        change(&mut next);
        bench.apply(next.clone());
        config = next;
        let expected = if kept { before } else { 0 };
        assert_eq!(bench.snapshot().total, expected, "{n}");
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn an_answer_opens_it_for_as_long_as_it_asks() {
    for (class, opens) in [
        (Class::Failure, true),
        (Class::RateLimited, true),
        (Class::Success, true),
        (Class::Cancelled, false),
        (Class::Refused, false),
    ] {
        for (asked, open_for) in [(7, 7), (299, 299), (86_400, 300)] {
            let mut bench = Bench::new(|_| ());
            let pass = bench.admit().unwrap();
            bench.finish_asking(pass, class, Some(SECOND * asked));
            assert_eq!(bench.state() == State::Open, opens, "{class:?}");
            if opens {
                assert_eq!(bench.snapshot().open_for, Some(SECOND * open_for));
                assert_eq!(bench.reasons(), ["verdict"]);
                // So does a probe.
                bench.wait();
                let probe = bench.probe();
                bench.finish_asking(probe, class, Some(SECOND));
                assert_eq!(bench.reasons(), ["open-time-over", "verdict"]);
                assert_eq!(bench.snapshot().open_for, Some(SECOND));
            }
        }
    }
}

#[test]
fn of_a_rule_and_an_answer_the_longer_time_holds() {
    for (asked, at_least) in [(1, 2), (100, 100)] {
        let mut bench = two_in_a_row();
        bench.call(Class::Failure);
        let pass = bench.admit().unwrap();
        bench.finish_asking(pass, Class::Failure, Some(SECOND * asked));
        assert_eq!(bench.reasons(), ["consecutive-failures"]);
        let open_for = bench.snapshot().open_for.unwrap();
        assert!(open_for >= SECOND * at_least, "{open_for:?}");
        assert!(open_for <= SECOND * asked.max(5));
    }
}

#[test]
fn the_decision_does_not_depend_on_how_fast_the_calls_come() {
    // The same 60 results within one window: the 48th makes it 24 failures.
    for gap_ms in [0, 1, 10, 100, 150] {
        let mut bench = Bench::new(|config| config.consecutive_failures = 0);
        let mut opened_at = None;
        for n in 0..60 {
            if let Ok(pass) = bench.admit() {
                bench.finish(
                    pass,
                    if n % 5 < 2 || n > 40 {
                        Class::Failure
                    } else {
                        Class::Success
                    },
                );
            } else {
                opened_at = opened_at.or(Some(n));
            }
            bench.advance(Duration::from_millis(gap_ms));
        }
        assert_eq!(opened_at, Some(48), "{gap_ms} ms");
    }
}

#[test]
fn refusals_carry_the_time_that_is_left() {
    let mut bench = opened(two_in_a_row());
    let open_for = bench.snapshot().open_for.unwrap();
    assert!(
        (SECOND * 5 / 2..=SECOND * 5).contains(&open_for),
        "{open_for:?}"
    );
    assert_eq!(bench.changes[0].open_for, Some(open_for));
    assert_eq!(bench.admit(), Err(open_for));
    bench.advance(SECOND);
    assert_eq!(bench.admit(), Err(open_for - SECOND));
    bench.advance(open_for - SECOND - Duration::from_nanos(1));
    assert_eq!(bench.admit(), Err(Duration::from_nanos(1)));
    bench.advance(Duration::from_nanos(1));
    assert!(bench.gate_open());
    bench.probe();
}

#[test]
fn a_late_result_touches_nothing() {
    for class in [
        Class::Success,
        Class::Failure,
        Class::Cancelled,
        Class::RateLimited,
    ] {
        let mut bench = two_in_a_row();
        let late: [Pass; 6] = std::array::from_fn(|_| bench.admit().unwrap());
        let mut bench = opened(bench);
        let before = bench.snapshot();
        bench.finish(late[0], class);
        assert_eq!(bench.snapshot(), before, "open, {class:?}");
        bench.wait();
        let probe = bench.probe();
        bench.finish(late[1], class);
        bench.finish(late[2], class);
        assert_eq!(bench.state(), State::HalfOpen, "{class:?}");
        bench.finish(probe, Class::Success);
        bench.calls(2, Class::Success);
        bench.call(Class::Failure);
        let before = bench.snapshot();
        assert_eq!((before.state, before.consecutive), (State::Closed, 1));
        for pass in &late[3..] {
            bench.finish(*pass, class);
        }
        assert_eq!(bench.snapshot(), before, "closed again, {class:?}");
    }
}

#[test]
fn the_open_time_doubles_to_its_cap_and_decays_by_closed_windows() {
    let mut bench = opened(two_in_a_row());
    for (opens, full) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (6, 60)] {
        let snapshot = bench.snapshot();
        assert_eq!(snapshot.opens, opens);
        let full = SECOND * full;
        assert!(
            (full / 2..=full).contains(&snapshot.open_for.unwrap()),
            "{snapshot:?}"
        );
        bench.wait();
        bench.call(Class::Failure);
    }
    bench.wait();
    bench.calls(3, Class::Success);
    // Closed, and it does not forget at once.
    bench.advance(SECOND * 10 - Duration::from_nanos(1));
    assert_eq!(bench.snapshot().opens, 7);
    bench.advance(SECOND * 30 + Duration::from_nanos(1));
    assert_eq!(bench.snapshot().opens, 3);
    bench.calls(2, Class::Failure);
    assert_eq!(bench.snapshot().opens, 4);
    bench.wait();
    bench.calls(3, Class::Success);
    bench.advance(SECOND * 1_000_000);
    assert_eq!(bench.snapshot().opens, 0);
}

#[test]
fn open_times_are_spread() {
    let mut seen = std::collections::BTreeSet::new();
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 1;
        config.open_max = SECOND * 5;
    });
    for _ in 0..100 {
        bench.call(Class::Failure);
        seen.insert(bench.snapshot().open_for.unwrap());
        bench.wait();
    }
    assert!(seen.len() > 90);
    assert!(
        seen.first().unwrap() < &(SECOND * 11 / 4) && seen.last().unwrap() > &(SECOND * 19 / 4)
    );
}

#[test]
fn reset_closes_and_forgets() {
    let mut bench = two_in_a_row();
    let old = bench.admit().unwrap();
    let mut bench = opened(bench);
    assert_eq!(bench.circuit.reset(bench.now).unwrap().reason, "reset");
    assert_eq!(
        (bench.state(), bench.snapshot().opens, bench.gate_open()),
        (State::Closed, 0, true)
    );
    bench.call(Class::Failure);
    bench.finish(old, Class::Failure);
    assert_eq!(bench.state(), State::Closed);
    assert!(bench.circuit.reset(bench.now).is_none());
    assert_eq!(bench.snapshot().consecutive, 0);
}

#[test]
fn generations_may_come_round_again() {
    // A bucket remembers ten bits of its generation.
    let mut bench = Bench::new(|config| config.consecutive_failures = 0);
    bench.calls(19, Class::Failure);
    for _ in 0..1_024 {
        bench.circuit.reset(bench.now);
    }
    assert_eq!(bench.snapshot().total, 0);
}

#[test]
fn settings_change_under_load_and_the_state_stays() {
    let mut bench = Bench::new(|config| config.consecutive_failures = 0);
    bench.calls(10, Class::Failure);
    let config = BreakerConfig {
        minimum_calls: 11,
        consecutive_failures: 0,
        ..Default::default()
    };
    bench.apply(config.clone());
    assert_eq!(bench.snapshot().total, 10);
    bench.call(Class::Failure);
    let open = bench.snapshot();
    assert_eq!(open.state, State::Open);
    bench.apply(BreakerConfig {
        open_base: SECOND,
        window: SECOND,
        ..config
    });
    assert_eq!(bench.snapshot(), open, "an open time that runs stays");
}

#[test]
fn settings_out_of_range_name_their_field() {
    let day = SECOND * 86_400;
    let cases: [(&str, fn(&mut BreakerConfig)); 24] = [
        ("slow_rate", |c| c.slow_rate = 1.01),
        ("slow_rate", |c| c.slow_rate = f64::NAN),
        ("slow_call", |c| c.slow_call = Duration::MAX),
        ("window_calls", |c| c.window_calls = 0),
        ("window_calls", |c| c.window_calls = 1_001),
        ("half_open_success", |c| c.half_open_success = 0.0),
        ("half_open_success", |c| c.half_open_success = f64::NAN),
        ("half_open_success", |c| c.half_open_success = 1.01),
        ("recovery", |c| c.recovery = Duration::MAX),
        ("recovery_from", |c| c.recovery_from = -0.1),
        ("recovery_aggression", |c| c.recovery_aggression = 0.0),
        ("recovery_aggression", |c| c.recovery_aggression = f64::NAN),
        ("failure_rate", |c| c.failure_rate = 1.01),
        ("failure_rate", |c| c.failure_rate = -0.1),
        ("failure_rate", |c| c.failure_rate = f64::NAN),
        ("minimum_calls", |c| c.minimum_calls = 0),
        ("window", |c| c.window = Duration::from_millis(9)),
        ("open_base", |c| c.open_base = Duration::ZERO),
        ("open_max", |c| c.open_max = Duration::from_secs(4)),
        ("open_max", |c| c.open_max = Duration::MAX),
        ("half_open_probes", |c| c.half_open_probes = 0),
        ("half_open_probes", |c| c.half_open_probes = 1_001),
        ("probe_timeout", |c| c.probe_timeout = Duration::ZERO),
        ("probe_timeout", |c| c.probe_timeout = Duration::MAX),
    ];
    for (field, change) in cases {
        assert_eq!(
            BreakerPolicy::default().with(change).unwrap_err().field(),
            field
        );
    }
    BreakerPolicy::default()
        .with(|c| (c.open_base, c.open_max) = (day, day))
        .unwrap();
}

#[test]
fn of_many_threads_that_see_it_fail_one_opens_it() {
    let bench = Bench::new(|_| {});
    let (circuit, now) = (&bench.circuit, bench.now);
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let opened = &opened;
            scope.spawn(move || {
                while let (Ok(pass), _) = circuit.admit(now) {
                    if end(circuit, pass, Class::Failure, None, now).is_some() {
                        opened.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!((opened.into_inner(), bench.snapshot().opens), (1, 1));
    // The thread that saw it fail as well, and came to the lock second.
    assert!(circuit.trip(0, 0, "late", None).is_none());
}

/// A ring of calls knows generations by their last bits only.
#[test]
fn a_window_of_calls_counts_in_every_generation() {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 0;
        config.window_type = WindowType::Count;
    });
    for time in 0..1_200 {
        bench.calls(20, Class::Failure);
        assert_eq!(bench.state(), State::Open, "the {time}th time");
        bench.circuit.reset(bench.now);
    }
}

#[test]
fn a_window_of_calls_that_was_not_looked_at_for_long_counts_again() {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 1;
        config.failure_rate = 0.0;
        config.window_type = WindowType::Count;
    });
    for _ in 0..300 {
        bench.call(Class::Failure);
        bench.circuit.reset(bench.now);
    }
    bench.apply(BreakerConfig {
        consecutive_failures: 0,
        window_type: WindowType::Count,
        ..BreakerConfig::default()
    });
    bench.calls(20, Class::Failure);
    assert_eq!(bench.state(), State::Open);
}
