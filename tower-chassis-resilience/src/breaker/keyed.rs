use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{
    Rejection, Respond, Verdict,
    settle::{UntilEnd, UntilHead},
    verdict::{Auto, ByFn},
    wire::{Admit, Gated},
};
use tower_layer::Layer;

use super::{
    BreakerHandle, BreakerLayer, Mode, State, Ticket,
    layer::{Shared, admit},
};
use crate::keyed::{By, Forget, KeyOf, Store};

/// How many keys have a circuit of their own, unless set.
const MAX_KEYS: usize = 10_000;

/// A circuit for each key. Made by [`BreakerLayer::keyed`]; see the [module](super) page.
pub struct KeyedBreakerLayer<F, K, J = UntilHead<Auto>> {
    shared: Arc<Keys<F, K>>,
    settle: J,
}

/// The service of a [`KeyedBreakerLayer`].
pub type KeyedBreaker<S, F, K, J = UntilHead<Auto>> = Gated<S, KeyedAdmission<F, K>, J>;

struct Keys<F, K> {
    key: Arc<F>,
    /// The settings of all circuits, and the circuit of calls without a key.
    one: Arc<Shared>,
    circuits: Store<K, Shared>,
    max_keys: usize,
}

impl Forget for Shared {
    fn is_idle(&self, now: Instant) -> bool {
        self.circuit.is_idle(now)
    }
}

impl<F, K, J> KeyedBreakerLayer<By<F, K>, K, J>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    pub(super) fn new(one: Arc<Shared>, f: F, settle: J) -> Self {
        Self::build(one, Arc::new(By::new(f)), MAX_KEYS, settle)
    }

    /// How many keys have a circuit of their own. Default 10,000, at least 1; a circuit holds some 900 bytes.
    ///
    /// A circuit that says nothing is dropped as new keys come, and whatever it says one that nobody called for ten
    /// minutes. Calls of keys that find no room pass uncounted: what strangers fail at is not held against them.
    /// For the set-up: begins with closed circuits.
    #[must_use]
    pub fn max_keys(self, max_keys: usize) -> Self {
        let keys = &*self.shared;
        Self::build(
            keys.one.fresh(),
            Arc::clone(&keys.key),
            max_keys.max(1),
            self.settle,
        )
    }

    /// The same settings with circuits of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        let keys = &*self.shared;
        Self::build(
            keys.one.fresh(),
            Arc::clone(&keys.key),
            keys.max_keys,
            self.settle.clone(),
        )
    }

    fn build(one: Arc<Shared>, key: Arc<By<F, K>>, max_keys: usize, settle: J) -> Self {
        let shared = Arc::new(Keys {
            key,
            one,
            circuits: Store::new(max_keys),
            max_keys,
        });
        // Once for all keys, which come and go. A key that is made now reads the new policy, or is seen here.
        shared.one.live.bind(&shared, |keys, policy| {
            keys.circuits.for_all(|shared| shared.apply(policy));
        });
        Self { shared, settle }
    }
}

impl<F, K, J> KeyedBreakerLayer<F, K, J> {
    fn settled_by<I>(self, change: impl FnOnce(J) -> I) -> KeyedBreakerLayer<F, K, I> {
        KeyedBreakerLayer {
            shared: self.shared,
            settle: change(self.settle),
        }
    }

    /// Answers its own refusals instead of failing with them, as [`BreakerLayer::respond`] does.
    #[must_use]
    pub fn respond(self) -> KeyedBreakerLayer<F, K, Respond<J>> {
        self.settled_by(Respond::new)
    }

    /// Reads the circuits and changes their settings.
    #[must_use]
    pub fn handle(&self) -> KeyedBreakerHandle<F, K> {
        KeyedBreakerHandle(Arc::clone(&self.shared))
    }
}

impl<F, K, C> KeyedBreakerLayer<F, K, UntilHead<C>> {
    /// Judges calls at the end of their body.
    #[must_use]
    pub fn until_end(self) -> KeyedBreakerLayer<F, K, UntilEnd<C>> {
        self.settled_by(UntilHead::until_end)
    }

    /// Judges calls by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> KeyedBreakerLayer<F, K, UntilHead<D>> {
        self.settled_by(|settle| settle.classify(classify))
    }

    /// Judges calls by a closure.
    #[must_use]
    pub fn classify_fn<G, Res, Err>(self, f: G) -> KeyedBreakerLayer<F, K, UntilHead<ByFn<G>>>
    where
        G: Fn(Result<&Res, &Err>) -> Verdict,
    {
        self.settled_by(|settle| settle.classify_fn(f))
    }
}

