//! The breaker: its word, its row of failures, its window.

#[path = "../../../tower-chassis-resilience/src/breaker/circuit.rs"]
mod circuit;
#[path = "../../../tower-chassis-resilience/src/breaker/cold.rs"]
mod cold;
#[path = "../../../tower-chassis-resilience/src/breaker/config.rs"]
mod config;
#[path = "../../../tower-chassis-resilience/src/breaker/run.rs"]
mod run;
#[path = "../../../tower-chassis-resilience/src/breaker/state.rs"]
mod state;
#[path = "../../../tower-chassis-resilience/src/breaker/turn.rs"]
mod turn;
#[path = "../../../tower-chassis-resilience/src/breaker/window.rs"]
mod window;

use std::{sync::Arc, thread, time::Duration};

use config::{BreakerConfig, BreakerPolicy};
use tokio::time::Instant;
use tower_chassis_core::{Class, Gate};

use self::{
    circuit::Circuit,
    run::Run,
    state::{Change, State},
    window::{Counts, Window},
};
use crate::explore;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two failures in a row open it, for half a second to a second; one probe, which has 100 ms.
fn circuit(start: Instant) -> (Arc<Circuit>, Gate) {
    let config = BreakerConfig {
        consecutive_failures: 2,
        failure_rate: 0.0,
        open_base: SECOND,
        open_max: SECOND,
        half_open_probes: 1,
        probe_timeout: 100 * MS,
        ..BreakerConfig::default()
    };
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
    circuit.finish(pass, class, now)
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
        let _ = circuit.finish(probe, Class::Failure, later + 50 * MS);
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
        let closed = circuit
            .finish(probe, Class::Success, later + 50 * MS)
            .is_some();
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
        let _ = circuit.finish(probe, Class::Cancelled, later + MS);
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
        let thread = thread::spawn(move || other.finish(slow, Class::Failure, later));
        let closed = circuit.finish(probe, Class::Success, later);
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
        let thread = thread::spawn(move || other.finish(pass, Class::Failure, start));
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

/// Two calls that end in one bucket are two calls.
pub fn a_bucket_counts_every_call() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND));
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || other.record(1, 0, true));
        window.record(1, 0, false);
        thread.join().unwrap();
        assert_eq!(
            window.counts(1, 0),
            Counts {
                total: 2,
                failed: 1
            }
        );
    });
}

/// A writer of an older generation, or one that slept for a turn of the ring, takes nothing away.
pub fn a_bucket_does_not_hear_late_writers() {
    explore(|| {
        let window = Arc::new(Window::new(10 * SECOND));
        let turn = 10 * SECOND.as_nanos() as u64;
        let other = Arc::clone(&window);
        let thread = thread::spawn(move || {
            other.record(1, turn, true);
            other.record(2, 0, true);
        });
        window.record(2, turn, false);
        thread.join().unwrap();
        assert_eq!(
            window.counts(2, turn),
            Counts {
                total: 1,
                failed: 0
            }
        );
    });
}
