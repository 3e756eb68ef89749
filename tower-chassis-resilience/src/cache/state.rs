use std::{
    any::Any,
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{Deadline, Events, Live, events::Event, live::Invalid};

use super::{
    config::{CacheConfig, CachePolicy},
    memo::{Found, Life, Memo},
};
use crate::{keyed::hash::Hashed, share::Sink};

type Value = Arc<dyn Any + Send + Sync>;

/// What is settled before the first call.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
}

/// What all services of a layer share.
pub(super) struct State<K> {
    live: Live<CachePolicy>,
    enabled: AtomicBool,
    /// In nanoseconds.
    ttl: AtomicU64,
    stale: AtomicU64,
    /// Goes up when something is taken away on request: what was asked for before is not put in after.
    epoch: AtomicU64,
    misses: AtomicU64,
    memo: Memo<K, Value>,
    pub(super) setup: Setup,
}

/// How a call that may be answered begins.
pub(super) enum Looked<K, T> {
    Hit(T, Age),
    Miss(Miss<K, T>),
    Off,
}

/// How old an answer was when it was found: two readings, which few protocols want to know the difference of.
#[derive(Clone, Copy)]
pub(super) struct Age {
    born: Instant,
    found: Instant,
}

impl Age {
    pub(super) fn get(self) -> Duration {
        self.found.saturating_duration_since(self.born)
    }
}

/// A call whose answer is wanted.
pub(super) struct Miss<K, T> {
    key: Hashed<K>,
    epoch: u64,
    /// Its age counts from here, as in RFC 9111: the time on the way is part of it.
    asked: Instant,
    /// What can be given if it fails.
    pub(super) stale: Option<(Arc<T>, Instant)>,
}

impl<K: Hash + Eq + Send + Sync + 'static> State<K> {
    pub(super) fn new(live: Live<CachePolicy>, setup: Setup) -> Arc<Self> {
        let policy = live.load();
        let config = policy.config();
        let state = Arc::new(Self {
            live: live.clone(),
            enabled: AtomicBool::new(false),
            ttl: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            memo: Memo::new(config.max_entries, config.max_bytes),
            setup,
        });
        live.bind(&state, |state, policy| {
            let config = policy.config();
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            state.ttl.store(nanos(config.ttl), Relaxed);
            state.stale.store(nanos(config.stale_if_error), Relaxed);
            let evicted = state.memo.bound(config.max_entries, config.max_bytes);
            state.report_evicted(evicted);
            state.enabled.store(config.enabled, Relaxed);
        });
        state
    }
}

impl<K> State<K> {
    pub(super) const fn live(&self) -> &Live<CachePolicy> {
        &self.live
    }

    pub(super) fn report(&self, result: &'static str) {
        let setup = &self.setup;
        setup
            .events
            .emit(|| Event::cache(Arc::clone(&setup.name), result));
    }

    fn report_evicted(&self, count: usize) {
        if count > 0 {
            let setup = &self.setup;
            setup
                .events
                .emit(|| Event::cache_evicted(Arc::clone(&setup.name), count));
        }
    }
}

impl<K: Hash + Eq> State<K> {
    pub(super) fn look<T>(&self, key: K, now: Instant) -> Looked<K, T>
    where
        T: Clone + Send + Sync + 'static,
    {
        if !self.enabled.load(Relaxed) {
            return Looked::Off;
        }
        let key = self.memo.hashed(key);
        let epoch = self.epoch.load(Relaxed);
        let stale = match self.memo.get(&key, now) {
            Found::Fresh(value, born) => match value.downcast_ref::<T>() {
                Some(found) => {
                    self.report("hit");
                    return Looked::Hit(found.clone(), Age { born, found: now });
                }
                // Of another service under this layer, which answers something else.
                None => None,
            },
            Found::Stale(value, born) => value.downcast::<T>().ok().map(|value| (value, born)),
            Found::Nothing => None,
        };
        self.misses.fetch_add(1, Relaxed);
        self.report("miss");
        Looked::Miss(Miss {
            key,
            epoch,
            asked: now,
            stale,
        })
    }

