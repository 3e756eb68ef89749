//! The breaker: its word, its row of failures, its window.

#[path = "../../../tower-chassis-resilience/src/breaker/buckets.rs"]
mod buckets;
#[path = "../../../tower-chassis-resilience/src/breaker/circuit.rs"]
mod circuit;
#[path = "../../../tower-chassis-resilience/src/breaker/cold.rs"]
mod cold;
#[path = "../../../tower-chassis-resilience/src/breaker/config.rs"]
mod config;
#[path = "../../../tower-chassis-resilience/src/breaker/mode.rs"]
mod mode;
#[path = "../../../tower-chassis-resilience/src/breaker/ramp.rs"]
mod ramp;
#[path = "../../../tower-chassis-resilience/src/breaker/run.rs"]
mod run;
#[path = "../../../tower-chassis-resilience/src/breaker/slots.rs"]
mod slots;
#[path = "../../../tower-chassis-resilience/src/breaker/state.rs"]
mod state;
#[path = "../../../tower-chassis-resilience/src/breaker/turn.rs"]
mod turn;
#[path = "../../../tower-chassis-resilience/src/breaker/window.rs"]
mod window;

use std::{sync::Arc, thread, time::Duration};

use config::{BreakerConfig, BreakerPolicy};
use mode::Mode;
use tokio::time::Instant;
use tower_chassis_core::{Class, Gate};

use self::{
    circuit::Circuit,
    ramp::Ramp,
    run::Run,
    state::{Change, Pass, State},
    window::{Counts, Sample, Window},
};
use crate::explore;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two failures in a row open it, for half a second to a second; one probe, which has 100 ms.
fn circuit(start: Instant) -> (Arc<Circuit>, Gate) {
    circuit_with(start, |_| ())
}

fn circuit_with(start: Instant, change: impl FnOnce(&mut BreakerConfig)) -> (Arc<Circuit>, Gate) {
    let mut config = BreakerConfig {
        consecutive_failures: 2,
        failure_rate: 0.0,
        open_base: SECOND,
        open_max: SECOND,
        half_open_probes: 1,
        probe_timeout: 100 * MS,
        ..BreakerConfig::default()
    };
    change(&mut config);
    let gate = Gate::new();
    let policy = BreakerPolicy::try_from(config).unwrap();
    (
        Arc::new(Circuit::new(&policy, start, Some(gate.clone()), Some(7))),
        gate,
    )
}

/// One call from beginning to end.
fn call(circuit: &Circuit, class: Class, now: Instant) -> Option<Change> {
    let pass = circuit.admit(now).0.ok()?;
    end(circuit, pass, class, now)
}

fn end(circuit: &Circuit, pass: Pass, class: Class, now: Instant) -> Option<Change> {
    circuit.finish(pass, class, None, circuit.since(now))
}

const BAD: Sample = Sample {
    failed: true,
    slow: false,
};
const GOOD: Sample = Sample {
    failed: false,
    slow: false,
};

fn counts(total: u64, failed: u64) -> Counts {
    Counts {
        total,
        failed,
        slow: 0,
    }
}

fn trip(circuit: &Circuit, now: Instant) {
    while call(circuit, Class::Failure, now).is_none() {}
    assert_eq!(circuit.state(), State::Open);
}

fn opened(changes: &[Option<Change>]) -> usize {
    changes
        .iter()
        .flatten()
        .filter(|change| change.to == State::Open)
        .count()
}

/// Two failures on two threads are a row of two: it opens, once, and the gate is shut behind it.
pub fn failures_of_two_threads_open_it_once() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit(start);
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || call(&other, Class::Failure, start));
        let mine = call(&circuit, Class::Failure, start);
        let theirs = thread.join().unwrap();
        assert_eq!(opened(&[mine, theirs]), 1);
        assert_eq!(circuit.state(), State::Open);
        assert!(circuit.admit(start).0.is_err());
        assert!(!gate.is_open(start + 499 * MS) && gate.is_open(start + SECOND));
    });
}

/// After the open time one of two calls is the probe, the other is refused.
pub fn one_of_two_is_the_probe() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit(start);
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || other.admit(later).0.is_ok());
        let mine = circuit.admit(later).0.is_ok();
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
        assert_eq!(circuit.state(), State::HalfOpen);
        assert!(!gate.is_open(later) && gate.is_open(later + 100 * MS));
    });
}

/// While a probe fails, nobody slips in, however late: neither as another probe nor through a closed circuit.
pub fn nobody_slips_in_while_a_probe_fails() {
    let start = Instant::now();
    explore(move || {
        let (circuit, _) = circuit(start);
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let probe = circuit.admit(later).0.unwrap();
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || other.admit(later + 200 * MS).0.is_ok());
        let _ = end(&circuit, probe, Class::Failure, later + 50 * MS);
        assert!(!thread.join().unwrap());
        assert_eq!(circuit.state(), State::Open);
    });
}

