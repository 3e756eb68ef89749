//! Values by key, bounded in number and weight, each for a time. Knows nothing of tower; takes `now`.
//!
//! Evicts by S3-FIFO (Yang and others, SOSP 2023): what is new goes into a small queue, a tenth of the room, and
//! moves to the main one only if it was asked for again, or if it is remembered as one that was evicted too early. So
//! a scan of keys that nobody asks for twice passes through the tenth and leaves the rest alone.
//!
//! Foreign code under a lock is the `Eq` of keys alone: what is evicted or replaced is dropped after it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, Hash},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use foldhash::quality::RandomState;
use tokio::time::Instant;

use crate::keyed::hash::{AsItIs, Hashed};

/// The most shards; fewer where they would hold less than [`PER_SHARD`] entries each.
const SHARDS: usize = 16;
const PER_SHARD: usize = 64;
/// One in so many entries of a shard is in the small queue.
const SMALL: usize = 10;
const MOST_FREQUENT: u8 = 3;
const NONE: u32 = u32::MAX;

/// Until when a value is given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// When it was made.
    pub(crate) born: Instant,
    /// Fresh before this.
    pub(crate) fresh: Instant,
    /// Of use in need before this.
    pub(crate) stale: Instant,
}

/// What was found under a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found<V> {
    Fresh(V, Instant),
    Stale(V, Instant),
    Nothing,
}

/// See the [module](self).
pub(crate) struct Memo<K, V> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K, V>>]>,
    /// Of all shards.
    max_entries: AtomicUsize,
    /// Of a shard.
    max_weight: AtomicUsize,
}

/// By the hash of the key, which the entry holds: of two keys with one hash, the later one takes the place.
type Map = HashMap<u64, u32, BuildHasherDefault<AsItIs>>;

struct Shard<K, V> {
    map: Map,
    nodes: Vec<Node<K, V>>,
    /// The first node that is vacant; the others follow by `after`.
    vacant: u32,
    small: List,
    main: List,
    weight: usize,
    /// How often something fresh was found.
    hits: u64,
    /// How many went to make room.
    evicted: u64,
    /// Hashes of what the small queue evicted last.
    ghosts: VecDeque<u64>,
    haunts: HashSet<u64, BuildHasherDefault<AsItIs>>,
}

struct Node<K, V> {
    entry: Option<Entry<K, V>>,
    before: u32,
    after: u32,
    frequency: u8,
    in_main: bool,
}

/// What is foreign of an entry.
pub(crate) struct Entry<K, V> {
    key: Hashed<K>,
    value: V,
    weight: usize,
    life: Life,
}

/// Entries to be dropped after the lock. Mostly it is one.
struct Gone<K, V>(Option<Entry<K, V>>, Vec<Entry<K, V>>);

impl<K, V> Default for Gone<K, V> {
    fn default() -> Self {
        Self(None, Vec::new())
    }
}

impl<K, V> Gone<K, V> {
    fn add(&mut self, entry: Option<Entry<K, V>>) {
        if self.0.is_none() {
            self.0 = entry;
        } else {
            self.1.extend(entry);
        }
    }

    fn len(&self) -> usize {
        usize::from(self.0.is_some()) + self.1.len()
    }
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        len: 0,
    };
}

impl<K: Hash + Eq, V: Clone> Memo<K, V> {
    pub(crate) fn new(max_entries: usize, max_weight: usize) -> Self {
        let wanted = (max_entries / PER_SHARD).clamp(1, SHARDS);
        let count = 1 << wanted.ilog2();
        let memo = Self {
            // Keys are what clients send: the seed is drawn for each memo.
            hasher: RandomState::default(),
            shards: (0..count).map(|_| Mutex::new(Shard::new())).collect(),
            max_entries: AtomicUsize::new(0),
            max_weight: AtomicUsize::new(0),
        };
        memo.store_bounds(max_entries, max_weight);
        memo
    }

    fn store_bounds(&self, max_entries: usize, max_weight: usize) {
        let count = self.shards.len();
        self.max_entries.store(max_entries.max(1), Relaxed);
        // So that what is there and what comes are never more than a number holds.
        let max_weight = (max_weight / count).min(usize::MAX / 2);
        self.max_weight.store(max_weight, Relaxed);
    }

    /// Of the shard of this number. Where there are more shards than entries, some have none.
    fn bounds(&self, shard: usize) -> Bounds {
        let (all, count) = (self.max_entries.load(Relaxed), self.shards.len());
        Bounds {
            entries: all / count + usize::from(shard < all % count),
            weight: self.max_weight.load(Relaxed),
        }
    }

