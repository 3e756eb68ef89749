//! What a circuit is: its state, the word that holds it, and what is told about it.

use std::time::Duration;

use tower_chassis_core::Class;

use super::Mode;

/// What a breaker does with calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until the open time is over.
    Open,
    /// A few calls pass to try the service.
    HalfOpen,
    /// The service is back, and a growing share of the calls pass.
    Recovering,
    /// Calls pass and are not counted: [`Mode::Disabled`].
    Disabled,
}

impl State {
    /// The name in events and metrics: `closed`, `open`, `half-open`, `recovering`, `disabled`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::Recovering => "recovering",
            Self::Disabled => "disabled",
        }
    }
}

/// A change of state, for those who listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) to: State,
    pub(super) reason: &'static str,
    pub(super) open_for: Option<Duration>,
    /// It did not happen: it is only what would have been.
    pub(super) would: bool,
    /// What was forced came to its end.
    pub(super) released: bool,
}

impl Change {
    /// A change to a state that has no open time.
    pub(super) const fn to(to: State, reason: &'static str) -> Self {
        Self {
            to,
            reason,
            open_for: None,
            would: false,
            released: false,
        }
    }
}

pub(super) const CONSECUTIVE_FAILURES: &str = "consecutive-failures";
pub(super) const FAILURE_RATE: &str = "failure-rate";
pub(super) const SLOW_RATE: &str = "slow-rate";
pub(super) const VERDICT: &str = "verdict";
pub(super) const FORCED: &str = "forced";
pub(super) const RELEASED: &str = "released";
pub(super) const RECOVERED: &str = "recovered";
pub(super) const OPEN_TIME_OVER: &str = "open-time-over";
pub(super) const PROBE_FAILED: &str = "probe-failed";
pub(super) const PROBE_SLOW: &str = "probe-slow";
pub(super) const PROBE_TIMEOUT: &str = "probe-timeout";
pub(super) const PROBES_SUCCEEDED: &str = "probes-succeeded";
pub(super) const RESET: &str = "reset";

/// What an admitted call holds. It must be handed back to the circuit.
///
/// Plain numbers, and no field of a few bytes: it is moved about with the future of its call, and what is moved in
/// halves just after it was written waits for the processor's store buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pass {
    /// In nanoseconds.
    pub(super) began: u64,
    pub(super) generation: u32,
    /// What is known of its call, and from [`POLLS`] on how often that was polled.
    notes: u32,
}

const PROBE: u32 = 1;
/// Nobody asks how it went.
const UNCOUNTED: u32 = 1 << 1;
/// The head of its answer is there.
const HEADED: u32 = 1 << 2;
/// It was late by the rule for slow calls.
const SLOW: u32 = 1 << 3;
/// Of a probe: the head was good and in time.
const GOOD: u32 = 1 << 4;
/// The first poll is the call itself.
const POLLS: u32 = 1 << 8;
const MANY: u32 = 3 * POLLS;

impl Pass {
    const fn new(notes: u32, generation: u32, began: u64) -> Self {
        Self {
            began,
            generation,
            notes,
        }
    }

    pub(super) const fn of_call(generation: u32, began: u64) -> Self {
        Self::new(0, generation, began)
    }

    pub(super) const fn of_probe(generation: u32, began: u64) -> Self {
        Self::new(PROBE, generation, began)
    }

    pub(super) const fn uncounted(generation: u32, began: u64) -> Self {
        Self::new(UNCOUNTED, generation, began)
    }

    pub(super) const fn is_probe(self) -> bool {
        self.notes & PROBE != 0
    }

    pub(super) const fn is_counted(self) -> bool {
        self.notes & UNCOUNTED == 0
    }

    /// It has been handed back.
    pub(super) const fn spend(&mut self) {
        self.notes |= UNCOUNTED;
    }

    pub(super) const fn set_headed(&mut self, slow: bool) {
        self.notes |= if slow { HEADED | SLOW } else { HEADED };
    }

    pub(super) const fn is_good(self) -> bool {
        self.notes & GOOD != 0
    }

    pub(super) const fn set_good(&mut self) {
        self.notes |= GOOD;
    }

    /// Whether it took longer than `limit` to its head, or to now if it has none.
    pub(super) const fn is_slow(self, limit: u64, now: u64) -> bool {
        if self.notes & HEADED != 0 {
            self.notes & SLOW != 0
        } else {
            now.saturating_sub(self.began) > limit
        }
    }

    /// Its call is polled once more.
    pub(super) const fn polled(&mut self) {
        if self.notes < MANY {
            self.notes += POLLS;
        }
    }

