//! What a layer, its services, their calls and its handles share.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Kind, Live, Quota, Rejection, clock,
    striped::{here, stripes},
};

use super::{
    RateLimitPolicy, TooCostly,
    bucket::{Bucket, Taken, Time},
    rule::{NEVER, Rule, Standing},
    store::Store,
};
use crate::keyed::KeyOf;

pub(super) struct Shared<F, K> {
    pub(super) key: Arc<F>,
    /// Of all calls, or of those without a key.
    pub(super) one: Bucket,
    pub(super) keys: Option<Store<K>>,
    /// In nanoseconds.
    patience: AtomicU64,
    forced: Forced,
    epoch: Instant,
    /// In millionths.
    jitter: AtomicU64,
    random: AtomicU64,
    pub(super) live: Live<RateLimitPolicy>,
    pub(super) setup: Setup,
}

/// What is settled before the first call.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: Option<Arc<str>>,
    pub(super) events: Events,
    pub(super) max_keys: Option<usize>,
    pub(super) exact: bool,
    pub(super) seed: Option<u64>,
}

/// How a call begins.
pub(super) enum Turn {
    Now(Option<Quota>),
    Wait {
        wait: u64,
        held: Held,
        quota: Option<Quota>,
    },
    Refused(Box<Rejection>),
}

/// A place in time that a call has which waits.
#[derive(Clone, Copy)]
pub(super) struct Held {
    place: u64,
    cost: u32,
}

/// What is forced, and until when.
#[derive(Default)]
pub(super) struct Forced(AtomicU64);

/// Overrides a rate limit. See [`RateLimitHandle::force`](super::RateLimitHandle::force).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Force {
    /// Every call is allowed, and none is counted.
    Allow,
    /// Every call is refused.
    Refuse,
}

impl Forced {
    /// From now on until a time; `u64::MAX` is for ever.
    pub(super) fn set(&self, force: Option<Force>, until: u64) {
        let until = until.min(u64::MAX >> 2) << 2;
        let word = match force {
            None => 0,
            Some(Force::Allow) => until | 1,
            Some(Force::Refuse) => until | 2,
        };
        self.0.store(word, Relaxed);
    }

    /// What is, and for how long from now; `None` is for ever.
    pub(super) fn get(&self, now: impl FnOnce() -> u64) -> Option<(Force, Option<u64>)> {
        let word = self.0.load(Relaxed);
        let force = match word & 3 {
            0 => return None,
            1 => Force::Allow,
            _ => Force::Refuse,
        };
        match word >> 2 {
            until if until == u64::MAX >> 2 => Some((force, None)),
            until => {
                let left = until.saturating_sub(now());
                (left > 0).then_some((force, Some(left)))
            }
        }
    }
}

/// The clock, read once for a call.
struct Clock<'a> {
    epoch: Instant,
    read: &'a mut Option<Instant>,
}

impl Time for Clock<'_> {
    fn now(&mut self) -> u64 {
        let now = *self.read.get_or_insert_with(|| clock::entered(|now| now));
        since(self.epoch, now)
    }
    fn fresh(&mut self) -> u64 {
        since(self.epoch, clock::now())
    }
}

pub(super) fn since(epoch: Instant, now: Instant) -> u64 {
    let since = now.saturating_duration_since(epoch);
    let whole = since.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(since.subsec_nanos()))
}

impl<F, K> Shared<F, K>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    pub(super) fn new(key: Arc<F>, live: Live<RateLimitPolicy>, setup: Setup) -> Arc<Self> {
        let rule = live.load().rule();
        let cells = match setup.exact {
            true => 0,
            false => stripes(),
        };
        let store = |max_keys| Store::new(rule, max_keys, setup.exact);
        let shared = Arc::new(Self {
            key,
            one: Bucket::new(rule, cells),
            keys: setup.max_keys.map(store),
            patience: AtomicU64::new(0),
            forced: Forced::default(),
            epoch: clock::now(),
            jitter: AtomicU64::new(0),
            random: AtomicU64::new(setup.seed.unwrap_or_else(|| fastrand::u64(..))),
            live,
            setup,
        });
        shared.live.bind(&shared, Self::apply);
        shared
    }

    /// The same settings with buckets of its own.
    pub(super) fn fresh(&self) -> Arc<Self> {
        self.fresh_with(|_| {})
    }

    /// As [`fresh`](Self::fresh), with a change.
    pub(super) fn fresh_with(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.setup.clone();
        change(&mut setup);
        Self::new(Arc::clone(&self.key), self.live.clone(), setup)
    }
}

