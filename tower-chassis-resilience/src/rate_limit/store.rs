//! One number per key, for a bounded number of keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash},
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;

use super::{
    bucket::{Taken, Time},
    rule::{Rule, Standing},
};
use crate::keyed::hash::{AsItIs, Hashed};

/// The most shards. Fewer where they would hold less than [`PER_SHARD`] keys each.
const SHARDS: usize = 64;
const PER_SHARD: usize = 16;
/// One shared number for so many keys of a shard, and the most of them.
const PER_SHARED: usize = 16;
const MOST_SHARED: usize = 64;
/// A full shard looks for buckets that have filled up not more often than this, in nanoseconds: a millisecond, and longer
/// where there are many keys, so that a flood of new ones costs some hundredths of a core and no more.
const SWEEP_GAP: u64 = 1_000_000;
const SWEEP_GAP_PER_KEY: u64 = 50;

/// A sharded map of keys. Hashed with a random seed, because clients choose the keys; what one who guesses it can do is
/// bounded as a shard is.
#[derive(Debug)]
pub(super) struct Store<K> {
    hasher: RandomState,
    shards: Box<[Slot<K>]>,
    /// The keys that a shard holds at most.
    capacity: usize,
    exact: bool,
}

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Slot<K>(Mutex<Shard<K>>);

#[derive(Debug)]
struct Shard<K> {
    /// Under the same lock as the numbers, so that a change of rule and their rescaling are one
    /// step.
    rule: Rule,
    /// How many calls a key takes at once.
    batch: u64,
    keys: HashMap<Hashed<K>, Entry, BuildHasherDefault<AsItIs>>,
    /// The numbers of all keys that found no room, which share them by their hash.
    shared: Box<[u64]>,
    /// Before this time there is nothing to sweep.
    sweep_at: u64,
    sweep_gap: u64,
}

impl<K: Hash + Eq> Store<K> {
    /// Takes a call of `key` of so much `cost`, if it need not wait longer than `patience`, or says how
    /// long it is too early.
    #[inline]
    pub(super) fn take(
        &self,
        key: K,
        cost: u32,
        patience: u64,
        time: &mut impl Time,
    ) -> Result<Taken, u64> {
        let (key, shard) = self.place(key);
        // Dropped after the lock: what a key does when it is dropped is not ours.
        let (mut key, mut dead) = (Some(key), Vec::new());
        let capacity = self.capacity;
        let mut shard = lock(shard);
        shard.take(&mut key, &mut dead, cost, patience, capacity, time)
    }

    /// Gives a call up that has not been made; `false` if another one has come after it.
    pub(super) fn take_back(&self, key: K, place: u64, cost: u32) -> bool {
        let (key, shard) = self.place(key);
        let mut shard = lock(shard);
        let rule = shard.rule;
        match shard.keys.get_mut(&key) {
            Some(entry) if entry.0 == place => {
                *entry = Entry::new(rule.take_back(entry.number(), cost));
                true
            }
            _ => false,
        }
    }

    /// What is left for a key. A key without a number of its own has as much as one that is new now.
    pub(super) fn standing(&self, key: K, now: u64) -> Standing {
        let (key, shard) = self.place(key);
        let shard = lock(shard);
        let number = match shard.keys.get(&key) {
            Some(entry) => entry.settled(shard.rule, shard.batch, now),
            None => shard.shared[key.shared(shard.shared.len())],
        };
        shard.rule.standing(number, now)
    }

    /// Fills a key's bucket up.
    pub(super) fn reset(&self, key: K) {
        let (key, shard) = self.place(key);
        let removed = lock(shard).keys.remove_entry(&key);
        drop(removed);
    }

    fn place(&self, key: K) -> (Hashed<K>, &Mutex<Shard<K>>) {
        let hash = self.hasher.hash_one(&key);
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in
        // between.
        let shard = &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)];
        (Hashed { hash, key }, &shard.0)
    }
}

impl<K> Store<K> {
    /// Room for `max_keys` keys, at least one. Unless it is `exact`, a key that calls often takes several calls at once.
    pub(super) fn new(rule: Rule, max_keys: usize, exact: bool) -> Self {
        let wanted = (max_keys / PER_SHARD).clamp(1, SHARDS);
        let count = 1 << wanted.ilog2();
        let capacity = (max_keys / count).max(1);
        let shared = (capacity / PER_SHARED).next_power_of_two().min(MOST_SHARED);
        let shard = || Shard {
            rule,
            batch: batch(rule, exact),
            keys: HashMap::default(),
            shared: vec![0; shared].into_boxed_slice(),
            sweep_at: 0,
            sweep_gap: SWEEP_GAP.max(SWEEP_GAP_PER_KEY * max_keys as u64),
        };
        Self {
            hasher: RandomState::default(),
            shards: (0..count).map(|_| Slot(Mutex::new(shard()))).collect(),
            capacity,
            exact,
        }
    }

    /// Puts another rule in force for all keys and keeps the share of each bucket that is left.
    pub(super) fn apply(&self, rule: Rule, now: u64) {
        for Slot(shard) in &self.shards {
            lock(shard).apply(rule, batch(rule, self.exact), now);
        }
    }

    /// Fills all buckets up.
    pub(super) fn clear(&self) {
        for Slot(shard) in &self.shards {
            let mut shard = lock(shard);
            shard.shared.fill(0);
            let keys = std::mem::take(&mut shard.keys);
            drop(shard);
            drop(keys);
        }
    }

    /// How many keys have a number of their own.
    pub(super) fn len(&self) -> usize {
        let len = |Slot(shard): &Slot<K>| lock(shard).keys.len();
        self.shards.iter().map(len).sum()
    }
}

