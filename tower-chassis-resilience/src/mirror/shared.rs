//! The state of a mirror: whether it mirrors, what it has sent, and what is under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

use tokio::sync::Notify;
use tower_chassis_core::{Events, Live, events::Event};

use super::config::MirrorPolicy;
use crate::{dice::Die, slots::Slots};

/// The share, in the low bits; above it, why nothing is mirrored.
const SHARE: u32 = (1 << 20) - 1;
const PAUSED: u32 = 1 << 30;
const STOPPED: u32 = 1 << 31;

/// What became of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The shadow answered.
    Ok,
    /// It failed, by the verdict.
    Failed,
    /// It took too long.
    Timeout,
    /// It panicked.
    Panicked,
    /// The mirror was shut down, or its call was dropped and the copy with it.
    Aborted,
    /// There were too many, or there was no runtime.
    Dropped,
    /// The body was too long, or was not read to its end.
    Skipped,
}

impl Outcome {
    pub(super) const ALL: [Self; 7] = [
        Self::Ok,
        Self::Failed,
        Self::Timeout,
        Self::Panicked,
        Self::Aborted,
        Self::Dropped,
        Self::Skipped,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Panicked => "panicked",
            Self::Aborted => "aborted",
            Self::Dropped => "dropped",
            Self::Skipped => "skipped",
        }
    }
}

/// What is set up before the layer is used.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
}

/// What layers, services and handles hold. Copies under way do not: when it goes, they go.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) core: Arc<Core>,
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) live: Live<MirrorPolicy>,
    pub(super) setup: Setup,
    /// All that a call reads where nothing is mirrored.
    switch: AtomicU32,
    die: AtomicU64,
    in_flight: Slots,
    sent: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// The turns of calls without an id.
    turns: AtomicU64,
    /// Ends what is under way.
    pub(super) stop: Notify,
}

impl Owner {
    pub(super) fn new(live: Live<MirrorPolicy>, setup: Setup) -> Arc<Self> {
        let core = Arc::new(Core {
            live: live.clone(),
            setup,
            switch: AtomicU32::new(0),
            die: AtomicU64::new(0),
            in_flight: Slots::new(0),
            sent: AtomicU64::new(0),
            outcomes: Default::default(),
            turns: AtomicU64::new(0),
            stop: Notify::new(),
        });
        live.bind(&core, Core::apply);
        Arc::new(Self { core })
    }

    pub(super) fn fresh(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.core.setup.clone();
        change(&mut setup);
        Self::new(self.core.live.clone(), setup)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.shut_down();
    }
}

impl Core {
    fn apply(&self, policy: &MirrorPolicy) {
        let config = policy.config();
        let die = Die::new(config.seed, &self.setup.name, "share");
        self.die.store(die.to_bits(), Ordering::Relaxed);
        self.in_flight.set_most(config.max_in_flight);
        self.set(|old| (old & !SHARE) | config.ppm);
    }

    fn set(&self, change: impl Fn(u32) -> u32) {
        let change = |old| Some(change(old));
        // Never fails: there is always something to put there.
        let _ = self
            .switch
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// The share of calls that are mirrored now. One load.
    pub(super) fn share(&self) -> u32 {
        let switch = self.switch.load(Ordering::Relaxed);
        if switch & (PAUSED | STOPPED) == 0 {
            switch & SHARE
        } else {
            0
        }
    }

    pub(super) fn die(&self) -> Die {
        Die::from_bits(self.die.load(Ordering::Relaxed))
    }

    /// The id of a call that has none: its turn.
    pub(super) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn pause(&self) {
        self.set(|old| old | PAUSED);
    }

    pub(super) fn resume(&self) {
        self.set(|old| old & !PAUSED);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.switch.load(Ordering::Relaxed) & PAUSED != 0
    }

    pub(super) fn shut_down(&self) {
        self.set(|old| old | STOPPED);
        self.stop.notify_waiters();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.switch.load(Ordering::Acquire) & STOPPED != 0
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.taken()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn count_of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        let event = || Event::mirrored(outcome.as_str());
        self.setup.events.emit(event);
    }

    /// A place for a copy, if there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Permit> {
        if !self.in_flight.take() {
            self.count(Outcome::Dropped);
            return None;
        }
        Some(Permit {
            core: Arc::clone(self),
            outcome: None,
        })
    }
}

/// The place of a copy. Dropped without a word, the copy was aborted, or its thread unwinds.
#[derive(Debug)]
pub(super) struct Permit {
    core: Arc<Core>,
    outcome: Option<Outcome>,
}

impl Permit {
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn sent(&self) {
        self.core.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.core.in_flight.give_back();
        let silent = if thread::panicking() {
            Outcome::Panicked
        } else {
            Outcome::Aborted
        };
        self.core.count(self.outcome.unwrap_or(silent));
    }
}

/// From a call to its copy: the call was dropped.
#[derive(Debug, Default)]
pub(super) struct Leash {
    gone: std::sync::atomic::AtomicBool,
    notify: Notify,
}

impl Leash {
    pub(super) fn cut(&self) {
        self.gone.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(super) async fn is_cut(&self) {
        let notified = self.notify.notified();
        if !self.gone.load(Ordering::Acquire) {
            notified.await;
        }
    }
}
