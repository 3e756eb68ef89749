//! The circuit against a model that keeps lists and counts them each time.

use proptest::prelude::*;

use super::*;

/// A call that was admitted.
#[derive(Clone, Copy, Debug)]
struct Call {
    generation: u32,
    began: Duration,
    probe: bool,
    counted: bool,
    /// Whether it was slow to its head, once that is there.
    head: Option<bool>,
    /// The head was good and in time.
    good: bool,
}

struct Ended {
    at: Duration,
    failed: bool,
    slow: bool,
}

struct Model {
    config: BreakerConfig,
    state: State,
    generation: u32,
    /// The calls of this closed time that were counted.
    ended: Vec<Ended>,
    /// The last tenth of a window in which one was.
    last: u128,
    row: u32,
    failed_at: Duration,
    opens: u64,
    closed_since: Duration,
    /// Open, recovering: until when. `None` is for ever.
    until: Option<Duration>,
    open_for: Duration,
    asked: Option<Duration>,
    /// When each began, and whether its head was good.
    probing: Vec<(Duration, bool)>,
    succeeded: u32,
    failed: u32,
    /// How long the recovery that runs takes, whatever the settings say by now.
    recovery: Duration,
    /// The shares of a ramp, in parts of 2^64.
    shares: u128,
    mode: Mode,
    mode_until: Option<Duration>,
    quiet_until: Duration,
}

/// What the model says a step did. An open time is drawn, so that the model takes it over once
/// checked.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Turn {
    to: State,
    reason: &'static str,
    would: bool,
    released: bool,
}

type Turned = Option<Turn>;