    /// Time has gone by, and it does not matter how often it was polled.
    pub(super) const fn waited(&mut self) {
        self.notes |= MANY;
    }

    /// Whether what happens to it now happens when it began, or nearly so: in its first poll. The head of a probe
    /// has a deadline, and what comes after a head comes later.
    pub(super) const fn is_at_once(self) -> bool {
        self.notes & (PROBE | HEADED) == 0 && self.notes < MANY
    }
}

/// Which way a result counts.
pub(super) enum Weight {
    Good,
    /// Degrades the rate and says nothing else.
    Limited,
    Bad,
    Nothing,
}

pub(super) const fn weigh(class: Class) -> Weight {
    match class {
        Class::Success | Class::ClientFault => Weight::Good,
        Class::RateLimited => Weight::Limited,
        Class::Failure | Class::Timeout | Class::Unreachable => Weight::Bad,
        _ => Weight::Nothing,
    }
}

/// What a circuit holds, read at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// What it does with calls. An open circuit stays `Open` until the first call after its time, and so on.
    pub state: State,
    /// The calls in the window that failed or were rate limited.
    pub failures: u64,
    /// The calls in the window that were slow.
    pub slow: u64,
    /// The calls in the window. 0 unless closed or recovering, and with a rule that looks at rates.
    pub total: u64,
    /// The failures since the last success. 0 unless closed or recovering.
    pub consecutive: u32,
    /// The step of the open time: how often it opened, less one for each window that it was closed.
    pub opens: u32,
    /// The open time now in force, with its jitter. Only while open by itself.
    pub open_for: Option<Duration>,
    /// What is left of it, also of a forced one that ends.
    pub remaining: Option<Duration>,
    /// Until all calls pass. Only while recovering.
    pub recovers_in: Option<Duration>,
    /// The probes under way whose results are waited for.
    pub probes: usize,
    /// What was forced.
    pub mode: Mode,
    /// What is left of that, if it ends.
    pub mode_left: Option<Duration>,
}

// state:3 | generation:29 | admitted:12 | ok:10 | failed:10
pub(super) const STATE_SHIFT: u32 = 61;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = (1 << 29) - 1;
const ADMITTED_SHIFT: u32 = 20;
const OK_SHIFT: u32 = 10;
pub(super) const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const RECOVERING: u64 = 3;
const DISABLED: u64 = 4;

/// The word, unpacked. `admitted` counts the probes that hold a permit, succeeded or failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) state: State,
    pub(super) generation: u32,
    pub(super) admitted: u32,
    pub(super) ok: u32,
    pub(super) failed: u32,
}

impl Word {
    pub(super) const fn unpack(raw: u64) -> Self {
        Self {
            state: match raw >> STATE_SHIFT {
                OPEN => State::Open,
                HALF_OPEN => State::HalfOpen,
                RECOVERING => State::Recovering,
                DISABLED => State::Disabled,
                _ => State::Closed,
            },
            generation: generation_of(raw),
            admitted: (raw >> ADMITTED_SHIFT) as u32 & 0xfff,
            ok: (raw >> OK_SHIFT) as u32 & 0x3ff,
            failed: raw as u32 & 0x3ff,
        }
    }

    pub(super) const fn pack(self) -> u64 {
        let state = match self.state {
            State::Closed => CLOSED,
            State::Open => OPEN,
            State::HalfOpen => HALF_OPEN,
            State::Recovering => RECOVERING,
            State::Disabled => DISABLED,
        };
        state << STATE_SHIFT
            | (self.generation as u64) << GENERATION_SHIFT
            | (self.admitted as u64) << ADMITTED_SHIFT
            | (self.ok as u64) << OK_SHIFT
            | self.failed as u64
    }

    /// The word after a transition: a new generation, no probes.
    pub(super) const fn next(self, state: State) -> Self {
        Self {
            state,
            generation: (self.generation + 1) & GENERATION_MASK,
            admitted: 0,
            ok: 0,
            failed: 0,
        }
    }
}

