use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{
    Class, Events, Live, Verdict, clock,
    verdict::{Auto, ByFn, Classify},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::CachePolicy,
    state::{Age, CacheHandle, Looked, Miss, Setup, State},
};
use crate::{
    lazy::{Lazy, Own},
    share::{Http, HttpKey, HttpKeys, KeyBy, Share, Weighed, Whole},
};

/// Bodies of up to this length are kept.
const BODY_LIMIT: usize = 64 * 1024;

/// Keeps answers and gives them again. See the [module](super).
///
/// `Q` finds the key `K` of a request, `H` gives an answer again, `C` judges which are good.
#[doc(alias = "stampede")]
#[doc(alias = "memoize")]
#[must_use]
pub struct CacheLayer<Q, K, H = Whole, C = Auto> {
    state: Arc<State<K>>,
    key: Q,
    share: H,
    classify: C,
    /// What a key holds beside the size of its type.
    weigh_key: fn(&K) -> usize,
}

impl CacheLayer<HttpKeys, HttpKey, Http> {
    /// For HTTP: requests are the same as `keys` says; answers with bodies of up to 64 KiB are kept.
    pub fn http(policy: impl Into<Live<CachePolicy>>, keys: HttpKeys) -> Self {
        let share = Http::new(BODY_LIMIT, keys.covered());
        CacheLayer::keyed(policy.into(), keys).share(share)
    }
}

impl<Q, K: Hash + Eq + Send + Sync + 'static> CacheLayer<Q, K> {
    /// For every protocol: requests are the same if `key` finds the same in them; answers are cloned. `None` passes
    /// the cache by.
    ///
    /// Everything that an answer depends on belongs into the key, the user above all.
    pub fn new<Req>(policy: impl Into<Live<CachePolicy>>, key: Q) -> Self
    where
        Q: Fn(&Req) -> Option<K>,
    {
        Self::keyed(policy.into(), key)
    }

    fn keyed(live: Live<CachePolicy>, key: Q) -> Self {
        let setup = Setup {
            name: Arc::from("cache"),
            events: Events::none(),
        };
        Self {
            state: State::new(live, setup),
            key,
            share: Whole,
            classify: Auto,
            weigh_key: |_| 0,
        }
    }

    /// With a key of your own over HTTP: answers with bodies of up to `body_limit` bytes are kept, but none with a
    /// `vary`.
    pub fn buffered(self, body_limit: usize) -> CacheLayer<Q, K, Http> {
        self.share(Http::new(body_limit, Vec::new()))
    }
}

impl<Q, K, C> CacheLayer<Q, K, Whole, C> {
    /// Counts for an answer also what it holds on the heap, in bytes, as `weigh` says: `max_bytes` then bounds what is
    /// kept. Default: the size of its type.
    pub fn weigh<F, Res>(self, weigh: F) -> CacheLayer<Q, K, Weighed<F>, C>
    where
        F: Fn(&Res) -> usize + Clone,
    {
        self.share(Weighed(weigh))
    }
}

impl<Q, K, H, C> CacheLayer<Q, K, H, C> {
    /// Counts for a key also what it holds on the heap, in bytes: for keys of your own that clients may make long. Default: the
    /// size of its type; keys of [`http`](CacheLayer::http) count as they are.
    pub fn weigh_keys(self, weigh: fn(&K) -> usize) -> Self {
        Self {
            weigh_key: weigh,
            ..self
        }
    }

    /// Gives answers again as `share` does.
    pub fn share<J>(self, share: J) -> CacheLayer<Q, K, J, C> {
        CacheLayer {
            state: self.state,
            key: self.key,
            share,
            classify: self.classify,
            weigh_key: self.weigh_key,
        }
    }

    /// Judges which answers are good by `classify`; only successes are kept. Default: [`Auto`].
    pub fn classify<D>(self, classify: D) -> CacheLayer<Q, K, H, D> {
        CacheLayer {
            state: self.state,
            key: self.key,
            share: self.share,
            classify,
            weigh_key: self.weigh_key,
        }
    }

    /// Judges by a closure `Fn(Result<&Res, &Err>) -> Verdict`.
    pub fn classify_fn<F>(self, f: F) -> CacheLayer<Q, K, H, ByFn<F>> {
        self.classify(ByFn(f))
    }
}

impl<Q, K, C> CacheLayer<Q, K, Http, C> {
    /// Keeps answers with bodies of up to so many bytes. Default 64 KiB. A longer one passes as it comes.
    pub fn body_limit(self, bytes: usize) -> Self {
        Self {
            share: self.share.with_limit(bytes),
            ..self
        }
    }
}

impl<Q, K: Hash + Eq + Send + Sync + 'static, H, C> CacheLayer<Q, K, H, C> {
    /// Names it, for events. Default `cache`. For the set-up: begins empty.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports what becomes of each call. Default: to nobody. For the set-up: begins empty.
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// The same settings for another service: an empty cache.
    pub fn fresh(&self) -> Self
    where
        Q: Clone,
        H: Clone,
        C: Clone,
    {
        self.clone().set_up(|_| ())
    }

    /// Reads, empties and changes the cache while it runs.
    #[must_use]
    pub fn handle(&self) -> CacheHandle<K> {
        CacheHandle(Arc::clone(&self.state))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.state.setup.clone();
        change(&mut setup);
        Self {
            state: State::new(self.state.live().clone(), setup),
            ..self
        }
    }
}

impl<Q: Clone, K, H: Clone, C: Clone> Clone for CacheLayer<Q, K, H, C> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            key: self.key.clone(),
            share: self.share.clone(),
            classify: self.classify.clone(),
            weigh_key: self.weigh_key,
        }
    }
}

