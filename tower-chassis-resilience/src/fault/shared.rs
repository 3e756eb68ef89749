//! The state of a layer: what its services read, and who is under a fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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
    switch::{Seen, Switch},
};
use crate::slots::Slots;

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
    switch: Switch,
    compiled: ArcSwap<Compiled>,
    active: Slots,
    /// Calls that were left alone because too many were under a fault.
    pub(super) overflow: AtomicU64,
    /// The turns of calls without an id.
    turns: AtomicU64,
    /// Wakes whoever waits under a fault when all is to end.
    killed: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(live: Live<FaultPolicy>, setup: Setup) -> Arc<Self> {
        let shared = Arc::new(Self {
            live: live.clone(),
            setup,
            switch: Switch::new(),
            compiled: ArcSwap::default(),
            active: Slots::new(0),
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
        self.active.set_most(config.max_active);
        self.compiled.store(Arc::new(compiled));
        self.switch.applied(armed);
    }

    /// Whether anything may happen to a call. One load.
    pub(super) fn armed(&self) -> Option<Seen> {
        self.switch.armed()
    }

    /// The rules that were seen have all expired.
    pub(super) fn disarm(&self, seen: Seen) {
        self.switch.disarm(seen);
    }

    pub(super) fn kill(&self) {
        self.switch.kill();
        self.killed.notify_waiters();
    }

    pub(super) fn restore(&self) {
        self.switch.restore();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.switch.is_killed()
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
        self.active.taken()
    }

    /// A place among the calls under a fault.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Active> {
        if !self.active.take() {
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
        self.0.active.give_back();
    }
}
