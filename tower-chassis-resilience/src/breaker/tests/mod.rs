mod forced;
mod keyed;
mod model;
mod probes;
mod recovery;
mod rules;
mod service;
mod slow;

use std::time::Duration;

use tokio::time::Instant;
use tower_chassis_core::{Class, Gate};

use super::{
    BreakerConfig, BreakerPolicy, Mode, Snapshot, State, WindowType,
    circuit::Circuit,
    state::{Change, Pass},
};

const SECOND: Duration = Duration::from_secs(1);
const FAILURES: [Class; 3] = [Class::Failure, Class::Timeout, Class::Unreachable];

/// A circuit, its gate and a clock that is moved by hand.
struct Bench {
    circuit: Circuit,
    gate: Gate,
    now: Instant,
    changes: Vec<Change>,
    /// What `refuses_for` said was always what `admit` did.
    agreed: bool,
}

impl Bench {
    fn new(change: impl FnOnce(&mut BreakerConfig)) -> Self {
        let policy = BreakerPolicy::default().with(change).unwrap();
        let (now, gate) = (Instant::now(), Gate::new());
        let circuit = Circuit::new(&policy, now, Some(gate.clone()), Some(7));
        Self {
            circuit,
            gate,
            now,
            changes: Vec::new(),
            agreed: true,
        }
    }

    fn apply(&self, config: BreakerConfig) {
        self.circuit.apply(&config.try_into().unwrap());
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    fn admit(&mut self) -> Result<Pass, Duration> {
        let shut = self.circuit.refuses_for(self.now);
        let (result, change) = self.circuit.admit(self.now);
        self.agreed &= shut.is_none_or(|wait| result == Err(wait));
        self.changes.extend(change);
        result
    }

    fn finish(&mut self, pass: Pass, class: Class) {
        self.finish_asking(pass, class, None);
    }

    /// The answer asks to be left alone for so long.
    fn finish_asking(&mut self, pass: Pass, class: Class, asked: Option<Duration>) {
        let change = end(&self.circuit, pass, class, asked, self.now);
        self.changes.extend(change);
    }

    /// The head of an answer.
    fn head(&mut self, pass: &mut Pass, good: bool) {
        self.circuit.head(pass, good, self.now);
    }

    fn force(&mut self, mode: Mode, lasts: Option<Duration>) {
        let change = self.circuit.force(mode, lasts, false, self.now);
        self.changes.extend(change);
    }

    /// One call from its beginning to its end.
    fn call(&mut self, class: Class) {
        let pass = self.admit().unwrap();
        self.finish(pass, class);
    }

    fn calls(&mut self, count: usize, class: Class) {
        for _ in 0..count {
            self.call(class);
        }
    }

    fn probe(&mut self) -> Pass {
        let pass = self.admit().unwrap();
        assert!(pass.is_probe());
        pass
    }

    /// Waits until the open time is over.
    fn wait(&mut self) {
        let left = self.snapshot().remaining.unwrap();
        self.advance(left);
    }

    fn snapshot(&self) -> Snapshot {
        self.circuit.snapshot(self.now)
    }

    fn state(&self) -> State {
        assert!(self.agreed);
        self.circuit.state()
    }

    fn gate_open(&self) -> bool {
        self.gate.is_open(self.now)
    }

    fn reasons(&mut self) -> Vec<&'static str> {
        self.changes.drain(..).map(|change| change.reason).collect()
    }
}

fn end(
    circuit: &Circuit,
    pass: Pass,
    class: Class,
    asked: Option<Duration>,
    now: Instant,
) -> Option<Change> {
    circuit.finish(pass, class, asked, circuit.since(now))
}

/// Opens after two failures in a row, and by no other rule.
fn two_in_a_row() -> Bench {
    Bench::new(|config| {
        config.consecutive_failures = 2;
        config.failure_rate = 0.0;
    })
}

fn opened(mut bench: Bench) -> Bench {
    bench.calls(2, Class::Failure);
    assert_eq!(bench.state(), State::Open);
    bench
}

fn half_open() -> Bench {
    let mut bench = opened(two_in_a_row());
    bench.wait();
    bench.changes.clear();
    bench
}