impl<F, K, J: Clone> Clone for KeyedBreakerLayer<F, K, J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
        }
    }
}

impl<F, K, J> fmt::Debug for KeyedBreakerLayer<F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBreakerLayer")
            .field("name", self.shared.one.name())
            .field("keys", &self.shared.circuits.len())
            .finish_non_exhaustive()
    }
}

impl<S, F, K, J: Clone> Layer<S> for KeyedBreakerLayer<F, K, J> {
    type Service = KeyedBreaker<S, F, K, J>;

    fn layer(&self, inner: S) -> Self::Service {
        let admission = KeyedAdmission(Arc::clone(&self.shared));
        Gated::new(inner, admission, self.settle.clone())
    }
}

/// Lets calls through the circuits of their keys: the policy of [`KeyedBreaker`].
pub struct KeyedAdmission<F, K>(Arc<Keys<F, K>>);

impl<F, K> Clone for KeyedAdmission<F, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, K> fmt::Debug for KeyedAdmission<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyedAdmission")
            .field(self.0.one.name())
            .finish()
    }
}

impl<Req, F, K> Admit<Req> for KeyedAdmission<F, K>
where
    F: KeyOf<Req, K>,
    K: Hash + Eq,
{
    /// None where a key has no circuit.
    type Ticket = Option<Ticket<Arc<Shared>>>;

    fn admit(&self, request: &mut Req, now: Instant) -> Result<Self::Ticket, Box<Rejection>> {
        let keys = &*self.0;
        match keys.key.key_of(request) {
            Some(key) => {
                match keys.circuits.own(key, now, || keys.one.of_key()) {
                    Some(circuit) => admit(circuit, now).map(Some),
                    // What is forced on all is forced on those as well.
                    None if keys.one.is_forced_open(now) => {
                        admit(Arc::clone(&keys.one), now).map(Some)
                    }
                    None => Ok(None),
                }
            }
            None => admit(Arc::clone(&keys.one), now).map(Some),
        }
    }
}

/// Reads and reconfigures the circuits of a [`KeyedBreakerLayer`]. Clones act on the same ones.
pub struct KeyedBreakerHandle<F, K>(Arc<Keys<F, K>>);

impl<F, K> KeyedBreakerHandle<F, K> {
    /// How many keys have a circuit of their own now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.circuits.len()
    }

    /// Shows each key and the state of its circuit, one shard after the other, outside of their locks.
    pub fn for_each(&self, mut show: impl FnMut(&K, State))
    where
        K: Clone,
    {
        self.0
            .circuits
            .for_each(|key, shared| show(key, shared.circuit.state()));
    }

    /// The circuit of a key, if it has one of its own.
    #[must_use]
    pub fn get(&self, key: K) -> Option<BreakerHandle>
    where
        K: Hash + Eq,
    {
        self.0.circuits.find(key).map(BreakerHandle)
    }

    /// Says over the rules what all circuits do, those of keys that are yet to come as well, as
    /// [`BreakerHandle::force`] does of one.
    pub fn force(&self, mode: Mode, lasts: Option<Duration>) {
        // This one first: a key that is made now takes after it, or is seen here.
        self.0.one.force(mode, lasts, true);
        self.0
            .circuits
            .for_all(|shared| shared.force(mode, lasts, true));
    }

    /// Closes all circuits and forgets what they counted and what was forced, as [`BreakerHandle::reset`] does.
    pub fn reset(&self) {
        self.0.one.reset();
        self.0.circuits.for_all(Shared::reset);
    }

    /// The circuit of calls without a key; its settings are those of all.
    #[must_use]
    pub fn one(&self) -> BreakerHandle {
        BreakerHandle(Arc::clone(&self.0.one))
    }
}

impl<F, K> Clone for KeyedBreakerHandle<F, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, K> fmt::Debug for KeyedBreakerHandle<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBreakerHandle")
            .field("keys", &self.keys())
            .finish()
    }
}

impl<C> BreakerLayer<UntilHead<C>> {
    /// A circuit for each key that `f` finds in a request, up to [`KeyedBreakerLayer::max_keys`]. Calls without a
    /// key (`None`) share one circuit of their own.
    ///
    /// For what one service has many of: a host, a tenant, a route. A gate does not carry over.
    #[must_use]
    pub fn keyed<F, Req, K>(self, f: F) -> KeyedBreakerLayer<By<F, K>, K, UntilHead<C>>
    where
        F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        K: Hash + Eq + Send + 'static,
    {
        let (shared, settle) = self.into_parts();
        KeyedBreakerLayer::new(shared.fresh(), f, settle)
    }
}
