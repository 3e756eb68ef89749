//! The calls in flight, by key.

use std::{
    any::{Any, TypeId},
    collections::{HashMap, hash_map},
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use foldhash::quality::RandomState;
use tower_chassis_core::{Events, Live, events::Event, live::Invalid, striped::Striped};

use super::{
    call::{Call, Inner},
    config::{CoalesceConfig, CoalescePolicy},
    flight::Member,
};
use crate::keyed::hash::AsItIs;

/// The most locks for the keys. Fewer where they would have less than [`PER_SHARD`] keys each.
const SHARDS: usize = 16;
const PER_SHARD: usize = 64;

struct Shard<K> {
    /// By the hash of the key: of two keys with one hash, the second is not shared.
    rows: HashMap<u64, Row<K>, BuildHasherDefault<AsItIs>>,
    led: u64,
    joined: u64,
    /// A [`Spare`] for calls of one type, those that came first.
    spare: Option<Box<dyn Any + Send>>,
}

/// The box of a call that is over, for the next one. It holds nothing.
struct Spare<F>(Option<Inner<F>>);

/// A key in flight.
pub(super) struct Row<K> {
    key: K,
    /// Calls of one key that came after one another are told apart.
    id: u64,
    /// Of which type its call is.
    kind: TypeId,
    /// Made by the first who joins.
    pub(super) call: Option<Arc<dyn Any + Send + Sync>>,
}

/// Where a call is found.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    hash: u64,
    id: u64,
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
    /// Of a shard; 0 where nothing is shared.
    max_keys: AtomicUsize,
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
    pub(super) setup: Setup,
}

/// How a call begins.
pub(super) enum Entry<F, T> {
    /// It is the first of its key.
    Lead(Slot, Option<Inner<F>>),
    /// There is one already.
    Follow(Slot, Arc<Call<F, T>>, Member),
    /// It is made for itself.
    Alone,
}

impl<K: Send + Sync + 'static> State<K> {
    pub(super) fn new(live: Live<CoalescePolicy>, setup: Setup) -> Striped<Self> {
        let max_keys = live.load().config().max_keys;
        let count = 1 << (max_keys / PER_SHARD).clamp(1, SHARDS).ilog2();
        let shard = || Shard {
            rows: HashMap::default(),
            led: 0,
            joined: 0,
            spare: None,
        };
        let state = Arc::new(Self {
            live: live.clone(),
            max_keys: AtomicUsize::new(0),
            hasher: RandomState::default(),
            shards: (0..count).map(|_| Mutex::new(shard())).collect(),
            setup,
        });
        live.bind(&state, |state, policy| {
            let config = policy.config();
            let max_keys = (config.max_keys / state.shards.len()).max(1);
            let max_keys = if config.enabled { max_keys } else { 0 };
            state.max_keys.store(max_keys, Relaxed);
        });
        Striped::of_arc(state)
    }
}

impl<K> State<K> {
    pub(super) const fn live(&self) -> &Live<CoalescePolicy> {
        &self.live
    }

    fn count(&self, of: impl Fn(&Shard<K>) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(&lock(shard))).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K>> {
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in between.
        lock(&self.shards[(hash >> 48) as usize & (self.shards.len() - 1)])
    }
}

fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq> State<K> {
    #[inline]
    pub(super) fn enter<F, T>(&self, key: K) -> Entry<F, T>
    where
        F: Send + 'static,
        T: Send + Sync + 'static,
    {
        let max_keys = self.max_keys.load(Relaxed);
        if max_keys == 0 {
            return Entry::Alone;
        }
        let hash = self.hasher.hash_one(&key);
        // Dropped after the lock, as the key is.
        let _old;
        let mut shard = self.shard(hash);
        let Shard {
            rows,
            led,
            joined,
            spare,
        } = &mut *shard;
        let (len, kind) = (rows.len(), TypeId::of::<Call<F, T>>());
        let new = |key| Row {
            key,
            id: *led,
            kind,
            call: None,
        };
        let slot = Slot { hash, id: *led };
        match rows.entry(hash) {
            hash_map::Entry::Vacant(_) if len >= max_keys => return Entry::Alone,
            hash_map::Entry::Vacant(room) => {
                room.insert(new(key));
            }
            hash_map::Entry::Occupied(mut there) => {
                let row = there.get_mut();
                // Of another service under this layer, which answers something else, or another key.
                if row.kind != kind || row.key != key {
                    return Entry::Alone;
                }
                let slot = Slot { hash, id: row.id };
                let made = row
                    .call
                    .get_or_insert_with(|| Arc::new(Call::<F, T>::driven()));
                if let Ok(call) = Arc::clone(made).downcast::<Call<F, T>>()
                    && let Some(member) = call.flight.join()
                {
                    *joined += 1;
                    drop(shard);
                    let setup = &self.setup;
                    setup
                        .events
                        .emit(|| Event::coalesced(Arc::clone(&setup.name)));
                    return Entry::Follow(slot, call, member);
                }
                // One that nobody is left for and that was not taken away yet leaves its room.
                _old = there.insert(new(key));
            }
        }
        *led += 1;
        let spare = spare.as_mut().and_then(|spare| spare.downcast_mut());
        Entry::Lead(slot, spare.and_then(|Spare(spare)| spare.take()))
    }

    /// A call is over: the next one of its key is a new one. What others have left there.
    #[inline]
    pub(super) fn end<F: Send + 'static>(&self, slot: Slot, spare: Inner<F>) -> Option<Row<K>> {
        // Dropped after the lock.
        let mut mine = Some(spare);
        let mut shard = self.shard(slot.hash);
        let row = shard.remove(slot);
        match shard.spare.as_mut().map(|spare| spare.downcast_mut()) {
            Some(Some(Spare(none @ None))) => *none = mine.take(),
            Some(_) => {}
            None => shard.spare = Some(Box::new(Spare(mine.take()))),
        }
        drop(shard);
        row
    }

    /// A call goes with nobody left for it.
    pub(super) fn remove(&self, slot: Slot) -> Option<Row<K>> {
        self.shard(slot.hash).remove(slot)
    }

    /// The one who began a call goes before its end: it goes with it, unless others wait for it.
    #[cold]
    pub(super) fn abandon<F: 'static, T: 'static>(
        &self,
        slot: Slot,
        member: Member,
        inner: Inner<F>,
    ) {
        let mut shard = self.shard(slot.hash);
        let row = shard.rows.get(&slot.hash).filter(|row| row.id == slot.id);
        let Some(call) = row.and_then(|row| row.call.clone()) else {
            let row = shard.remove(slot);
            drop(shard);
            return drop((row, inner));
        };
        drop(shard);
        let Some(call) = call.downcast_ref::<Call<F, T>>() else {
            return;
        };
        let last = call.flight.hand_back(member, inner);
        if last.is_some() {
            // Before the call is dropped, which may take its time: the next one of the key begins anew.
            drop(self.remove(slot));
        }
    }
}

impl<K> Shard<K> {
    #[inline]
    fn remove(&mut self, slot: Slot) -> Option<Row<K>> {
        match self.rows.entry(slot.hash) {
            hash_map::Entry::Occupied(row) if row.get().id == slot.id => Some(row.remove()),
            // The next one of the key began already.
            _ => None,
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

    /// How many keys are in flight. Takes a lock for each shard.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0
            .shards
            .iter()
            .map(|shard| lock(shard).rows.len())
            .sum()
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
