use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Live, clock,
    striped::Striped,
    verdict::{Auto, ByFn},
};
use tower_layer::Layer;

use super::{
    Hedge, HedgeHandle, HedgePolicy,
    latency::NEVER,
    state::{Record, Setup, State},
};
use crate::{
    keyed::{By, KeyOf, One, Store},
    retry::{Budget, Buffered, Cloned, Rewrapped, RewrappedWith},
    template::Template,
};

/// How many keys have a percentile of their own, unless set.
const MAX_KEYS: usize = 1_000;

/// Sends a second attempt of a call that is late. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `R` says how a request is sent a second
/// time, `C` judges, `F` finds the key of a call, `K` is its type.
#[must_use]
pub struct HedgeLayer<R = Buffered, C = Auto, F = One, K = ()> {
    state: Arc<State>,
    keys: Arc<Keys<F, K>>,
    replay: R,
    classify: C,
}

/// The percentiles of the keys, if there are keys.
pub(super) struct Keys<F, K> {
    key: Arc<F>,
    records: Option<Store<K, Record>>,
    max_keys: usize,
}

impl<F, K> Keys<F, K> {
    fn new(key: Arc<F>, max_keys: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            key,
            records: max_keys.map(Store::new),
            max_keys: max_keys.unwrap_or_default(),
        })
    }

    fn fresh(&self) -> Arc<Self> {
        let max_keys = self.records.as_ref().map(|_| self.max_keys);
        Self::new(Arc::clone(&self.key), max_keys)
    }
}

impl<F, K: Hash + Eq> Keys<F, K> {
    /// Where the time of a call is kept that has a key.
    pub(super) fn record<Req>(&self, request: &Req, now: Instant) -> Option<Arc<Record>>
    where
        F: KeyOf<Req, K>,
    {
        let records = self.records.as_ref()?;
        let key = self.key.key_of(request)?;
        Some(records.get(key, || now, || Arc::new(Record::new(now))))
    }
}

/// How many keys there are, of whatever type.
pub(super) trait Count: Send + Sync {
    fn count(&self) -> usize;
}

impl<F: Send + Sync, K: Send> Count for Keys<F, K> {
    fn count(&self) -> usize {
        self.records.as_ref().map_or(0, Store::len)
    }
}

impl HedgeLayer {
    /// Hedges by `policy`, which may be [live](Live).
    pub fn new(policy: impl Into<Live<HedgePolicy>>) -> Self {
        Self {
            state: State::new(policy.into(), Setup::default()),
            keys: Keys::new(Arc::new(One), None),
            replay: Buffered::default(),
            classify: Auto,
        }
    }
}

impl<R, C> HedgeLayer<R, C> {
    /// A percentile for each key that `f` finds in a request, up to [`max_keys`](HedgeLayer::max_keys): a route, a
    /// method, whatever calls of one kind take about the same time. Calls without a key (`None`) share one.
    ///
    /// The rest, the budget too, is that of the layer. A key is hashed and compared on each call.
    pub fn keyed<F, Req, K>(self, f: F) -> HedgeLayer<R, C, By<F, K>, K>
    where
        F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        K: Hash + Eq + Send + 'static,
    {
        HedgeLayer {
            state: self.state,
            keys: Keys::new(Arc::new(By::new(f)), Some(MAX_KEYS)),
            replay: self.replay,
            classify: self.classify,
        }
    }
}

impl<R, C, F, K: Hash + Eq> HedgeLayer<R, C, By<F, K>, K> {
    /// How many keys have a percentile of their own. Default 1,000, at least 1; one holds 12 KiB.
    ///
    /// Keys that were not used for half a minute make room; beyond, the keys that find none share 64 percentiles by
    /// their hash. For the set-up: what was measured of keys is forgotten.
    pub fn max_keys(self, max_keys: usize) -> Self {
        Self {
            keys: Keys::new(Arc::clone(&self.keys.key), Some(max_keys.max(1))),
            ..self
        }
    }

    /// What [`HedgeHandle::delay`] is for calls without a key.
    #[must_use]
    pub fn delay_of(&self, key: K) -> Option<Duration> {
        let state = &self.state;
        let measured = || {
            let record = self.keys.records.as_ref()?.find(key)?;
            Some(state.measured(&record, clock::now()))
        };
        let delay = state.fixed().or_else(measured)?;
        (delay != NEVER).then(|| Duration::from_nanos(delay))
    }
}

impl<R, C, F, K> HedgeLayer<R, C, F, K> {
    /// Clones a request instead of recording its body. This is the one for a protocol of your own, whose request
    /// is `Clone` and a [`Carrier`](tower_chassis_core::Carrier), and for HTTP bodies that are cheap to clone.
    pub fn clone_body(self) -> HedgeLayer<Cloned, C, F, K> {
        self.replay(Cloned)
    }

