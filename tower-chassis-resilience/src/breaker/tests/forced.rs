use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn mode(bench: &Bench) -> (Mode, Option<Duration>) {
    let snapshot = bench.snapshot();
    assert_eq!(
        (snapshot.mode, snapshot.mode_left),
        bench.circuit.mode(bench.now)
    );
    (snapshot.mode, snapshot.mode_left)
}

#[test]
fn forced_open_refuses_until_it_is_released() {
    let mut bench = two_in_a_row();
    bench.force(Mode::ForcedOpen, None);
    assert_eq!(bench.reasons(), ["forced"]);
    assert_eq!(bench.admit(), Err(Duration::MAX));
    bench.advance(SECOND * 86_400 * 365);
    assert_eq!(
        (bench.admit(), bench.gate_open()),
        (Err(Duration::MAX), false)
    );
    assert_eq!(mode(&bench), (Mode::ForcedOpen, None));
    assert_eq!(
        (bench.snapshot().open_for, bench.snapshot().remaining),
        (None, None)
    );
    bench.force(Mode::Auto, None);
    assert!(bench.gate_open());
    bench.calls(3, Class::Success);
    assert_eq!(bench.reasons(), ["open-time-over", "probes-succeeded"]);
    assert_eq!(bench.snapshot().opens, 0, "it did not open by itself");
}

#[test]
fn forced_open_ends_by_itself() {
    let mut bench = two_in_a_row();
    bench.force(Mode::ForcedOpen, Some(MINUTE));
    assert_eq!(bench.admit(), Err(MINUTE));
    bench.advance(MINUTE - SECOND);
    assert_eq!(mode(&bench), (Mode::ForcedOpen, Some(SECOND)));
    assert_eq!((bench.admit(), bench.gate_open()), (Err(SECOND), false));
    bench.advance(SECOND);
    assert_eq!(mode(&bench), (Mode::Auto, None));
    assert!(bench.gate_open());
    bench.probe();
    let last = bench.changes.last().unwrap();
    assert!(last.released && last.to == State::HalfOpen);
}

#[test]
fn forced_closed_counts_and_does_not_open() {
    for lasts in [None, Some(MINUTE)] {
        let mut bench = opened(two_in_a_row());
        bench.force(Mode::ForcedClosed, lasts);
        assert_eq!((bench.state(), bench.gate_open()), (State::Closed, true));
        bench.calls(100, Class::Failure);
        assert_eq!(
            (bench.state(), bench.snapshot().consecutive),
            (State::Closed, 100)
        );
        if lasts.is_some() {
            bench.advance(MINUTE);
        } else {
            bench.force(Mode::Auto, None);
        }
        bench.changes.clear();
        while bench.state() == State::Closed {
            bench.call(Class::Failure);
        }
        assert_eq!(bench.changes[0].released, lasts.is_some());
        assert_eq!(mode(&bench).0, Mode::Auto);
    }
}

#[test]
fn disabled_counts_nothing() {
    let mut bench = two_in_a_row();
    let before = bench.admit().unwrap();
    bench.force(Mode::Disabled, Some(MINUTE));
    assert_eq!(bench.state(), State::Disabled);
    bench.finish(before, Class::Failure);
    bench.calls(100, Class::Failure);
    let pass = bench.admit().unwrap();
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.state, snapshot.consecutive), (State::Disabled, 0));
    bench.advance(MINUTE);
    bench.changes.clear();
    bench.call(Class::Failure);
    assert_eq!(
        (bench.state(), bench.reasons()),
        (State::Closed, vec!["released"])
    );
    bench.finish(pass, Class::Failure);
    assert_eq!(bench.state(), State::Closed, "it was not counted");
    bench.call(Class::Failure);
    assert_eq!(bench.state(), State::Open);
    bench.force(Mode::Disabled, None);
    bench.force(Mode::Auto, None);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn observing_it_only_says_that_it_would_open() {
    let mut bench = two_in_a_row();
    bench.force(Mode::ObserveOnly, Some(MINUTE));
    bench.calls(10, Class::Failure);
    assert_eq!((bench.state(), bench.changes.len()), (State::Closed, 1));
    let would = bench.changes.pop().unwrap();
    assert!(would.would && would.reason == "consecutive-failures");
    // As long as it would have been open it is quiet.
    bench.advance(would.open_for.unwrap() - Duration::from_nanos(1));
    bench.call(Class::Failure);
    assert!(bench.changes.is_empty());
    bench.advance(Duration::from_nanos(1));
    bench.call(Class::Failure);
    assert!(bench.changes.pop().unwrap().would);
    assert_eq!(bench.snapshot().opens, 0);
    bench.advance(MINUTE);
    bench.calls(2, Class::Failure);
    assert_eq!(bench.state(), State::Open);
    assert!(bench.changes[0].released && !bench.changes[0].would);
}

#[test]
fn no_change_of_settings_ends_a_mode() {
    for forced in [
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::Disabled,
        Mode::ObserveOnly,
    ] {
        let mut bench = two_in_a_row();
        bench.force(forced, Some(MINUTE));
        let state = bench.state();
        bench.apply(BreakerConfig {
            consecutive_failures: 1,
            window: SECOND,
            ..BreakerConfig::default()
        });
        if let Ok(pass) = bench.admit() {
            bench.finish(pass, Class::Failure);
        }
        assert_eq!(
            (bench.state(), mode(&bench)),
            (state, (forced, Some(MINUTE)))
        );
    }
}

#[test]
fn any_mode_may_follow_any_other() {
    let all = [
        Mode::Auto,
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::Disabled,
        Mode::ObserveOnly,
    ];
    for first in all {
        for second in all {
            for start in [two_in_a_row(), opened(two_in_a_row()), half_open()] {
                let mut bench = start;
                bench.force(first, Some(MINUTE));
                bench.force(second, None);
                assert_eq!(mode(&bench).0, second);
                let state = bench.state();
                match second {
                    Mode::ForcedOpen => assert_eq!(state, State::Open),
                    Mode::ForcedClosed | Mode::ObserveOnly => assert_eq!(state, State::Closed),
                    Mode::Disabled => assert_eq!(state, State::Disabled),
                    _ => {}
                }
                // And it is never stuck.
                bench.force(Mode::Auto, None);
                bench.advance(MINUTE);
                for _ in 0..3 {
                    bench.call(Class::Success);
                }
                assert_eq!(bench.state(), State::Closed, "{first:?} {second:?}");
            }
        }
    }
}

#[test]
fn a_reset_ends_a_mode() {
    for forced in [
        Mode::ForcedOpen,
        Mode::ForcedClosed,
        Mode::Disabled,
        Mode::ObserveOnly,
    ] {
        let mut bench = two_in_a_row();
        bench.force(forced, None);
        bench.circuit.reset(bench.now);
        assert_eq!((bench.state(), mode(&bench).0), (State::Closed, Mode::Auto));
        bench.calls(2, Class::Failure);
        assert_eq!(bench.state(), State::Open);
    }
}
