use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::time::{Instant, timeout};
use tower_chassis_core::{Kind, Live, Rejection, Respond, clock, events::Event, refusal::Fail};
use tower_layer::Layer;

use super::{
    super::{
        RateLimitLayer, RateLimitPolicy, TooCostly,
        rule::Rule,
        shared::{Setup, nanos, since},
    },
    Grant, Limit, RemoteRateLimit, Store, StoreKey,
    account::{Account, Decision},
};
use crate::keyed::{KeyOf, Store as Keys};

/// After a failure the store is asked again in so long.
const PAUSE: Duration = Duration::from_millis(250);
/// The most calls of a lease.
const MOST: u32 = 10_000;

/// A rate limit that is counted in a store. See the [module](super) page. Made by
/// [`remote`](RateLimitLayer::remote).
pub struct RemoteRateLimitLayer<St, F, K, J = Fail> {
    pub(super) shared: Arc<Shared<St, F, K>>,
    answer: J,
}

/// What a layer, its services, their calls and its handles share.
pub(super) struct Shared<St, F, K> {
    store: Arc<St>,
    pub(super) key: Arc<F>,
    one: Arc<Account>,
    keys: Keys<K, Account>,
    state: Arc<State>,
}

/// What does not depend on types.
pub(super) struct State {
    /// What its keys in the store begin with.
    name: String,
    epoch: Instant,
    options: Options,
    instances: AtomicU32,
    /// Before this time the store is not asked.
    away_until: AtomicU64,
    live: Live<RateLimitPolicy>,
    setup: Setup,
}

#[derive(Clone, Copy)]
struct Options {
    timeout: Duration,
    lease: Duration,
}

impl<F, K, J> RateLimitLayer<F, K, J>
where
    F: Send + Sync + 'static,
    K: Hash + Eq + Send + 'static,
{
    /// Counts in a store that several instances share: see [`remote`](super). The buckets of this layer are not
    /// used any more; its key, cost, name, events and settings are.
    #[must_use]
    pub fn remote<St: Store>(self, store: St) -> RemoteRateLimitLayer<St, F, K, J> {
        let (shared, answer) = self.into_parts();
        // No name has the separator, so no key can be taken for another limit's. Limits that nobody named are told apart by
        // what they are set to at first: were they to count as one, the shorter would forget what the longer remembers.
        let name = match &shared.setup.name {
            Some(name) => name.replace(':', "_"),
            None => {
                let (burst, window) = shared.live.load().rule().quota();
                format!("rate_limit.{burst}.{window}")
            }
        };
        let state = State {
            name,
            epoch: clock::now(),
            options: Options {
                timeout: Duration::from_millis(10),
                lease: Duration::from_millis(100),
            },
            instances: AtomicU32::new(1),
            away_until: AtomicU64::new(0),
            live: shared.live.clone(),
            setup: shared.setup.clone(),
        };
        RemoteRateLimitLayer {
            shared: Shared::new(Arc::new(store), Arc::clone(&shared.key), state),
            answer,
        }
    }
}

impl<St, F, K, J> RemoteRateLimitLayer<St, F, K, J>
where
    St: Store,
    F: Send + Sync + 'static,
    K: Hash + Eq + Send + 'static,
{
    /// How many instances share the limit. Default 1, which is the least.
    #[must_use]
    pub fn instances(self, instances: u32) -> Self {
        self.shared.set_instances(instances);
        self
    }

    /// How long a call waits for the store, and before that at most as long for those of its key that ask first. Default
    /// 10 ms. For the set-up: begins with no leases.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = timeout)
    }

    /// How long calls are held that were taken in advance. Default 100 ms; zero asks the store for each call. For the
    /// set-up: begins with no leases.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        self.with(|options| options.lease = lease)
    }

    /// Reads the state and changes the settings.
    #[must_use]
    pub fn handle(&self) -> RemoteRateLimitHandle {
        RemoteRateLimitHandle(Arc::<Shared<St, F, K>>::clone(&self.shared))
    }

    /// The same settings and the same store, with leases of its own: another instance.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        Self {
            shared: self.shared.fresh(|_| {}),
            answer: self.answer.clone(),
        }
    }

    fn with(self, change: impl FnOnce(&mut Options)) -> Self {
        Self {
            shared: self.shared.fresh(change),
            answer: self.answer,
        }
    }
}

impl<St, F, K> RemoteRateLimitLayer<St, F, K> {
    /// Answers its own refusals by the table at [`Kind`] instead of failing with them,
    /// and passes errors from inside on. To be said last; for HTTP and gRPC.
    #[must_use]
    pub fn respond(self) -> RemoteRateLimitLayer<St, F, K, Respond> {
        RemoteRateLimitLayer {
            shared: self.shared,
            answer: Respond::new(self.answer),
        }
    }
}

impl<St, F, K, J: Clone> Clone for RemoteRateLimitLayer<St, F, K, J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            answer: self.answer.clone(),
        }
    }
}

impl<St, F, K, J> fmt::Debug for RemoteRateLimitLayer<St, F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRateLimitLayer")
            .field("policy", &self.shared.state.live)
            .finish_non_exhaustive()
    }
}

