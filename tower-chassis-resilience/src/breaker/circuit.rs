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
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{Class, Gate};

use super::{
    BreakerPolicy, Mode,
    cold::{Cold, NEVER},
    ramp::Ramp,
    run::Run,
    state::{
        CLOSED, CONSECUTIVE_FAILURES, Change, FAILURE_RATE, Pass, SLOW_RATE, STATE_SHIFT, State,
        VERDICT, Weight, Word, generation_of, weigh,
    },
    window::{Sample, Window},
};

/// A circuit of a key that nobody called for so long, in nanoseconds, may be dropped whatever it says: ten minutes.
const FORGOTTEN: u64 = 600_000_000_000;

/// There is a rule that looks at the rate of failures.
pub(super) const BY_RATE: u32 = 1;
/// There is a rule that looks at how long calls take.
pub(super) const BY_SLOWNESS: u32 = 2;

/// A circuit. All methods take the time.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) epoch: Instant,
    pub(super) word: AtomicU64,
    /// Open, recovering, disabled: until when. Half-open: when the first probe is overdue, or [`NEVER`].
    pub(super) until: AtomicU64,
    pub(super) run: Run,
    /// When a call last failed. Written by failures alone.
    pub(super) failed_at: AtomicU64,
    pub(super) window: Window,
    /// Which rules look at the window.
    pub(super) rules: AtomicU32,
    pub(super) consecutive: AtomicU32,
    pub(super) rate_ppm: AtomicU32,
    pub(super) slow_ppm: AtomicU32,
    /// What takes longer is slow, in nanoseconds.
    pub(super) slow_over: AtomicU64,
    pub(super) minimum: AtomicU32,
    pub(super) permits: AtomicU32,
    /// How many probes must succeed.
    pub(super) needed: AtomicU32,
    pub(super) ramp: Ramp,
    /// Until when no rule opens it, because it was forced.
    pub(super) held: AtomicU64,
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
            window: Window::new(config.window, policy.calls()),
            rules: AtomicU32::new(0),
            consecutive: AtomicU32::new(0),
            rate_ppm: AtomicU32::new(0),
            slow_ppm: AtomicU32::new(0),
            slow_over: AtomicU64::new(0),
            minimum: AtomicU32::new(0),
            permits: AtomicU32::new(0),
            needed: AtomicU32::new(0),
            ramp: Ramp::default(),
            held: AtomicU64::new(0),
            gate,
            cold: Mutex::new(Cold::new(config, seed)),
        };
        circuit.apply(policy);
        circuit
    }

    /// Lets a call pass if it is closed.
    #[inline]
    pub(super) fn admit_closed(&self, now: Instant) -> Option<Pass> {
        let raw = self.word.load(Acquire);
        (raw >> STATE_SHIFT == CLOSED).then(|| Pass::of_call(generation_of(raw), self.since(now)))
    }

    /// Lets a call pass, or says how long calls are refused.
    pub(super) fn admit(&self, now: Instant) -> (Result<Pass, Duration>, Option<Change>) {
        match self.admit_closed(now) {
            Some(pass) => (Ok(pass), None),
            None => self.admit_unclosed(self.since(now)),
        }
    }

    #[cold]
    fn admit_unclosed(&self, now: u64) -> (Result<Pass, Duration>, Option<Change>) {
        let (word, until) = self.read();
        if let Some(wait) = self.refusal(word, until, now) {
            return (Err(wait), None);
        }
        match word.state {
            State::Disabled if now < until => (Ok(Pass::uncounted(word.generation, now)), None),
            State::Recovering if now < until && until != NEVER => {
                (self.admit_recovering(word, until - now, now), None)
            }
            _ => self.admit_turning(now),
        }
    }

    /// Lets the share of the calls pass that is due.
    pub(super) fn admit_recovering(
        &self,
        word: Word,
        left: u64,
        now: u64,
    ) -> Result<Pass, Duration> {
        if self.ramp.admits(left) {
            Ok(Pass::of_call(word.generation, now))
        } else {
            Err(Duration::from_nanos(left))
        }
    }

    /// Whether calls pass without a look at the time.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.word.load(Acquire) >> STATE_SHIFT == CLOSED
    }

    /// How long every call is refused; `None` if one may pass. Takes no lock.
    pub(super) fn refuses_for(&self, now: Instant) -> Option<Duration> {
        let (word, until) = self.read();
        self.refusal(word, until, self.since(now))
    }

    fn refusal(&self, word: Word, until: u64, now: u64) -> Option<Duration> {
        // Between the stores of a reset the time may already be that of a closed circuit.
        let refuses = now < until
            && until != NEVER
            && match word.state {
                State::Open => true,
                State::HalfOpen => word.admitted >= self.permits.load(Relaxed),
                State::Closed | State::Recovering | State::Disabled => false,
            };
        refuses.then(|| wait(until, now))
    }

    /// The word and the time until which it holds.
    fn read(&self) -> (Word, u64) {
        let mut raw = self.word.load(Acquire);
        loop {
            let until = self.until.load(Acquire);
            let seen = self.word.load(Acquire);
            if seen == raw {
                return (Word::unpack(raw), until);
            }
            raw = seen;
        }
    }

    /// Takes back the pass of a call that succeeded in its first poll, when it began or nearly so. `false` if there is
    /// more to it. Not inlined, so that who calls it can be: what it is given is in registers.
    #[inline(never)]
    pub(super) fn finish_at_once(&self, pass: Pass) -> bool {
        let rules = self.rules.load(Relaxed);
        if !pass.is_at_once() || !pass.is_counted() || rules & BY_SLOWNESS != 0 {
            return false;
        }
        if generation_of(self.word.load(Acquire)) == pass.generation {
            self.finish_well(pass, rules, pass.began);
        }
        true
    }

    /// One success more.
    #[inline]
    fn finish_well(&self, pass: Pass, rules: u32, now: u64) {
        self.run.end(pass.generation);
        if rules != 0 {
            let plain = Sample::default();
            self.window.record(pass.generation, pass.began, now, plain);
        }
    }

    /// Takes a pass back, with the way its call went, and how long it asked to be left alone. A pass of an older
    /// generation changes nothing.
    pub(super) fn finish(
        &self,
        pass: Pass,
        class: Class,
        asked: Option<Duration>,
        now: u64,
    ) -> Option<Change> {
        if generation_of(self.word.load(Acquire)) != pass.generation {
            return None;
        }
        if !pass.is_counted() {
            return None;
        }
        let rules = self.rules.load(Relaxed);
        let slow = rules & BY_SLOWNESS != 0 && pass.is_slow(self.slow_over.load(Relaxed), now);
        if pass.is_probe() {
            return self.finish_probe(pass, class, slow, asked, now);
        }
        if matches!(weigh(class), Weight::Good) && !slow && asked.is_none() {
            self.finish_well(pass, rules, now);
            return None;
        }
        self.finish_badly(pass, class, slow, asked, now)
    }

    #[cold]
    fn finish_badly(
        &self,
        pass: Pass,
        class: Class,
        slow: bool,
        asked: Option<Duration>,
        now: u64,
    ) -> Option<Change> {
        let generation = pass.generation;
        let (failed, row) = match weigh(class) {
            Weight::Nothing => return None,
            Weight::Good => {
                self.run.end(generation);
                (false, 0)
            }
            Weight::Limited => (true, 0),
            Weight::Bad => (true, self.lengthen(pass, now)),
        };
        if self.rules.load(Relaxed) != 0 {
            self.window
                .record(generation, pass.began, now, Sample { failed, slow });
        }
        let reason = self
            .broken(generation, failed, slow, row, now)
            .or(asked.map(|_| VERDICT))?;
        self.trip(generation, now, reason, asked)
    }

    /// One failure more in a row, or the first one after a silence.
    fn lengthen(&self, pass: Pass, now: u64) -> u32 {
        let silent = |failed_at: u64| pass.began > failed_at.saturating_add(self.window.span());
        if silent(self.failed_at.load(Acquire)) {
            let _one_at_a_time = self.cold.lock().unwrap_or_else(PoisonError::into_inner);
            if silent(self.failed_at.load(Acquire)) {
                let row = u32::from(self.run.restart(pass.generation));
                // Who sees this sees the new row.
                self.failed_at.fetch_max(now, Release);
                return row;
            }
        }
        self.failed_at.fetch_max(now, Relaxed);
        self.run.count(pass.generation)
    }

    /// The first rule that a call broke.
    fn broken(
        &self,
        generation: u32,
        failed: bool,
        slow: bool,
        row: u32,
        now: u64,
    ) -> Option<&'static str> {
        let consecutive = self.consecutive.load(Relaxed);
        if consecutive > 0 && row >= consecutive {
            return Some(CONSECUTIVE_FAILURES);
        }
        let rate = if failed {
            self.rate_ppm.load(Relaxed)
        } else {
            0
        };
        let slow_rate = if slow { self.slow_ppm.load(Relaxed) } else { 0 };
        if rate == 0 && slow_rate == 0 {
            return None;
        }
        let counts = self.window.counts(generation, now);
        let mut minimum = self.minimum.load(Relaxed);
        if self.state() == State::Recovering {
            minimum = minimum.div_ceil(2);
        }
        if counts.total < u64::from(minimum) {
            return None;
        }
        let over =
            |part: u64, ppm: u32| ppm > 0 && part * 1_000_000 >= counts.total * u64::from(ppm);
        if over(counts.failed, rate) {
            Some(FAILURE_RATE)
        } else {
            over(counts.slow, slow_rate).then_some(SLOW_RATE)
        }
    }

    /// The head of a call's answer has come.
    pub(super) fn head(&self, pass: &mut Pass, good: bool, now: Instant) {
        let slow =
            self.judges_slowness() && pass.is_slow(self.slow_over.load(Relaxed), self.since(now));
        pass.set_headed(slow);
        if good && !slow && pass.is_probe() {
            self.head_probe(pass, self.since(now));
        }
    }

    /// Whether it matters how long a call takes.
    #[inline]
    pub(super) fn judges_slowness(&self) -> bool {
        self.rules.load(Relaxed) & BY_SLOWNESS != 0
    }

    /// Whether a new circuit would do the same: closed, with nothing counted. Calls in flight are not looked at.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let now = self.since(now);
        let cold = self.cold.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = cold.mode(now);
        if mode != Mode::Auto && !cold.inherited {
            return false;
        }
        if matches!(mode, Mode::ForcedOpen | Mode::Disabled) {
            return true;
        }
        let (word, until) = self.read();
        let failed_at = self.failed_at.load(Relaxed);
        let counted = !self.window.is_silent(now)
            && self.window.counts(word.generation, now).total > 0
            || now <= failed_at.saturating_add(self.window.span())
                && self.run.length(word.generation) > 0;
        let last = if until == NEVER { failed_at } else { until };
        // Nobody has come for so long that what it says is not of now.
        let forgotten = now.saturating_sub(last) > FORGOTTEN;
        !counted && (forgotten || word.state == State::Closed && cold.opens(now) == 0)
    }

    pub(super) fn state(&self) -> State {
        Word::unpack(self.word.load(Acquire)).state
    }

    /// Nanoseconds since the epoch; they last for 584 years.
    #[inline]
    pub(super) fn since(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        since.as_secs().wrapping_mul(1_000_000_000) + u64::from(since.subsec_nanos())
    }
}

/// From `now` until then, for ever if that is [`FOREVER`](super::cold::FOREVER).
pub(super) const fn wait(until: u64, now: u64) -> Duration {
    if until == super::cold::FOREVER {
        Duration::MAX
    } else {
        Duration::from_nanos(until.saturating_sub(now))
    }
}
