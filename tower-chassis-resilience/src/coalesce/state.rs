//! The calls in flight, by key.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Waker,
};

use foldhash::quality::RandomState;
use tower_chassis_core::{Events, Live, events::Event, live::Invalid, striped::Striped};

use super::{
    call::{Call, Inner},
    config::{CoalesceConfig, CoalescePolicy},
    flight::Member,
};
use crate::keyed::hash::AsItIs;

/// How many locks there are for the keys. Fewer are in use where they would have less than [`PER_SHARD`] keys each.
const SHARDS: usize = 16;
const PER_SHARD: usize = 64;
/// Above this bit of the bounds.
const SHARDS_AT: u32 = 32;

/// On cache lines of its own; two, because they are fetched in pairs.
#[repr(align(128))]
struct Shard<K>(Mutex<Table<K>>);

struct Table<K> {
    /// One of the rows, with the hash of its key: where calls are short there is no other.
    front: Option<(u64, Row<K>)>,
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
    /// Calls of one key that came after one another are told apart. Its lowest bits are the number of the shard.
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
    /// How many keys a shard may have, 0 where nothing is shared; and above [`SHARDS_AT`] the shards in use, less one.
    bounds: AtomicU64,
    hasher: RandomState,
    shards: Box<[Shard<K>]>,
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
        let shard = |_| Table {
            front: None,
            rows: HashMap::default(),
            led: 0,
            joined: 0,
            spare: None,
        };
        let state = Arc::new(Self {
            live: live.clone(),
            bounds: AtomicU64::new(0),
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|at| Shard(Mutex::new(shard(at)))).collect(),
            setup,
        });
        live.bind(&state, |state, policy| {
            let config = policy.config();
            // Few keys have few shards, so that together they are never over the bound. A call that is in flight stays where
            // it is, and one of its key that comes after the change may find itself the first.
            let count = 1 << (config.max_keys / PER_SHARD).clamp(1, SHARDS).ilog2();
            let max_keys = if config.enabled {
                (config.max_keys / count) as u64
            } else {
                0
            };
            let bounds = max_keys | ((count - 1) as u64) << SHARDS_AT;
            state.bounds.store(bounds, Relaxed);
        });
        Striped::of_arc(state)
    }
}

impl<K> State<K> {
    pub(super) const fn live(&self) -> &Live<CoalescePolicy> {
        &self.live
    }

    fn count(&self, of: impl Fn(&Table<K>) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(&lock(shard))).sum()
    }

    /// Where a call was put.
    fn shard(&self, slot: Slot) -> MutexGuard<'_, Table<K>> {
        lock(&self.shards[slot.id as usize & (SHARDS - 1)])
    }
}

fn lock<K>(shard: &Shard<K>) -> MutexGuard<'_, Table<K>> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq> State<K> {
    #[inline]
    pub(super) fn enter<F, T>(&self, key: K) -> Entry<F, T>
    where
        F: Send + 'static,
        T: Send + Sync + 'static,
    {
        let bounds = self.bounds.load(Relaxed);
        let max_keys = bounds & u64::from(u32::MAX);
        if max_keys == 0 {
            return Entry::Alone;
        }
        let (hash, kind) = (self.hasher.hash_one(&key), TypeId::of::<Call<F, T>>());
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in between.
        let at = (hash >> 48) & (bounds >> SHARDS_AT);
        // Dropped after the lock, as the key is.
        let _old;
        let mut shard = lock(&self.shards[at as usize]);
        if let Some(row) = shard.get(hash) {
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
                shard.joined += 1;
                drop(shard);
                let setup = &self.setup;
                setup
                    .events
                    .emit(|| Event::coalesced(Arc::clone(&setup.name)));
                return Entry::Follow(slot, call, member);
            }
            // One that nobody is left for and that was not taken away yet leaves its room.
        } else if shard.len() as u64 >= max_keys {
            return Entry::Alone;
        }
        let id = shard.led << SHARDS.ilog2() | at;
        shard.led += 1;
        let row = Row {
            key,
            id,
            kind,
            call: None,
        };
        _old = shard.put(hash, row);
        let spare = shard.spare.as_mut().and_then(|spare| spare.downcast_mut());
        let spare = spare.and_then(|Spare(spare)| spare.take());
        Entry::Lead(Slot { hash, id }, spare)
    }

    /// The one who began a call has polled it, and waits for it from now on, as others may.
    #[cold]
    pub(super) fn deposit<F, T>(
        &self,
        slot: Slot,
        inner: Inner<F>,
        waker: &Waker,
    ) -> (Arc<Call<F, T>>, Member)
    where
        F: Send + 'static,
        T: Send + Sync + 'static,
    {
        let waker = waker.clone();
        let mut shard = self.shard(slot);
        let row = shard.get(slot.hash).filter(|row| row.id == slot.id);
        let made = row.map(|row| {
            let made = row
                .call
                .get_or_insert_with(|| Arc::new(Call::<F, T>::driven()));
            Arc::clone(made)
        });
        drop(shard);
        let call = made.and_then(|call| call.downcast().ok());
        let call = call.unwrap_or_else(|| Arc::new(Call::driven()));
        let member = call.flight.deposit(inner, waker);
        (call, member)
    }

    /// A call is over: the next one of its key is a new one. What others have left there.
    #[inline]
    pub(super) fn end<F: Send + 'static>(&self, slot: Slot, spare: Inner<F>) -> Option<Row<K>> {
        // Dropped after the lock.
        let mut mine = Some(spare);
        let mut shard = self.shard(slot);
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
        self.shard(slot).remove(slot)
    }

    /// The one who began a call goes before its end: it goes with it, unless others wait for it.
    #[cold]
    pub(super) fn abandon<F: 'static, T: 'static>(
        &self,
        slot: Slot,
        member: Member,
        inner: Inner<F>,
    ) {
        let mut shard = self.shard(slot);
        let row = shard.get(slot.hash).filter(|row| row.id == slot.id);
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

impl<K> Table<K> {
    fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.rows.len()
    }

    #[inline]
    fn get(&mut self, hash: u64) -> Option<&mut Row<K>> {
        match &mut self.front {
            Some((there, row)) if *there == hash => Some(row),
            _ if self.rows.is_empty() => None,
            _ => self.rows.get_mut(&hash),
        }
    }

    /// In place of what was there.
    #[inline]
    fn put(&mut self, hash: u64, row: Row<K>) -> Option<Row<K>> {
        if let Some(there) = self.get(hash) {
            return Some(mem::replace(there, row));
        }
        if self.front.is_none() {
            self.front = Some((hash, row));
            return None;
        }
        self.rows.insert(hash, row)
    }

    /// Unless the next one of the key began already.
    #[inline]
    fn remove(&mut self, slot: Slot) -> Option<Row<K>> {
        if self.get(slot.hash)?.id != slot.id {
            return None;
        }
        let front = self.front.take_if(|(there, _)| *there == slot.hash);
        match front {
            Some((_, row)) => Some(row),
            None => self.rows.remove(&slot.hash),
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
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
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
