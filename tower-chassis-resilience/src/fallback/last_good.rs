//! The last good answer to the same request.

use std::{any::Any, fmt, hash::Hash, sync::Arc, time::Duration};

use tower_chassis_core::{BoxError, Deadline, Verdict, clock};

use super::alternative::{Alternative, Answer, Instead, Keep, Never, sealed::Sealed};
use crate::{
    cache::memo::{Found, Life, Memo},
    keyed::hash::Hashed,
    share::{KeyBy, Share, Sink, Whole},
};

const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One that is younger than this is good enough: an answer need not be kept on each call.
const REFRESH: Duration = Duration::from_secs(1);

type Good<K> = Arc<Memo<K, Arc<dyn Any + Send + Sync>>>;

/// The last good answer answers: [`FallbackLayer::last_good`](super::FallbackLayer::last_good).
pub struct LastGood<Q, K, H = Whole> {
    key: Arc<Q>,
    share: H,
    max_age: Duration,
    room: (usize, usize),
    good: Good<K>,
}

impl<Q, K: Hash + Eq, H> LastGood<Q, K, H> {
    pub(super) fn new(max_age: Duration, key: Q, share: H) -> Self {
        Self {
            key: Arc::new(key),
            share,
            max_age,
            room: (MAX_ENTRIES, MAX_BYTES),
            good: Arc::new(Memo::new(MAX_ENTRIES, MAX_BYTES)),
        }
    }

    pub(super) fn with_room(&self, max_entries: usize, max_bytes: usize) -> Self
    where
        H: Clone,
    {
        let room = (max_entries.max(1), max_bytes);
        Self {
            key: Arc::clone(&self.key),
            share: self.share.clone(),
            max_age: self.max_age,
            room,
            good: Arc::new(Memo::new(room.0, room.1)),
        }
    }
}

impl<Q, K, H> fmt::Debug for LastGood<Q, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastGood")
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

impl<Q, K: Hash + Eq, H: Clone> Sealed for LastGood<Q, K, H> {
    fn anew(&self) -> Option<Self> {
        Some(self.with_room(self.room.0, self.room.1))
    }
}

impl<Q, K, H, Req> Keep<Req> for LastGood<Q, K, H>
where
    Q: KeyBy<Req, Key = K>,
    K: Hash + Eq,
    H: Clone,
{
    type Request = Req;
    /// The key, and its weight.
    type Kept = Option<(Key<K>, usize)>;

    fn keep(&self, request: Req) -> (Req, Self::Kept) {
        let key = self.key.key(&request).map(|key| {
            let weight = Q::weight(&key);
            (Key(self.good.hashed(key)), weight)
        });
        (request, key)
    }
}

/// A key with its hash.
#[derive(Debug)]
pub struct Key<K>(Hashed<K>);

impl<Q, K, H, Req, Res, Err> Alternative<Req, Res, Err> for LastGood<Q, K, H>
where
    Q: KeyBy<Req, Key = K>,
    K: Hash + Eq + Send + Sync + 'static,
    H: Share<Res>,
    Err: Into<BoxError>,
{
    type Response = H::Response;
    type Error = BoxError;
    type Later = Never<H::Response, BoxError>;

    fn response(&self, response: Res) -> H::Response {
        self.share.pass(response)
    }

    fn pass(error: Err) -> BoxError {
        error.into()
    }

    fn good(&self, kept: Self::Kept, response: Res) -> H::Response {
        let Some((Key(key), key_weight)) = kept else {
            return self.share.pass(response);
        };
        if !self.share.is_shareable(&response) {
            return self.share.pass(response);
        }
        let now = clock::now();
        if let Found::Fresh(..) = self.good.get(&key, now) {
            return self.share.pass(response);
        }
        let life = Life {
            born: now,
            fresh: Deadline::after(now, REFRESH.min(self.max_age)).instant(),
            stale: Deadline::after(now, self.max_age).instant(),
        };
        let put = Put {
            good: Arc::clone(&self.good),
            key,
            key_weight,
            life,
            weigh: H::weight,
        };
        self.share.tee(response, put)
    }

    fn instead(
        &self,
        kept: Self::Kept,
        failed: Result<Res, BoxError>,
        _: Verdict,
    ) -> Instead<H::Response, BoxError, Self::Later> {
        let now = clock::now();
        let found = kept.map(|(Key(key), _)| self.good.get(&key, now));
        if let Some(Found::Fresh(good, born) | Found::Stale(good, born)) = found
            && let Some(good) = good.downcast_ref::<H::Shared>()
        {
            // What failed goes first: its body may hold a connection.
            drop(failed);
            let age = now.saturating_duration_since(born);
            let good = self.share.again(good.clone(), Some(age));
            return Instead::Now(Ok(Answer::Other(good)));
        }
        let failed = failed.map(|response| Answer::AsItCame(self.share.pass(response)));
        Instead::Now(failed)
    }
}

struct Put<K, T> {
    good: Good<K>,
    key: Hashed<K>,
    key_weight: usize,
    life: Life,
    weigh: fn(&T) -> usize,
}

impl<K, T> Sink<T> for Put<K, T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    fn keep(self, kept: T) {
        let weight = (self.weigh)(&kept).saturating_add(self.key_weight);
        self.good
            .insert(self.key, Arc::new(kept), weight, self.life);
    }
}