    /// Puts other bounds in force; what is too much goes at once. How many went.
    pub(crate) fn bound(&self, max_entries: usize, max_weight: usize) -> usize {
        self.store_bounds(max_entries, max_weight);
        let mut evicted = 0;
        for (index, shard) in self.shards.iter().enumerate() {
            let gone = lock(shard).shrink(self.bounds(index));
            evicted += gone.len();
            drop(gone);
        }
        evicted
    }

    pub(crate) fn hashed(&self, key: K) -> Hashed<K> {
        let hash = self.hasher.hash_one(&key);
        Hashed { hash, key }
    }

    const fn index(&self, hash: u64) -> usize {
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in between.
        (hash >> 48) as usize & (self.shards.len() - 1)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, V>> {
        lock(&self.shards[self.index(hash)])
    }

    /// What is under `key` at `now`. What is of no use any more goes.
    pub(crate) fn get(&self, key: &Hashed<K>, now: Instant) -> Found<V> {
        let mut shard = self.shard(key.hash);
        let Some(index) = shard.find(key) else {
            return Found::Nothing;
        };
        let node = shard.node(index);
        let Some(entry) = &node.entry else {
            return Found::Nothing;
        };
        if now >= entry.life.stale {
            let gone = shard.remove(index);
            drop(shard);
            drop(gone);
            return Found::Nothing;
        }
        let (value, life) = (entry.value.clone(), entry.life);
        node.frequency = (node.frequency + 1).min(MOST_FREQUENT);
        if now < life.fresh {
            shard.hits += 1;
            Found::Fresh(value, life.born)
        } else {
            Found::Stale(value, life.born)
        }
    }

    /// Puts a value under `key`, in place of what was there. Not if it is heavier than there is room. How many
    /// others went to make it room.
    pub(crate) fn insert(&self, key: Hashed<K>, value: V, weight: usize, life: Life) -> usize {
        self.insert_if(key, value, weight, life, || true)
    }

    /// The same, if `wanted` says so, which is asked under the lock: what it sees is from before any
    /// [`remove`](Self::remove) that does not find the value.
    pub(crate) fn insert_if(
        &self,
        key: Hashed<K>,
        value: V,
        weight: usize,
        life: Life,
        wanted: impl FnOnce() -> bool,
    ) -> usize {
        let hash = key.hash;
        let bounds = self.bounds(self.index(hash));
        let mut gone = Gone::default();
        let mut shard = self.shard(hash);
        if !wanted() {
            drop(shard);
            return 0;
        }
        let old = shard.map.get(&hash).copied();
        if weight > bounds.weight || bounds.entries == 0 {
            let old = old.and_then(|index| shard.remove(index));
            drop(shard);
            drop(old);
            return 0;
        }
        let entry = Entry {
            key,
            value,
            weight,
            life,
        };
        let mut replaced = None;
        if let Some(index) = old {
            // It keeps its place and what is known of it.
            let node = shard.node(index);
            let old = node.entry.replace(entry);
            let old_weight = old.as_ref().map_or(0, |old| old.weight);
            shard.weight = shard.weight - old_weight + weight;
            replaced = old;
        } else {
            // Before, so that the new one is not the first to go.
            let room = Bounds {
                entries: bounds.entries - 1,
                weight: bounds.weight - weight,
            };
            shard.make_room(room, &mut gone);
            shard.add(entry, hash);
        }
        shard.make_room(bounds, &mut gone);
        drop(shard);
        drop(replaced);
        gone.len()
    }

    /// Takes what is under `key` away; whether there was anything.
    pub(crate) fn remove(&self, key: &Hashed<K>) -> bool {
        let mut shard = self.shard(key.hash);
        let index = shard.find(key);
        let gone = index.and_then(|index| shard.remove(index));
        drop(shard);
        gone.is_some()
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let empty = Shard {
                hits: shard.hits,
                evicted: shard.evicted,
                ..Shard::new()
            };
            let old = mem::replace(&mut *shard, empty);
            drop(shard);
            drop(old);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).map.len()).sum()
    }

    /// How often something fresh was found.
    pub(crate) fn hits(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).hits).sum()
    }

    /// How many went to make room.
    pub(crate) fn evicted(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).evicted).sum()
    }

    pub(crate) fn weight(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).weight).sum()
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        for (index, shard) in self.shards.iter().enumerate() {
            lock(shard).check(self.bounds(index));
        }
    }
}

#[derive(Clone, Copy)]
struct Bounds {
    entries: usize,
    weight: usize,
}

impl<K: Hash + Eq, V> Shard<K, V> {
    fn new() -> Self {
        Self {
            map: HashMap::default(),
            nodes: Vec::new(),
            vacant: NONE,
            small: List::EMPTY,
            main: List::EMPTY,
            weight: 0,
            hits: 0,
            evicted: 0,
            ghosts: VecDeque::new(),
            haunts: HashSet::default(),
        }
    }

