//! What a circuit is: its state, the word that holds it, and what is told about it.

use std::time::Duration;

use tower_chassis_core::Class;

use super::cold::Probe;

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
}

impl State {
    /// The name in events and metrics: `closed`, `open`, `half-open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// A change of state, for those who listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) to: State,
    pub(super) reason: &'static str,
    pub(super) open_for: Option<Duration>,
}

impl Change {
    /// A change to a state that has no open time.
    pub(super) const fn to(to: State, reason: &'static str) -> Self {
        Self {
            to,
            reason,
            open_for: None,
        }
    }
}

pub(super) const CONSECUTIVE_FAILURES: &str = "consecutive-failures";
pub(super) const FAILURE_RATE: &str = "failure-rate";
pub(super) const OPEN_TIME_OVER: &str = "open-time-over";
pub(super) const PROBE_FAILED: &str = "probe-failed";
pub(super) const PROBE_TIMEOUT: &str = "probe-timeout";
pub(super) const PROBES_SUCCEEDED: &str = "probes-succeeded";
pub(super) const RESET: &str = "reset";

/// What an admitted call holds. It must be handed back to the circuit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pass {
    pub(super) generation: u32,
    pub(super) probe: Option<Probe>,
}

impl Pass {
    pub(super) const fn of_call(generation: u32) -> Self {
        Self {
            generation,
            probe: None,
        }
    }

    pub(super) const fn of_probe(generation: u32, began: u64) -> Self {
        Self {
            generation,
            probe: Some(Probe {
                began,
                headed: false,
            }),
        }
    }

    #[cfg(test)]
    pub(super) const fn is_probe(self) -> bool {
        self.probe.is_some()
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
    /// What it does with calls. An open circuit stays `Open` until the first call after its time.
    pub state: State,
    /// The calls in the window that failed or were rate limited.
    pub failures: u64,
    /// The calls in the window. 0 unless closed and with a failure rate.
    pub total: u64,
    /// The failures since the last success. 0 unless closed.
    pub consecutive: u32,
    /// The step of the open time: how often it opened, less one for each window that it was closed.
    pub opens: u32,
    /// The open time now in force, with its jitter. Only while open.
    pub open_for: Option<Duration>,
    /// What is left of it.
    pub remaining: Option<Duration>,
}

// state:3 | generation:29 | admitted:12 | ok:10 | 10 bits for failed probes, once a share of them
// may fail
pub(super) const STATE_SHIFT: u32 = 61;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = (1 << 29) - 1;
const ADMITTED_SHIFT: u32 = 20;
const OK_SHIFT: u32 = 10;
pub(super) const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;

/// The word, unpacked. `admitted` counts the probes that hold a permit or succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) state: State,
    pub(super) generation: u32,
    pub(super) admitted: u32,
    pub(super) ok: u32,
}

impl Word {
    pub(super) const fn unpack(raw: u64) -> Self {
        Self {
            state: match raw >> STATE_SHIFT {
                OPEN => State::Open,
                HALF_OPEN => State::HalfOpen,
                _ => State::Closed,
            },
            generation: generation_of(raw),
            admitted: (raw >> ADMITTED_SHIFT) as u32 & 0xfff,
            ok: (raw >> OK_SHIFT) as u32 & 0x3ff,
        }
    }

    pub(super) const fn pack(self) -> u64 {
        let state = match self.state {
            State::Closed => CLOSED,
            State::Open => OPEN,
            State::HalfOpen => HALF_OPEN,
        };
        state << STATE_SHIFT
            | (self.generation as u64) << GENERATION_SHIFT
            | (self.admitted as u64) << ADMITTED_SHIFT
            | (self.ok as u64) << OK_SHIFT
    }

    /// The word after a transition: a new generation, no probes.
    pub(super) const fn next(self, state: State) -> Self {
        Self {
            state,
            generation: (self.generation + 1) & GENERATION_MASK,
            admitted: 0,
            ok: 0,
        }
    }
}

pub(super) const fn generation_of(raw: u64) -> u32 {
    (raw >> GENERATION_SHIFT) as u32 & GENERATION_MASK
}
