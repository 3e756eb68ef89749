//! The circuit: one atomic word that says what it is, and what it takes to change it.
//!
//! Knows neither tower nor a clock. Calls through a closed circuit and refusals only read the word.
//! Whatever changes it, a transition or a probe, is rare and holds one short lock, so that the
//! word, the time until which it holds and the gate never contradict one another.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed},
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
        CLOSED, CONSECUTIVE_FAILURES, Change, FAILURE_RATE, Pass, STATE_SHIFT, State, Weight, Word,
        generation_of, weigh,
    },
    window::Window,
};

/// A circuit of a key that nobody called for so long, in nanoseconds, may be dropped whatever it says: ten minutes.
const FORGOTTEN: u64 = 600_000_000_000;

/// A circuit. All methods take the time.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) epoch: Instant,
    pub(super) word: AtomicU64,
    /// Open: the end of the open time. Half-open: when the first probe is overdue, or [`NEVER`].
    pub(super) until: AtomicU64,
    pub(super) run: Run,
    /// When a call last failed. Written by failures alone.
    pub(super) failed_at: AtomicU64,
    pub(super) window: Window,
    pub(super) consecutive: AtomicU32,
    pub(super) rate_ppm: AtomicU32,
    pub(super) minimum: AtomicU32,
    pub(super) permits: AtomicU32,
    pub(super) gate: Option<Gate>,
    pub(super) cold: Mutex<Cold>,
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
            failed_at: AtomicU64::new(0),
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

    /// Lets a call pass, or says how long calls are refused.
    pub(super) fn admit(&self, now: Instant) -> (Result<Pass, Duration>, Option<Change>) {
        let raw = self.word.load(Acquire);
        if raw >> STATE_SHIFT == CLOSED {
            return (Ok(Pass::of_call(generation_of(raw))), None);
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
                    // Between the stores of a reset the time may already be that of a closed circuit.
                    State::Open => now < until && until != NEVER,
                    State::HalfOpen => {
                        word.admitted >= self.permits.load(Relaxed) && now < until && until != NEVER
                    }
                };
                return refuses.then(|| Duration::from_nanos(until - now));
            }
            raw = seen;
        }
    }

    /// Takes a pass back, with the way its call went. A pass of an older generation changes
    /// nothing.
    pub(super) fn finish(&self, pass: Pass, class: Class, now: Instant) -> Option<Change> {
        if generation_of(self.word.load(Acquire)) != pass.generation {
            return None;
        }
        match pass.probe {
            Some(probe) => self.finish_probe(pass.generation, probe, class, self.since(now)),
            None => self.finish_call(pass.generation, class, now),
        }
    }

    /// The head of a call's answer is good.
    pub(super) fn head(&self, pass: &mut Pass, now: Instant) {
        if let Some(probe) = &mut pass.probe {
            self.head_probe(pass.generation, probe, self.since(now));
        }
    }

    fn finish_call(&self, generation: u32, class: Class, now: Instant) -> Option<Change> {
        let rate_ppm = self.rate_ppm.load(Relaxed);
        let run = match weigh(class) {
            Weight::Nothing => return None,
            Weight::Good => {
                self.run.end(generation);
                if rate_ppm > 0 {
                    self.window.record(generation, self.since(now), false);
                }
                return None;
            }
            Weight::Limited => 0,
            Weight::Bad => {
                self.failed_at.fetch_max(self.since(now), Relaxed);
                self.run.count(generation)
            }
        };
        let now = self.since(now);
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

    /// Whether a new circuit would do the same: closed, with nothing counted. Calls in flight are not looked at.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let raw = self.word.load(Acquire);
        let (generation, now) = (generation_of(raw), self.since(now));
        let last = match self.until.load(Acquire) {
            NEVER => self.failed_at.load(Relaxed),
            until => until,
        };
        // Nobody has come for so long that what it says is not of now.
        if now.saturating_sub(last) > FORGOTTEN {
            return self.window.counts(generation, now).total == 0;
        }
        if raw >> STATE_SHIFT != CLOSED
            || self.run.length(generation) > 0
            || self.window.counts(generation, now).total > 0
        {
            return false;
        }
        let cold = self.cold.lock().unwrap_or_else(PoisonError::into_inner);
        cold.opens(now) == 0
    }

    pub(super) fn state(&self) -> State {
        Word::unpack(self.word.load(Acquire)).state
    }

    pub(super) fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}
