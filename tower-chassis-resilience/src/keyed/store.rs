use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::hash::{AsItIs, Hashed};

/// The most shards. Fewer where they would hold less than [`PER_SHARD`] keys each.
const SHARDS: usize = 64;
const PER_SHARD: usize = 16;
/// How many states the keys share that found no room.
const SHARED: usize = 64;
/// A shard looks for idle states when it has grown to this, and then at twice what is left.
const FIRST_SWEEP: usize = 16;
/// A full shard in which nothing was idle is not searched again for this time, and longer where there are many keys.
const SWEEP_GAP: Duration = Duration::from_millis(1);
const SWEEP_GAP_PER_KEY: Duration = Duration::from_nanos(50);

/// A state that can be dropped when it says nothing.
pub(crate) trait Forget {
    /// Whether a key must not have two states at once. A key that found no room then stays with the state that
    /// it shares while anybody holds that.
    const ONE_AT_ONCE: bool = false;

    /// Whether a new state would do the same at `now`. That nobody holds it is known already.
    fn is_idle(&self, now: Instant) -> bool;
}

/// A sharded map of states by key. Hashed with a random seed, because clients choose the keys; what one who guesses it
/// can do is bounded as a shard is.
///
/// Keys are compared under a shard's lock, so `Eq` must not use what has such a store. They are dropped outside of it, as
/// states are.
pub(crate) struct Store<K, T> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K, T>>]>,
    /// The keys that a shard holds at most.
    capacity: usize,
    shared: Box<[OnceLock<Arc<T>>]>,
}

struct Shard<K, T> {
    states: HashMap<Hashed<K>, Arc<T>, BuildHasherDefault<AsItIs>>,
    sweep_at: usize,
    /// A full shard in which nothing was idle is not searched again before this time.
    not_before: Option<Instant>,
    sweep_gap: Duration,
}

/// What was dropped from a shard, which ends after its lock.
type Dead<K, T> = Vec<(Hashed<K>, Arc<T>)>;

impl<K, T> Store<K, T> {
    /// Room for `max_keys` keys, at least one.
    pub(crate) fn new(max_keys: usize) -> Self {
        let wanted = (max_keys / PER_SHARD).clamp(1, SHARDS);
        let count = 1 << wanted.ilog2();
        let shard = || Shard {
            states: HashMap::default(),
            sweep_at: FIRST_SWEEP,
            not_before: None,
            sweep_gap: SWEEP_GAP
                .max(SWEEP_GAP_PER_KEY * u32::try_from(max_keys).unwrap_or(u32::MAX)),
        };
        Self {
            hasher: RandomState::default(),
            shards: (0..count).map(|_| Mutex::new(shard())).collect(),
            capacity: (max_keys / count).max(1),
            shared: (0..SHARED).map(|_| OnceLock::new()).collect(),
        }
    }

    /// How many keys have a state of their own.
    pub(crate) fn len(&self) -> usize {
        let len = |shard| lock(shard).states.len();
        self.shards.iter().map(len).sum()
    }

    /// Does something with every state, the shared ones too, outside of the locks.
    ///
    /// What [`get`](Self::get) makes meanwhile may be left out, but for what it began to make before.
    pub(crate) fn for_all(&self, mut act: impl FnMut(&T)) {
        for shard in &self.shards {
            let states: Vec<_> = lock(shard).states.values().cloned().collect();
            for state in states {
                act(&state);
            }
        }
        // Last: they are made under the lock of a shard.
        for state in self.shared.iter().filter_map(OnceLock::get) {
            act(state);
        }
    }

    /// Shows every key and its state, one shard after the other, outside of the locks.
    pub(crate) fn for_each(&self, mut show: impl FnMut(&K, &Arc<T>))
    where
        K: Clone,
    {
        for shard in &self.shards {
            // `show` is foreign code, so not under the lock.
            let states = lock(shard)
                .states
                .iter()
                .map(|(key, state)| (key.key.clone(), Arc::clone(state)))
                .collect::<Vec<_>>();
            for (key, state) in &states {
                show(key, state);
            }
        }
    }
}