    /// When an answer that came at `now` and says itself how long it is good is fresh, and of use.
    fn life(&self, now: Instant, said: Option<Duration>, may_be_stale: bool) -> Life {
        let ttl = Duration::from_nanos(self.ttl.load(Relaxed));
        let ttl = said.map_or(ttl, |said| said.min(ttl));
        let stale = match may_be_stale {
            true => Duration::from_nanos(self.stale.load(Relaxed)),
            false => Duration::ZERO,
        };
        let fresh = Deadline::after(now, ttl).instant();
        Life {
            born: now,
            fresh,
            stale: Deadline::after(fresh, stale).instant(),
        }
    }
}

impl<K, T> Miss<K, T> {
    /// Where the answer is put, once all of it is there.
    pub(super) fn sink<W>(
        self,
        state: Arc<State<K>>,
        (said, may_be_stale): (Option<Duration>, bool),
        weigh: W,
        key_weight: usize,
    ) -> Put<K, W>
    where
        K: Hash + Eq + Send + Sync + 'static,
        W: FnOnce(&T) -> usize + Send + 'static,
    {
        let life = state.life(self.asked, said, may_be_stale);
        Put {
            state,
            key: self.key,
            epoch: self.epoch,
            life,
            weigh,
            key_weight,
        }
    }
}

/// Puts an answer into the cache.
pub(super) struct Put<K, W> {
    state: Arc<State<K>>,
    key: Hashed<K>,
    epoch: u64,
    life: Life,
    weigh: W,
    key_weight: usize,
}

impl<K, T, W> Sink<T> for Put<K, W>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
    W: FnOnce(&T) -> usize + Send,
{
    fn keep(self, kept: T) {
        let weight = (self.weigh)(&kept).saturating_add(self.key_weight);
        let state = &self.state;
        // The lock that it is asked under is the one that orders it and what takes answers away.
        let wanted = || state.epoch.load(Relaxed) == self.epoch;
        let memo = &state.memo;
        let evicted = memo.insert_if(self.key, Arc::new(kept), weight, self.life, wanted);
        state.report_evicted(evicted);
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

/// Reads, empties and reconfigures a cache that is in use. Clones act on the same one.
pub struct CacheHandle<K>(pub(super) Arc<State<K>>);

impl<K: Hash + Eq> CacheHandle<K> {
    /// How many answers are kept, those included that nobody has found too old yet. Takes a lock for each shard.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.memo.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls were answered from it while the answer was fresh. Takes a lock for each shard.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.memo.hits()
    }

    /// How many answers went to make room for others, or because the bounds were lowered. Takes a lock for each shard.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.0.memo.evicted()
    }

    /// How many bytes they take, about. Takes a lock for each shard.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.memo.weight()
    }

    /// Takes the answer of a key away; whether there was one. What is on its way is not kept either, of any key.
    pub fn remove(&self, key: K) -> bool {
        self.0.epoch.fetch_add(1, Relaxed);
        let memo = &self.0.memo;
        memo.remove(&memo.hashed(key))
    }

    /// Takes all answers away. What is on its way is not kept either.
    pub fn clear(&self) {
        self.0.epoch.fetch_add(1, Relaxed);
        self.0.memo.clear();
    }
}

impl<K> CacheHandle<K> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.setup.name
    }

    /// How many calls with a key were not.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.0.misses.load(Relaxed)
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<CachePolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.max_entries = 50)`. What is too much goes at once; what is
    /// kept stays as long as it was to.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut CacheConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(policy.config_mut()))
    }
}

impl<K> Clone for CacheHandle<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Hash + Eq> fmt::Debug for CacheHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle")
            .field("name", &self.name())
            .field("hits", &self.hits())
            .field("misses", &self.misses())
            .finish()
    }
}
