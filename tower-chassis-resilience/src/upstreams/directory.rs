//! Which upstreams are built, which are being built, and which names nobody knows.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use foldhash::quality::RandomState;
use tokio::{
    sync::{Notify, OnceCell, mpsc, watch},
    time::{Instant, timeout_at},
};
use tower_chassis_core::{
    BoxError, Kind, Rejection,
    boxed::{BoxFuture, SharedService},
    discover::{Discover, Known, Snapshot},
};

use super::{Built, Upstream, UpstreamsPolicy};
use crate::balance::BalanceHandle;

/// In so many rounds of the worker an upstream that nobody calls is idle.
pub(super) const ROUNDS: u32 = 8;

/// Longer names, which no DNS has, are refused unseen.
const LONGEST: usize = 255;

pub(super) type Make<Req, Res> = dyn Fn(&Upstream<'_>) -> Built<Req, Res> + Send + Sync;
pub(super) type Map<Req, Res> = HashMap<Arc<str>, Arc<Entry<Req, Res>>, RandomState>;

/// An upstream that is built.
pub(super) struct Entry<Req, Res> {
    name: Arc<str>,
    pub(super) stack: SharedService<Req, Res>,
    pub(super) balance: Option<BalanceHandle>,
    /// The round in which it was called last. Written once a round: what all calls write, all cores wait for.
    used: AtomicU32,
}

impl<Req, Res> Entry<Req, Res> {
    fn touch(&self, round: u32) {
        if self.used.load(Relaxed) != round {
            self.used.store(round, Relaxed);
        }
    }

    fn in_flight(&self) -> bool {
        let endpoints = self.balance.as_ref().map(BalanceHandle::endpoints);
        endpoints.is_some_and(|endpoints| endpoints.iter().any(|status| status.pending > 0))
    }
}

/// What the settings say, pushed here.
#[derive(Default)]
pub(super) struct Settings {
    max_names: AtomicUsize,
    max_unknown: AtomicUsize,
    idle: AtomicU64,
    unknown_for: AtomicU64,
    discovery_wait: AtomicU64,
    /// Tells the worker.
    pub(super) changed: Notify,
}

impl Settings {
    pub(super) fn apply(&self, policy: &UpstreamsPolicy) {
        let config = policy.config();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.max_names.store(config.max_names, Relaxed);
        self.max_unknown.store(config.max_unknown, Relaxed);
        self.idle.store(micros(config.idle), Relaxed);
        self.unknown_for.store(micros(config.unknown_for), Relaxed);
        self.discovery_wait
            .store(micros(config.discovery_wait), Relaxed);
        self.changed.notify_one();
    }

    pub(super) fn round(&self) -> Duration {
        Duration::from_micros(self.idle.load(Relaxed)) / ROUNDS
    }
}

/// What the first calls of a name find out together. `None`: there is no such upstream, or no room for it.
type Finding<Req, Res> = OnceCell<Option<Arc<Entry<Req, Res>>>>;

struct Asked<Req, Res> {
    finding: Arc<Finding<Req, Res>>,
    /// Calls that wait for it. The last one that goes takes the entry away.
    waiting: usize,
}

struct Slow<Req, Res> {
    asked: HashMap<Arc<str>, Asked<Req, Res>, RandomState>,
    /// Until when a name is refused.
    unknown: HashMap<Arc<str>, Instant, RandomState>,
    /// Those names, the oldest first.
    order: VecDeque<Arc<str>>,
}

impl<Req, Res> Slow<Req, Res> {
    fn is_unknown(&mut self, name: &str, now: Instant) -> bool {
        let Some(until) = self.unknown.get(name) else {
            return false;
        };
        let refused = now < *until;
        if !refused {
            self.unknown.remove(name);
        }
        refused
    }

    fn set_unknown(&mut self, name: &Arc<str>, until: Instant, most: usize) {
        while self.order.len() >= most {
            if let Some(oldest) = self.order.pop_front() {
                self.unknown.remove(&oldest);
            }
        }
        if self.unknown.insert(Arc::clone(name), until).is_none() {
            self.order.push_back(Arc::clone(name));
        }
    }
}

pub(super) struct Directory<Req, Res> {
    map: ArcSwap<Map<Req, Res>>,
    /// Counted by the worker: a clock that costs a call nothing.
    round: AtomicU32,
    pub(super) settings: Arc<Settings>,
    /// No code of the user runs under this lock, dropping included.
    slow: Mutex<Slow<Req, Res>>,
    discover: Box<dyn Discover>,
    make: Box<Make<Req, Res>>,
    /// Takes the workers of what is built. Its end is the end of the directory's worker.
    workers: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
}

impl<Req, Res> Directory<Req, Res> {
    pub(super) fn new(
        discover: Box<dyn Discover>,
        make: Box<Make<Req, Res>>,
        settings: Arc<Settings>,
        workers: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
    ) -> Self {
        Self {
            map: ArcSwap::default(),
            round: AtomicU32::new(0),
            settings,
            slow: Mutex::new(Slow {
                asked: HashMap::default(),
                unknown: HashMap::default(),
                order: VecDeque::new(),
            }),
            discover,
            make,
            workers,
        }
    }

    fn slow(&self) -> MutexGuard<'_, Slow<Req, Res>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is built. Held for a moment only: no call may keep an upstream that is taken out.
    #[inline]
    pub(super) fn built(&self) -> Guard<Arc<Map<Req, Res>>> {
        self.map.load()
    }

    /// Calls an upstream that is built.
    #[inline]
    pub(super) fn call(
        &self,
        entry: &Entry<Req, Res>,
        request: Req,
    ) -> BoxFuture<'static, Result<Res, BoxError>> {
        entry.touch(self.round.load(Relaxed));
        entry.stack.serve(request)
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Entry<Req, Res>>> {
        self.map.load().get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.map.load().keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.map.load().len()
    }

    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.slow().asked.len()
    }

    pub(super) fn unknown(&self) -> usize {
        self.slow().unknown.len()
    }

    /// Takes an upstream out. Its calls go on: their futures own what they need.
    pub(super) fn evict(&self, name: &str) -> bool {
        let lock = self.slow();
        let mut map = Map::clone(&self.map.load());
        let gone = map.remove(name);
        let old = gone.as_ref().map(|_| self.map.swap(Arc::new(map)));
        drop(lock);
        drop(old);
        gone.is_some()
    }

    /// A round of the worker: what was not called in the last [`ROUNDS`] goes.
    pub(super) fn turn(&self) {
        let round = self.round.fetch_add(1, Relaxed).wrapping_add(1);
        let map = self.map.load_full();
        let idle = |entry: &Entry<Req, Res>| {
            round.wrapping_sub(entry.used.load(Relaxed)) > ROUNDS && !entry.in_flight()
        };
        let idle: Vec<_> = map.values().filter(|entry| idle(entry)).cloned().collect();
        self.take_out(&idle);
        // Expired ones take memory only.
        let now = Instant::now();
        let mut slow = self.slow();
        let Slow { unknown, order, .. } = &mut *slow;
        unknown.retain(|_, until| now < *until);
        order.retain(|name| unknown.contains_key(name));
    }

    /// Takes out as many as are above a bound that was lowered.
    pub(super) fn shrink(&self) {
        let most = self.settings.max_names.load(Relaxed);
        let over = self.len().saturating_sub(most);
        if over > 0 {
            let idle = self.least_used(over);
            self.take_out(&idle);
        }
        let most = self.settings.max_unknown.load(Relaxed);
        let mut slow = self.slow();
        while slow.order.len() > most {
            if let Some(oldest) = slow.order.pop_front() {
                slow.unknown.remove(&oldest);
            }
        }
    }

    /// Up to `count` upstreams without a call in flight, those first that were not called for longest.
    fn least_used(&self, count: usize) -> Vec<Arc<Entry<Req, Res>>> {
        let round = self.round.load(Relaxed);
        let map = self.map.load_full();
        let mut entries: Vec<_> = map.values().collect();
        entries.sort_by_cached_key(|entry| {
            std::cmp::Reverse(round.wrapping_sub(entry.used.load(Relaxed)))
        });
        let idle = entries.into_iter().filter(|entry| !entry.in_flight());
        idle.take(count).cloned().collect()
    }

    fn take_out(&self, entries: &[Arc<Entry<Req, Res>>]) {
        if entries.is_empty() {
            return;
        }
        let lock = self.slow();
        let mut map = Map::clone(&self.map.load());
        for entry in entries {
            if map
                .get(&entry.name)
                .is_some_and(|it| Arc::ptr_eq(it, entry))
            {
                map.remove(&entry.name);
            }
        }
        let old = self.map.swap(Arc::new(map));
        drop(lock);
        drop(old);
    }

    fn refusal() -> Rejection {
        Rejection::new(Kind::NoEndpoint, "upstreams")
    }

    /// The way of a call whose name is not built: finds out, builds, or waits for who does.
    pub(super) async fn find(
        self: &Arc<Self>,
        name: &str,
    ) -> Result<SharedService<Req, Res>, Rejection> {
        if name.is_empty() || name.len() > LONGEST {
            return Err(Self::refusal());
        }
        let now = Instant::now();
        let waiting = match self.join(name, now) {
            Ok(waiting) => waiting,
            Err(Some(found)) => return Ok(found.stack.clone()),
            Err(None) => return Err(Self::refusal()),
        };
        let wait = Duration::from_micros(self.settings.discovery_wait.load(Relaxed));
        // One of those that wait does the work. If it is dropped or panics, it is another one's turn.
        let found = waiting.finding.get_or_init(|| self.find_out(&waiting.name));
        match timeout_at(now + wait, found).await {
            Ok(Some(entry)) => Ok(entry.stack.clone()),
            Ok(None) | Err(_) => Err(Self::refusal()),
        }
    }

    #[expect(clippy::type_complexity, reason = "either of three")]
    fn join(
        self: &Arc<Self>,
        name: &str,
        now: Instant,
    ) -> Result<Waiting<Req, Res>, Option<Arc<Entry<Req, Res>>>> {
        let mut slow = self.slow();
        // What was found out is in one of these two before it is no longer asked for.
        if let Some(entry) = self.get(name) {
            return Err(Some(entry));
        }
        if slow.is_unknown(name, now) {
            return Err(None);
        }
        let (name, asked) = match slow.asked.get_key_value(name) {
            Some((name, _)) => (Arc::clone(name), true),
            None => (Arc::from(name), false),
        };
        if !asked && slow.asked.len() >= self.settings.max_names.load(Relaxed) {
            return Err(None);
        }
        let asked = slow
            .asked
            .entry(Arc::clone(&name))
            .or_insert_with(|| Asked {
                finding: Arc::default(),
                waiting: 0,
            });
        asked.waiting += 1;
        let finding = Arc::clone(&asked.finding);
        drop(slow);
        Ok(Waiting {
            directory: Arc::clone(self),
            name,
            finding,
        })
    }

    async fn find_out(&self, name: &Arc<str>) -> Option<Arc<Entry<Req, Res>>> {
        let mut watch = self.discover.watch(name);
        let known = watch
            .wait_for(|found| found.known() != Known::Asking)
            .await
            .map(|found| found.known());
        // A source that went away without an answer does not know it either.
        if matches!(known, Err(_) | Ok(Known::Unknown)) {
            drop(watch);
            let settings = &self.settings;
            let until = Instant::now() + Duration::from_micros(settings.unknown_for.load(Relaxed));
            let most = settings.max_unknown.load(Relaxed);
            let mut slow = self.slow();
            slow.set_unknown(name, until, most);
            slow.asked.remove(name);
            return None;
        }
        // From here on nothing is awaited: who began to build has built.
        let built = self.has_room().then(|| self.build(name, &watch));
        let entry = built.and_then(|entry| self.insert(entry));
        if entry.is_none() {
            self.slow().asked.remove(name);
        }
        entry
    }

    /// Looked at before an upstream is built, for which there would be none.
    fn has_room(&self) -> bool {
        self.len() < self.settings.max_names.load(Relaxed) || !self.least_used(1).is_empty()
    }

    fn build(&self, name: &Arc<str>, watch: &watch::Receiver<Snapshot>) -> Arc<Entry<Req, Res>> {
        let built = (self.make)(&Upstream { name, watch });
        // Fails if the directory's worker is gone; then nobody applies what discovery says, as its page says.
        let _ = self.workers.send(built.worker);
        Arc::new(Entry {
            name: Arc::clone(name),
            stack: built.stack,
            balance: built.balance,
            used: AtomicU32::new(self.round.load(Relaxed)),
        })
    }

    /// Puts an upstream in force, in the place of others if need be.
    fn insert(&self, entry: Arc<Entry<Req, Res>>) -> Option<Arc<Entry<Req, Res>>> {
        loop {
            let most = self.settings.max_names.load(Relaxed);
            let current = self.map.load_full();
            let over = (current.len() + 1).saturating_sub(most);
            let victims = if over > 0 {
                self.least_used(over)
            } else {
                Vec::new()
            };
            if victims.len() < over {
                return None;
            }
            let mut map = Map::clone(&current);
            for victim in &victims {
                map.remove(&victim.name);
            }
            map.insert(Arc::clone(&entry.name), Arc::clone(&entry));
            let mut slow = self.slow();
            if !Arc::ptr_eq(&current, &self.map.load()) {
                continue;
            }
            let old = self.map.swap(Arc::new(map));
            let asked = slow.asked.remove(&entry.name);
            drop(slow);
            drop((old, asked, current));
            return Some(entry);
        }
    }
}

/// A call that waits.
struct Waiting<Req, Res> {
    directory: Arc<Directory<Req, Res>>,
    name: Arc<str>,
    finding: Arc<Finding<Req, Res>>,
}

impl<Req, Res> Drop for Waiting<Req, Res> {
    fn drop(&mut self) {
        let mut slow = self.directory.slow();
        let Some(asked) = slow.asked.get_mut(&self.name) else {
            return;
        };
        if !Arc::ptr_eq(&asked.finding, &self.finding) {
            return;
        }
        asked.waiting -= 1;
        if asked.waiting == 0 {
            let gone = slow.asked.remove(&self.name);
            drop(slow);
            drop(gone);
        }
    }
}
