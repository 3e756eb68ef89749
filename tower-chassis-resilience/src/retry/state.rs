use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{self, Relaxed},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tower_chassis_core::{Carrier, Events, Kind, Live, Verdict, clock, events::Event};

use super::{
    backoff::{Backoff, Chance},
    budget::{Budget, BudgetSnapshot},
    config::{Jitter, RetryPolicy},
    rules::Listed,
};

/// So many attempts that never left us may follow upon each other, over all calls, before they need the budget: then
/// it is not an endpoint that cannot be reached.
const BARREN: u32 = 8;

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct State {
    live: Live<RetryPolicy>,
    setup: Setup,
    pub(super) budget: Budget,
    attempts: AtomicU8,
    under_retry: AtomicBool,
    by_method: AtomicBool,
    body_limit: AtomicUsize,
    methods: ArcSwap<Vec<String>>,
    jitter: AtomicU8,
    backoff_base: AtomicU64,
    backoff_max: AtomicU64,
    min_attempt_time: AtomicU64,
    statuses: [AtomicU64; 4],
    codes: AtomicU32,
    chance: Chance,
    /// Free attempts that followed upon each other and did not leave us either.
    barren: AtomicU32,
    pub(super) retries: AtomicU64,
    pub(super) transparent: AtomicU64,
    pub(super) exhausted: AtomicU64,
    pub(super) suppressed: AtomicU64,
}

/// What the setters of a layer say.
#[derive(Clone, Default)]
pub(super) struct Setup {
    pub(super) budget: Option<Budget>,
    pub(super) events: Events,
    pub(super) seed: Option<u64>,
    pub(super) untracked: bool,
    pub(super) rule: Option<Arc<Rule>>,
}

pub(super) type Rule = dyn Fn(&Attempted) -> bool + Send + Sync;

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("budget", &self.budget)
            .field("untracked", &self.untracked)
            .field("has_rule", &self.rule.is_some())
            .finish_non_exhaustive()
    }
}

/// What an attempt came to, for a [rule](super::RetryLayer::retry_if) of yours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Attempted {
    /// How it went.
    pub verdict: Verdict,
    /// Our own refusal, where the error holds one.
    pub kind: Option<Kind>,
    /// Whether the request may be made twice although it may have been served.
    pub idempotent: bool,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// What the rules say.
    pub again: bool,
}

impl State {
    pub(super) fn new(live: Live<RetryPolicy>, setup: Setup) -> Arc<Self> {
        let budget = setup.budget.clone();
        let budget = budget.unwrap_or_else(|| Budget::new(&live.load().budget()));
        let state = Arc::new(Self {
            attempts: AtomicU8::new(1),
            under_retry: AtomicBool::new(false),
            by_method: AtomicBool::new(false),
            methods: ArcSwap::default(),
            body_limit: AtomicUsize::new(0),
            jitter: AtomicU8::new(0),
            backoff_base: AtomicU64::new(0),
            backoff_max: AtomicU64::new(0),
            min_attempt_time: AtomicU64::new(0),
            statuses: Default::default(),
            codes: AtomicU32::new(0),
            budget,
            chance: Chance::new(setup.seed.unwrap_or_else(|| fastrand::u64(..))),
            barren: AtomicU32::new(0),
            retries: AtomicU64::new(0),
            transparent: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
            live: live.clone(),
            setup,
        });
        live.bind(&state, Self::apply);
        state
    }

