//! One number per key, for a bounded number of keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::gcra::Rule;
use crate::keyed::hash::{AsItIs, Hashed};

/// The most shards. Fewer where they would hold less than [`PER_SHARD`] keys each.
const SHARDS: usize = 64;
const PER_SHARD: usize = 16;
/// One shared number for so many keys of a shard, and the most of them.
const PER_SHARED: usize = 16;
const MOST_SHARED: usize = 64;
/// A full shard looks for buckets that have filled up not more often than this, in nanoseconds.
const SWEEP_GAP: u64 = 1_000_000;

/// A sharded map of keys. Hashed with SipHash and a random seed, because clients choose the keys.
#[derive(Debug)]
pub(super) struct Store<K> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K>>]>,
    /// The keys that a shard holds at most.
    capacity: usize,
}

#[derive(Debug)]
struct Shard<K> {
    /// Under the same lock as the numbers, so that a change of rule and their rescaling are one
    /// step.
    rule: Rule,
    keys: HashMap<Hashed<K>, u64, BuildHasherDefault<AsItIs>>,
    /// The numbers of all keys that found no room, which share them by their hash.
    shared: Box<[u64]>,
    /// Before this time there is nothing to sweep.
    sweep_at: u64,
}

impl<K: Hash + Eq> Store<K> {
    /// Takes one call of `key`, or says in how many nanoseconds its next one is allowed.
    pub(super) fn take(&self, key: K, now: u64) -> Result<(), u64> {
        let hash = self.hasher.hash_one(&key);
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in
        // between.
        let shard = &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)];
        lock(shard).take(Hashed { hash, key }, now, self.capacity)
    }
}

impl<K> Store<K> {
    /// Room for `max_keys` keys, at least one.
    pub(super) fn new(rule: Rule, max_keys: usize) -> Self {
        let wanted = (max_keys / PER_SHARD).clamp(1, SHARDS);
        let count = if wanted.is_power_of_two() {
            wanted
        } else {
            wanted.next_power_of_two() / 2
        };
        let capacity = (max_keys / count).max(1);
        let shared = (capacity / PER_SHARED).next_power_of_two().min(MOST_SHARED);
        let shard = || Shard {
            rule,
            keys: HashMap::default(),
            shared: vec![0; shared].into_boxed_slice(),
            sweep_at: 0,
        };
        Self {
            hasher: RandomState::new(),
            shards: (0..count).map(|_| Mutex::new(shard())).collect(),
            capacity,
        }
    }

    /// Puts another rule in force for all keys and keeps the share of each bucket that is left.
    pub(super) fn apply(&self, rule: Rule, now: u64) {
        for shard in &self.shards {
            lock(shard).apply(rule, now);
        }
    }

    /// How many keys have a number of their own.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }
}

impl<K: Hash + Eq> Shard<K> {
    fn take(&mut self, key: Hashed<K>, now: u64, capacity: usize) -> Result<(), u64> {
        if let Some(tat) = self.keys.get_mut(&key) {
            *tat = self.rule.check(*tat, now)?;
            return Ok(());
        }
        if self.keys.len() >= capacity && now >= self.sweep_at {
            self.sweep(now);
        }
        // A key that finds room may have called before, when it found none: it begins with what
        // those with whom it shared have used. When all of that has filled up again, it is nothing.
        let place = (key.hash >> 32) as usize & (self.shared.len() - 1);
        let shared = &mut self.shared[place];
        let tat = self.rule.check(*shared, now)?;
        if self.keys.len() < capacity {
            self.keys.insert(key, tat);
        } else {
            *shared = tat;
        }
        Ok(())
    }

    /// Drops the buckets that are full again. They carry no information, so nothing is forgotten.
    fn sweep(&mut self, now: u64) {
        let mut next = u64::MAX;
        self.keys.retain(|_, tat| {
            let used = *tat > now;
            if used {
                next = next.min(*tat);
            }
            used
        });
        self.sweep_at = next.max(now.saturating_add(SWEEP_GAP));
    }
}

impl<K> Shard<K> {
    fn apply(&mut self, rule: Rule, now: u64) {
        let old = std::mem::replace(&mut self.rule, rule);
        for tat in self.keys.values_mut().chain(&mut self.shared) {
            *tat = rule.rescale(old, *tat, now);
        }
        self.sweep_at = 0;
    }
}

fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
