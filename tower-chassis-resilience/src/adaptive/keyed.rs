use std::{fmt, hash::Hash, sync::Arc};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Respond, Verdict, clock,
    settle::{UntilEnd, UntilHead},
    verdict::ByFn,
};
use tower_layer::Layer;

use super::{
    Adaptive, AdaptiveHandle, AdaptiveLayer,
    limit::SECOND,
    service::{Limits, sealed::Sealed},
    shared::{Setup, Shared},
};
use crate::keyed::{By, Forget, KeyOf, Store};

/// How many keys have a limit of their own, unless set.
const MAX_KEYS: usize = 1_000;

/// What a limit has learned is kept for so long after its last window.
const KEPT: u64 = 60 * SECOND;

/// A limit for each key. Made by [`AdaptiveLayer::keyed`]; see the [module](super#keys) page.
pub struct KeyedAdaptiveLayer<F, K, J = UntilHead> {
    shared: Arc<Keys<F, K>>,
    settle: J,
}

struct Keys<F, K> {
    key: Arc<By<F, K>>,
    /// The settings of all limits, and the limit of calls without a key.
    one: Arc<Shared>,
    limits: Store<K, Shared>,
    max_keys: usize,
}

impl Forget for Shared {
    /// A second one would let twice as many calls begin.
    const ONE_AT_ONCE: bool = true;

    fn is_idle(&self, now: Instant) -> bool {
        let now = self.nanos(now);
        self.is_unused() && self.meter.is_due(now.saturating_sub(KEPT)) && !self.is_forced(now)
    }
}

impl<F, K, J> KeyedAdaptiveLayer<F, K, J>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    /// Names them, for logs, as [`AdaptiveLayer::named`] does. For the set-up: begins anew.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports refusals, and changes of the limit of calls without a key. Default: to whom the layer reported them
    /// that it was made from. For the set-up: begins anew.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// How many keys have a limit of their own. Default 1,000, at least 1; one holds 2 to 16 kB.
    ///
    /// Beyond, the keys that find no room share 64 limits by their hash. For the set-up: begins anew.
    #[must_use]
    pub fn max_keys(self, max_keys: usize) -> Self {
        let keys = &*self.shared;
        let one = keys.one.fresh();
        Self::build(one, Arc::clone(&keys.key), max_keys.max(1), self.settle)
    }

    /// The same settings with limits of its own.
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

    fn build(one: Arc<Shared>, key: Arc<By<F, K>>, max_keys: usize, settle: J) -> Self {
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
        Self { shared, settle }
    }
}

impl<F, K, J> KeyedAdaptiveLayer<F, K, J> {
    fn settled_by<I>(self, change: impl FnOnce(J) -> I) -> KeyedAdaptiveLayer<F, K, I> {
        KeyedAdaptiveLayer {
            shared: self.shared,
            settle: change(self.settle),
        }
    }

    /// Answers its own refusals instead of failing with them, as [`AdaptiveLayer::respond`] does.
    #[must_use]
    pub fn respond(self) -> KeyedAdaptiveLayer<F, K, Respond<J>> {
        self.settled_by(Respond::new)
    }

    /// Reads the limits and changes their settings.
    #[must_use]
    pub fn handle(&self) -> KeyedAdaptiveHandle<F, K> {
        KeyedAdaptiveHandle(Arc::clone(&self.shared))
    }
}

impl<F, K, C> KeyedAdaptiveLayer<F, K, UntilHead<C>> {
    /// Holds the permit to the end of the body. Latency is still that of the head.
    #[must_use]
    pub fn until_end(self) -> KeyedAdaptiveLayer<F, K, UntilEnd<C>> {
        self.settled_by(UntilHead::until_end)
    }

    /// Judges calls by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> KeyedAdaptiveLayer<F, K, UntilHead<D>> {
        self.settled_by(|settle| settle.classify(classify))
    }

    /// Judges calls by a closure.
    #[must_use]
    pub fn classify_fn<G, Res, Err>(self, f: G) -> KeyedAdaptiveLayer<F, K, UntilHead<ByFn<G>>>
    where
        G: Fn(Result<&Res, &Err>) -> Verdict,
    {
        self.settled_by(|settle| settle.classify_fn(f))
    }
}

