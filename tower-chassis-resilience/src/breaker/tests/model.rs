//! The circuit against a model that keeps lists and counts them each time.

use proptest::prelude::*;

use super::*;

/// A call that was admitted: the generation, and when its probe began.
type Call = (u32, Option<Duration>);

struct Model {
    config: BreakerConfig,
    state: State,
    generation: u32,
    /// When each call of this closed time ended, and whether it degraded the rate.
    ended: Vec<(Duration, bool)>,
    row: u32,
    opens: u64,
    closed_since: Duration,
    open_until: Duration,
    open_for: Duration,
    probing: Vec<Duration>,
    succeeded: usize,
}

/// What the model says a step did. An open time is drawn, so that the model takes it over once
/// checked.
type Turned = Option<(State, &'static str)>;

impl Model {
    fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            generation: 0,
            ended: Vec::new(),
            row: 0,
            opens: 0,
            closed_since: Duration::ZERO,
            open_until: Duration::ZERO,
            open_for: Duration::ZERO,
            probing: Vec::new(),
            succeeded: 0,
        }
    }

    fn decayed(&self, now: Duration) -> u64 {
        let windows = (now - self.closed_since).as_nanos() / self.config.window.as_nanos();
        if self.state == State::Closed {
            self.opens.saturating_sub(windows as u64)
        } else {
            self.opens
        }
    }

    fn turn(&mut self, to: State, reason: &'static str, now: Duration) -> Turned {
        if to == State::Open {
            self.opens = self.decayed(now) + 1;
        }
        if to == State::Closed {
            self.closed_since = now;
        }
        self.state = to;
        self.generation += 1;
        self.row = 0;
        self.succeeded = 0;
        self.ended.clear();
        self.probing.clear();
        Some((to, reason))
    }

    fn longest_open_time(&self) -> Duration {
        let mut longest = self.config.open_base;
        for _ in 1..self.opens {
            longest = (longest * 2).min(self.config.open_max);
        }
        longest.min(self.config.open_max)
    }

    fn overdue(&self, now: Duration) -> bool {
        self.probing
            .iter()
            .any(|began| *began + self.config.probe_timeout <= now)
    }

    fn used_up(&self) -> bool {
        self.probing.len() + self.succeeded >= self.config.half_open_probes as usize
    }

    /// How long a call is refused that could not pass.
    fn wait(&self, now: Duration) -> Duration {
        match self.state {
            State::Open => self.open_until - now,
            _ => self
                .probing
                .iter()
                .map(|began| *began + self.config.probe_timeout - now)
                .min()
                .unwrap(),
        }
    }

    fn admit(&mut self, now: Duration) -> (Option<Call>, Turned) {
        let mut turned = None;
        if self.state == State::Open && now >= self.open_until {
            turned = self.turn(State::HalfOpen, "open-time-over", now);
        } else if self.state == State::HalfOpen && self.overdue(now) {
            turned = self.turn(State::Open, "probe-timeout", now);
        } else if self.state == State::HalfOpen && self.probing.is_empty() && self.used_up() {
            turned = self.turn(State::Closed, "probes-succeeded", now);
        }
        match self.state {
            State::Closed => (Some((self.generation, None)), turned),
            State::HalfOpen if !self.used_up() => {
                self.probing.push(now);
                (Some((self.generation, Some(now))), turned)
            }
            _ => (None, turned),
        }
    }

    fn finish(&mut self, (generation, probe): Call, class: Class, now: Duration) -> Turned {
        use Class::{Cancelled, ClientFault, RateLimited, Refused, Success};
        if generation != self.generation {
            return None;
        }
        let good = matches!(class, Success | ClientFault);
        let nothing = matches!(class, Cancelled | Refused);
        if let Some(began) = probe {
            if self.overdue(now) {
                return self.turn(State::Open, "probe-timeout", now);
            }
            let place = self
                .probing
                .iter()
                .position(|probe| *probe == began)
                .unwrap();
            self.probing.remove(place);
            if nothing {
                return None;
            }
            if good || class == RateLimited && self.config.failure_rate == 0.0 {
                self.succeeded += 1;
                let enough = self.succeeded >= self.config.half_open_probes as usize;
                return if enough {
                    self.turn(State::Closed, "probes-succeeded", now)
                } else {
                    None
                };
            }
            return self.turn(State::Open, "probe-failed", now);
        }
        if nothing {
            return None;
        }
        if self.config.failure_rate > 0.0 {
            self.ended.push((now, !good));
        }
        if good {
            self.row = 0;
            return None;
        }
        if class != RateLimited {
            self.row += 1;
            if self.config.consecutive_failures > 0 && self.row >= self.config.consecutive_failures
            {
                return self.turn(State::Open, "consecutive-failures", now);
            }
        }
        let (failed, total) = self.counts(now);
        // In integers: the rates of the strategy are whole percents.
        let percent = (self.config.failure_rate * 100.0).round() as u64;
        if percent > 0
            && total >= u64::from(self.config.minimum_calls)
            && failed * 100 >= percent * total
        {
            return self.turn(State::Open, "failure-rate", now);
        }
        None
    }

    /// The calls in this tenth of a window and the nine before.
    fn counts(&self, now: Duration) -> (u64, u64) {
        let tenth = self.config.window.as_nanos() / 10;
        let inside = |at: &Duration| at.as_nanos() / tenth + 10 > now.as_nanos() / tenth;
        let total = self.ended.iter().filter(|(at, _)| inside(at)).count();
        let failed = self
            .ended
            .iter()
            .filter(|(at, failed)| *failed && inside(at))
            .count();
        (failed as u64, total as u64)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    /// One of the calls that are under way, and how it ends.
    Finish(usize, Class),
    Call(Class),
    Advance(u64),
    /// To the very end of the open time, or to a nanosecond before.
    ToTheEnd(bool),
    Reset,
    Probes(u32),
    Rules(u32, u8),
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![
        4 => Just(Class::Failure),
        4 => Just(Class::Success),
        1 => Just(Class::Timeout),
        1 => Just(Class::Unreachable),
        1 => Just(Class::ClientFault),
        2 => Just(Class::RateLimited),
        2 => Just(Class::Cancelled),
        1 => Just(Class::Refused),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Admit),
        6 => (any::<usize>(), class()).prop_map(|(n, class)| Step::Finish(n, class)),
        8 => class().prop_map(Step::Call),
        3 => (0_u64..30).prop_map(Step::Advance),
        1 => (0_u64..4_000).prop_map(Step::Advance),
        2 => any::<bool>().prop_map(Step::ToTheEnd),
        1 => Just(Step::Reset),
        1 => (1_u32..5).prop_map(Step::Probes),
        1 => (0_u32..6, 0_u8..=100).prop_map(|(row, percent)| Step::Rules(row, percent)),
    ]
}

