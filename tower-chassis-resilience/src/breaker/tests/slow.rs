use super::*;

/// Slow is what takes longer than a second; three of four slow ones open it.
fn slow_rule(change: impl FnOnce(&mut BreakerConfig)) -> Bench {
    Bench::new(|config| {
        config.slow_call = SECOND;
        config.slow_rate = 0.75;
        config.minimum_calls = 4;
        change(config);
    })
}

fn take(bench: &mut Bench, class: Class, time: Duration) {
    let pass = bench.admit().unwrap();
    bench.advance(time);
    bench.finish(pass, class);
}

#[test]
fn slow_successes_open_it() {
    for kind in [WindowType::Time, WindowType::Count] {
        let mut bench = slow_rule(|config| config.window_type = kind);
        take(&mut bench, Class::Success, Duration::ZERO);
        take(&mut bench, Class::Success, SECOND * 2);
        take(&mut bench, Class::ClientFault, SECOND * 2);
        assert_eq!(bench.state(), State::Closed);
        take(&mut bench, Class::Success, SECOND * 2);
        assert_eq!(bench.reasons(), ["slow-rate"]);
    }
}

#[test]
fn slow_is_longer_and_not_as_long() {
    let mut bench = slow_rule(|config| config.window = SECOND * 3_600);
    for _ in 0..100 {
        take(&mut bench, Class::Success, SECOND);
    }
    assert_eq!((bench.state(), bench.snapshot().slow), (State::Closed, 0));
    take(&mut bench, Class::Success, SECOND + Duration::from_nanos(1));
    assert_eq!((bench.snapshot().slow, bench.snapshot().total), (1, 101));
}

#[test]
fn failures_may_be_slow_and_failures_name_the_reason_first() {
    let mut bench = slow_rule(|config| config.consecutive_failures = 0);
    for class in [
        Class::Failure,
        Class::Timeout,
        Class::RateLimited,
        Class::Failure,
    ] {
        take(&mut bench, class, SECOND * 2);
    }
    assert_eq!(bench.reasons(), ["failure-rate"]);
    // Without that rule the slowness of the same calls does it.
    let mut bench =
        slow_rule(|config| (config.consecutive_failures, config.failure_rate) = (0, 0.0));
    for class in [
        Class::Failure,
        Class::Timeout,
        Class::RateLimited,
        Class::Failure,
    ] {
        take(&mut bench, class, SECOND * 2);
    }
    assert_eq!(bench.reasons(), ["slow-rate"]);
}

#[test]
fn cancelled_calls_are_not_slow() {
    let mut bench = slow_rule(|_| ());
    for _ in 0..100 {
        take(&mut bench, Class::Cancelled, SECOND * 60);
    }
    assert_eq!((bench.state(), bench.snapshot().total), (State::Closed, 0));
}

#[test]
fn off_by_default_and_by_a_rate_of_zero() {
    for change in [
        |_: &mut BreakerConfig| (),
        |c: &mut BreakerConfig| (c.slow_call, c.slow_rate) = (SECOND, 0.0),
    ] {
        let mut bench = Bench::new(change);
        for _ in 0..100 {
            take(&mut bench, Class::Success, SECOND * 3_600);
        }
        assert_eq!((bench.state(), bench.snapshot().slow), (State::Closed, 0));
    }
}

#[test]
fn the_time_is_that_to_the_head() {
    let mut bench = slow_rule(|_| ());
    for _ in 0..100 {
        let mut pass = bench.admit().unwrap();
        bench.head(&mut pass, true);
        bench.advance(SECOND * 60);
        bench.finish(pass, Class::Success);
    }
    assert_eq!(bench.state(), State::Closed);
    for n in 0..3 {
        assert_eq!(bench.state(), State::Closed, "{n}");
        let mut pass = bench.admit().unwrap();
        bench.advance(SECOND * 2);
        bench.head(&mut pass, true);
        bench.finish(pass, Class::Success);
    }
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_slow_probe_fails() {
    for headed in [false, true] {
        let mut bench = slow_rule(|config| config.consecutive_failures = 1);
        bench.call(Class::Failure);
        bench.wait();
        let mut probe = bench.probe();
        bench.advance(SECOND * 2);
        if headed {
            bench.head(&mut probe, true);
        }
        bench.finish(probe, Class::Success);
        assert_eq!(bench.reasons()[1..], ["open-time-over", "probe-slow"]);
        // Without the rule it is a success.
        bench.apply(BreakerConfig {
            half_open_probes: 1,
            ..BreakerConfig::default()
        });
        bench.wait();
        take(&mut bench, Class::Success, SECOND * 2);
        assert_eq!(bench.state(), State::Closed);
    }
}
