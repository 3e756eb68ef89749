use std::{
    fmt,
    hash::Hash,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Respond, clock,
    refusal::{IsGrpc, Refusal},
    settle::{Settle, UntilEnd, UntilHead},
    verdict::OkIsSuccess,
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    BulkheadFuture, BulkheadHandle, BulkheadLayer, NoDeadlines, Patience,
    future::Settled,
    permits::Permits,
    service::Inner,
    shared::{Setup, Shared, Turn, enter},
};
use crate::keyed::{By, Forget, KeyOf, Store};

/// How many keys have a limit of their own, unless set.
const MAX_KEYS: usize = 10_000;

/// A limit for each key. Made by [`BulkheadLayer::keyed`]; see the [module](super#keys) page.
pub struct KeyedBulkheadLayer<F, K, J = UntilHead<OkIsSuccess>, D = NoDeadlines> {
    shared: Arc<Keys<F, K>>,
    settle: J,
    deadlines: PhantomData<fn() -> D>,
}

struct Keys<F, K> {
    key: Arc<F>,
    /// The settings of all limits, and the limit of calls without a key.
    one: Arc<Shared>,
    limits: Store<K, Shared>,
    max_keys: usize,
}

impl Forget for Shared {
    /// A second one would let twice as many calls begin.
    const ONE_AT_ONCE: bool = true;

    fn is_idle(&self, _: Instant) -> bool {
        self.is_unused()
    }
}

impl<F, K> Keys<F, K> {
    /// Of all keys, one shard after the other.
    fn sum(&self, read: impl Fn(&Permits) -> u32) -> f64 {
        let mut sum = 0;
        self.limits
            .for_all(|limit| sum += u64::from(read(&limit.permits)));
        sum as f64
    }

    fn enter<Req, D: Patience<Req>>(&self, request: &Req) -> Turn<Arc<Shared>>
    where
        F: KeyOf<Req, K>,
        K: Hash + Eq,
    {
        let Some(key) = self.key.key_of(request) else {
            let one = || Arc::clone(&self.one);
            return enter(&self.one, one, || D::deadline(request));
        };
        let now = || clock::entered(|now| now);
        let limit = self.limits.get(key, now, || self.one.for_key());
        enter(&limit, || Arc::clone(&limit), || D::deadline(request))
    }
}

impl<F, K, J, D> KeyedBulkheadLayer<F, K, J, D>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    /// Names them, for logs, as [`BulkheadLayer::named`] does. For the set-up: begins with no call in flight.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports refusals. Default: to whom the layer reported them that it was made from. For the set-up: begins with
    /// no call in flight.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// How many keys have a limit of their own. Default 10,000, at least 1; one holds some 400 bytes.
    ///
    /// Beyond, the keys that find no room share 64 limits by their hash. For the set-up: begins with no call in
    /// flight.
    #[must_use]
    pub fn max_keys(self, max_keys: usize) -> Self {
        let keys = &*self.shared;
        let one = keys.one.fresh();
        Self::build(one, Arc::clone(&keys.key), max_keys.max(1), self.settle)
    }

    /// The same settings with limits and queues of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        let keys = &*self.shared;
        let (one, settle) = (keys.one.fresh(), self.settle.clone());
        Self::build(one, Arc::clone(&keys.key), keys.max_keys, settle)
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let keys = &*self.shared;
        let one = keys.one.fresh_with(change);
        Self::build(one, Arc::clone(&keys.key), keys.max_keys, self.settle)
    }

    fn build(one: Arc<Shared>, key: Arc<F>, max_keys: usize, settle: J) -> Self {
        let shared = Arc::new(Keys {
            key,
            one,
            limits: Store::new(max_keys),
            max_keys,
        });
        // Once for all keys, which come and go. A key that is made now reads the new policy, or is seen here.
        let live = &shared.one.common.live;
        live.bind(&shared, |keys, policy| {
            keys.limits.for_all(|limit| limit.apply(policy));
        });
        // Beside those of calls without a key: what has one name is summed up. The limit is that of each.
        type Read = fn(&Permits) -> u32;
        let gauges: [(_, Read); 2] = [
            ("chassis_bulkhead_in_flight", Permits::in_use),
            ("chassis_bulkhead_queued", Permits::queued),
        ];
        let Setup { name, events } = &shared.one.common.setup;
        for (gauge, read) in gauges {
            let read = move |keys: &Keys<F, K>| keys.sum(read);
            events.gauge(gauge, Arc::clone(name), &shared, read);
        }
        Self::with(shared, settle)
    }
}

impl<F, K, J, D> KeyedBulkheadLayer<F, K, J, D> {
    const fn with(shared: Arc<Keys<F, K>>, settle: J) -> Self {
        Self {
            shared,
            settle,
            deadlines: PhantomData,
        }
    }

    /// Answers its own refusals instead of failing with them, as [`BulkheadLayer::respond`] does.
    #[must_use]
    pub fn respond(self) -> KeyedBulkheadLayer<F, K, Respond<J>, D> {
        KeyedBulkheadLayer::with(self.shared, Respond::new(self.settle))
    }

    /// Reads what is in flight and waits, changes the settings.
    #[must_use]
    pub fn handle(&self) -> KeyedBulkheadHandle<F, K> {
        KeyedBulkheadHandle(Arc::clone(&self.shared))
    }
}

