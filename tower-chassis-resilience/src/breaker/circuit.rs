//! The circuit: one atomic word that says what it is, and what it takes to change it.
//!
//! Knows neither tower nor a clock. Calls through a closed circuit and refusals only read the word. Whatever
//! changes it, a transition or a probe, is rare and holds one short lock, so that the word, the
//! time until which it holds and the gate never contradict one another.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{Class, Gate};

use super::{
    BreakerPolicy,
    cold::{Cold, NEVER, nanos},
    run::Run,
    state::{
        CLOSED, CONSECUTIVE_FAILURES, Change, FAILURE_RATE, OPEN_TIME_OVER, PROBE_FAILED,
        PROBE_TIMEOUT, PROBES_SUCCEEDED, Pass, RESET, STATE_SHIFT, Snapshot, State, Weight, Word,
        generation_of, weigh,
    },
    window::Window,
};

/// A circuit. All methods take the time.
#[derive(Debug)]
pub(super) struct Circuit {
    epoch: Instant,
    word: AtomicU64,
    /// Open: the end of the open time. Half-open: when the first probe is overdue, or [`NEVER`].
    until: AtomicU64,
    run: Run,
    window: Window,
    consecutive: AtomicU32,
    rate_ppm: AtomicU32,
    minimum: AtomicU32,
    permits: AtomicU32,
    gate: Option<Gate>,
    cold: Mutex<Cold>,
}

impl Circuit {
    /// A closed circuit at `epoch`, which shuts `gate` while it refuses.
    pub(super) fn new(
        policy: &BreakerPolicy,
        epoch: Instant,
        gate: Option<Gate>,
        seed: Option<u64>,
    ) -> Self {
        let config = policy.config();
        let circuit = Self {
            epoch,
            word: AtomicU64::new(0),
            until: AtomicU64::new(NEVER),
            run: Run::default(),
            window: Window::new(config.window),
            consecutive: AtomicU32::new(0),
            rate_ppm: AtomicU32::new(0),
            minimum: AtomicU32::new(0),
            permits: AtomicU32::new(0),
            gate,
            cold: Mutex::new(Cold::new(config, seed)),
        };
        circuit.apply(policy);
        circuit
    }

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

    /// Lets a call pass, or says how long calls are refused.
    pub(super) fn admit(&self, now: Instant) -> (Result<Pass, Duration>, Option<Change>) {
        let raw = self.word.load(Acquire);
        if raw >> STATE_SHIFT == CLOSED {
            return (
                Ok(Pass {
                    generation: generation_of(raw),
                    probe: None,
                }),
                None,
            );
        }
        match self.refuses_for(now) {
            Some(wait) => (Err(wait), None),
            None => self.admit_probe(self.since(now)),
        }
    }

    /// Whether calls pass without a look at the time.
    pub(super) fn is_closed(&self) -> bool {
        self.word.load(Acquire) >> STATE_SHIFT == CLOSED
    }

    /// How long every call is refused; `None` if one may pass. Takes no lock.
    pub(super) fn refuses_for(&self, now: Instant) -> Option<Duration> {
        let now = self.since(now);
        let mut raw = self.word.load(Acquire);
        loop {
            let word = Word::unpack(raw);
            let until = self.until.load(Acquire);
            let seen = self.word.load(Acquire);
            if seen == raw {
                let refuses = match word.state {
                    State::Closed => false,
                    State::Open => now < until,
                    State::HalfOpen => {
                        word.admitted >= self.permits.load(Relaxed) && now < until && until != NEVER
                    }
                };
                return refuses.then(|| Duration::from_nanos(until - now));
            }
            raw = seen;
        }
    }

