use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_chassis_core::{Events, Live, clock};

use super::{
    backoff::Chance,
    budget::{Budget, BudgetSnapshot},
    config::RetryPolicy,
};

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct State {
    live: Live<RetryPolicy>,
    setup: Setup,
    attempts: AtomicU32,
    body_limit: AtomicUsize,
    backoff_base: AtomicU64,
    backoff_max: AtomicU64,
    /// One bit for each status from 384 on.
    statuses: [AtomicU64; 4],
    pub(super) budget: Budget,
    pub(super) chance: Chance,
    pub(super) retries: AtomicU64,
    pub(super) exhausted: AtomicU64,
}

/// What the setters of a layer say.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub(super) budget: Option<Budget>,
    pub(super) events: Events,
    pub(super) seed: Option<u64>,
    pub(super) untracked: bool,
}

const FIRST_STATUS: u16 = 384;

impl State {
    pub(super) fn new(live: Live<RetryPolicy>, setup: Setup) -> Arc<Self> {
        let budget = setup.budget.clone();
        let budget = budget.unwrap_or_else(|| Budget::new(&live.load().budget()));
        let state = Arc::new(Self {
            attempts: AtomicU32::new(1),
            body_limit: AtomicUsize::new(0),
            backoff_base: AtomicU64::new(0),
            backoff_max: AtomicU64::new(0),
            statuses: Default::default(),
            budget,
            chance: Chance::new(setup.seed.unwrap_or_else(|| fastrand::u64(..))),
            retries: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            live: live.clone(),
            setup,
        });
        live.bind(&state, Self::apply);
        state
    }

    fn apply(&self, policy: &RetryPolicy) {
        let config = policy.config();
        let nanos = |wait: Duration| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let mut statuses = [0; 4];
        for status in &config.statuses {
            let bit = status.saturating_sub(FIRST_STATUS) as usize;
            if let Some(word) = statuses.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        for (word, bits) in self.statuses.iter().zip(statuses) {
            word.store(bits, Ordering::Relaxed);
        }
        self.body_limit.store(config.body_limit, Ordering::Relaxed);
        self.backoff_base
            .store(nanos(config.backoff_base), Ordering::Relaxed);
        self.backoff_max
            .store(nanos(config.backoff_max), Ordering::Relaxed);
        if self.setup.budget.is_none() {
            self.budget.set(&policy.budget());
        }
        self.attempts.store(config.attempts, Ordering::Relaxed);
    }

    pub(super) fn is_listed(&self, status: u16) -> bool {
        let Some(bit) = status.checked_sub(FIRST_STATUS).map(usize::from) else {
            return false;
        };
        self.statuses
            .get(bit / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (bit % 64)) != 0)
    }

    /// The base of the backoff and its longest wait.
    pub(super) fn backoff(&self) -> (Duration, Duration) {
        let read = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        (read(&self.backoff_base), read(&self.backoff_max))
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    pub(super) fn body_limit(&self) -> usize {
        self.body_limit.load(Ordering::Relaxed)
    }

    pub(super) const fn events(&self) -> &Events {
        &self.setup.events
    }

    pub(super) const fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(super) const fn live(&self) -> &Live<RetryPolicy> {
        &self.live
    }
}

/// A view of a [`RetryLayer`](super::RetryLayer) and all of its services.
#[derive(Clone, Debug)]
pub struct RetryHandle {
    state: Arc<State>,
}

impl RetryHandle {
    pub(super) const fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// The setting in force. A change of `attempts` and `body_limit` reaches calls that begin after it, the rest
    /// the next decision; the tokens of the budget stay.
    #[must_use]
    pub fn config(&self) -> &Live<RetryPolicy> {
        &self.state.live
    }

    /// What the budget holds now, and what is under way.
    #[must_use]
    pub fn budget(&self) -> BudgetSnapshot {
        self.state.budget.snapshot(clock::now())
    }

    /// How many retries there were.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.state.retries.load(Ordering::Relaxed)
    }

    /// How many retries were wanted and not in the budget.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.state.exhausted.load(Ordering::Relaxed)
    }
}