impl<K: Hash + Eq, T> Store<K, T> {
    fn place(&self, key: &K) -> (u64, &Mutex<Shard<K, T>>) {
        let hash = self.hasher.hash_one(key);
        // The map indexes by the lowest bits and marks by the highest: the shard takes some in between.
        let shard = (hash >> 48) as usize & (self.shards.len() - 1);
        (hash, &self.shards[shard])
    }

    /// The state of a key, if it has one of its own.
    pub(crate) fn find(&self, key: K) -> Option<Arc<T>> {
        let (hash, shard) = self.place(&key);
        let key = Hashed { hash, key };
        lock(shard).states.get(&key).cloned()
    }
}

impl<K: Hash + Eq, T: Forget> Store<K, T> {
    /// The state of a key, made now if it has none, shared where there is no room. One lock, under which it is
    /// made; asks for the time only if the key is new.
    pub(crate) fn get(
        &self,
        key: K,
        now: impl FnOnce() -> Instant,
        make: impl Fn() -> Arc<T>,
    ) -> Arc<T> {
        self.get_told(key, now, make).0
    }

    /// The same, and whether it is the key's own.
    pub(crate) fn get_told(
        &self,
        key: K,
        now: impl FnOnce() -> Instant,
        make: impl Fn() -> Arc<T>,
    ) -> (Arc<T>, bool) {
        let (hash, shard) = self.place(&key);
        let shared = &self.shared[(hash >> 32) as usize & (SHARED - 1)];
        let (mut key, mut dead) = (Some(Hashed { hash, key }), Dead::new());
        let mut shard = lock(shard);
        let stays = || {
            let held = |state: &Arc<T>| Arc::strong_count(state) > 1;
            T::ONE_AT_ONCE && shared.get().is_some_and(held)
        };
        match shard.own(&mut key, &mut dead, self.capacity, stays, now, &make) {
            Some(state) => (state, true),
            // Under the lock, so that this key's next call sees that it is held.
            None => (Arc::clone(shared.get_or_init(make)), false),
        }
    }

    /// The state of a key, made now if it has none; `None` where there is no room.
    pub(crate) fn own(&self, key: K, now: Instant, make: impl Fn() -> Arc<T>) -> Option<Arc<T>> {
        let (hash, shard) = self.place(&key);
        let (mut key, mut dead) = (Some(Hashed { hash, key }), Dead::new());
        let mut shard = lock(shard);
        shard.own(&mut key, &mut dead, self.capacity, || false, || now, &make)
    }
}

impl<K: Hash + Eq, T: Forget> Shard<K, T> {
    fn own(
        &mut self,
        key: &mut Option<Hashed<K>>,
        dead: &mut Dead<K, T>,
        capacity: usize,
        stays: impl FnOnce() -> bool,
        now: impl FnOnce() -> Instant,
        make: &impl Fn() -> Arc<T>,
    ) -> Option<Arc<T>> {
        if let Some(state) = self.states.get(key.as_ref()?) {
            return Some(Arc::clone(state));
        }
        let now = now();
        let len = self.states.len();
        if len >= self.sweep_at || (len >= capacity && self.may_sweep(now)) {
            self.sweep(now, dead);
        }
        if self.states.len() >= capacity || stays() {
            return None;
        }
        let state = make();
        self.states.insert(key.take()?, Arc::clone(&state));
        Some(state)
    }
}