fn config() -> impl Strategy<Value = BreakerConfig> {
    (
        0_u32..6,
        0_u8..=100,
        1_u32..12,
        10_u64..400,
        1_u64..200,
        0_u64..400,
        1_u32..5,
        1_u64..300,
    )
        .prop_map(
            |(row, percent, minimum_calls, window, base, more, half_open_probes, timeout)| {
                BreakerConfig {
                    consecutive_failures: row,
                    failure_rate: f64::from(percent) / 100.0,
                    minimum_calls,
                    window: Duration::from_millis(window),
                    open_base: Duration::from_millis(base),
                    open_max: Duration::from_millis(base + more),
                    half_open_probes,
                    probe_timeout: Duration::from_millis(timeout),
                }
            },
        )
}

fn check(config: BreakerConfig, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(|settings| settings.clone_from(&config));
    let epoch = bench.now;
    let mut model = Model::new(config);
    let mut under_way: Vec<(Pass, Call)> = Vec::new();
    for step in steps {
        let now = bench.now - epoch;
        bench.changes.clear();
        let mut turned = None;
        match step {
            Step::Admit | Step::Call(_) => {
                let (expected, turn) = model.admit(now);
                turned = turn;
                let admitted = bench.admit();
                prop_assert_eq!(admitted.is_ok(), expected.is_some());
                match (admitted, expected) {
                    (Ok(pass), Some(call)) => {
                        prop_assert_eq!(pass.is_probe(), call.1.is_some());
                        if let Step::Call(class) = step {
                            agree(&mut model, &bench, turned, now)?;
                            bench.changes.clear();
                            turned = model.finish(call, class, now);
                            bench.finish(pass, class);
                        } else {
                            under_way.push((pass, call));
                        }
                    }
                    (Err(wait), None) => {
                        agree(&mut model, &bench, turned, now)?;
                        turned = None;
                        bench.changes.clear();
                        prop_assert_eq!(wait, model.wait(now));
                    }
                    _ => {}
                }
            }
            Step::Finish(_, _) if under_way.is_empty() => {}
            Step::Finish(n, class) => {
                let (pass, call) = under_way.swap_remove(n % under_way.len());
                turned = model.finish(call, class, now);
                bench.finish(pass, class);
            }
            Step::Advance(millis) => bench.advance(Duration::from_millis(millis)),
            Step::ToTheEnd(short) => {
                if let Some(left) = bench.snapshot().remaining {
                    bench.advance(left.saturating_sub(Duration::from_nanos(u64::from(short))));
                }
            }
            Step::Reset => {
                let was = model.state;
                let turn = model.turn(State::Closed, "reset", now);
                turned = turn.filter(|_| was != State::Closed);
                model.opens = 0;
                bench.changes.extend(bench.circuit.reset(bench.now));
            }
            Step::Probes(probes) => {
                model.config.half_open_probes = probes;
                bench.apply(model.config.clone());
            }
            Step::Rules(row, percent) => {
                model.config.consecutive_failures = row;
                // Switching the rate on or off would begin with other counts.
                if model.config.failure_rate > 0.0 {
                    model.config.failure_rate = f64::from(percent.max(1)) / 100.0;
                }
                bench.apply(model.config.clone());
            }
        }
        agree(&mut model, &bench, turned, bench.now - epoch)?;
    }
    Ok(())
}

