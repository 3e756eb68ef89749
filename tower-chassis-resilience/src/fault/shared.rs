//! The state of a layer: what its services read, and who is under a fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, time::Instant};
use tower_chassis_core::{Events, Live};

use super::{
    config::FaultPolicy,
    guard::Arming,
    rules::{Compiled, Now},
};

/// Some rule is armed.
const ARMED: u64 = 1;
/// Nothing is to happen, whatever is armed.
const KILLED: u64 = 2;
/// A policy came.
const VERSION: u64 = 4;

/// What is set up before the layer is used.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) arming: Arming,
    pub(super) events: Events,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) live: Live<FaultPolicy>,
    pub(super) setup: Setup,
    /// All that a call reads where nothing is armed: two flags, and a count of policies above them.
    switch: AtomicU64,
    compiled: ArcSwap<Compiled>,
    active: AtomicU32,
    max_active: AtomicU32,
    /// Calls that were left alone because too many were under a fault.
    pub(super) overflow: AtomicU64,
    /// The turns of calls without an id.
    turns: AtomicU64,
    /// Wakes whoever waits under a fault when all is to end.
    killed: Arc<Notify>,
}

/// The policy as a call saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

impl Shared {
    pub(super) fn new(live: Live<FaultPolicy>, setup: Setup) -> Arc<Self> {
        let shared = Arc::new(Self {
            live: live.clone(),
            setup,
            switch: AtomicU64::new(0),
            compiled: ArcSwap::default(),
            active: AtomicU32::new(0),
            max_active: AtomicU32::new(0),
            overflow: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            killed: Arc::default(),
        });
        live.bind(&shared, Self::apply);
        shared
    }

    pub(super) fn fresh(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.setup.clone();
        change(&mut setup);
        Self::new(self.live.clone(), setup)
    }

    /// Runs under the writer's lock of the policy.
    fn apply(&self, policy: &FaultPolicy) {
        let now = Now {
            wall: SystemTime::now(),
            clock: Instant::now(),
        };
        let config = policy.config();
        let compiled = Compiled::new(config, &self.setup.arming, now, &self.compiled.load());
        let armed = compiled.is_armed(now.clock);
        self.max_active.store(config.max_active, Ordering::Relaxed);
        self.compiled.store(Arc::new(compiled));
        self.set(|old| {
            let flags = (old & KILLED) | if armed { ARMED } else { 0 };
            (old & !(ARMED | KILLED)).wrapping_add(VERSION) | flags
        });
    }

    fn set(&self, change: impl Fn(u64) -> u64) {
        let change = |old| Some(change(old));
        // Never fails: there is always something to put there.
        let _ = self
            .switch
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// Whether anything may happen to a call. One load.
    pub(super) fn armed(&self) -> Option<Seen> {
        let seen = self.switch.load(Ordering::Acquire);
        (seen & (ARMED | KILLED) == ARMED).then_some(Seen(seen))
    }

    /// The rules that were seen have all expired: calls need not look at them any more.
    pub(super) fn disarm(&self, seen: Seen) {
        // Another policy may have come since, which then stays armed.
        let _ = self.switch.compare_exchange(
            seen.0,
            seen.0 & !ARMED,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    pub(super) fn kill(&self) {
        self.set(|old| old | KILLED);
        self.killed.notify_waiters();
    }

    pub(super) fn restore(&self) {
        self.set(|old| old & !KILLED);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.switch.load(Ordering::Acquire) & KILLED != 0
    }

    pub(super) fn killed(&self) -> &Arc<Notify> {
        &self.killed
    }

    pub(super) fn compiled(&self) -> arc_swap::Guard<Arc<Compiled>> {
        self.compiled.load()
    }

    /// The id of a call that has none: its turn.
    pub(super) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// A place among the calls under a fault.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Active> {
        let most = self.max_active.load(Ordering::Relaxed);
        let one_more = |active| (active < most).then_some(active + 1);
        let entered = self
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if entered.is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Active(Arc::clone(self)))
    }
}

/// A call under a fault, until it is dropped.
#[derive(Debug)]
pub(super) struct Active(Arc<Shared>);

impl Active {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