impl<F, K, C, D> KeyedBulkheadLayer<F, K, UntilHead<C>, D> {
    /// Holds the permit to the end of the body.
    #[must_use]
    pub fn until_end(self) -> KeyedBulkheadLayer<F, K, UntilEnd<C>, D> {
        KeyedBulkheadLayer::with(self.shared, self.settle.until_end())
    }
}

impl<F, K, J: Clone, D> Clone for KeyedBulkheadLayer<F, K, J, D> {
    fn clone(&self) -> Self {
        Self::with(Arc::clone(&self.shared), self.settle.clone())
    }
}

impl<F, K, J, D> fmt::Debug for KeyedBulkheadLayer<F, K, J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBulkheadLayer")
            .field("name", self.shared.one.name())
            .field("keys", &self.shared.limits.len())
            .finish_non_exhaustive()
    }
}

impl<S, F, K, J: Clone, D> Layer<S> for KeyedBulkheadLayer<F, K, J, D> {
    type Service = KeyedBulkhead<S, F, K, J, D>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedBulkhead {
            inner: Inner::new(inner),
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
            deadlines: PhantomData,
        }
    }
}

/// The service of a [`KeyedBulkheadLayer`].
pub struct KeyedBulkhead<S, F, K, J = UntilHead<OkIsSuccess>, D = NoDeadlines> {
    inner: Inner<S>,
    shared: Arc<Keys<F, K>>,
    settle: J,
    deadlines: PhantomData<fn() -> D>,
}

impl<S: Clone, F, K, J: Clone, D> Clone for KeyedBulkhead<S, F, K, J, D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
            deadlines: PhantomData,
        }
    }
}

impl<S: fmt::Debug, F, K, J, D> fmt::Debug for KeyedBulkhead<S, F, K, J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBulkhead")
            .field("name", self.shared.one.name())
            .field("inner", &self.inner.service)
            .finish_non_exhaustive()
    }
}

impl<S, F, K, J, D, Req> Service<Req> for KeyedBulkhead<S, F, K, J, D>
where
    S: Service<Req> + Clone,
    D: Patience<Req>,
    F: KeyOf<Req, K>,
    K: Hash + Eq,
    J: Settle<S::Response, S::Error>
        + IsGrpc<Req>
        + Refusal<Settled<S, Req, J, Arc<Shared>>, S::Error>,
{
    type Response = <J as Refusal<Settled<S, Req, J, Arc<Shared>>, S::Error>>::Response;
    type Error = <J as Refusal<Settled<S, Req, J, Arc<Shared>>, S::Error>>::Error;
    type Future = BulkheadFuture<S, Req, J, Arc<Shared>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Whose call it will be is not known yet.
        self.inner.poll_ready(cx).map_err(J::error)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grpc = J::is_grpc(&request);
        let turn = self.shared.enter::<_, D>(&request);
        self.inner.begin(turn, request, &self.settle, grpc)
    }
}

/// Reads and reconfigures the limits of a [`KeyedBulkheadLayer`]. Clones act on the same ones.
pub struct KeyedBulkheadHandle<F, K>(Arc<Keys<F, K>>);

impl<F, K> KeyedBulkheadHandle<F, K> {
    /// How many keys have a limit of their own now. Takes the lock of each shard in turn.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.limits.len()
    }

    /// Shows each key that has a limit of its own, how many of its calls are in flight and how many wait.
    ///
    /// One shard after the other, outside of their locks.
    pub fn for_each(&self, mut show: impl FnMut(&K, u32, u32))
    where
        K: Clone,
    {
        self.0.limits.for_each(|key, limit| {
            show(key, limit.permits.in_use(), limit.permits.queued());
        });
    }

    /// The limit of a key, if it has one of its own. While this is kept, so is that; its settings are those of all.
    #[must_use]
    pub fn get(&self, key: K) -> Option<BulkheadHandle>
    where
        K: Hash + Eq,
    {
        self.0.limits.find(key).map(BulkheadHandle)
    }

    /// The limit of calls without a key; its settings are those of all.
    #[must_use]
    pub fn one(&self) -> BulkheadHandle {
        BulkheadHandle(Arc::clone(&self.0.one))
    }
}

impl<F, K> Clone for KeyedBulkheadHandle<F, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, K> fmt::Debug for KeyedBulkheadHandle<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBulkheadHandle")
            .field("keys", &self.keys())
            .finish()
    }
}

impl<C, D> BulkheadLayer<UntilHead<C>, D> {
    /// A limit and a queue for each key that `f` finds in a request, up to [`KeyedBulkheadLayer::max_keys`]. Calls
    /// without a key (`None`) share one limit of their own.
    ///
    /// For what one service has many of: a tenant, a route, a host.
    #[must_use]
    pub fn keyed<F, Req, K>(self, f: F) -> KeyedBulkheadLayer<By<F, K>, K, UntilHead<C>, D>
    where
        F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        K: Hash + Eq + Send + 'static,
    {
        let (shared, settle) = self.into_parts();
        KeyedBulkheadLayer::build(shared.fresh(), Arc::new(By::new(f)), MAX_KEYS, settle)
    }
}