impl<K> Hashed<K> {
    const fn shared(&self, count: usize) -> usize {
        (self.hash >> 32) as usize & (count - 1)
    }
}

impl<K: Hash + Eq> Shard<K> {
    #[inline]
    fn take(
        &mut self,
        key: &mut Option<Hashed<K>>,
        dead: &mut Vec<Hashed<K>>,
        cost: u32,
        patience: u64,
        capacity: usize,
        time: &mut impl Time,
    ) -> Result<Taken, u64> {
        let Some(hashed) = key else {
            return Ok(Taken { wait: 0, place: 0 });
        };
        let Some(entry) = self.keys.get_mut(hashed) else {
            return self.take_new(key, dead, cost, patience, capacity, time.now());
        };
        if cost == 1 && entry.take_spare() {
            return Ok(Taken { wait: 0, place: 0 });
        }
        entry.take(self.rule, self.batch, time.now(), cost, patience)
    }

    #[cold]
    fn take_new(
        &mut self,
        key: &mut Option<Hashed<K>>,
        dead: &mut Vec<Hashed<K>>,
        cost: u32,
        patience: u64,
        capacity: usize,
        now: u64,
    ) -> Result<Taken, u64> {
        if self.keys.len() >= capacity && now >= self.sweep_at {
            self.sweep(now, dead);
        }
        let room = self.keys.len() < capacity;
        let place = key.as_ref().map_or(0, |key| key.shared(self.shared.len()));
        // A key that finds room may have called before, when it found none: it begins with what
        // those with whom it shared have used. When all of that has filled up again, it is nothing.
        let shared = &mut self.shared[place];
        let (number, wait) = self.rule.admit(*shared, now, cost, patience)?;
        match key.take() {
            Some(key) if room => {
                self.keys.insert(key, Entry::new(number));
            }
            // Dropped by the caller.
            other => {
                *key = other;
                *shared = number;
            }
        }
        Ok(Taken {
            wait,
            place: Entry::new(number).0,
        })
    }

    /// Drops the buckets that are full again. They carry no information, so nothing is forgotten.
    fn sweep(&mut self, now: u64, dead: &mut Vec<Hashed<K>>) {
        let mut next = u64::MAX;
        let (rule, batch) = (self.rule, self.batch);
        let full = self.keys.extract_if(|_, entry| {
            *entry = Entry::new(entry.settled(rule, batch, now));
            let idle_at = rule.idle_at(entry.number(), now);
            if idle_at > now {
                next = next.min(idle_at);
            }
            idle_at <= now
        });
        dead.extend(full.map(|(key, _)| key));
        self.sweep_at = next.max(now.saturating_add(self.sweep_gap));
    }
}

impl<K> Shard<K> {
    fn apply(&mut self, rule: Rule, batch: u64, now: u64) {
        let (old, was) = (self.rule, self.batch);
        (self.rule, self.batch) = (rule, batch);
        for entry in self.keys.values_mut() {
            let number = entry.settled(old, was, now);
            *entry = Entry::new(rule.rescale(old, number, now));
        }
        for number in &mut self.shared {
            *number = rule.rescale(old, *number, now);
        }
        self.sweep_at = 0;
    }
}

// number:59 | leased:1 | spare:4. A key that calls often takes several calls at once, and needs no time for those that
// it takes later. `leased`: there were spare calls, and when they were used nobody knows.
const NUMBER: u32 = 5;
const LEASED: u64 = 0b1_0000;
const SPARE: u64 = 0b1111;

/// A key's bucket.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

impl Entry {
    const fn new(number: u64) -> Self {
        Self(number << NUMBER)
    }

    const fn number(self) -> u64 {
        self.0 >> NUMBER
    }

    #[inline]
    const fn take_spare(&mut self) -> bool {
        let spare = self.0 & SPARE != 0;
        if spare {
            self.0 -= 1;
        }
        spare
    }

    /// The number without spare calls: what was used of them was used now.
    fn settled(self, rule: Rule, batch: u64, now: u64) -> u64 {
        if self.0 & LEASED == 0 {
            return self.number();
        }
        let number = rule.at_least(self.number(), now, batch - 1);
        rule.take_back(number, (self.0 & SPARE) as u32)
    }

    fn take(
        &mut self,
        rule: Rule,
        batch: u64,
        now: u64,
        cost: u32,
        patience: u64,
    ) -> Result<Taken, u64> {
        let number = self.settled(rule, batch, now);
        if batch > 1 && cost == 1 {
            let leased = rule.at_least(number, now, batch - 1);
            // Where that costs something, the bucket was full, and is asked often: a millisecond ago, or less.
            let pays = leased == number
                || (1..=now).contains(&self.number()) && now - self.number() < 1 << 20;
            let (burst, _) = rule.quota();
            if pays
                && rule.standing(leased, now).remaining > burst / 2
                && let Ok((number, _)) = rule.admit(leased, now, batch as u32, 0)
            {
                self.0 = number << NUMBER | LEASED | (batch - 1);
                return Ok(Taken { wait: 0, place: 0 });
            }
        }
        let (number, wait) = rule.admit(number, now, cost, patience)?;
        *self = Self::new(number);
        Ok(Taken {
            wait,
            place: self.0,
        })
    }
}

/// How many calls a key takes at once. What it may lose by it is less than the hundredth part of a burst.
const fn batch(rule: Rule, exact: bool) -> u64 {
    match rule {
        Rule::Gcra { burst, .. } if !exact && burst >= 800 => 8,
        _ => 1,
    }
}

fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