impl<F, K, J: Clone> Clone for KeyedAdaptiveLayer<F, K, J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
        }
    }
}

impl<F, K, J> fmt::Debug for KeyedAdaptiveLayer<F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedAdaptiveLayer")
            .field("name", self.shared.one.name())
            .field("keys", &self.shared.limits.len())
            .finish_non_exhaustive()
    }
}

impl<S, F, K, J: Clone> Layer<S> for KeyedAdaptiveLayer<F, K, J> {
    type Service = Adaptive<S, J, ByKey<F, K>>;

    fn layer(&self, inner: S) -> Self::Service {
        let limits = ByKey(Arc::clone(&self.shared));
        Adaptive::new(inner, limits, self.settle.clone())
    }
}

/// A limit for each key: what a [`KeyedAdaptiveLayer`]'s services have.
pub struct ByKey<F, K>(Arc<Keys<F, K>>);

impl<F, K> Clone for ByKey<F, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, K> fmt::Debug for ByKey<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByKey").field(self.0.one.name()).finish()
    }
}

impl<F, K, Req> Limits<Req> for ByKey<F, K>
where
    F: Fn(&Req) -> Option<K>,
    K: Hash + Eq,
{
}

impl<F, K, Req> Sealed<Req> for ByKey<F, K>
where
    F: Fn(&Req) -> Option<K>,
    K: Hash + Eq,
{
    #[allow(private_interfaces, reason = "sealed")]
    fn of(&self, request: &Req) -> Arc<Shared> {
        let keys = &*self.0;
        let Some(key) = keys.key.key_of(request) else {
            return Arc::clone(&keys.one);
        };
        let now = || clock::entered(|now| now);
        keys.limits.get(key, now, || keys.one.for_key())
    }

    /// Whose call it will be is not known yet.
    fn is_free(&self) -> bool {
        true
    }
}

/// Reads and reconfigures the limits of a [`KeyedAdaptiveLayer`]. Clones act on the same ones.
pub struct KeyedAdaptiveHandle<F, K>(Arc<Keys<F, K>>);

impl<F, K> KeyedAdaptiveHandle<F, K> {
    /// How many keys have a limit of their own now. Takes the lock of each shard in turn.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.limits.len()
    }

    /// Shows each key that has a limit of its own, and that.
    ///
    /// One shard after the other, outside of their locks.
    pub fn for_each(&self, mut show: impl FnMut(&K, &AdaptiveHandle))
    where
        K: Clone,
    {
        self.0
            .limits
            .for_each(|key, limit| show(key, &AdaptiveHandle(Arc::clone(limit))));
    }

    /// The limit of a key, if it has one of its own. While this is kept, so is that; its settings are those of all.
    #[must_use]
    pub fn get(&self, key: K) -> Option<AdaptiveHandle>
    where
        K: Hash + Eq,
    {
        self.0.limits.find(key).map(AdaptiveHandle)
    }

    /// The limit of calls without a key; its settings are those of all.
    #[must_use]
    pub fn one(&self) -> AdaptiveHandle {
        AdaptiveHandle(Arc::clone(&self.0.one))
    }
}

impl<F, K> Clone for KeyedAdaptiveHandle<F, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, K> fmt::Debug for KeyedAdaptiveHandle<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedAdaptiveHandle")
            .field("keys", &self.keys())
            .finish()
    }
}

impl<J> AdaptiveLayer<J> {
    /// A limit and a queue for each key that `f` finds in a request, up to [`KeyedAdaptiveLayer::max_keys`]. Calls
    /// without a key (`None`) share one more.
    ///
    /// For what one service has many of: a route, a shard, an upstream.
    #[must_use]
    pub fn keyed<F, Req, K>(self, f: F) -> KeyedAdaptiveLayer<F, K, J>
    where
        F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        K: Hash + Eq + Send + 'static,
    {
        let (shared, settle) = self.into_parts();
        KeyedAdaptiveLayer::build(shared.fresh(), Arc::new(By::new(f)), MAX_KEYS, settle)
    }
}