impl Model {
    fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed,
            generation: 0,
            ended: Vec::new(),
            last: 0,
            row: 0,
            failed_at: Duration::ZERO,
            opens: 0,
            closed_since: Duration::ZERO,
            until: None,
            open_for: Duration::ZERO,
            asked: None,
            probing: Vec::new(),
            succeeded: 0,
            failed: 0,
            recovery: Duration::ZERO,
            shares: 0,
            mode: Mode::Auto,
            mode_until: None,
            quiet_until: Duration::ZERO,
        }
    }

    fn counts_calls(&self) -> bool {
        !matches!(self.state, State::Open | State::HalfOpen)
    }

    fn decayed(&self, now: Duration) -> u64 {
        let windows = (now - self.closed_since).as_nanos() / self.config.window.as_nanos();
        if self.counts_calls() {
            self.opens.saturating_sub(windows as u64)
        } else {
            self.opens
        }
    }

    /// Goes on with nothing counted.
    fn enter(&mut self, to: State, now: Duration) {
        self.opens = self.decayed(now);
        self.state = to;
        if self.counts_calls() {
            self.closed_since = now;
        }
        self.generation += 1;
        (self.row, self.succeeded, self.failed) = (0, 0, 0);
        self.ended.clear();
        self.probing.clear();
    }

    fn turn(&mut self, to: State, reason: &'static str, now: Duration) -> Turned {
        self.enter(to, now);
        if to == State::Open {
            self.opens += 1;
        }
        let expired = self.mode != Mode::Auto && self.effective(now) == Mode::Auto;
        if expired {
            self.mode = Mode::Auto;
        }
        Some(Turn {
            to,
            reason,
            would: false,
            released: expired,
        })
    }

    fn effective(&self, now: Duration) -> Mode {
        match self.mode_until {
            Some(until) if now >= until => Mode::Auto,
            _ => self.mode,
        }
    }

    fn trip(&mut self, reason: &'static str, now: Duration) -> Turned {
        match self.effective(now) {
            Mode::Auto => self.turn(State::Open, reason, now),
            Mode::ObserveOnly if now >= self.quiet_until => Some(Turn {
                to: State::Open,
                reason,
                would: true,
                released: false,
            }),
            _ => None,
        }
    }

    fn force(&mut self, mode: Mode, lasts: Option<Duration>, now: Duration) -> Turned {
        let (was, before) = (self.mode, self.state);
        self.mode = mode;
        self.mode_until = lasts.map(|lasts| now + lasts);
        self.quiet_until = Duration::ZERO;
        match (mode, was) {
            (Mode::ForcedOpen, _) => {
                self.enter(State::Open, now);
                self.open_for = Duration::ZERO;
                self.until = self.mode_until;
            }
            (Mode::Disabled, _) => {
                self.enter(State::Disabled, now);
                self.until = self.mode_until;
            }
            (Mode::ForcedClosed | Mode::ObserveOnly, _) if before != State::Closed => {
                self.enter(State::Closed, now);
            }
            (Mode::Auto, Mode::ForcedOpen) if before == State::Open => self.until = Some(now),
            (Mode::Auto, Mode::Disabled) if before == State::Disabled => {
                self.enter(State::Closed, now);
            }
            _ => {}
        }
        (self.state != before).then_some(Turn {
            to: self.state,
            reason: if mode == Mode::Auto {
                "released"
            } else {
                "forced"
            },
            would: false,
            released: false,
        })
    }

    fn longest_open_time(&self, opens: u64) -> Duration {
        let mut longest = self.config.open_base;
        for _ in 1..opens {
            longest = (longest * 2).min(self.config.open_max);
        }
        longest.min(self.config.open_max)
    }

    fn due(&self, began: Duration) -> Duration {
        began + self.config.probe_timeout
    }

    fn overdue(&self, now: Duration) -> bool {
        self.probing
            .iter()
            .any(|(began, _)| self.due(*began) <= now)
    }

    fn used_up(&self) -> bool {
        let over = self.succeeded + self.failed;
        self.probing.len() + over as usize >= self.config.half_open_probes as usize
    }

    fn needed(&self) -> u32 {
        // In integers: the shares of the strategy are whole percents.
        let percent = (self.config.half_open_success * 100.0).round() as u32;
        (percent * self.config.half_open_probes).div_ceil(100)
    }

    fn is_over(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// Whether every call is refused.
    fn is_shut(&self, now: Duration) -> bool {
        match self.state {
            State::Open => !self.is_over(now),
            State::HalfOpen => self.used_up() && !self.probing.is_empty() && !self.overdue(now),
            _ => false,
        }
    }

    /// How long a call is refused that did not pass.
    fn wait(&self, now: Duration) -> Duration {
        match self.state {
            State::HalfOpen => {
                let due = self.probing.iter().map(|(began, _)| self.due(*began) - now);
                due.min().unwrap()
            }
            _ => self.until.map_or(Duration::MAX, |until| until - now),
        }
    }

    fn decide(&mut self, reason: &'static str, now: Duration) -> Turned {
        if self.failed > self.config.half_open_probes - self.needed() {
            return self.turn(State::Open, reason, now);
        }
        if self.succeeded < self.needed() {
            return None;
        }
        let to = if self.config.recovery.is_zero() {
            State::Closed
        } else {
            self.recovery = self.config.recovery;
            self.until = Some(now + self.recovery);
            self.shares = u128::from(u64::MAX);
            State::Recovering
        };
        self.turn(to, "probes-succeeded", now)
    }

    fn hear_overdue(&mut self, now: Duration) -> Turned {
        let timeout = self.config.probe_timeout;
        let over = self
            .probing
            .iter()
            .filter(|(began, _)| *began + timeout <= now);
        let (ok, failed): (Vec<_>, Vec<_>) = over.map(|(_, good)| *good).partition(|good| *good);
        if ok.is_empty() && failed.is_empty() {
            return None;
        }
        self.succeeded += ok.len() as u32;
        self.failed += failed.len() as u32;
        self.probing.retain(|(began, _)| *began + timeout > now);
        self.decide("probe-timeout", now)
    }

    fn share(&self, now: Duration) -> u128 {
        let length = self.recovery.as_nanos();
        let left = (self.until.unwrap() - now).as_nanos();
        let percent = (self.config.recovery_from * 100.0).round();
        let from = percent * 1e4 / 1e6;
        let gone = length.saturating_sub(left) as f64 / length as f64;
        let gone = if self.config.recovery_aggression == 1.0 {
            gone
        } else {
            gone.powf(1.0 / self.config.recovery_aggression)
        };
        let share = if self.config.recovery.is_zero() {
            1.0
        } else {
            from + (1.0 - from) * gone
        };
        u128::from((share * 2_f64.powi(64)) as u64)
    }

    fn admit(&mut self, now: Duration) -> (Option<Call>, Turned) {
        if self.is_shut(now) {
            return (None, None);
        }
        let turned = match self.state {
            State::Open => self.turn(State::HalfOpen, "open-time-over", now),
            State::Disabled if self.is_over(now) => self.turn(State::Closed, "released", now),
            State::Recovering if self.is_over(now) => {
                self.state = State::Closed;
                Some(Turn {
                    to: State::Closed,
                    reason: "recovered",
                    would: false,
                    released: false,
                })
            }
            State::HalfOpen => match self.hear_overdue(now) {
                None if self.probing.is_empty() && self.used_up() => {
                    self.decide("probe-failed", now)
                }
                turned => turned,
            },
            _ => None,
        };
        let mut call = Call {
            generation: self.generation,
            began: now,
            probe: false,
            counted: true,
            head: None,
            good: false,
        };
        let passes = match self.state {
            State::Closed => true,
            State::Disabled => {
                call.counted = false;
                true
            }
            State::Recovering => {
                let before = self.shares >> 64;
                self.shares += self.share(now);
                self.shares >> 64 > before
            }
            State::HalfOpen if !self.used_up() => {
                self.probing.push((now, false));
                call.probe = true;
                true
            }
            _ => false,
        };
        (passes.then_some(call), turned)
    }

    fn judges_slowness(&self) -> bool {
        !self.config.slow_call.is_zero() && self.config.slow_rate > 0.0
    }

    fn is_slow(&self, call: &Call, now: Duration) -> bool {
        self.judges_slowness()
            && (call.head).unwrap_or_else(|| now - call.began > self.config.slow_call)
    }

    fn head(&mut self, call: &mut Call, good: bool, now: Duration) {
        let slow = self.is_slow(call, now);
        call.head = Some(slow);
        if good
            && !slow
            && call.probe
            && call.generation == self.generation
            && now < self.due(call.began)
        {
            let waited = (call.began, false);
            if let Some(place) = self.probing.iter().position(|probe| *probe == waited) {
                self.probing[place].1 = true;
                call.good = true;
            }
        }
    }

    fn finish(
        &mut self,
        call: Call,
        class: Class,
        asked: Option<Duration>,
        now: Duration,
    ) -> Turned {
        use Class::{Cancelled, ClientFault, RateLimited, Refused, Success};
        if call.generation != self.generation || !call.counted {
            return None;
        }
        let good = matches!(class, Success | ClientFault);
        let nothing = matches!(class, Cancelled | Refused);
        let slow = self.is_slow(&call, now);
        self.asked = asked;
        if call.probe {
            if let turned @ Some(_) = self.hear_overdue(now) {
                self.asked = None;
                return turned;
            }
            let probe = (call.began, call.good);
            let place = self.probing.iter().position(|other| *other == probe);
            if let Some(place) = place {
                self.probing.remove(place);
            }
            if nothing || place.is_none() && !call.good {
                return None;
            }
            if asked.is_some() {
                return self.turn(State::Open, "verdict", now);
            }
            let limited = class == RateLimited;
            let ok = good && !slow || limited && self.config.failure_rate == 0.0;
            match (place.is_some(), ok) {
                (true, true) => self.succeeded += 1,
                (true, false) => self.failed += 1,
                (false, true) => {}
                (false, false) => {
                    self.succeeded -= 1;
                    self.failed += 1;
                }
            }
            return self.decide(if good { "probe-slow" } else { "probe-failed" }, now);
        }
        if nothing {
            return None;
        }
        if good {
            self.row = 0;
        } else if class != RateLimited {
            let silent = call.began > self.failed_at + self.config.window;
            self.row = if silent { 1 } else { self.row + 1 };
            self.failed_at = now;
        }
        if self.config.failure_rate > 0.0 || self.judges_slowness() {
            self.count(call.began, now, !good, slow);
        }
        let bad = !good && class != RateLimited;
        let reason = self.broken(bad, !good, slow, now);
        match reason.or(asked.map(|_| "verdict")) {
            Some(reason) => self.trip(reason, now),
            None => None,
        }
    }

    fn broken(&self, bad: bool, failed: bool, slow: bool, now: Duration) -> Option<&'static str> {
        let row = self.config.consecutive_failures;
        if bad && row > 0 && self.row >= row {
            return Some("consecutive-failures");
        }
        let (failures, slow_ones, total) = self.counts(now);
        let mut minimum = u64::from(self.config.minimum_calls);
        if self.config.window_type == WindowType::Count {
            minimum = minimum.min(u64::from(self.config.window_calls));
        }
        if self.state == State::Recovering {
            minimum = minimum.div_ceil(2);
        }
        // In integers: the rates of the strategy are whole percents.
        let over = |part: u64, rate: f64| {
            let percent = (rate * 100.0).round() as u64;
            percent > 0 && total >= minimum && part * 100 >= percent * total
        };
        if failed && over(failures, self.config.failure_rate) {
            return Some("failure-rate");
        }
        (slow && over(slow_ones, self.config.slow_rate)).then_some("slow-rate")
    }

    fn tenth(&self, at: Duration) -> u128 {
        at.as_nanos() / (self.config.window.as_nanos() / 10)
    }

    fn count(&mut self, began: Duration, now: Duration, failed: bool, slow: bool) {
        if self.tenth(now) > self.last {
            let silent = self.tenth(began) > self.last + 10;
            if silent && self.config.window_type == WindowType::Count {
                self.ended.clear();
            }
            self.last = self.tenth(now);
        }
        let at = now;
        self.ended.push(Ended { at, failed, slow });
    }

    /// The failed, the slow and all of the last calls, or of those in this tenth of a window and the nine before.
    fn counts(&self, now: Duration) -> (u64, u64, u64) {
        let skipped = match self.config.window_type {
            WindowType::Count => {
                (self.ended.len()).saturating_sub(self.config.window_calls as usize)
            }
            WindowType::Time => {
                let out = |ended: &&Ended| self.tenth(ended.at) + 10 <= self.tenth(now);
                self.ended.iter().take_while(out).count()
            }
        };
        let inside = &self.ended[skipped..];
        let failed = inside.iter().filter(|ended| ended.failed).count();
        let slow = inside.iter().filter(|ended| ended.slow).count();
        (failed as u64, slow as u64, inside.len() as u64)
    }

    fn apply(&mut self, change: impl FnOnce(&mut BreakerConfig)) {
        let before = self.config.clone();
        change(&mut self.config);
        let shape = |config: &BreakerConfig| match config.window_type {
            WindowType::Time => (config.window, None),
            WindowType::Count => (config.window, Some(config.window_calls)),
        };
        if shape(&before) != shape(&self.config) {
            self.ended.clear();
            self.last = 0;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    /// The head of one of the calls that are under way.
    Head(usize, bool),
    /// One of the calls that are under way, how it ends, and for how long it asks to be left alone.
    Finish(usize, Class, Option<u64>),
    Call(Class),
    Advance(u64),
    /// To the very end of the open time, or to a nanosecond before.
    ToTheEnd(bool),
    Reset,
    Force(Mode, Option<u64>),
    Probes(u32, u8),
    Rules(u32, u8, u8),
    Window(bool, u32, u64),
    Recovery(u64),
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

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        3 => Just(Mode::Auto),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::ForcedClosed),
        1 => Just(Mode::Disabled),
        1 => Just(Mode::ObserveOnly),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let asked = prop_oneof![30 => Just(None), 1 => (1_u64..400_000).prop_map(Some)];
    // Not for no time: a gate knows no microsecond before its second one.
    let lasts = prop_oneof![Just(None), (1_u64..500).prop_map(Some)];
    prop_oneof![
        12 => Just(Step::Admit),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, good)| Step::Head(n, good)),
        12 => (any::<usize>(), class(), asked).prop_map(|(n, class, asked)| Step::Finish(n, class, asked)),
        16 => class().prop_map(Step::Call),
        6 => (0_u64..30).prop_map(Step::Advance),
        2 => (0_u64..4_000).prop_map(Step::Advance),
        4 => any::<bool>().prop_map(Step::ToTheEnd),
        1 => Just(Step::Reset),
        2 => (mode(), lasts).prop_map(|(mode, lasts)| Step::Force(mode, lasts)),
        1 => (1_u32..5, 1_u8..=100).prop_map(|(probes, percent)| Step::Probes(probes, percent)),
        2 => (0_u32..6, 0_u8..=100, 0_u8..=100).prop_map(|(row, rate, slow)| Step::Rules(row, rate, slow)),
        1 => (any::<bool>(), 1_u32..30, 1_u64..40).prop_map(|(count, calls, window)| Step::Window(count, calls, window)),
        1 => (0_u64..300).prop_map(Step::Recovery),
    ]
}

