use super::*;

/// Closed again after one probe, by a ramp of ten seconds from a tenth.
fn recovering() -> Bench {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = 2;
        config.minimum_calls = 20;
        config.half_open_probes = 1;
        config.recovery = SECOND * 10;
    });
    bench.calls(2, Class::Failure);
    bench.wait();
    bench.call(Class::Success);
    assert_eq!(bench.state(), State::Recovering);
    assert_eq!(bench.reasons()[1..], ["open-time-over", "probes-succeeded"]);
    bench
}

/// How many of so many calls pass and succeed.
fn passing(bench: &mut Bench, calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        if let Ok(pass) = bench.admit() {
            bench.finish(pass, Class::Success);
            passed += 1;
        }
    }
    passed
}

#[test]
fn a_growing_share_of_the_calls_passes() {
    let mut bench = recovering();
    for (second, share) in [
        (0, 10),
        (1, 19),
        (2, 28),
        (3, 37),
        (4, 46),
        (5, 55),
        (6, 64),
        (7, 73),
        (8, 82),
        (9, 91),
    ] {
        let passed = passing(&mut bench, 100);
        assert!(
            passed.abs_diff(share) <= 1,
            "{passed} of {share} at {second}"
        );
        assert!(bench.gate_open());
        assert_eq!(bench.snapshot().recovers_in, Some(SECOND * (10 - second)));
        bench.advance(SECOND);
    }
    assert_eq!(bench.state(), State::Recovering, "until a call comes");
    assert_eq!(passing(&mut bench, 100), 100);
    assert_eq!(bench.reasons(), ["recovered"]);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn refusals_say_when_all_pass() {
    let mut bench = recovering();
    bench.call(Class::Success);
    bench.advance(SECOND);
    let refused = (0..10).find_map(|_| bench.admit().err());
    assert_eq!(refused, Some(SECOND * 9));
}

#[test]
fn a_trip_goes_straight_to_open_and_half_the_calls_are_enough() {
    let mut bench = recovering();
    bench.call(Class::Success);
    bench.advance(SECOND * 9);
    let mut admitted = Vec::new();
    while admitted.len() < 20 {
        admitted.extend(bench.admit());
    }
    let mut ended = 1;
    for (n, pass) in admitted.into_iter().enumerate() {
        if bench.state() != State::Recovering {
            break;
        }
        ended += 1;
        bench.finish(
            pass,
            if n % 2 == 0 {
                Class::Failure
            } else {
                Class::Success
            },
        );
    }
    assert_eq!(bench.reasons(), ["failure-rate"]);
    assert_eq!((bench.state(), ended), (State::Open, 10), "of twenty");
    assert_eq!(bench.snapshot().opens, 2);

    let mut bench = recovering();
    bench.advance(SECOND * 9);
    for _ in 0..2 {
        let pass = std::iter::repeat_with(|| bench.admit()).find_map(Result::ok);
        bench.finish(pass.unwrap(), Class::Failure);
    }
    assert_eq!(bench.reasons(), ["consecutive-failures"]);
}

#[test]
fn what_was_counted_while_it_recovered_stays() {
    let mut bench = recovering();
    let (early, row) = (bench.admit().unwrap(), bench.snapshot().consecutive);
    bench.advance(SECOND * 10);
    bench.call(Class::Failure);
    assert_eq!((bench.state(), row), (State::Closed, 0));
    bench.finish(early, Class::Failure);
    assert_eq!(bench.state(), State::Open, "both are of this generation");
}

#[test]
fn other_settings_and_a_reset_while_it_recovers() {
    let mut bench = recovering();
    bench.call(Class::Success);
    bench.apply(BreakerConfig::default());
    assert_eq!(bench.state(), State::Recovering);
    bench.advance(SECOND * 10);
    assert_eq!(passing(&mut bench, 10), 10);
    let mut bench = recovering();
    bench.changes.extend(bench.circuit.reset(bench.now));
    assert_eq!(
        (bench.state(), bench.reasons()),
        (State::Closed, vec!["reset"])
    );
}

#[test]
fn another_length_is_for_the_next_recovery() {
    for length in [1, 100] {
        let mut bench = recovering();
        bench.advance(SECOND * 5);
        bench.apply(BreakerConfig {
            recovery: SECOND * length,
            ..BreakerConfig::default()
        });
        let passed = passing(&mut bench, 100);
        assert!(passed.abs_diff(55) <= 1, "{passed} with {length} s");
    }
}