impl<S, St, F, K, J: Clone> Layer<S> for RemoteRateLimitLayer<St, F, K, J> {
    type Service = RemoteRateLimit<S, St, F, K, J>;

    fn layer(&self, inner: S) -> Self::Service {
        RemoteRateLimit::new(inner, Arc::clone(&self.shared), self.answer.clone())
    }
}

impl<St, F, K> Shared<St, F, K>
where
    St: Store,
    F: Send + Sync + 'static,
    K: Hash + Eq + Send + 'static,
{
    fn new(store: Arc<St>, key: Arc<F>, state: State) -> Arc<Self> {
        let shared = Arc::new(Self {
            store,
            key,
            one: Arc::new(Account::new(state.share(), state.epoch)),
            keys: Keys::new(state.setup.max_keys.unwrap_or(1)),
            state: Arc::new(state),
        });
        let live = &shared.state.live;
        live.bind(&shared, |shared, _| shared.apply());
        shared
    }

    fn fresh(&self, change: impl FnOnce(&mut Options)) -> Arc<Self> {
        let mut options = self.state.options;
        change(&mut options);
        let state = State {
            name: self.state.name.clone(),
            epoch: self.state.epoch,
            options,
            instances: AtomicU32::new(self.state.instances.load(Relaxed)),
            away_until: AtomicU64::new(0),
            live: self.state.live.clone(),
            setup: self.state.setup.clone(),
        };
        Self::new(Arc::clone(&self.store), Arc::clone(&self.key), state)
    }
}

impl<St, F, K> Shared<St, F, K> {
    fn apply(&self) {
        let (share, now) = (self.state.share(), self.state.now());
        self.one.apply(share, now);
        self.keys.for_all(|account| account.apply(share, now));
    }

    fn set_instances(&self, instances: u32) {
        self.state.instances.store(instances.max(1), SeqCst);
        self.apply();
    }
}

impl<St: Store, F, K: Hash + Eq + StoreKey> Shared<St, F, K> {
    /// The account of a request's key.
    pub(super) fn account<Req>(&self, request: &Req, now: Instant) -> Seat
    where
        F: KeyOf<Req, K>,
    {
        let make = || Arc::new(Account::new(self.state.share(), self.state.epoch));
        let (account, own) = match self.key.key_of(request) {
            Some(key) => self.keys.get_told(key, || now, make),
            None => (Arc::clone(&self.one), true),
        };
        Seat { account, own }
    }

    /// How the store calls a request's key.
    pub(super) fn name<Req>(&self, request: &Req) -> String
    where
        F: KeyOf<Req, K>,
    {
        let name = &self.state.name;
        match self.key.key_of(request) {
            Some(key) => format!("{name}:{}", key.text()),
            None => name.clone(),
        }
    }

    /// Decides without the store, if that can be.
    pub(super) fn decide(&self, seat: &Seat, cost: u32, now: u64) -> Decision {
        if cost > self.state.limit().burst {
            return Decision::Refuse(None);
        }
        match seat.decide(cost, now) {
            Decision::Ask if !self.state.may_ask(now) => seat.alone(cost, now),
            decision => decision,
        }
    }