/// A probe that succeeds while it is found overdue closes the circuit or comes too late: never both.
pub fn a_probe_does_not_close_what_opened_meanwhile() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit(start);
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let probe = circuit.admit(later).0.unwrap();
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || other.admit(later + 200 * MS).0.is_ok());
        let closed = end(&circuit, probe, Class::Success, later + 50 * MS).is_some();
        let admitted = thread.join().unwrap();
        assert_eq!(admitted, closed);
        assert_eq!(circuit.state() == State::Closed, closed);
        assert_eq!(gate.is_open(later + 200 * MS), closed);
    });
}

/// A probe that is given up hands its permit on: of two that come, one passes at the most, and the circuit is
/// never stuck.
pub fn a_permit_that_is_given_back_is_given_once() {
    let start = Instant::now();
    explore(move || {
        let (circuit, _) = circuit(start);
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let probe = circuit.admit(later).0.unwrap();
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || other.admit(later + MS).0.is_ok());
        let _ = end(&circuit, probe, Class::Cancelled, later + MS);
        let mine = circuit.admit(later + MS).0.is_ok();
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
    });
}

/// A call from before an outage that ends while the probe succeeds neither opens nor closes anything, and leaves
/// no row of failures behind.
pub fn a_late_call_changes_nothing() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit(start);
        let slow = circuit.admit(start).0.unwrap();
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let probe = circuit.admit(later).0.unwrap();
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || end(&other, slow, Class::Failure, later));
        let closed = end(&circuit, probe, Class::Success, later);
        assert_eq!(thread.join().unwrap(), None);
        assert!(closed.is_some_and(|change| change.to == State::Closed));
        assert_eq!(circuit.snapshot(later).consecutive, 0);
        assert!(gate.is_open(later));
    });
}

/// A failure that ends while the circuit is reset belongs to the old generation or is not there at all.
pub fn a_reset_forgets_the_row() {
    let start = Instant::now();
    explore(move || {
        let (circuit, _) = circuit(start);
        let _ = call(&circuit, Class::Failure, start);
        let other = Arc::clone(&circuit);
        let pass = circuit.admit(start).0.unwrap();
        let thread = thread::spawn(move || end(&other, pass, Class::Failure, start));
        let _ = circuit.reset(start);
        let opened = thread.join().unwrap().is_some();
        let snapshot = circuit.snapshot(start);
        assert_eq!(snapshot.state, State::Closed);
        assert_eq!(snapshot.consecutive, 0, "opened first: {opened}");
    });
}

/// Every failure of a row counts, and exactly one thread sees each length.
pub fn a_row_counts_every_failure() {
    explore(|| {
        let run = Arc::new(Run::default());
        let other = Arc::clone(&run);
        let thread = thread::spawn(move || other.count(3));
        let mine = run.count(3);
        let theirs = thread.join().unwrap();
        assert_eq!((mine.min(theirs), mine.max(theirs)), (1, 2));
        assert_eq!(run.length(3), 2);
    });
}

/// A late failure or success of an older generation neither lengthens nor ends the row of the present.
pub fn a_row_does_not_hear_older_generations() {
    explore(|| {
        let run = Arc::new(Run::default());
        let other = Arc::clone(&run);
        let thread = thread::spawn(move || {
            other.count(3);
            other.end(3);
        });
        run.count(4);
        run.count(4);
        thread.join().unwrap();
        assert_eq!(run.length(4), 2);
    });
}

/// After a silence the row is a new one, whoever comes first: no failure of it is lost, and none of the old one counts.
pub fn a_row_after_a_silence_is_a_new_one() {
    let start = Instant::now();
    explore(move || {
        let (circuit, _) = circuit_with(start, |config| config.consecutive_failures = 3);
        let _ = call(&circuit, Class::Failure, start);
        let later = start + 60 * SECOND;
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || call(&other, Class::Failure, later));
        let mine = call(&circuit, Class::Failure, later);
        assert_eq!(opened(&[mine, thread.join().unwrap()]), 0);
        assert_eq!(circuit.snapshot(later).consecutive, 2);
        let _ = call(&circuit, Class::Failure, later);
        assert_eq!(circuit.state(), State::Open);
    });
}

/// Of two failures that are counted at once, one at least sees both: it is the one that opens the circuit.
fn one_of_two_failures_sees_both(calls: u32, before: u32) {
    explore(move || {
        let window = Arc::new(Window::new(10 * SECOND, calls));
        for _ in 0..before {
            window.record(1, 0, 0, GOOD);
        }
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || {
            other.record(1, 0, 0, BAD);
            other.counts(1, 0).failed
        });
        window.record(1, 0, 0, BAD);
        let mine = window.counts(1, 0).failed;
        assert_eq!(thread.join().unwrap().max(mine), 2);
    });
}

pub fn one_of_two_failures_in_a_bucket_sees_both() {
    one_of_two_failures_sees_both(0, 0);
}

/// In two words of the ring.
pub fn one_of_two_failures_in_a_ring_sees_both() {
    one_of_two_failures_sees_both(48, 23);
}

/// Two calls that end in one bucket are two calls.
pub fn a_bucket_counts_every_call() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND, 0));
        window.record(1, 0, 0, GOOD);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(1, 0, 0, BAD));
        window.record(1, 0, 0, GOOD);
        thread.join().unwrap();
        assert_eq!(window.counts(1, 0), counts(3, 1));
    });
}

