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
    BreakerPolicy,
    circuit::Circuit,
    cold::{Cold, NEVER, Probe, nanos},
    state::{
        Change, OPEN_TIME_OVER, PROBE_FAILED, PROBE_TIMEOUT, PROBES_SUCCEEDED, Pass, RESET,
        Snapshot, State, Weight, Word, weigh,
    },
};

impl Circuit {
    /// Puts other settings in force. The state, the counts and an open time that runs stay.
    pub(super) fn apply(&self, policy: &BreakerPolicy) {
        let config = policy.config();
        let mut cold = self.lock();
        self.consecutive.store(config.consecutive_failures, Relaxed);
        self.rate_ppm.store(policy.rate_ppm(), Relaxed);
        self.minimum.store(config.minimum_calls, Relaxed);
        self.permits.store(config.half_open_probes, Relaxed);
        self.window.resize(config.window);
        cold.apply(config);
        let word = self.word();
        if word.state == State::HalfOpen {
            self.publish_half_open(&cold, word);
        }
    }

    #[cold]
    pub(super) fn admit_probe(&self, now: u64) -> (Result<Pass, Duration>, Option<Change>) {
        let mut cold = self.lock();
        let mut word = self.word();
        let mut change = None;
        if let Some((change, wait)) = self.overdue(&mut cold, &mut word, now) {
            let admitted = wait.map_or_else(|| Ok(Pass::of_call(self.word().generation)), Err);
            return (admitted, Some(change));
        }
        let until = match word.state {
            State::HalfOpen => cold.overdue_at(),
            _ => self.until.load(Relaxed),
        };
        match word.state {
            State::Closed => {
                return (Ok(Pass::of_call(word.generation)), None);
            }
            State::Open if now < until => return (Err(Duration::from_nanos(until - now)), None),
            State::Open => {
                word = word.next(State::HalfOpen);
                change = Some(Change::to(State::HalfOpen, OPEN_TIME_OVER));
            }
            State::HalfOpen if word.admitted >= self.permits.load(Relaxed) => {
                if until != NEVER {
                    return (Err(Duration::from_nanos(until - now)), None);
                }
                // Fewer probes are asked for by now, and that many have succeeded.
                let word = self.close(&mut cold, word, now);
                let change = Change::to(State::Closed, PROBES_SUCCEEDED);
                return (Ok(Pass::of_call(word.generation)), Some(change));
            }
            State::HalfOpen => {}
        }
        word.admitted += 1;
        cold.probes.push(Probe {
            began: now,
            headed: false,
        });
        self.publish_half_open(&cold, word);
        (Ok(Pass::of_probe(word.generation, now)), change)
    }

    #[cold]
    pub(super) fn finish_probe(
        &self,
        generation: u32,
        probe: Probe,
        class: Class,
        now: u64,
    ) -> Option<Change> {
        let mut cold = self.lock();
        let mut word = self.word();
        if word.generation != generation || word.state != State::HalfOpen {
            return None;
        }
        if let Some((change, _)) = self.overdue(&mut cold, &mut word, now) {
            // This one or another took too long, whatever it says now; or enough have succeeded.
            return Some(change);
        }
        let place = cold.probes.iter().position(|other| *other == probe);
        let counted = place.map(|place| cold.probes.swap_remove(place)).is_none();
        match weigh(class) {
            // Its head was good and its body long: it has been counted as a success, once.
            Weight::Nothing | Weight::Limited | Weight::Good if counted => {}
            Weight::Nothing => word.admitted = word.admitted.saturating_sub(1),
            Weight::Bad => return Some(self.open(&mut cold, word, now, PROBE_FAILED).0),
            Weight::Limited if self.rate_ppm.load(Relaxed) > 0 => {
                return Some(self.open(&mut cold, word, now, PROBE_FAILED).0);
            }
            Weight::Limited | Weight::Good => {
                word.ok += 1;
                if word.ok >= self.permits.load(Relaxed) {
                    self.close(&mut cold, word, now);
                    return Some(Change::to(State::Closed, PROBES_SUCCEEDED));
                }
            }
        }
        self.publish_half_open(&cold, word);
        None
    }