    pub(super) const fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Asks the store, in the time that there is for it.
    pub(super) async fn ask(self: Arc<Self>, seat: Seat, key: String, cost: u32) -> Decision {
        let state = &*self.state;
        let account = &*seat.account;
        let away = state.away_until.load(Relaxed);
        let _wanting = account.wants(if seat.own { cost } else { 0 });
        let _turn = if seat.own {
            let Ok(turn) = timeout(state.options.timeout, account.asking.lock()).await else {
                // Many ask for this key. That says nothing of the store.
                return seat.alone(cost, state.now());
            };
            // Somebody may have asked meanwhile, or have found that it is away.
            let now = state.now();
            match seat.decide(cost, now) {
                Decision::Ask if [0, away].contains(&state.away_until.load(Relaxed)) => {}
                Decision::Ask => return seat.alone(cost, now),
                decision => return decision,
            }
            Some(turn)
        } else {
            None
        };
        let asked = timeout(state.options.timeout, async {
            let limit = state.limit();
            // Those who wait spend theirs at once.
            let wanted = || account.wanted().min(limit.burst);
            let want = match seat.own {
                true => state.want(cost, limit).max(wanted()),
                false => cost,
            };
            let since = state.now();
            let grant = self.store.acquire(&key, cost, want, limit).await?;
            let now = state.now();
            Ok::<_, tower_chassis_core::BoxError>(match grant {
                Grant::Calls(calls) if calls >= cost => {
                    account.charge(calls, now);
                    if seat.own {
                        let until = since.saturating_add(nanos(state.options.lease));
                        account.leased(calls, cost, now, until);
                    }
                    Decision::Go
                }
                refused => {
                    let wait = match refused {
                        Grant::Calls(_) => 0,
                        Grant::Refused(wait) => nanos(wait),
                    };
                    if seat.own {
                        account.refused(cost, now, wait);
                    }
                    Decision::Refuse(Some(wait))
                }
            })
        });
        let error = match asked.await {
            Ok(Ok(decision)) => {
                state.away_until.store(0, Relaxed);
                return decision;
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let now = state.now();
        state.went_away(now, error);
        seat.alone(cost, now)
    }
}

/// What is known of a key, and whether of it alone: keys that found no room share what they are allowed while the store is
/// away, and nothing else.
pub(super) struct Seat {
    account: Arc<Account>,
    own: bool,
}

impl Seat {
    fn decide(&self, cost: u32, now: u64) -> Decision {
        self.account.decide(cost, self.own, now)
    }

    /// Without the store, whatever there is.
    fn alone(&self, cost: u32, now: u64) -> Decision {
        match self.decide(cost, now) {
            Decision::Ask => self.account.alone(cost, now, nanos(PAUSE)),
            decision => decision,
        }
    }
}

impl State {
    pub(super) fn now(&self) -> u64 {
        self.since(clock::now())
    }

    pub(super) fn since(&self, now: Instant) -> u64 {
        since(self.epoch, now)
    }

    /// Whether the store is to be asked: where it was away, by one call in each pause.
    fn may_ask(&self, now: u64) -> bool {
        let away = &self.away_until;
        let until = away.load(Relaxed);
        let next = now.saturating_add(nanos(PAUSE));
        until == 0 || (now >= until && away.compare_exchange(until, next, Relaxed, Relaxed).is_ok())
    }

    fn limit(&self) -> Limit {
        let (interval, burst) = match self.live.load().rule() {
            Rule::Gcra { interval, burst } => (interval, burst),
            Rule::Window { length, limit } => (length.div_ceil(u64::from(limit).max(1)), limit),
        };
        Limit {
            interval: Duration::from_nanos(interval),
            burst,
        }
    }

    /// What this instance allows by itself.
    fn share(&self) -> Rule {
        let (limit, instances) = (self.limit(), self.instances.load(SeqCst));
        let interval = nanos(limit.interval).saturating_mul(instances.into());
        Rule::new(interval, (limit.burst / instances).max(1))
    }

    /// How many calls to lease: what the rate gives while a lease lasts, and no more than half of a share of a burst.
    fn want(&self, cost: u32, limit: Limit) -> u32 {
        let instances = self.instances.load(Relaxed);
        let (lease, interval) = (nanos(self.options.lease), nanos(limit.interval));
        let rate = u32::try_from(lease / interval.max(1)).unwrap_or(u32::MAX);
        (rate / instances)
            .min(limit.burst / 2 / instances)
            .min(MOST)
            .max(cost)
    }

    fn went_away(&self, now: u64, error: Option<tower_chassis_core::BoxError>) {
        let until = now.saturating_add(nanos(PAUSE));
        let before = self.away_until.swap(until, Relaxed);
        if before == 0 {
            let error = error.map_or_else(|| "no answer in time".to_owned(), |e| e.to_string());
            tracing::warn!(
                target: "tower_chassis::rate_limit", error,
                "the store of a rate limit is away; this instance allows its share",
            );
        }
    }

    pub(super) fn refuse(&self, wait: Option<u64>, cost: u32) -> Rejection {
        self.setup.refused();
        let rejection = Rejection::new(Kind::RateLimited, "rate_limit");
        match wait {
            Some(wait) => rejection.after(Duration::from_nanos(wait)),
            None => rejection.because(TooCostly {
                cost,
                most: self.limit().burst,
                quota: None,
            }),
        }
    }
}

impl Setup {
    /// Reports a refusal.
    pub(in super::super) fn refused(&self) {
        self.events.emit(|| match &self.name {
            Some(name) => Event::refused_by("rate_limit", Arc::clone(name), Kind::RateLimited),
            None => Event::refused("rate_limit", Kind::RateLimited),
        });
    }
}

trait Control: Send + Sync {
    fn state(&self) -> &State;
    fn set_instances(&self, instances: u32);
    fn keys(&self) -> usize;
}

impl<St: Store, F: Send + Sync, K: Send> Control for Shared<St, F, K> {
    fn state(&self) -> &State {
        &self.state
    }
    fn set_instances(&self, instances: u32) {
        Self::set_instances(self, instances);
    }
    fn keys(&self) -> usize {
        self.keys.len()
    }
}

/// Reads and reconfigures a rate limit that is counted in a store. Clones act on the same one.
#[derive(Clone)]
pub struct RemoteRateLimitHandle(Arc<dyn Control>);

impl RemoteRateLimitHandle {
    /// Whether the store did not answer the last time, and this instance allows its share.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.0.state().away_until.load(Relaxed) != 0
    }

    /// How many instances share the limit, at least 1. Drops what is leased.
    pub fn set_instances(&self, instances: u32) {
        self.0.set_instances(instances);
    }

    /// How many keys this instance knows.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.keys()
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<RateLimitPolicy> {
        &self.0.state().live
    }
}

impl fmt::Debug for RemoteRateLimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRateLimitHandle")
            .field("policy", self.config())
            .field("away", &self.is_away())
            .finish()
    }
}