    /// Sends requests a second time as `replay` does, in place of [`Buffered`].
    pub fn replay<Q>(self, replay: Q) -> HedgeLayer<Q, C, F, K> {
        HedgeLayer {
            state: self.state,
            keys: self.keys,
            replay,
            classify: self.classify,
        }
    }

    /// Hands the inner service bodies that `wrap` makes, for one that takes no other: `tonic::body::Body::new` for a
    /// tonic `Channel`.
    pub fn rewrap_with<W>(self, wrap: W) -> HedgeLayer<RewrappedWith<W, R>, C, F, K> {
        HedgeLayer {
            state: self.state,
            keys: self.keys,
            replay: RewrappedWith::new(self.replay, wrap),
            classify: self.classify,
        }
    }

    /// Hands the inner service HTTP bodies of type `O`, for one that takes no other.
    pub fn rewrap<O>(self) -> HedgeLayer<Rewrapped<O, R>, C, F, K> {
        HedgeLayer {
            state: self.state,
            keys: self.keys,
            replay: Rewrapped::new(self.replay),
            classify: self.classify,
        }
    }

    /// Judges responses and errors by `classify`, at the head.
    pub fn classify<D>(self, classify: D) -> HedgeLayer<R, D, F, K> {
        HedgeLayer {
            state: self.state,
            keys: self.keys,
            replay: self.replay,
            classify,
        }
    }

    /// Judges by a closure `Fn(Result<&Res, &Err>) -> Verdict`, as [`classify`](Self::classify) does.
    pub fn classify_fn<G>(self, f: G) -> HedgeLayer<R, ByFn<G>, F, K> {
        self.classify(ByFn(f))
    }

    /// Draws on `budget`, which other layers may share, instead of one of its own, and pays calls into it.
    /// The `budget_…` fields of the policy no longer count. For the set-up: begins anew.
    pub fn budget(self, budget: Budget) -> Self {
        self.set_up(|setup| {
            setup.budget = Some(budget);
            setup.draws_only = false;
        })
    }

    /// Draws on the `budget` of a retry around it, which pays the calls in. For the set-up: begins anew.
    pub fn budget_of_retry(self, budget: Budget) -> Self {
        self.set_up(|setup| {
            setup.budget = Some(budget);
            setup.draws_only = true;
        })
    }

    /// Names it, for events and metrics. Default `hedge`. For the set-up: begins anew.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports [`Event::Hedged`](tower_chassis_core::events::Event::Hedged) and
    /// [`Event::BudgetExhausted`](tower_chassis_core::events::Event::BudgetExhausted). For the set-up: begins anew.
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Makes no [`Invocation`](tower_chassis_core::Invocation) for a request that comes without one, which saves four
    /// allocations: for an inner service that has one endpoint only. A balancer below could not tell which endpoint
    /// the first attempt went to. For the set-up: begins anew.
    pub fn untracked(self) -> Self {
        self.set_up(|setup| setup.untracked = true)
    }

    /// The same layer with a state of its own: nothing measured, counters at zero and, unless it was given one, a
    /// new budget.
    pub fn fresh(self) -> Self {
        self.set_up(|_| ())
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.state.setup().clone();
        change(&mut setup);
        Self {
            state: State::new(self.state.live().clone(), setup),
            keys: self.keys.fresh(),
            ..self
        }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> HedgeHandle
    where
        F: Send + Sync + 'static,
        K: Send + 'static,
    {
        HedgeHandle {
            state: Arc::clone(&self.state),
            keys: Arc::<Keys<F, K>>::clone(&self.keys),
        }
    }
}

impl<R: Clone, C: Clone, F, K> Clone for HedgeLayer<R, C, F, K> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            keys: Arc::clone(&self.keys),
            replay: self.replay.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<R, C, F, K> fmt::Debug for HedgeLayer<R, C, F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeLayer")
            .field("name", &self.state.setup().name)
            .field("policy", self.state.live())
            .finish_non_exhaustive()
    }
}

impl<S: Clone, R: Clone, C: Clone, F, K> Layer<S> for HedgeLayer<R, C, F, K> {
    type Service = Hedge<S, R, C, F, K>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = Striped::new(Shared {
            state: Arc::clone(&self.state),
            template: Template::new(inner.clone()),
        });
        Hedge {
            inner,
            shared,
            keys: Arc::clone(&self.keys),
            replay: self.replay.clone(),
            classify: self.classify.clone(),
        }
    }
}

/// What the clones of a service share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) state: Arc<State>,
    /// Hedges are made with clones of it.
    pub(super) template: Template<S>,
}
