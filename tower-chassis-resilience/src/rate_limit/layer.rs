use std::{fmt, hash::Hash, sync::Arc};

use tower_chassis_core::{Events, Live, Respond, refusal::Fail, striped::Striped};
use tower_layer::Layer;

use super::{
    RateLimit, RateLimitHandle, RateLimitPolicy,
    answer::Tell,
    cost::Priced,
    shared::{Setup, Shared},
};
use crate::keyed::{By, One};

/// How many keys have a bucket of their own, unless set.
const MAX_KEYS: usize = 100_000;

/// Allows so many calls per time. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `F` finds the key of a
/// call and what it costs, `K` is the key's type, `J` says how callers are told.
#[doc(alias = "TokenBucket")]
#[doc(alias = "httprate")]
pub struct RateLimitLayer<F = One, K = (), J = Fail> {
    shared: Striped<Shared<F, K>>,
    answer: J,
}

impl RateLimitLayer {
    /// One bucket for all calls. A [`Live`] policy can be changed from outside.
    pub fn new(policy: impl Into<Live<RateLimitPolicy>>) -> Self {
        let setup = Setup {
            name: None,
            events: Events::none(),
            max_keys: None,
            exact: false,
            seed: None,
        };
        Self {
            shared: Striped::of_arc(Shared::new(Arc::new(One), policy.into(), setup)),
            answer: Fail,
        }
    }
}

impl<J> RateLimitLayer<One, (), J> {
    /// A bucket for each key that `f` finds in a request, up to
    /// [`max_keys`](RateLimitLayer::max_keys).
    ///
    /// Calls without a key (`None`) share one bucket of their own, which no key that a client
    /// chooses can name. A key is hashed and compared on each call, the latter under a lock: an address or a small
    /// number is better than a string.
    #[must_use]
    pub fn keyed<F, Req, K>(self, f: F) -> RateLimitLayer<By<F, K>, K, J>
    where
        F: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        K: Hash + Eq + Send + 'static,
    {
        let mut setup = self.shared.setup.clone();
        setup.max_keys = Some(MAX_KEYS);
        let shared = Shared::new(Arc::new(By::new(f)), self.shared.live.clone(), setup);
        RateLimitLayer {
            shared: Striped::of_arc(shared),
            answer: self.answer,
        }
    }
}

impl<F, K, J> RateLimitLayer<F, K, J>
where
    F: Send + Sync + 'static,
    K: Send + 'static,
{
    /// How many keys have a bucket of their own. Default 100,000, at least 1; without keys of no meaning.
    ///
    /// A key holds some 40 bytes and its own size. Beyond, keys share a bucket: limited too much,
    /// never too little. For the set-up: begins with full buckets.
    #[must_use]
    pub fn max_keys(self, max_keys: usize) -> Self {
        self.set_up(|setup| setup.max_keys = setup.max_keys.map(|_| max_keys.max(1)))
    }

    /// A call counts for as many as `f` says of its request; 0 is free. One that costs more than a burst can never be
    /// allowed: it is refused without a time to come again, because it is [`TooCostly`](super::TooCostly).
    ///
    /// To be said after [`keyed`](RateLimitLayer::keyed). For the set-up: begins with full buckets.
    #[must_use]
    pub fn cost<C, Req>(self, f: C) -> RateLimitLayer<Priced<F, C>, K, J>
    where
        C: Fn(&Req) -> u32 + Send + Sync + 'static,
    {
        let key = Priced {
            key: Arc::clone(&self.shared.key),
            cost: f,
        };
        let (live, setup) = (self.shared.live.clone(), self.shared.setup.clone());
        RateLimitLayer {
            shared: Striped::of_arc(Shared::new(Arc::new(key), live, setup)),
            answer: self.answer,
        }
    }

    /// Decides each call by itself, also where many come: no thread takes some in advance. See
    /// [cost](super#cost). For the set-up: begins with full buckets.
    #[must_use]
    pub fn exact(self) -> Self {
        self.set_up(|setup| setup.exact = true)
    }

    /// Names it, for events and header fields. Default: no name, and `rate_limit` in header fields. For the set-up:
    /// begins with full buckets.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = Some(name))
    }

    /// Reports refusals. Default: to nobody. For the set-up: begins with full buckets.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Makes the jitter of waits the same in each run. For the set-up: begins with full buckets.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set_up(|setup| setup.seed = Some(seed))
    }

    /// Tells HTTP clients what is left: `RateLimit` and `RateLimit-Policy` on every answer, also on a refusal that
    /// [`RescueLayer`](tower_chassis_core::RescueLayer) or [`respond`](RateLimitLayer::respond) answers.
    /// [Exact](Self::exact), and reads the clock once more. For the set-up: begins with full buckets.
    #[must_use]
    pub fn headers(self) -> RateLimitLayer<F, K, Tell<J>> {
        let layer = self.exact();
        RateLimitLayer {
            shared: layer.shared,
            answer: Tell {
                answer: layer.answer,
                legacy: false,
            },
        }
    }

    /// The same settings with buckets of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        Self {
            shared: Striped::of_arc(self.shared.fresh()),
            answer: self.answer.clone(),
        }
    }

    pub(super) fn into_parts(self) -> (Striped<Shared<F, K>>, J) {
        (self.shared, self.answer)
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        Self {
            shared: Striped::of_arc(self.shared.fresh_with(change)),
            answer: self.answer,
        }
    }
}

impl<F, K, J> RateLimitLayer<F, K, Tell<J>> {
    /// Also writes `X-RateLimit-Limit`, `-Remaining` and `-Reset`, the last in Unix seconds, as chi's `httprate` does.
    #[must_use]
    pub const fn legacy_headers(mut self) -> Self {
        self.answer.legacy = true;
        self
    }
}

impl<F, K> RateLimitLayer<F, K> {
    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them,
    /// and passes errors from inside on: the error type is that of the inner service. To be said last; for HTTP
    /// and gRPC.
    #[must_use]
    pub fn respond(self) -> RateLimitLayer<F, K, Respond> {
        RateLimitLayer {
            shared: self.shared,
            answer: Respond::new(self.answer),
        }
    }
}

impl<F, K> RateLimitLayer<F, K, Tell> {
    /// Answers its own refusals instead of failing with them.
    #[must_use]
    pub fn respond(self) -> RateLimitLayer<F, K, Tell<Respond>> {
        RateLimitLayer {
            shared: self.shared,
            answer: Tell {
                answer: Respond::new(self.answer.answer),
                legacy: self.answer.legacy,
            },
        }
    }
}

impl<F, K, J> RateLimitLayer<F, K, J>
where
    F: Send + Sync + 'static,
    K: Hash + Eq + Send + 'static,
{
    /// Reads the state, overrides it and changes the settings.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle<K> {
        RateLimitHandle {
            live: self.shared.live.clone(),
            control: Arc::<Shared<F, K>>::clone(self.shared.arc()),
        }
    }
}

impl<F, K, J: Clone> Clone for RateLimitLayer<F, K, J> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.keep(),
            answer: self.answer.clone(),
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
        RateLimit::new(inner, self.shared.keep(), self.answer.clone())
    }
}