impl<F, K> Shared<F, K> {
    fn apply(&self, policy: &RateLimitPolicy) {
        let (rule, config) = (policy.rule(), policy.config());
        let patience = u64::try_from(config.max_wait.as_nanos()).unwrap_or(u64::MAX);
        self.patience.store(patience, Relaxed);
        self.jitter.store((config.jitter * 1e6) as u64, Relaxed);
        self.one.apply(rule, &mut self.clock(&mut None));
        if let Some(keys) = &self.keys {
            keys.apply(rule, self.now());
        }
    }

    const fn clock<'a>(&self, read: &'a mut Option<Instant>) -> Clock<'a> {
        Clock {
            epoch: self.epoch,
            read,
        }
    }

    /// Takes a call that this thread took in advance, if there is one. What most calls of a busy limit without keys do,
    /// and nothing else.
    #[inline]
    pub(super) fn take_spare(&self) -> bool {
        self.keys.is_none() && self.forced.0.load(Relaxed) == 0 && self.one.take_spare(here())
    }

    pub(super) fn now(&self) -> u64 {
        since(self.epoch, clock::now())
    }

    pub(super) fn force(&self, force: Option<Force>, span: Option<Duration>) {
        let span = span.map_or(u64::MAX, nanos);
        self.forced.set(force, self.now().saturating_add(span));
    }

    pub(super) fn forced(&self) -> Option<Force> {
        self.forced.get(|| self.now()).map(|(force, _)| force)
    }

    pub(super) fn reset(&self) {
        self.one.reset(&mut self.clock(&mut None));
        if let Some(keys) = &self.keys {
            keys.clear();
        }
    }

    pub(super) fn rule(&self) -> Rule {
        self.live.load().rule()
    }

    fn quota(&self, standing: Standing, legacy: bool) -> Quota {
        let (limit, window) = self.rule().quota();
        let name = self.setup.name.clone();
        let name = name.unwrap_or_else(|| Arc::from("rate_limit"));
        Quota::new(name, limit.into(), Duration::from_nanos(window))
            .left(
                standing.remaining.into(),
                Duration::from_nanos(standing.reset),
            )
            .legacy(legacy)
    }

    #[cold]
    fn refuse(&self, wait: Option<u64>) -> Rejection {
        self.setup.refused();
        let rejection = Rejection::new(Kind::RateLimited, "rate_limit");
        match wait {
            Some(wait) => rejection.after(Duration::from_nanos(self.jittered(wait))),
            None => rejection,
        }
    }

    fn jittered(&self, wait: u64) -> u64 {
        let jitter = self.jitter.load(Relaxed);
        if jitter == 0 {
            return wait;
        }
        // Each refusal has a generator of its own, whose seed is the next number.
        let seed = self.random.fetch_add(1, Relaxed);
        let part = fastrand::Rng::with_seed(seed).u64(..=jitter);
        let more = u128::from(wait) * u128::from(part) / 1_000_000;
        wait.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }
}

