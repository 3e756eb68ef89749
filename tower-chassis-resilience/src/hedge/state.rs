use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{Events, Live, events::Event};

use super::{
    config::HedgePolicy,
    latency::{Latency, NEVER},
};
use crate::{keyed::Forget, retry::Budget};

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct State {
    live: Live<HedgePolicy>,
    setup: Setup,
    hedges: AtomicU8,
    on: AtomicBool,
    on_failure: AtomicBool,
    /// A fixed wait; [`NEVER`] if it is the percentile's.
    fixed: AtomicU64,
    body_limit: AtomicUsize,
    pub(super) budget: Budget,
    /// That of calls without a key.
    pub(super) one: Record,
    pub(super) sent: AtomicU64,
    pub(super) won: AtomicU64,
    pub(super) exhausted: AtomicU64,
}

/// What the setters of a layer say.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) budget: Option<Budget>,
    /// Calls are paid in elsewhere.
    pub(super) draws_only: bool,
    pub(super) events: Events,
    pub(super) untracked: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            name: Arc::from("hedge"),
            budget: None,
            draws_only: false,
            events: Events::none(),
            untracked: false,
        }
    }
}

impl State {
    pub(super) fn new(live: Live<HedgePolicy>, setup: Setup) -> Arc<Self> {
        let budget = setup.budget.clone();
        let budget = budget.unwrap_or_else(|| Budget::new(&live.load().budget()));
        let state = Arc::new(Self {
            hedges: AtomicU8::new(0),
            on: AtomicBool::new(true),
            on_failure: AtomicBool::new(false),
            fixed: AtomicU64::new(NEVER),
            body_limit: AtomicUsize::new(0),
            budget,
            one: Record::new(Instant::now()),
            sent: AtomicU64::new(0),
            won: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            live: live.clone(),
            setup,
        });
        live.bind(&state, Self::apply);
        state
    }

    fn apply(&self, policy: &HedgePolicy) {
        let config = policy.config();
        if self.setup.budget.is_none() {
            self.budget.set(&policy.budget());
        }
        self.body_limit.store(config.body_limit, Relaxed);
        self.on_failure.store(config.on_failure, Relaxed);
        self.fixed.store(config.delay.map_or(NEVER, nanos), Relaxed);
        // At most 4.
        self.hedges.store(config.hedges as u8, Relaxed);
    }

    pub(super) fn hedges(&self) -> u8 {
        self.hedges.load(Relaxed)
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    pub(super) fn switch(&self, on: bool) {
        self.on.store(on, Relaxed);
    }

    pub(super) fn on_failure(&self) -> bool {
        self.on_failure.load(Relaxed)
    }

    /// The fixed wait in nanoseconds, if there is one.
    pub(super) fn fixed(&self) -> Option<u64> {
        Some(self.fixed.load(Relaxed)).filter(|fixed| *fixed != NEVER)
    }

    /// The wait that `record` says, in nanoseconds; [`NEVER`] if it cannot say.
    pub(super) fn measured(&self, record: &Record, now: Instant) -> u64 {
        let rule = || self.live.load().rule();
        record.latency.delay(record.since(now), rule)
    }

    pub(super) fn body_limit(&self) -> usize {
        self.body_limit.load(Relaxed)
    }

    pub(super) const fn events(&self) -> &Events {
        &self.setup.events
    }

    pub(super) const fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) const fn live(&self) -> &Live<HedgePolicy> {
        &self.live
    }

    /// A hedge was wanted, and the budget did not allow it.
    #[cold]
    pub(super) fn unfunded(&self) {
        self.exhausted.fetch_add(1, Relaxed);
        self.events().emit(|| Event::BudgetExhausted);
    }
}

/// How long the calls of a key took, since an instant.
#[derive(Debug)]
pub(super) struct Record {
    epoch: Instant,
    latency: Latency,
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            latency: Latency::new(),
        }
    }

    pub(super) fn record(&self, took: Duration, now: Instant) {
        self.latency.record(nanos(took), self.since(now));
    }

    fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}

impl Forget for Record {
    fn is_idle(&self, now: Instant) -> bool {
        self.latency.is_idle(self.since(now))
    }
}

/// As a number that fits an atomic: 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    let whole = time.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(time.subsec_nanos()))
}