fn config() -> impl Strategy<Value = BreakerConfig> {
    let rules = (0_u32..6, 0_u8..=100, 0_u8..=100, 0_u64..20, 1_u32..12);
    let window = (any::<bool>(), 1_u32..30, 1_u64..40);
    let open = (1_u64..200, 0_u64..400);
    let probes = (1_u32..5, 1_u8..=100, 1_u64..300);
    let all_probes = prop_oneof![Just(true), Just(false)];
    let recovery = (0_u64..300, any::<bool>(), 0_u8..=100, 0_usize..3);
    (rules, window, open, probes, all_probes, recovery).prop_map(
        |(rules, window, open, probes, all_probes, recovery)| {
            let (row, rate, slow_rate, slow, minimum_calls) = rules;
            let (count, window_calls, window) = window;
            let (half_open_probes, share, timeout) = probes;
            let (length, ramp, from, aggression) = recovery;
            BreakerConfig {
                consecutive_failures: row,
                failure_rate: f64::from(rate) / 100.0,
                slow_call: Duration::from_millis(slow),
                slow_rate: f64::from(slow_rate) / 100.0,
                minimum_calls,
                window_type: kind(count),
                window_calls,
                window: Duration::from_millis(window * 10),
                open_base: Duration::from_millis(open.0),
                open_max: Duration::from_millis(open.0 + open.1),
                open_on_retry_after: false,
                half_open_probes,
                half_open_success: if all_probes {
                    1.0
                } else {
                    f64::from(share) / 100.0
                },
                probe_timeout: Duration::from_millis(timeout),
                recovery: Duration::from_millis(if ramp { length } else { 0 }),
                recovery_from: f64::from(from) / 100.0,
                recovery_aggression: [0.5, 1.0, 2.0][aggression],
            }
        },
    )
}

