use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Kind, Live, Rejection, Respond, clock,
    events::Event,
    live::Invalid,
    settle::UntilHead,
    verdict::OkIsSuccess,
    wire::{Admit, Gated},
};
use tower_layer::Layer;

use super::{RateLimitConfig, RateLimitPolicy, gcra::Bucket, store::Store};
use crate::keyed::{By, KeyOf, One};

/// How many keys have a bucket of their own, unless set.
const MAX_KEYS: usize = 100_000;

/// The service of a [`RateLimitLayer`].
pub type RateLimit<S, F = One, K = (), J = UntilHead<OkIsSuccess>> = Gated<S, Limit<F, K>, J>;

/// Allows so many calls per time. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `F` finds the key of a
/// call, `K` is its type, `J` says whether a refusal is an error or [an answer](Self::respond).
pub struct RateLimitLayer<F = One, K = (), J = UntilHead<OkIsSuccess>> {
    shared: Arc<Shared<F, K>>,
    settle: J,
}

/// What a layer, its services and its handles share.
struct Shared<F, K> {
    key: Arc<F>,
    one: Bucket,
    keys: Option<Store<K>>,
    max_keys: usize,
    epoch: Instant,
    live: Live<RateLimitPolicy>,
    events: Events,
}

impl<F, K> Shared<F, K> {
    fn apply(&self, policy: &RateLimitPolicy) {
        let (rule, now) = (policy.rule(), self.since(Instant::now()));
        self.one.apply(rule, now);
        if let Some(keys) = &self.keys {
            keys.apply(rule, now);
        }
    }

    fn since(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        let whole = since.as_secs().saturating_mul(1_000_000_000);
        whole.saturating_add(u64::from(since.subsec_nanos()))
    }

    #[cold]
    fn refuse(&self, wait: u64) -> Rejection {
        self.events
            .emit(|| Event::refused("rate_limit", Kind::RateLimited));
        Rejection::new(Kind::RateLimited, "rate_limit").after(Duration::from_nanos(wait))
    }
}

impl RateLimitLayer {
    /// One bucket for all calls. A [`Live`] policy can be changed from outside.
    pub fn new(policy: impl Into<Live<RateLimitPolicy>>) -> Self {
        Self::build(Arc::new(One), policy.into(), Events::none(), None)
    }

    /// A bucket for each key that `f` finds in a request, up to
    /// [`max_keys`](RateLimitLayer::max_keys).
    ///
    /// Calls without a key (`None`) share one bucket of their own, which no key that a client
    /// chooses can name. A key is hashed and compared on each call: an address or a small number is
    /// better than a string.
    #[must_use]
    pub fn keyed<F, Req, K>(self, f: F) -> RateLimitLayer<By<F, K>, K>
    where
        F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        K: Hash + Eq + Send + 'static,
    {
        let Shared { live, events, .. } = &*self.shared;
        RateLimitLayer::build(
            Arc::new(By::new(f)),
            live.clone(),
            events.clone(),
            Some(MAX_KEYS),
        )
    }
}

impl<F, K> RateLimitLayer<By<F, K>, K>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    /// How many keys have a bucket of their own. Default 100,000, at least 1.
    ///
    /// A key holds some 40 bytes and its own size. Beyond, keys share a bucket: limited too much,
    /// never too little. For the set-up: begins with full buckets.
    #[must_use]
    pub fn max_keys(self, max_keys: usize) -> Self {
        let Shared {
            key, live, events, ..
        } = &*self.shared;
        Self::build(
            Arc::clone(key),
            live.clone(),
            events.clone(),
            Some(max_keys.max(1)),
        )
    }
}