    fn find(&mut self, key: &Hashed<K>) -> Option<u32> {
        let index = self.map.get(&key.hash).copied()?;
        let entry = self.node(index).entry.as_ref()?;
        (entry.key == *key).then_some(index)
    }

    fn node(&mut self, index: u32) -> &mut Node<K, V> {
        &mut self.nodes[index as usize]
    }

    /// Adds what was not there.
    fn add(&mut self, entry: Entry<K, V>, hash: u64) {
        let in_main = self.haunts.contains(&hash);
        self.weight += entry.weight;
        let node = Node {
            entry: Some(entry),
            before: NONE,
            after: NONE,
            frequency: 0,
            in_main,
        };
        let index = match self.vacant {
            NONE => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
            index => {
                self.vacant = mem::replace(self.node(index), node).after;
                index
            }
        };
        self.link(index);
        self.map.insert(hash, index);
    }

    /// Puts a node at the end of its queue.
    fn link(&mut self, index: u32) {
        let in_main = self.node(index).in_main;
        let mut list = if in_main { self.main } else { self.small };
        let node = self.node(index);
        (node.before, node.after) = (list.last, NONE);
        match list.last {
            NONE => list.first = index,
            last => self.node(last).after = index,
        }
        list.last = index;
        list.len += 1;
        *self.list(in_main) = list;
    }

    fn unlink(&mut self, index: u32) {
        let Node {
            before,
            after,
            in_main,
            ..
        } = *self.node(index);
        let mut list = if in_main { self.main } else { self.small };
        match before {
            NONE => list.first = after,
            before => self.node(before).after = after,
        }
        match after {
            NONE => list.last = before,
            after => self.node(after).before = before,
        }
        list.len -= 1;
        *self.list(in_main) = list;
    }

    fn list(&mut self, in_main: bool) -> &mut List {
        if in_main {
            &mut self.main
        } else {
            &mut self.small
        }
    }

    fn remove(&mut self, index: u32) -> Option<Entry<K, V>> {
        self.unlink(index);
        let vacant = mem::replace(&mut self.vacant, index);
        let node = self.node(index);
        node.after = vacant;
        let entry = node.entry.take()?;
        self.map.remove(&entry.key.hash);
        self.weight -= entry.weight;
        Some(entry)
    }

    /// Evicts until what is there is within `bounds`.
    fn make_room(&mut self, bounds: Bounds, gone: &mut Gone<K, V>) {
        while self.map.len() > bounds.entries || self.weight > bounds.weight {
            let small = self.small.len * SMALL > self.map.len() || self.main.len == 0;
            let index = if small {
                self.small.first
            } else {
                self.main.first
            };
            if index == NONE {
                break;
            }
            let node = self.node(index);
            if node.frequency == 0 {
                let entry = self.remove(index);
                if small && let Some(entry) = &entry {
                    self.remember(entry.key.hash, bounds.entries);
                }
                self.evicted += 1;
                gone.add(entry);
            } else {
                // From the small queue it is promoted, in the main one it has one chance less.
                node.frequency = if small { 0 } else { node.frequency - 1 };
                self.unlink(index);
                self.node(index).in_main = true;
                self.link(index);
            }
        }
    }

    fn shrink(&mut self, bounds: Bounds) -> Gone<K, V> {
        let mut gone = Gone::default();
        self.make_room(bounds, &mut gone);
        while self.ghosts.len() > bounds.entries {
            self.forget();
        }
        gone
    }

    fn remember(&mut self, hash: u64, most: usize) {
        if self.haunts.insert(hash) {
            self.ghosts.push_back(hash);
        }
        while self.ghosts.len() > most.max(1) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        if let Some(ghost) = self.ghosts.pop_front() {
            self.haunts.remove(&ghost);
        }
    }

    #[cfg(test)]
    fn check(&mut self, bounds: Bounds) {
        assert!(self.map.len() <= bounds.entries && self.weight <= bounds.weight);
        assert_eq!(self.small.len + self.main.len, self.map.len());
        assert!(self.ghosts.len() <= bounds.entries.max(1));
        assert_eq!(self.ghosts.len(), self.haunts.len());
        let mut weight = 0;
        for in_main in [false, true] {
            let (mut at, mut before, mut len) = (self.list(in_main).first, NONE, 0);
            while at != NONE {
                let node = self.node(at);
                assert!(node.in_main == in_main && node.before == before);
                let entry = node.entry.as_ref().unwrap();
                let (hash, after) = (entry.key.hash, node.after);
                weight += entry.weight;
                assert_eq!(self.map.get(&hash), Some(&at));
                (before, at, len) = (at, after, len + 1);
            }
            let list = *self.list(in_main);
            assert_eq!((list.last, list.len), (before, len));
        }
        assert_eq!(weight, self.weight);
    }
}

fn lock<K, V>(shard: &Mutex<Shard<K, V>>) -> MutexGuard<'_, Shard<K, V>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
