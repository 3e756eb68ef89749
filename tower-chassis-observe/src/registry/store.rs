//! Series by key: looked up where a handle is made.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use metrics::{Key, Label};

/// A power of two: who makes handles at once seldom waits for another.
const SHARDS: usize = 16;

/// The hash that a key brings with it.
#[derive(Default)]
struct KeyHash(u64);

impl Hasher for KeyHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // A key writes one number. Should that change, this is slow and right.
        for byte in bytes {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x0517_cc1b_7272_20a9);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Shard<T> = RwLock<HashMap<Key, Arc<T>, BuildHasherDefault<KeyHash>>>;

/// The series of one kind.
pub(super) struct Store<T> {
    shards: [Shard<T>; SHARDS],
    /// In the order in which they came.
    listed: Mutex<HashMap<Arc<str>, Vec<Listed<T>>>>,
}

/// A series, for readers.
pub(super) struct Listed<T> {
    pub(super) labels: Arc<[Label]>,
    pub(super) cell: Arc<T>,
}

impl<T> Clone for Listed<T> {
    fn clone(&self) -> Self {
        Self {
            labels: Arc::clone(&self.labels),
            cell: Arc::clone(&self.cell),
        }
    }
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            listed: Mutex::default(),
        }
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// How many series there may be, and how many there are.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) most: usize,
    pub(super) used: AtomicUsize,
}

impl Room {
    pub(super) const fn of(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> bool {
        let one_more = |used| (used < self.most).then_some(used + 1);
        self.used.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }
}

impl<T> Store<T> {
    /// The series of `key`, made now if there is room.
    pub(super) fn get(&self, key: &Key, room: &Room, make: impl FnOnce() -> T) -> Option<Arc<T>> {
        // The low and the high bits are those that the map looks at.
        let shard = &self.shards[(key.get_hash() >> 32) as usize & (SHARDS - 1)];
        if let Some(cell) = shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
        {
            return Some(Arc::clone(cell));
        }
        if room.used.load(Relaxed) >= room.most {
            return None;
        }
        let new = Arc::new(make());
        let mut series = shard.write().unwrap_or_else(PoisonError::into_inner);
        let vacant = match series.entry(key.to_retained()) {
            Entry::Occupied(there) => return Some(Arc::clone(there.get())),
            Entry::Vacant(vacant) => vacant,
        };
        if !room.take() {
            return None;
        }
        let labels = vacant.key().labels().cloned().collect();
        let listed = Listed {
            labels,
            cell: Arc::clone(&new),
        };
        vacant.insert(Arc::clone(&new));
        let mut families = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match families.get_mut(key.name()) {
            Some(family) => family.push(listed),
            None => {
                families.insert(key.name().into(), vec![listed]);
            }
        }
        Some(new)
    }

    /// What there is, by name.
    pub(super) fn list(&self) -> Vec<(Arc<str>, Vec<Listed<T>>)> {
        // Copied, so that nobody who makes a handle waits while they are read.
        let families = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let families = families.iter();
        families
            .map(|(name, series)| (Arc::clone(name), series.clone()))
            .collect()
    }
}
