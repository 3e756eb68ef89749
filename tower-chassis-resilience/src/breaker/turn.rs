//! What changes a circuit: transitions, probes and settings, one at a time under its lock.

use std::{
    sync::{
        MutexGuard, PoisonError,
        atomic::Ordering::{Relaxed, Release},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::Class;

use super::{
    BreakerPolicy, Mode,
    circuit::{BY_RATE, BY_SLOWNESS, Circuit, wait},
    cold::{Cold, FOREVER, NEVER, Probe, nanos},
    state::{
        Change, FORCED, OPEN_TIME_OVER, PROBE_FAILED, PROBE_SLOW, PROBE_TIMEOUT, PROBES_SUCCEEDED,
        Pass, RECOVERED, RELEASED, RESET, Snapshot, State, VERDICT, Weight, Word, weigh,
    },
};

/// However long a service asks to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

impl Circuit {
    /// Puts other settings in force. The state, the counts, an open time that runs and what was forced stay.
    pub(super) fn apply(&self, policy: &BreakerPolicy) {
        let config = policy.config();
        let mut cold = self.lock();
        let (rate, slow) = (policy.rate_ppm(), policy.slow_ppm());
        self.consecutive.store(config.consecutive_failures, Relaxed);
        self.rate_ppm.store(rate, Relaxed);
        self.slow_ppm.store(slow, Relaxed);
        self.slow_over.store(nanos(config.slow_call), Relaxed);
        let by_rate = if rate > 0 { BY_RATE } else { 0 };
        let by_slowness = if slow > 0 { BY_SLOWNESS } else { 0 };
        self.rules.store(by_rate | by_slowness, Relaxed);
        self.minimum.store(policy.minimum(), Relaxed);
        self.permits.store(config.half_open_probes, Relaxed);
        self.needed.store(policy.needed(), Relaxed);
        self.ramp.apply(config);
        let word = self.word();
        self.window
            .resize(config.window, policy.calls(), word.generation);
        cold.apply(config);
        if word.state == State::HalfOpen {
            self.publish_half_open(&cold, word);
        }
    }

    #[cold]
    pub(super) fn admit_turning(&self, now: u64) -> (Result<Pass, Duration>, Option<Change>) {
        let mut cold = self.lock();
        let mut word = self.word();
        let change = self.catch_up(&mut cold, &mut word, now);
        let until = self.until.load(Relaxed);
        let admitted = match word.state {
            State::Closed => Ok(Pass::of_call(word.generation, now)),
            State::Disabled => Ok(Pass::uncounted(word.generation, now)),
            State::Recovering => self.admit_recovering(word, until.saturating_sub(now), now),
            State::Open => Err(wait(until, now)),
            State::HalfOpen if word.admitted >= self.permits.load(Relaxed) => Err(wait(until, now)),
            State::HalfOpen => {
                word.admitted += 1;
                cold.probes.push(Probe {
                    began: now,
                    headed: false,
                });
                self.publish_half_open(&cold, word);
                Ok(Pass::of_probe(word.generation, now))
            }
        };
        (admitted, change)
    }

    /// What time alone, or a change of settings, has brought about.
    fn catch_up(&self, cold: &mut Cold, word: &mut Word, now: u64) -> Option<Change> {
        let over = now >= self.until.load(Relaxed);
        let released = cold.mode != Mode::Auto && now >= cold.mode_until;
        let mut change = match word.state {
            State::Open if over => {
                *word = word.next(State::HalfOpen);
                self.publish_half_open(cold, *word);
                Change::to(State::HalfOpen, OPEN_TIME_OVER)
            }
            State::Recovering if over => {
                // Of the same generation: what was counted is of now.
                word.state = State::Closed;
                self.publish(*word, NEVER, false);
                Change::to(State::Closed, RECOVERED)
            }
            State::Disabled if over => {
                self.close(cold, word, now);
                Change::to(State::Closed, RELEASED)
            }
            State::HalfOpen => {
                let overdue = self.overdue(cold, word, now);
                // Fewer probes are asked for by now, perhaps, and that many have been.
                let enough = || word.admitted >= self.permits.load(Relaxed);
                return match overdue {
                    None if cold.probes.is_empty() && enough() => {
                        self.decide(cold, word, now, PROBE_FAILED)
                    }
                    overdue => overdue,
                };
            }
            _ => return None,
        };
        if released {
            cold.mode = Mode::Auto;
            change.released = true;
        }
        Some(change)
    }

    #[cold]
    pub(super) fn finish_probe(
        &self,
        pass: Pass,
        class: Class,
        slow: bool,
        asked: Option<Duration>,
        now: u64,
    ) -> Option<Change> {
        let mut cold = self.lock();
        let mut word = self.word();
        if word.generation != pass.generation || word.state != State::HalfOpen {
            return None;
        }
        // This one or another took too long, whatever it says now; or enough have succeeded.
        if let Some(change) = self.overdue(&mut cold, &mut word, now) {
            return Some(change);
        }
        let probe = Probe {
            began: pass.began,
            headed: pass.is_good(),
        };
        let place = cold.probes.iter().position(|other| *other == probe);
        // If it is not there, its time is over: with a good head and a long body it counts as a success by now, else
        // as a failure.
        let counted = place.map(|place| cold.probes.swap_remove(place)).is_none();
        if counted && !pass.is_good() {
            return None;
        }
        let (failed, reason) = match weigh(class) {
            Weight::Nothing => {
                if !counted {
                    word.admitted = word.admitted.saturating_sub(1);
                    self.publish_half_open(&cold, word);
                }
                return None;
            }
            Weight::Bad => (true, PROBE_FAILED),
            Weight::Limited => (self.rate_ppm.load(Relaxed) > 0, PROBE_FAILED),
            Weight::Good => (slow, PROBE_SLOW),
        };
        if asked.is_some() {
            return Some(self.open(&mut cold, &mut word, now, VERDICT, asked));
        }
        match (counted, failed) {
            (false, false) => word.ok += 1,
            (false, true) => word.failed += 1,
            (true, false) => {}
            (true, true) => {
                word.ok = word.ok.saturating_sub(1);
                word.failed += 1;
            }
        }
        let change = self.decide(&mut cold, &mut word, now, reason);
        if change.is_none() {
            self.publish_half_open(&cold, word);
        }
        change
    }

    /// The head of a probe's answer is good. The deadline was for that: a body may be long, and how fast it is
    /// read is up to the caller. A head that comes after it does not count, however good.
    #[cold]
    pub(super) fn head_probe(&self, pass: &mut Pass, now: u64) {
        let mut cold = self.lock();
        let waited = Probe {
            began: pass.began,
            headed: false,
        };
        if self.word().generation == pass.generation
            && now < cold.due(pass.began)
            && let Some(place) = cold.probes.iter().position(|other| *other == waited)
        {
            pass.set_good();
            cold.probes[place].headed = true;
        }
    }

    /// Probes that have had their time: without a good head they have failed, with one they count as
    /// succeeded, for all that their bodies go on.
    fn overdue(&self, cold: &mut Cold, word: &mut Word, now: u64) -> Option<Change> {
        if now < cold.overdue_at() {
            return None;
        }
        let timeout = nanos(cold.probe_timeout);
        let (mut ok, mut failed) = (0, 0);
        cold.probes.retain(|probe| {
            let waits = now < probe.began.saturating_add(timeout);
            ok += u32::from(!waits && probe.headed);
            failed += u32::from(!waits && !probe.headed);
            waits
        });
        word.ok += ok;
        word.failed += failed;
        let change = self.decide(cold, word, now, PROBE_TIMEOUT);
        if change.is_none() {
            self.publish_half_open(cold, *word);
        }
        change
    }

    /// Whether the probes that are over say enough.
    fn decide(
        &self,
        cold: &mut Cold,
        word: &mut Word,
        now: u64,
        reason: &'static str,
    ) -> Option<Change> {
        let needed = self.needed.load(Relaxed);
        if word.failed > self.permits.load(Relaxed).saturating_sub(needed) {
            return Some(self.open(cold, word, now, reason, None));
        }
        if word.ok < needed {
            return None;
        }
        let recovery = self.ramp.length();
        if recovery == 0 {
            self.close(cold, word, now);
            return Some(Change::to(State::Closed, PROBES_SUCCEEDED));
        }
        self.ramp.restart();
        self.begin(cold, word, now, State::Recovering, now + recovery);
        Some(Change::to(State::Recovering, PROBES_SUCCEEDED))
    }

    /// Opens it, unless something is forced that says otherwise.
    #[cold]
    pub(super) fn trip(
        &self,
        generation: u32,
        now: u64,
        reason: &'static str,
        asked: Option<Duration>,
    ) -> Option<Change> {
        if now < self.held.load(Relaxed) {
            return None;
        }
        let mut cold = self.lock();
        let mut word = self.word();
        if word.generation != generation || now < self.held.load(Relaxed) {
            return None;
        }
        let released = cold.mode != Mode::Auto && now >= cold.mode_until;
        match cold.mode(now) {
            Mode::Auto => {}
            Mode::ObserveOnly => {
                // It is quiet for as long as it would have been open.
                let mut change = Change::to(State::Open, reason);
                let open_for = cold.open_time(1, asked, reason == VERDICT);
                let until = now.saturating_add(nanos(open_for));
                self.held.store(until.min(cold.mode_until), Relaxed);
                (change.would, change.open_for) = (true, Some(open_for));
                return Some(change);
            }
            _ => return None,
        }
        if released {
            cold.mode = Mode::Auto;
        }
        let mut change = self.open(&mut cold, &mut word, now, reason, asked);
        change.released = released;
        Some(change)
    }

    /// Says over the rules what it does, for so long. `None` if its state stays.
    pub(super) fn force(
        &self,
        mode: Mode,
        lasts: Option<Duration>,
        inherited: bool,
        now: Instant,
    ) -> Option<Change> {
        let now = self.since(now);
        let mut cold = self.lock();
        let mut word = self.word();
        let was = std::mem::replace(&mut cold.mode, mode);
        let until = lasts.map_or(FOREVER, |lasts| {
            now.saturating_add(nanos(lasts)).min(FOREVER - 1)
        });
        cold.mode_until = until;
        cold.inherited = inherited && mode != Mode::Auto;
        self.held
            .store(if mode == Mode::ForcedClosed { until } else { 0 }, Relaxed);
        let before = word.state;
        let reason = if mode == Mode::Auto { RELEASED } else { FORCED };
        match (mode, was) {
            (Mode::ForcedOpen, _) => {
                cold.opens = cold.opens_of(before, now);
                cold.open_for = Duration::ZERO;
                cold.probes.clear();
                word = word.next(State::Open);
                self.publish(word, until, true);
            }
            (Mode::Disabled, _) => self.begin(&mut cold, &mut word, now, State::Disabled, until),
            (Mode::ForcedClosed | Mode::ObserveOnly, _) if before != State::Closed => {
                self.close(&mut cold, &mut word, now);
            }
            // The next call tries it.
            (Mode::Auto, Mode::ForcedOpen) if before == State::Open => {
                self.publish(word, now, false);
            }
            (Mode::Auto, Mode::Disabled) if before == State::Disabled => {
                self.close(&mut cold, &mut word, now);
            }
            _ => {}
        }
        let mut change = Change::to(word.state, reason);
        change.open_for = (mode == Mode::ForcedOpen).then_some(lasts).flatten();
        (word.state != before).then_some(change)
    }

    /// What is forced, and until when.
    pub(super) fn mode(&self, now: Instant) -> (Mode, Option<Duration>) {
        let (now, cold) = (self.since(now), self.lock());
        cold.mode_left(now)
    }

    /// Closes it and forgets all that was, what was forced as well. `None` if it was closed.
    pub(super) fn reset(&self, now: Instant) -> Option<Change> {
        let mut cold = self.lock();
        let mut word = self.word();
        let before = word.state;
        cold.opens = 0;
        cold.mode = Mode::Auto;
        cold.inherited = false;
        self.held.store(0, Relaxed);
        self.close(&mut cold, &mut word, self.since(now));
        (before != State::Closed).then_some(Change::to(State::Closed, RESET))
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        let now = self.since(now);
        let cold = self.lock();
        let word = self.word();
        let until = self.until.load(Relaxed);
        let counts = self.window.counts(word.generation, now);
        let (mode, mode_left) = cold.mode_left(now);
        let is = |state: State| word.state == state;
        let left = (until != FOREVER).then(|| wait(until, now));
        Snapshot {
            state: word.state,
            failures: counts.failed,
            slow: counts.slow,
            total: counts.total,
            consecutive: self.run.length(word.generation),
            opens: cold.opens_of(word.state, now),
            open_for: Some(cold.open_for).filter(|time| is(State::Open) && !time.is_zero()),
            remaining: left.filter(|_| is(State::Open)),
            recovers_in: left.filter(|_| is(State::Recovering)),
            probes: cold.probes.len(),
            mode,
            mode_left,
        }
    }

    // The lock is held by those who call these.

    fn open(
        &self,
        cold: &mut Cold,
        word: &mut Word,
        now: u64,
        reason: &'static str,
        asked: Option<Duration>,
    ) -> Change {
        cold.opens = cold.opens_of(word.state, now).saturating_add(1);
        cold.open_for = cold.open_time(cold.opens, asked, reason == VERDICT);
        cold.probes.clear();
        let until = now.saturating_add(nanos(cold.open_for)).min(FOREVER - 1);
        *word = word.next(State::Open);
        self.publish(*word, until, true);
        Change {
            open_for: Some(cold.open_for),
            ..Change::to(State::Open, reason)
        }
    }

    fn close(&self, cold: &mut Cold, word: &mut Word, now: u64) {
        self.begin(cold, word, now, State::Closed, NEVER);
    }

    /// Calls pass from now on, and nothing is counted yet.
    fn begin(&self, cold: &mut Cold, word: &mut Word, now: u64, state: State, until: u64) {
        cold.opens = cold.opens_of(word.state, now);
        cold.closed_since = now;
        cold.probes.clear();
        *word = word.next(state);
        self.window.clear(word.generation);
        self.publish(*word, until, false);
    }

    fn publish_half_open(&self, cold: &Cold, word: Word) {
        let until = cold.overdue_at();
        self.publish(
            word,
            until,
            word.admitted >= self.permits.load(Relaxed) && until != NEVER,
        );
    }

    /// `until` before the word: who reads the new word reads a time at least as new.
    fn publish(&self, word: Word, until: u64, shut: bool) {
        self.until.store(until, Release);
        self.word.store(word.pack(), Release);
        if let Some(gate) = &self.gate {
            match until {
                _ if !shut => gate.open(),
                FOREVER => gate.shut(),
                until => gate.shut_until(self.epoch + Duration::from_nanos(until)),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cold> {
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn word(&self) -> Word {
        Word::unpack(self.word.load(Relaxed))
    }
}

impl Cold {
    /// The step of the open time in a state.
    fn opens_of(&self, state: State, now: u64) -> u32 {
        match state {
            State::Open | State::HalfOpen => self.opens,
            State::Closed | State::Recovering | State::Disabled => self.opens(now),
        }
    }

    /// How long it is open at that step: as long as the service asked, or longer if a rule of its own opened it.
    fn open_time(&mut self, opens: u32, asked: Option<Duration>, as_asked: bool) -> Duration {
        let drawn = self.draw(opens);
        match asked.map(|asked| asked.min(LONGEST_ASKED)) {
            Some(asked) if as_asked => asked,
            Some(asked) => drawn.max(asked),
            None => drawn,
        }
    }

    /// What is in force, and what is left of it.
    fn mode_left(&self, now: u64) -> (Mode, Option<Duration>) {
        let mode = self.mode(now);
        let ends = mode != Mode::Auto && self.mode_until != FOREVER;
        (mode, ends.then(|| wait(self.mode_until, now)))
    }
}