pub(super) const fn generation_of(raw: u64) -> u32 {
    (raw >> GENERATION_SHIFT) as u32 & GENERATION_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [(State, u64, &str); 5] = [
        (State::Closed, 0, "closed"),
        (State::Open, 1, "open"),
        (State::HalfOpen, 2, "half-open"),
        (State::Recovering, 3, "recovering"),
        (State::Disabled, 4, "disabled"),
    ];

    #[test]
    fn a_word_holds_what_was_put_into_it() {
        for (state, number, name) in STATES {
            assert_eq!(state.as_str(), name);
            for (generation, admitted, ok, failed) in [
                (0, 0, 0, 0),
                (1, 2, 3, 4),
                (GENERATION_MASK, 0xfff, 0x3ff, 0x3ff),
                (GENERATION_MASK, 0, 0x3ff, 0),
                (0, 0xfff, 0, 0x3ff),
                (1 << 28, 1 << 11, 1 << 9, 1 << 9),
            ] {
                let word = Word {
                    state,
                    generation,
                    admitted,
                    ok,
                    failed,
                };
                let raw = word.pack();
                assert_eq!(Word::unpack(raw), word);
                assert_eq!(
                    (raw >> STATE_SHIFT, generation_of(raw)),
                    (number, generation)
                );
            }
        }
        let word = Word {
            state: State::Recovering,
            generation: 0x1234_5678,
            admitted: 0xabc,
            ok: 0x201,
            failed: 0x102,
        };
        assert_eq!(word.pack(), 0x7234_5678_abc8_0502);
    }

    #[test]
    fn a_transition_begins_a_generation_without_probes() {
        let word = Word {
            state: State::HalfOpen,
            generation: GENERATION_MASK - 1,
            admitted: 3,
            ok: 2,
            failed: 1,
        };
        let next = |generation| Word {
            state: State::Open,
            generation,
            admitted: 0,
            ok: 0,
            failed: 0,
        };
        assert_eq!(word.next(State::Open), next(GENERATION_MASK));
        assert_eq!(word.next(State::Open).next(State::Open), next(0));
    }

    #[test]
    fn a_pass_keeps_its_notes_apart() {
        let (call, probe, uncounted) = (
            Pass::of_call(1, 2),
            Pass::of_probe(1, 2),
            Pass::uncounted(1, 2),
        );
        assert!(!call.is_probe() && call.is_counted() && !call.is_good());
        assert!(probe.is_probe() && probe.is_counted() && !probe.is_good());
        assert!(!uncounted.is_probe() && !uncounted.is_counted() && !uncounted.is_good());
        for mut pass in [call, probe] {
            // Said once or twice.
            for _ in 0..2 {
                pass.set_good();
                assert!(pass.is_good() && pass.is_counted());
            }
            let mut good = pass;
            for _ in 0..2 {
                pass.spend();
                assert!(!pass.is_counted() && pass.is_good());
            }
            good.set_headed(true);
            assert!(good.is_counted() && good.is_good());
            assert_eq!(
                (good.is_probe(), good.generation, good.began),
                (pass.is_probe(), 1, 2)
            );
        }
    }

    #[test]
    fn it_is_slow_by_its_head_or_by_now() {
        let pass = Pass::of_call(0, 100);
        assert!(!pass.is_slow(5, 105) && pass.is_slow(5, 106) && !pass.is_slow(5, 0));
        let (mut quick, mut slow) = (pass, pass);
        for _ in 0..2 {
            quick.set_headed(false);
            slow.set_headed(true);
            assert!(!quick.is_slow(5, 1_000) && slow.is_slow(5, 100));
        }
    }

    #[test]
    fn it_is_at_once_in_its_first_poll_alone() {
        for pass in [Pass::of_call(0, 0), Pass::uncounted(0, 0)] {
            let mut polled = pass;
            // The call, the first poll, and one more.
            let at_once = [(); 4].map(|()| {
                let at_once = polled.is_at_once();
                polled.polled();
                at_once
            });
            assert_eq!(at_once, [true, true, true, false]);
            // It does not count further.
            let mut waited = pass;
            waited.waited();
            assert_eq!(polled, waited);
            for polls in 0..4 {
                let mut waited = pass;
                (0..polls).for_each(|_| waited.polled());
                waited.waited();
                assert!(!waited.is_at_once() && waited.is_counted() == pass.is_counted());
            }
            let mut headed = pass;
            headed.set_headed(false);
            assert!(!headed.is_at_once());
        }
        assert!(!Pass::of_probe(0, 0).is_at_once());
    }

    #[test]
    fn every_class_has_its_weight() {
        for (class, weight) in [
            (Class::Success, "good"),
            (Class::ClientFault, "good"),
            (Class::RateLimited, "limited"),
            (Class::Failure, "bad"),
            (Class::Timeout, "bad"),
            (Class::Unreachable, "bad"),
            (Class::Cancelled, "nothing"),
            (Class::Refused, "nothing"),
        ] {
            let is = match weigh(class) {
                Weight::Good => "good",
                Weight::Limited => "limited",
                Weight::Bad => "bad",
                Weight::Nothing => "nothing",
            };
            assert_eq!(is, weight, "{class:?}");
        }
    }
}