impl<K, T: Forget> Shard<K, T> {
    fn may_sweep(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    /// Drops the states that say nothing and that no call holds.
    fn sweep(&mut self, now: Instant, dead: &mut Dead<K, T>) {
        // New references are made under this lock only, or from one that is counted here.
        let idle = |state: &Arc<T>| Arc::strong_count(state) == 1 && state.is_idle(now);
        dead.extend(self.states.extract_if(|_, state| idle(state)));
        self.sweep_at = (self.states.len() * 2).max(FIRST_SWEEP);
        self.not_before = Some(now + self.sweep_gap);
    }
}

fn lock<K, T>(shard: &Mutex<Shard<K, T>>) -> MutexGuard<'_, Shard<K, T>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, T> fmt::Debug for Store<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("keys", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Busy(AtomicBool);
    impl Forget for Busy {
        fn is_idle(&self, _: Instant) -> bool {
            !self.0.load(Ordering::Relaxed)
        }
    }

    fn get(store: &Store<u32, Busy>, key: u32) -> Arc<Busy> {
        store.get(key, Instant::now, Arc::default)
    }

    #[test]
    fn a_key_keeps_its_state_and_keys_do_not_share() {
        let store = Store::new(100);
        let (a, b) = (get(&store, 1), get(&store, 2));
        assert!(Arc::ptr_eq(&a, &get(&store, 1)) && !Arc::ptr_eq(&a, &b));
        assert_eq!(store.len(), 2);
        assert!(store.find(3).is_none() && store.find(2).is_some());
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_forgets_nobody_who_is_busy() {
        let store = Store::new(1_000);
        for key in 0..50 {
            get(&store, key).0.store(true, Ordering::Relaxed);
        }
        let held = get(&store, 50);
        for key in 1_000..100_000 {
            get(&store, key);
        }
        assert!(store.len() <= 1_000, "{}", store.len());
        for key in 0..50 {
            assert!(
                store
                    .find(key)
                    .is_some_and(|state| !state.is_idle(Instant::now()))
            );
        }
        assert!(
            store
                .find(50)
                .is_some_and(|state| Arc::ptr_eq(&state, &held))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_keys_share_a_few_states() {
        let store = Store::new(32);
        let mut states = Vec::new();
        for key in 0..10_000 {
            let state = get(&store, key);
            state.0.store(true, Ordering::Relaxed);
            states.push(Arc::as_ptr(&state));
        }
        assert!(store.len() <= 32);
        states.sort_unstable();
        states.dedup();
        assert!(states.len() <= 32 + SHARED, "{}", states.len());
    }

    #[test]
    fn idle_states_go_before_the_room_is_used_up() {
        let store = Store::new(1_000_000);
        for key in 0..100_000 {
            get(&store, key);
        }
        assert!(store.len() <= 2 * SHARDS * FIRST_SWEEP, "{}", store.len());
    }

    /// Whoever publishes a value and then acts on all states finds those that were made from the one before, own
    /// and shared.
    #[test]
    fn a_state_that_is_being_made_is_not_missed() {
        struct Made(AtomicBool);
        impl Forget for Made {
            fn is_idle(&self, _: Instant) -> bool {
                false
            }
        }
        for (key, own) in [(0, true), (1, false)] {
            let store = Store::<u32, Made>::new(1);
            let published = AtomicBool::new(false);
            let make = || Arc::new(Made(AtomicBool::new(published.load(Ordering::SeqCst))));
            if !own {
                store.get(0, Instant::now, make);
            }
            let (reads, go) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                let (store, published) = (&store, &published);
                let writer = scope.spawn(move || {
                    go.recv().unwrap();
                    published.store(true, Ordering::SeqCst);
                    store.for_all(|made| made.0.store(true, Ordering::SeqCst));
                });
                let made = store.get(key, Instant::now, || {
                    let made = make();
                    reads.send(()).unwrap();
                    while !published.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    // The writer has all the time to pass by.
                    for _ in 0..1_000 {
                        std::thread::yield_now();
                    }
                    made
                });
                writer.join().unwrap();
                assert!(made.0.load(Ordering::SeqCst), "own {own}");
            });
        }
    }
}