impl<F, K> RateLimitLayer<F, K>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    fn build(
        key: Arc<F>,
        live: Live<RateLimitPolicy>,
        events: Events,
        max_keys: Option<usize>,
    ) -> Self {
        let rule = live.load().rule();
        let shared = Arc::new(Shared {
            key,
            one: Bucket::new(rule),
            keys: max_keys.map(|max_keys| Store::new(rule, max_keys)),
            max_keys: max_keys.unwrap_or_default(),
            epoch: Instant::now(),
            live,
            events,
        });
        shared.live.bind(&shared, Shared::apply);
        Self {
            shared,
            settle: UntilHead::default(),
        }
    }

    /// Reports refusals. Default: to nobody. For the set-up: begins with full buckets.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        let Shared {
            key,
            live,
            keys,
            max_keys,
            ..
        } = &*self.shared;
        Self::build(
            Arc::clone(key),
            live.clone(),
            events,
            keys.as_ref().map(|_| *max_keys),
        )
    }

    /// The same settings with buckets of its own.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let Shared {
            key,
            live,
            events,
            keys,
            max_keys,
            ..
        } = &*self.shared;
        Self::build(
            Arc::clone(key),
            live.clone(),
            events.clone(),
            keys.as_ref().map(|_| *max_keys),
        )
    }

    /// Answers its refusals by the table at [`Kind`] instead of failing with them, and passes errors from
    /// inside on: the error type is that of the inner service. To be said last; for HTTP and gRPC.
    #[must_use]
    pub fn respond(self) -> RateLimitLayer<F, K, Respond<UntilHead<OkIsSuccess>>> {
        RateLimitLayer {
            shared: self.shared,
            settle: Respond::new(self.settle),
        }
    }
}

impl<F, K, J> RateLimitLayer<F, K, J>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    /// Reads the state and changes the settings.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle {
            live: self.shared.live.clone(),
            keys: Arc::<Shared<F, K>>::clone(&self.shared),
        }
    }
}

impl<F, K, J: Clone> Clone for RateLimitLayer<F, K, J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
        }
    }
}

impl<F, K, J> fmt::Debug for RateLimitLayer<F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("policy", &self.shared.live)
            .finish_non_exhaustive()
    }
}

impl<S, F, K, J: Clone> Layer<S> for RateLimitLayer<F, K, J> {
    type Service = RateLimit<S, F, K, J>;

    fn layer(&self, inner: S) -> Self::Service {
        let limit = Limit(Arc::clone(&self.shared));
        Gated::new(inner, limit, self.settle.clone())
    }
}

/// Lets calls through a rate limit: the policy of [`RateLimit`].
pub struct Limit<F = One, K = ()>(Arc<Shared<F, K>>);

impl<F, K> Clone for Limit<F, K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, K> fmt::Debug for Limit<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limit").field(&self.0.live).finish()
    }
}

impl<Req, F, K> Admit<Req> for Limit<F, K>
where
    F: KeyOf<Req, K>,
    K: Hash + Eq,
{
    type Ticket = ();

    fn admit(&self, request: &mut Req, now: Instant) -> Result<(), Rejection> {
        let shared = &*self.0;
        let at = shared.since(now);
        let Err(wait) = shared.take(request, at) else {
            return Ok(());
        };
        // The time may be old: another layer read it, and the thread may have lost its core since.
        let late = shared.since(clock::now());
        let left = wait.saturating_sub(late.saturating_sub(at));
        if left > 0 {
            return Err(shared.refuse(left));
        }
        shared
            .take(request, late)
            .map_err(|wait| shared.refuse(wait))
    }
}

impl<F, K: Hash + Eq> Shared<F, K> {
    /// Takes a call of a request's key, or says in how many nanoseconds its next one is allowed.
    fn take<Req>(&self, request: &Req, now: u64) -> Result<(), u64>
    where
        F: KeyOf<Req, K>,
    {
        let key = self.keys.as_ref().zip(self.key.key_of(request));
        match key {
            Some((keys, key)) => keys.take(key, now),
            None => self.one.take(now),
        }
    }
}

trait Keys: Send + Sync {
    fn keys(&self) -> usize;
}

impl<F: Send + Sync, K: Send> Keys for Shared<F, K> {
    fn keys(&self) -> usize {
        self.keys.as_ref().map_or(0, Store::len)
    }
}

/// Reads and reconfigures a rate limit that is in use. Clones act on the same one.
#[derive(Clone)]
pub struct RateLimitHandle {
    live: Live<RateLimitPolicy>,
    keys: Arc<dyn Keys>,
}

impl RateLimitHandle {
    /// How many keys have a bucket of their own now. Takes each shard's lock in turn.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.keys()
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub const fn config(&self) -> &Live<RateLimitPolicy> {
        &self.live
    }

    /// Changes settings: `handle.update(|config| config.rate = 50.0)`.
    ///
    /// Each bucket keeps the share that is left of it. Takes time in proportion to the keys, some
    /// nanoseconds each, on the caller's thread.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut RateLimitConfig)) -> Result<(), Invalid> {
        self.live.update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for RateLimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitHandle")
            .field("policy", &self.live)
            .field("keys", &self.keys())
            .finish()
    }
}