    fn apply(&self, policy: &RetryPolicy) {
        let config = policy.config();
        let nanos = |wait: Duration| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let listed = Listed::of(&config.statuses, &config.grpc_codes);
        for (word, bits) in self.statuses.iter().zip(listed.statuses) {
            word.store(bits, Relaxed);
        }
        self.codes.store(listed.codes, Relaxed);
        self.body_limit.store(config.body_limit, Relaxed);
        self.jitter.store(
            match config.jitter {
                Jitter::Decorrelated => 0,
                Jitter::Full => 1,
                Jitter::Exponential => 2,
            },
            Relaxed,
        );
        self.backoff_base.store(nanos(config.backoff_base), Relaxed);
        self.backoff_max.store(nanos(config.backoff_max), Relaxed);
        self.min_attempt_time
            .store(nanos(config.min_attempt_time), Relaxed);
        self.under_retry.store(config.retry_under_retry, Relaxed);
        self.methods.store(Arc::new(config.methods.clone()));
        self.by_method
            .store(!config.methods.is_empty(), Ordering::Release);
        if self.setup.budget.is_none() {
            self.budget.set(&policy.budget());
        }
        // At most MOST_ATTEMPTS.
        self.attempts.store(config.attempts as u8, Relaxed);
    }

    pub(super) fn listed(&self) -> Listed {
        Listed {
            statuses: std::array::from_fn(|at| self.statuses[at].load(Relaxed)),
            codes: self.codes.load(Relaxed),
        }
    }

    pub(super) fn is_idempotent<Req: Carrier>(&self, request: &Req) -> bool {
        if !self.by_method.load(Ordering::Acquire) {
            return request.is_idempotent();
        }
        let operation = request.operation();
        self.methods
            .load()
            .iter()
            .any(|method| *method == *operation)
    }

    /// The next wait of a call.
    pub(super) fn wait(&self, backoff: &mut Backoff) -> Duration {
        let read = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        let jitter = match self.jitter.load(Relaxed) {
            0 => Jitter::Decorrelated,
            1 => Jitter::Full,
            _ => Jitter::Exponential,
        };
        backoff.next(
            jitter,
            read(&self.backoff_base),
            read(&self.backoff_max),
            self.chance.unit(),
        )
    }

    /// The wait that a service asked for and up to a tenth more.
    pub(super) fn spread(&self, wait: Duration) -> Duration {
        wait + wait.mul_f64(self.chance.unit() / 10.0)
    }

    pub(super) fn min_attempt_time(&self) -> Duration {
        Duration::from_nanos(self.min_attempt_time.load(Relaxed))
    }

    pub(super) fn attempts(&self) -> u8 {
        self.attempts.load(Relaxed)
    }

    pub(super) fn body_limit(&self) -> usize {
        self.body_limit.load(Relaxed)
    }

    pub(super) fn retries_under_retry(&self) -> bool {
        self.under_retry.load(Relaxed)
    }

    /// Whether what never left us may be tried again for nothing.
    pub(super) fn is_fertile(&self) -> bool {
        self.barren.load(Relaxed) < BARREN
    }

    /// An attempt after one that never left us did not leave us either, or it did.
    pub(super) fn note_unsent(&self, again: bool) {
        if again {
            self.barren.fetch_add(1, Relaxed);
        } else if self.barren.load(Relaxed) > 0 {
            self.barren.store(0, Relaxed);
        }
    }

    /// A retry was wanted that the budget does not allow.
    pub(super) fn refuse(&self) -> bool {
        self.exhausted.fetch_add(1, Relaxed);
        self.events().emit(|| Event::BudgetExhausted);
        false
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

    /// The setting in force. A change of `attempts`, `methods` and `body_limit` reaches calls that begin after it,
    /// the rest the next decision; the tokens of the budget stay.
    #[must_use]
    pub fn config(&self) -> &Live<RetryPolicy> {
        &self.state.live
    }

    /// What the budget holds now, and what is under way.
    #[must_use]
    pub fn budget(&self) -> BudgetSnapshot {
        self.state.budget.snapshot(clock::now())
    }

    /// How many retries there were that the budget paid for.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.state.retries.load(Relaxed)
    }

    /// How many retries there were, for nothing, of what never left us.
    #[must_use]
    pub fn transparent(&self) -> u64 {
        self.state.transparent.load(Relaxed)
    }

    /// How many retries were wanted and not in the budget.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.state.exhausted.load(Relaxed)
    }

    /// How many retries were not made because the caller tries again itself.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.state.suppressed.load(Relaxed)
    }
}