    #[cold]
    fn admit_probe(&self, now: u64) -> (Result<Pass, Duration>, Option<Change>) {
        let mut cold = self.lock();
        let (mut word, until) = (self.word(), self.until.load(Relaxed));
        let mut change = None;
        match word.state {
            State::Closed => {
                return (
                    Ok(Pass {
                        generation: word.generation,
                        probe: None,
                    }),
                    None,
                );
            }
            State::Open if now < until => return (Err(Duration::from_nanos(until - now)), None),
            State::Open => {
                word = word.next(State::HalfOpen);
                change = Some(Change {
                    to: State::HalfOpen,
                    reason: OPEN_TIME_OVER,
                    open_for: None,
                });
            }
            State::HalfOpen if now >= until => {
                let (change, wait) = self.open(&mut cold, word, now, PROBE_TIMEOUT);
                return (Err(wait), Some(change));
            }
            State::HalfOpen if word.admitted >= self.permits.load(Relaxed) => {
                if until != NEVER {
                    return (Err(Duration::from_nanos(until - now)), None);
                }
                // Fewer probes are asked for by now, and that many have succeeded.
                let word = self.close(&mut cold, word, now);
                let change = Change {
                    to: State::Closed,
                    reason: PROBES_SUCCEEDED,
                    open_for: None,
                };
                return (
                    Ok(Pass {
                        generation: word.generation,
                        probe: None,
                    }),
                    Some(change),
                );
            }
            State::HalfOpen => {}
        }
        word.admitted += 1;
        cold.probes.push(now);
        self.publish_half_open(&cold, word);
        (
            Ok(Pass {
                generation: word.generation,
                probe: Some(now),
            }),
            change,
        )
    }

    /// Takes a pass back, with the way its call went. A pass of an older generation changes nothing.
    pub(super) fn finish(&self, pass: Pass, class: Class, now: Instant) -> Option<Change> {
        if generation_of(self.word.load(Acquire)) != pass.generation {
            return None;
        }
        let now = self.since(now);
        match pass.probe {
            Some(began) => self.finish_probe(pass.generation, began, class, now),
            None => self.finish_call(pass.generation, class, now),
        }
    }

    fn finish_call(&self, generation: u32, class: Class, now: u64) -> Option<Change> {
        let rate_ppm = self.rate_ppm.load(Relaxed);
        let run = match weigh(class) {
            Weight::Nothing => return None,
            Weight::Good => {
                self.run.end(generation);
                if rate_ppm > 0 {
                    self.window.record(generation, now, false);
                }
                return None;
            }
            Weight::Limited => 0,
            Weight::Bad => self.run.count(generation),
        };
        if rate_ppm > 0 {
            self.window.record(generation, now, true);
        }
        let consecutive = self.consecutive.load(Relaxed);
        if consecutive > 0 && run >= consecutive {
            return self.trip(generation, now, CONSECUTIVE_FAILURES);
        }
        if rate_ppm > 0 {
            let counts = self.window.counts(generation, now);
            if counts.total >= u64::from(self.minimum.load(Relaxed))
                && counts.failed * 1_000_000 >= counts.total * u64::from(rate_ppm)
            {
                return self.trip(generation, now, FAILURE_RATE);
            }
        }
        None
    }

    #[cold]
    fn finish_probe(&self, generation: u32, began: u64, class: Class, now: u64) -> Option<Change> {
        let mut cold = self.lock();
        let mut word = self.word();
        if word.generation != generation || word.state != State::HalfOpen {
            return None;
        }
        if now >= self.until.load(Relaxed) {
            // This one or another took too long, whatever it says now.
            return Some(self.open(&mut cold, word, now, PROBE_TIMEOUT).0);
        }
        if let Some(place) = cold.probes.iter().position(|probe| *probe == began) {
            cold.probes.swap_remove(place);
        }
        match weigh(class) {
            Weight::Nothing => word.admitted = word.admitted.saturating_sub(1),
            Weight::Bad => return Some(self.open(&mut cold, word, now, PROBE_FAILED).0),
            Weight::Limited if self.rate_ppm.load(Relaxed) > 0 => {
                return Some(self.open(&mut cold, word, now, PROBE_FAILED).0);
            }
            Weight::Limited | Weight::Good => {
                word.ok += 1;
                if word.ok >= self.permits.load(Relaxed) {
                    self.close(&mut cold, word, now);
                    let reason = PROBES_SUCCEEDED;
                    return Some(Change {
                        to: State::Closed,
                        reason,
                        open_for: None,
                    });
                }
            }
        }
        self.publish_half_open(&cold, word);
        None
    }

    #[cold]
    fn trip(&self, generation: u32, now: u64, reason: &'static str) -> Option<Change> {
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
        (word.state != State::Closed).then_some(Change {
            to: State::Closed,
            reason: RESET,
            open_for: None,
        })
    }

    pub(super) fn state(&self) -> State {
        Word::unpack(self.word.load(Acquire)).state
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

    // What follows changes the word, and is called with the lock held.

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

    fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}