impl<Q, K, H, C> fmt::Debug for CacheLayer<Q, K, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<S, Q: Clone, K, H: Clone, C: Clone> Layer<S> for CacheLayer<Q, K, H, C> {
    type Service = Cache<S, Q, K, H, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Cache {
            inner: Lazy::new(inner),
            layer: self.clone(),
        }
    }
}

/// The service of a [`CacheLayer`].
#[derive(Debug)]
pub struct Cache<S, Q, K, H = Whole, C = Auto> {
    inner: Lazy<S>,
    layer: CacheLayer<Q, K, H, C>,
}

impl<S: Clone, Q: Clone, K, H: Clone, C: Clone> Clone for Cache<S, Q, K, H, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, Q, K, H, C, Req> Service<Req> for Cache<S, Q, K, H, C>
where
    Q: KeyBy<Req, Key = K>,
    K: Hash + Eq + Send + Sync + 'static,
    H: Share<S::Response> + Send + 'static,
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
{
    type Response = H::Response;
    type Error = S::Error;
    type Future = CacheFuture<S, Req, K, H, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // What is kept is given also where the inner service is busy or gone.
        self.inner.poll_ready(cx);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Cache { inner, layer } = self;
        let (share, classify) = (layer.share.clone(), layer.classify.clone());
        let Some(key) = layer.key.key(&request) else {
            layer.state.report("bypass");
            let own = inner.call(request);
            return CacheFuture::new(Step::own(own, None), share, classify);
        };
        let weight = Q::weight(&key).saturating_add((layer.weigh_key)(&key));
        clock::entered(|now| {
            let step = match layer.state.look(key, now) {
                Looked::Hit(kept, age) => {
                    inner.let_go();
                    Step::Hit {
                        kept: Some((kept, age)),
                    }
                }
                Looked::Miss(miss) => {
                    let state = Arc::clone(&layer.state);
                    let miss = Some((state, miss, weight));
                    Step::own(inner.call(request), miss)
                }
                Looked::Off => Step::own(inner.call(request), None),
            };
            CacheFuture::new(step, share, classify)
        })
    }
}

pin_project! {
    /// The future of a [`Cache`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CacheFuture<S, Req, K, H, C>
    where
        S: Service<Req>,
        H: Share<<S as Service<Req>>::Response>,
    {
        #[pin]
        step: Step<S, Req, K, H::Shared>,
        share: H,
        classify: C,
    }
}

/// A miss, with where its answer goes and the weight of its key.
type Wanted<K, T> = (Arc<State<K>>, Miss<K, T>, usize);

pin_project! {
    #[project = StepProj]
    enum Step<S, Req, K, T>
    where
        S: Service<Req>,
    {
        Hit { kept: Option<(T, Age)> },
        Own { #[pin] own: Own<S, Req>, miss: Option<Wanted<K, T>> },
    }
}

impl<S: Service<Req>, Req, K, T> Step<S, Req, K, T> {
    const fn own(own: Own<S, Req>, miss: Option<Wanted<K, T>>) -> Self {
        Self::Own { own, miss }
    }
}

impl<S, Req, K, H, C> CacheFuture<S, Req, K, H, C>
where
    S: Service<Req>,
    H: Share<S::Response>,
{
    const fn new(step: Step<S, Req, K, H::Shared>, share: H, classify: C) -> Self {
        Self {
            step,
            share,
            classify,
        }
    }
}

impl<S, Req, K, H, C> Future for CacheFuture<S, Req, K, H, C>
where
    S: Service<Req>,
    H: Share<S::Response> + Send + 'static,
    K: Hash + Eq + Send + Sync + 'static,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<H::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (result, miss) = match this.step.as_mut().project() {
            StepProj::Hit { kept } => {
                let Some((kept, age)) = kept.take() else {
                    return Poll::Pending;
                };
                return Poll::Ready(Ok(this.share.again(kept, H::TELLS_AGE.then(|| age.get()))));
            }
            StepProj::Own { own, miss } => (ready!(own.poll(cx)), miss.take()),
        };
        let Some((state, mut miss, weight)) = miss else {
            return Poll::Ready(result.map(|response| this.share.pass(response)));
        };
        let verdict = match &result {
            Ok(response) => this.classify.head(response),
            Err(error) => this.classify.error(error),
        };
        if is_down(verdict)
            && let Some((stale, born)) = miss.stale.take()
        {
            state.report("stale");
            // What failed goes first: its body may hold a connection.
            drop(result);
            let age = clock::now().saturating_duration_since(born);
            return Poll::Ready(Ok(this.share.again(H::Shared::clone(&stale), Some(age))));
        }
        Poll::Ready(result.map(|response| {
            if verdict.class() != Class::Success || !this.share.is_shareable(&response) {
                return this.share.pass(response);
            }
            let said = this.share.lifetime(&response);
            if said.is_some_and(|said| said.is_zero()) {
                return this.share.pass(response);
            }
            let said = (said, this.share.may_be_stale(&response));
            let share = this.share.clone();
            let sink = miss.sink(state, said, move |kept| share.weigh(kept), weight);
            this.share.tee(response, sink)
        }))
    }
}

/// Whether an old answer is better than this one.
fn is_down(verdict: Verdict) -> bool {
    let ours = verdict.http_status().is_none_or(|status| status >= 500);
    verdict.is_failure() || (verdict.class() == Class::Refused && ours)
}

impl<S, Req, K, H, C> fmt::Debug for CacheFuture<S, Req, K, H, C>
where
    S: Service<Req>,
    H: Share<S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match &self.step {
            Step::Hit { .. } => "hit",
            Step::Own { .. } => "own",
        };
        f.debug_tuple("CacheFuture").field(&step).finish()
    }
}