/// Fails where the two differ; takes a drawn open time over into the model.
fn agree(
    model: &mut Model,
    bench: &Bench,
    turned: Turned,
    now: Duration,
) -> Result<(), TestCaseError> {
    let changes: Vec<_> = bench
        .changes
        .iter()
        .map(|change| (change.to, change.reason))
        .collect();
    prop_assert_eq!(&changes, &turned.into_iter().collect::<Vec<_>>());
    if let Some(open_for) = bench.changes.first().and_then(|change| change.open_for) {
        let longest = model.longest_open_time();
        prop_assert!(
            (longest / 2..=longest).contains(&open_for),
            "{:?} of {:?}",
            open_for,
            longest
        );
        model.open_for = open_for;
        model.open_until = now + open_for;
    }
    let snapshot = bench.snapshot();
    prop_assert!(bench.agreed);
    prop_assert_eq!(snapshot.state, model.state);
    prop_assert_eq!(u64::from(snapshot.opens), model.decayed(now));
    let (failed, total) = model.counts(now);
    prop_assert_eq!((snapshot.failures, snapshot.total), (failed, total));
    if model.state == State::Closed {
        prop_assert_eq!(snapshot.consecutive, model.row);
    }
    prop_assert_eq!(
        snapshot.open_for,
        (model.state == State::Open).then_some(model.open_for)
    );
    let shut = match model.state {
        State::Closed => false,
        State::Open => now < model.open_until,
        _ => model.used_up() && !model.probing.is_empty() && !model.overdue(now),
    };
    prop_assert_eq!(bench.circuit.refuses_for(bench.now).is_some(), shut);
    // A gate counts whole microseconds.
    prop_assert!(
        bench.gate_open() != shut || bench.circuit.refuses_for(bench.now).unwrap().as_micros() == 0
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("CHASSIS_LONG").is_some() { 100_000 } else { 2_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn agrees_with_the_model(config in config(), steps in prop::collection::vec(step(), 1..150)) {
        check(config, steps)?;
    }
}