fn kind(count: bool) -> WindowType {
    if count {
        WindowType::Count
    } else {
        WindowType::Time
    }
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
        model.asked = None;
        match step {
            Step::Admit | Step::Call(_) => {
                let (expected, turn) = model.admit(now);
                turned = turn;
                let admitted = bench.admit();
                prop_assert_eq!(admitted.is_ok(), expected.is_some());
                match (admitted, expected) {
                    (Ok(pass), Some(call)) => {
                        prop_assert_eq!(pass.is_probe(), call.probe);
                        if let Step::Call(class) = step {
                            agree(&mut model, &bench, turned, now)?;
                            bench.changes.clear();
                            turned = model.finish(call, class, None, now);
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
            Step::Finish(..) | Step::Head(..) if under_way.is_empty() => {}
            Step::Head(n, good) => {
                let n = n % under_way.len();
                let (pass, call) = &mut under_way[n];
                if call.head.is_none() {
                    model.head(call, good, now);
                    bench.head(pass, good);
                }
            }
            Step::Finish(n, class, asked) => {
                let (pass, call) = under_way.swap_remove(n % under_way.len());
                let asked = asked.map(Duration::from_millis);
                turned = model.finish(call, class, asked, now);
                bench.finish_asking(pass, class, asked);
            }
            Step::Advance(millis) => bench.advance(Duration::from_millis(millis)),
            Step::ToTheEnd(short) => {
                let snapshot = bench.snapshot();
                let left = (snapshot.remaining)
                    .or(snapshot.recovers_in)
                    .or(snapshot.mode_left);
                if let Some(left) = left {
                    bench.advance(left.saturating_sub(Duration::from_nanos(u64::from(short))));
                }
            }
            Step::Reset => {
                let was = model.state;
                model.opens = 0;
                model.mode = Mode::Auto;
                let turn = model.turn(State::Closed, "reset", now);
                turned = turn.filter(|_| was != State::Closed);
                bench.changes.extend(bench.circuit.reset(bench.now));
            }
            Step::Force(mode, lasts) => {
                let lasts = lasts.map(Duration::from_millis);
                turned = model.force(mode, lasts, now);
                bench.force(mode, lasts);
            }
            Step::Probes(probes, percent) => {
                model.apply(|config| {
                    config.half_open_probes = probes;
                    config.half_open_success = f64::from(percent) / 100.0;
                });
            }
            Step::Rules(row, rate, slow) => model.apply(|config| {
                config.consecutive_failures = row;
                config.failure_rate = f64::from(rate) / 100.0;
                config.slow_rate = f64::from(slow) / 100.0;
            }),
            Step::Window(count, calls, window) => model.apply(|config| {
                config.window_type = kind(count);
                config.window_calls = calls;
                config.window = Duration::from_millis(window * 10);
            }),
            Step::Recovery(millis) => {
                model.apply(|config| config.recovery = Duration::from_millis(millis));
            }
        }
        if matches!(
            step,
            Step::Probes(..) | Step::Rules(..) | Step::Window(..) | Step::Recovery(_)
        ) {
            bench.apply(model.config.clone());
        }
        agree(&mut model, &bench, turned, bench.now - epoch)?;
    }
    closes(bench, &model.config)
}

/// Wherever it is, and if none of the calls that are under way ever ends: it closes for a service that is well.
fn closes(mut bench: Bench, config: &BreakerConfig) -> Result<(), TestCaseError> {
    bench.force(Mode::Auto, None);
    for _ in 0..2 * config.half_open_probes + 6 {
        if bench.state() == State::Closed {
            return Ok(());
        }
        bench.advance(SECOND * 300 + config.probe_timeout + config.recovery);
        if let Ok(pass) = bench.admit() {
            bench.finish(pass, Class::Success);
        }
    }
    prop_assert_eq!(bench.state(), State::Closed, "wedged");
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
        .map(|change| Turn {
            to: change.to,
            reason: change.reason,
            would: change.would,
            released: change.released,
        })
        .collect();
    prop_assert_eq!(&changes, &turned.into_iter().collect::<Vec<_>>());
    let opened = bench
        .changes
        .first()
        .filter(|change| change.reason != "forced");
    if let Some(change) = opened
        && let Some(open_for) = change.open_for
    {
        let longest = model.longest_open_time(if change.would { 1 } else { model.opens });
        let asked = model.asked.take().map(|asked| asked.min(SECOND * 300));
        let range = match asked {
            Some(asked) if change.reason == "verdict" => asked..=asked,
            Some(asked) => asked.max(longest / 2)..=asked.max(longest),
            None => longest / 2..=longest,
        };
        prop_assert!(range.contains(&open_for), "{:?} in {:?}", open_for, range);
        if change.would {
            model.quiet_until = now + open_for;
        } else {
            model.open_for = open_for;
            model.until = Some(now + open_for);
        }
    }
    let snapshot = bench.snapshot();
    prop_assert!(bench.agreed);
    prop_assert_eq!(snapshot.state, model.state);
    prop_assert_eq!(u64::from(snapshot.opens), model.decayed(now));
    let (failed, slow, total) = model.counts(now);
    prop_assert_eq!(
        (snapshot.failures, snapshot.slow, snapshot.total),
        (failed, slow, total)
    );
    prop_assert_eq!(snapshot.consecutive, model.row);
    prop_assert_eq!(snapshot.probes, model.probing.len());
    prop_assert!(snapshot.probes <= model.config.half_open_probes.max(4) as usize);
    let open_for =
        Some(model.open_for).filter(|time| model.state == State::Open && !time.is_zero());
    prop_assert_eq!(snapshot.open_for, open_for);
    prop_assert_eq!(snapshot.mode, model.effective(now));
    let shut = model.is_shut(now);
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