    /// The head of a probe's answer is good. The deadline was for that: a body may be long, and how fast it is
    /// read is up to the caller. A head that comes after it does not count, however good.
    #[cold]
    pub(super) fn head_probe(&self, generation: u32, probe: &mut Probe, now: u64) {
        let mut cold = self.lock();
        if self.word().generation == generation
            && now < cold.due(probe.began)
            && let Some(place) = cold.probes.iter().position(|other| other == probe)
        {
            probe.headed = true;
            cold.probes[place].headed = true;
        }
    }

    /// Probes that have had their time: without a good head they fail the circuit, with one they count as
    /// succeeded, for all that their bodies go on.
    fn overdue(
        &self,
        cold: &mut Cold,
        word: &mut Word,
        now: u64,
    ) -> Option<(Change, Option<Duration>)> {
        if word.state != State::HalfOpen || now < cold.overdue_at() {
            return None;
        }
        if cold
            .probes
            .iter()
            .any(|probe| !probe.headed && cold.due(probe.began) <= now)
        {
            let (change, wait) = self.open(cold, *word, now, PROBE_TIMEOUT);
            return Some((change, Some(wait)));
        }
        let before = cold.probes.len();
        let timeout = nanos(cold.probe_timeout);
        cold.probes
            .retain(|probe| now < probe.began.saturating_add(timeout));
        word.ok += u32::try_from(before - cold.probes.len()).unwrap_or(u32::MAX);
        if word.ok >= self.permits.load(Relaxed) {
            self.close(cold, *word, now);
            return Some((Change::to(State::Closed, PROBES_SUCCEEDED), None));
        }
        self.publish_half_open(cold, *word);
        None
    }

    #[cold]
    pub(super) fn trip(&self, generation: u32, now: u64, reason: &'static str) -> Option<Change> {
        let mut cold = self.lock();
        let word = self.word();
        (word.generation == generation).then(|| self.open(&mut cold, word, now, reason).0)
    }

    /// Closes it and forgets all that was. `None` if it was closed.
    pub(super) fn reset(&self, now: Instant) -> Option<Change> {
        let mut cold = self.lock();
        let word = self.word();
        cold.opens = 0;
        self.close(&mut cold, word, self.since(now));
        (word.state != State::Closed).then_some(Change::to(State::Closed, RESET))
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        let now = self.since(now);
        let cold = self.lock();
        let word = self.word();
        let (closed, open) = (word.state == State::Closed, word.state == State::Open);
        let counts = self.window.counts(word.generation, now);
        let until = self.until.load(Relaxed);
        Snapshot {
            state: word.state,
            failures: counts.failed,
            total: counts.total,
            consecutive: self.run.length(word.generation),
            opens: if closed { cold.opens(now) } else { cold.opens },
            open_for: open.then_some(cold.open_for),
            remaining: open.then(|| Duration::from_nanos(until.saturating_sub(now))),
        }
    }

    // The lock is held by those who call these.

    fn open(
        &self,
        cold: &mut Cold,
        word: Word,
        now: u64,
        reason: &'static str,
    ) -> (Change, Duration) {
        let opens = if word.state == State::Closed {
            cold.opens(now)
        } else {
            cold.opens
        };
        cold.opens = opens.saturating_add(1);
        cold.open_for = cold.draw();
        cold.probes.clear();
        let until = now.saturating_add(nanos(cold.open_for)).min(NEVER - 1);
        self.publish(word.next(State::Open), until, true);
        (
            Change {
                to: State::Open,
                reason,
                open_for: Some(cold.open_for),
            },
            cold.open_for,
        )
    }

    fn close(&self, cold: &mut Cold, word: Word, now: u64) -> Word {
        cold.closed_since = now;
        cold.probes.clear();
        self.window.clear();
        let word = word.next(State::Closed);
        self.publish(word, NEVER, false);
        word
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
            if shut {
                gate.shut_until(self.epoch + Duration::from_nanos(until));
            } else {
                gate.open();
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