/// A failure of an older generation, or one that slept for a turn of the ring, takes nothing away and adds nothing.
pub fn a_bucket_does_not_hear_late_failures() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND, 0));
        let turn = 10 * SECOND.as_nanos() as u64;
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || {
            other.record(1, turn, turn, BAD);
            other.record(2, 0, 0, BAD);
        });
        window.record(2, turn, turn, GOOD);
        thread.join().unwrap();
        assert_eq!(window.counts(2, turn), counts(1, 0));
    });
}

/// A success of an older generation takes nothing away and adds one success at the most.
pub fn a_bucket_hears_a_late_success_once_at_the_most() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND, 0));
        window.record(1, 0, 0, GOOD);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(1, 0, 0, GOOD));
        window.record(2, 0, 0, BAD);
        thread.join().unwrap();
        let seen = window.counts(2, 0);
        assert!(seen == counts(1, 1) || seen == counts(2, 1), "{seen:?}");
    });
}

/// Two calls take two places in a ring of calls, of one word.
pub fn a_ring_counts_every_call() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND, 2));
        window.record(1, 0, 0, BAD);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(1, 0, 0, BAD));
        window.record(1, 0, 0, GOOD);
        thread.join().unwrap();
        // The first has fallen out.
        assert_eq!(window.counts(1, 0), counts(2, 1));
    });
}

/// A failure of an older generation adds no failure to a ring of calls, at the most a success.
pub fn a_ring_does_not_hear_late_failures() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND, 4));
        window.record(1, 0, 0, BAD);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(1, 0, 0, BAD));
        window.record(2, 0, 0, BAD);
        thread.join().unwrap();
        let seen = window.counts(2, 0);
        assert!(seen == counts(1, 1) || seen == counts(2, 1), "{seen:?}");
    });
}

/// After a silence a ring of calls is empty, whoever comes first; the call that ends it is counted.
pub fn a_ring_is_cold_after_a_silence() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND, 4));
        let later = 60 * SECOND.as_nanos() as u64;
        window.record(1, 0, 0, BAD);
        window.record(1, 0, 0, BAD);
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(1, later, later, BAD));
        thread.join().unwrap();
        window.record(1, later, later, BAD);
        assert_eq!(window.counts(1, later), counts(2, 2));
    });
}

/// Of the calls that come at once while it recovers, as many pass as their shares add up to.
pub fn a_ramp_admits_the_sum_of_the_shares() {
    explore(|| {
        let ramp = Arc::new(Ramp::default());
        ramp.apply(&BreakerConfig {
            recovery: SECOND,
            recovery_from: 0.5,
            ..BreakerConfig::default()
        });
        ramp.restart();
        let left = SECOND.as_nanos() as u64;
        let other = Arc::clone(&ramp);
        let thread = thread::spawn(move || other.admits(left));
        let mine = [ramp.admits(left), ramp.admits(left)];
        let theirs = thread.join().unwrap();
        let passed = mine.into_iter().chain([theirs]).filter(|passes| *passes);
        assert_eq!(passed.count(), 2, "the first and the third");
    });
}

/// A probe that succeeds leads into the ramp once, and a call beside it is refused or passes by the ramp.
pub fn a_ramp_begins_once() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit_with(start, |config| config.recovery = SECOND);
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let probe = circuit.admit(later).0.unwrap();
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || other.admit(later).0.is_ok());
        let change = end(&circuit, probe, Class::Success, later).unwrap();
        assert_eq!(change.to, State::Recovering);
        let passed = thread.join().unwrap();
        // The first passes, and the second does not.
        assert_eq!(circuit.admit(later).0.is_ok(), !passed);
        assert!(circuit.admit(later).0.is_err() && gate.is_open(later));
    });
}

/// A failure that would open it while somebody forces it closed leaves it closed, or was first; then it is closed after.
pub fn forced_closed_stays_closed() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit(start);
        let _ = call(&circuit, Class::Failure, start);
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || call(&other, Class::Failure, start));
        let _ = circuit.force(Mode::ForcedClosed, None, false, start);
        let _ = thread.join().unwrap();
        assert_eq!(circuit.state(), State::Closed);
        assert!(gate.is_open(start) && circuit.admit(start).0.is_ok());
    });
}

/// Nobody passes after it was forced open, whatever a probe says at that time.
pub fn forced_open_stays_open() {
    let start = Instant::now();
    explore(move || {
        let (circuit, gate) = circuit(start);
        trip(&circuit, start);
        let later = start + 2 * SECOND;
        let probe = circuit.admit(later).0.unwrap();
        let other = Arc::clone(&circuit);
        let thread = thread::spawn(move || end(&other, probe, Class::Success, later));
        let _ = circuit.force(Mode::ForcedOpen, None, false, later);
        assert!(circuit.admit(later).0.is_err());
        let _ = thread.join().unwrap();
        assert!(circuit.admit(later + 60 * SECOND).0.is_err());
        assert!(!gate.is_open(later + 60 * SECOND));
    });
}