impl<F, K: Hash + Eq> Shared<F, K> {
    /// Lets a call in, makes it wait, or refuses it. `read` is the time, if it was needed. With `tells`, says what is left.
    #[inline]
    pub(super) fn enter<Req>(
        &self,
        request: &Req,
        cost: u32,
        read: &mut Option<Instant>,
        tells: Option<bool>,
    ) -> Turn
    where
        F: KeyOf<Req, K>,
    {
        if self.forced.0.load(Relaxed) != 0
            && let Some((force, left)) = self.forced.get(|| self.now())
        {
            return match force {
                Force::Allow => Turn::Now(None),
                Force::Refuse => Turn::Refused(Box::new(self.refuse(left))),
            };
        }
        match self.take(request, cost, &mut self.clock(read)) {
            Ok(taken) if taken.wait == 0 && tells.is_none() => Turn::Now(None),
            Ok(taken) => self.told(request, cost, taken, tells),
            Err(wait) => self.too_early(request, cost, wait, read, tells),
        }
    }

    /// Takes a call of a request's key, or says in how many nanoseconds its next one is allowed.
    #[inline]
    fn take<Req>(&self, request: &Req, cost: u32, time: &mut Clock<'_>) -> Result<Taken, u64>
    where
        F: KeyOf<Req, K>,
    {
        let patience = self.patience.load(Relaxed);
        match &self.keys {
            None => self.one.take(here(), cost, patience, time),
            Some(keys) => match self.key.key_of(request) {
                Some(key) => keys.take(key, cost, patience, time),
                None => self.one.take(here(), cost, patience, time),
            },
        }
    }

    fn told<Req>(&self, request: &Req, cost: u32, taken: Taken, tells: Option<bool>) -> Turn
    where
        F: KeyOf<Req, K>,
    {
        let quota = tells.map(|legacy| self.quota(self.standing(self.key_of(request)), legacy));
        match taken.wait {
            0 => Turn::Now(quota),
            wait => Turn::Wait {
                wait,
                held: Held {
                    place: taken.place,
                    cost,
                },
                quota,
            },
        }
    }

    #[cold]
    fn too_early<Req>(
        &self,
        request: &Req,
        cost: u32,
        wait: u64,
        read: &mut Option<Instant>,
        tells: Option<bool>,
    ) -> Turn
    where
        F: KeyOf<Req, K>,
    {
        let quota = || tells.map(|legacy| self.quota(self.standing(self.key_of(request)), legacy));
        if wait == NEVER {
            let cause = TooCostly {
                cost,
                most: self.rule().quota().0,
                quota: quota(),
            };
            return Turn::Refused(Box::new(self.refuse(None).because(cause)));
        }
        // The time may be old: another layer read it, and the thread may have lost its core since.
        let at = read.map_or(0, |read| since(self.epoch, read));
        *read = Some(clock::now());
        let late = self.clock(read).now();
        let mut left = wait.saturating_sub(late.saturating_sub(at));
        if left <= self.patience.load(Relaxed) {
            match self.take(request, cost, &mut self.clock(read)) {
                Ok(taken) => return self.told(request, cost, taken, tells),
                Err(wait) => left = wait,
            }
        }
        let rejection = self.refuse(Some(left));
        Turn::Refused(Box::new(match quota() {
            Some(quota) => rejection.because(quota),
            None => rejection,
        }))
    }

    fn key_of<Req>(&self, request: &Req) -> Option<K>
    where
        F: KeyOf<Req, K>,
    {
        self.keys.as_ref().and(self.key.key_of(request))
    }

    /// Gives the place of a call up that was not made. Only the last one can be used by another call.
    pub(super) fn give_up<Req>(&self, request: &Req, held: Held)
    where
        F: KeyOf<Req, K>,
    {
        match self.keys.as_ref().zip(self.key_of(request)) {
            Some((keys, key)) => keys.take_back(key, held.place, held.cost),
            None => self.one.take_back(held.place, held.cost),
        };
    }

    /// What is left for a key, or for those without.
    pub(super) fn standing(&self, key: Option<K>) -> Standing {
        match self.keys.as_ref().zip(key) {
            Some((keys, key)) => keys.standing(key, self.now()),
            None => self.one.standing(self.now()),
        }
    }

    pub(super) fn reset_key(&self, key: K) {
        if let Some(keys) = &self.keys {
            keys.reset(key);
        }
    }
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
