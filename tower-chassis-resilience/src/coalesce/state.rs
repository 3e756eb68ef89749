//! The calls in flight, by key.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash, RandomState},
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tower_chassis_core::{Events, Live, events::Event, live::Invalid};

use super::{
    call::Call,
    config::{CoalesceConfig, CoalescePolicy},
    flight::Member,
};
use crate::keyed::hash::{AsItIs, Hashed};

/// So many locks for the keys.
const SHARDS: usize = 16;

/// By the hash of the key, which the call holds: of two keys with one hash, the second is not shared.
#[derive(Default)]
struct Shard {
    calls: HashMap<u64, Arc<dyn Any + Send + Sync>, BuildHasherDefault<AsItIs>>,
    led: u64,
    joined: u64,
}

/// What is settled before the first call.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
}

/// What all services of a layer share.
pub(super) struct State<K> {
    live: Live<CoalescePolicy>,
    /// 0 where nothing is shared.
    max_keys: AtomicUsize,
    keys: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    key: PhantomData<fn() -> K>,
    pub(super) setup: Setup,
}

/// How a call begins.
pub(super) enum Entry<K, T, R> {
    /// It is the first of its key.
    Lead(Arc<Call<K, T, R>>, Member),
    /// There is one already.
    Follow(Arc<Call<K, T, R>>, Member),
    /// It is made for itself.
    Alone,
}

impl<K: Send + Sync + 'static> State<K> {
    pub(super) fn new(live: Live<CoalescePolicy>, setup: Setup) -> Arc<Self> {
        let state = Arc::new(Self {
            live: live.clone(),
            max_keys: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            hasher: RandomState::new(),
            shards: Default::default(),
            key: PhantomData,
            setup,
        });
        live.bind(&state, |state, policy| {
            let config = policy.config();
            let max_keys = if config.enabled { config.max_keys } else { 0 };
            state.max_keys.store(max_keys, Relaxed);
        });
        state
    }
}

impl<K> State<K> {
    pub(super) const fn live(&self) -> &Live<CoalescePolicy> {
        &self.live
    }

    fn count(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        let lock = |shard: &Mutex<Shard>| of(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        self.shards.iter().map(lock).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in between.
        let shard = &self.shards[(hash >> 48) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> State<K> {
    pub(super) fn enter<T, R>(&self, key: K) -> Entry<K, T, R>
    where
        K: Send + Sync + 'static,
        T: Send + Sync + 'static,
        R: Send + 'static,
    {
        let max_keys = self.max_keys.load(Relaxed);
        if max_keys == 0 {
            return Entry::Alone;
        }
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.shard(hash);
        if let Some(found) = shard.calls.get(&hash) {
            match Arc::downcast::<Call<K, T, R>>(Arc::clone(found)) {
                Ok(call) => {
                    if call.key.key != key {
                        return Entry::Alone;
                    }
                    if let Some(member) = call.flight.join() {
                        shard.joined += 1;
                        drop(shard);
                        let setup = &self.setup;
                        setup
                            .events
                            .emit(|| Event::coalesced(Arc::clone(&setup.name)));
                        return Entry::Follow(call, member);
                    }
                }
                // Another service under this layer, which answers something else.
                Err(_) => return Entry::Alone,
            }
        } else if self.keys.fetch_add(1, Relaxed) >= max_keys {
            self.keys.fetch_sub(1, Relaxed);
            return Entry::Alone;
        }
        let (call, member) = Call::new(Hashed { hash, key });
        let call = Arc::new(call);
        // One that is over and was not taken away yet leaves its room.
        let old = shard.calls.insert(hash, Arc::clone(&call) as _);
        shard.led += 1;
        drop(shard);
        drop(old);
        Entry::Lead(call, member)
    }

    /// `call` is over: the next one of its key is a new one.
    pub(super) fn remove<T, R>(&self, call: &Arc<Call<K, T, R>>) {
        let mut shard = self.shard(call.key.hash);
        let removed = match shard.calls.remove(&call.key.hash) {
            // The next one of the key began already.
            Some(found) if !std::ptr::addr_eq(Arc::as_ptr(&found), Arc::as_ptr(call)) => {
                shard.calls.insert(call.key.hash, found);
                None
            }
            removed => removed,
        };
        drop(shard);
        if removed.is_some() {
            self.keys.fetch_sub(1, Relaxed);
        }
    }
}

impl<K> fmt::Debug for State<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("name", &self.setup.name)
            .field("policy", &self.live)
            .finish_non_exhaustive()
    }
}

/// Reads and reconfigures coalescing that is in use. Clones act on the same one.
pub struct CoalesceHandle<K>(pub(super) Arc<State<K>>);

impl<K> CoalesceHandle<K> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.setup.name
    }

    /// How many keys are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.keys.load(Relaxed)
    }

    /// How many calls were the first of their key. Takes a lock for each shard.
    #[must_use]
    pub fn led(&self) -> u64 {
        self.0.count(|shard| shard.led)
    }

    /// How many calls joined another. Takes a lock for each shard.
    #[must_use]
    pub fn joined(&self) -> u64 {
        self.0.count(|shard| shard.joined)
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<CoalescePolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.enabled = false)`. Calls in flight go on as they began.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut CoalesceConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(policy.config_mut()))
    }
}

impl<K> Clone for CoalesceHandle<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for CoalesceHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceHandle")
            .field("name", &self.name())
            .field("in_flight", &self.in_flight())
            .field("led", &self.led())
            .field("joined", &self.joined())
            .finish()
    }
}
