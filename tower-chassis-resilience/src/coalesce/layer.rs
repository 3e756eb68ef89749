use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{BoxError, Events, Live, striped::Striped};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    call::{Drive, Ended, Seat},
    config::CoalescePolicy,
    state::{CoalesceHandle, Entry, Setup, State},
};
use crate::{
    lazy::{Lazy, Own},
    share::{Http, HttpKey, HttpKeys, KeyBy, Share, Whole},
};

/// Bodies of up to this length are shared.
const BODY_LIMIT: usize = 256 * 1024;

/// Makes one call of those that are the same and in flight. See the [module](super).
///
/// `Q` finds the key `K` of a request, `H` gives an answer again.
#[doc(alias = "stampede")]
#[doc(alias = "singleflight")]
#[must_use]
pub struct CoalesceLayer<Q, K, H = Whole> {
    state: Striped<State<K>>,
    key: Q,
    share: H,
}

impl CoalesceLayer<HttpKeys, HttpKey, Http> {
    /// For HTTP: requests are the same as `keys` says; bodies of answers are shared up to 256 KiB.
    pub fn http(policy: impl Into<Live<CoalescePolicy>>, keys: HttpKeys) -> Self {
        let share = Http::new(BODY_LIMIT, keys.covered());
        CoalesceLayer::keyed(policy.into(), keys).share(share)
    }
}

impl<Q, K: Send + Sync + 'static> CoalesceLayer<Q, K> {
    /// For every protocol: requests are the same if `key` finds the same in them; answers are cloned. `None` is made
    /// for itself.
    ///
    /// Everything that an answer depends on belongs into the key, the user above all.
    pub fn new<Req>(policy: impl Into<Live<CoalescePolicy>>, key: Q) -> Self
    where
        Q: Fn(&Req) -> Option<K>,
    {
        Self::keyed(policy.into(), key)
    }

    fn keyed(live: Live<CoalescePolicy>, key: Q) -> Self {
        let setup = Setup {
            name: Arc::from("coalesce"),
            events: Events::none(),
        };
        Self {
            state: State::new(live, setup),
            key,
            share: Whole,
        }
    }

    /// With a key of your own over HTTP: bodies of answers are kept up to `body_limit` bytes, and an answer with a `vary` is
    /// the caller's alone.
    pub fn buffered(self, body_limit: usize) -> CoalesceLayer<Q, K, Http> {
        self.share(Http::new(body_limit, Vec::new()))
    }

    /// Gives answers again as `share` does.
    pub fn share<H>(self, share: H) -> CoalesceLayer<Q, K, H> {
        CoalesceLayer {
            state: self.state,
            key: self.key,
            share,
        }
    }
}

impl<Q, K> CoalesceLayer<Q, K, Http> {
    /// Shares bodies of answers up to so many bytes. Default 256 KiB. A longer one is the caller's alone, and those who
    /// waited for it make their own calls.
    pub fn body_limit(self, bytes: usize) -> Self {
        Self {
            share: self.share.with_limit(bytes),
            ..self
        }
    }
}

impl<Q, K: Send + Sync + 'static, H> CoalesceLayer<Q, K, H> {
    /// Names it, for events. Default `coalesce`. For the set-up: begins with no call in flight.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports each call that joins another. Default: to nobody. For the set-up: begins with no call in flight.
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// The same settings for another service: with no call in flight.
    pub fn fresh(&self) -> Self
    where
        Q: Clone,
        H: Clone,
    {
        self.clone().set_up(|_| ())
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> CoalesceHandle<K> {
        CoalesceHandle(Arc::clone(self.state.arc()))
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

impl<Q: Clone, K, H: Clone> Clone for CoalesceLayer<Q, K, H> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.keep(),
            key: self.key.clone(),
            share: self.share.clone(),
        }
    }
}

impl<Q, K, H> fmt::Debug for CoalesceLayer<Q, K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<S, Q: Clone, K, H: Clone> Layer<S> for CoalesceLayer<Q, K, H> {
    type Service = Coalesce<S, Q, K, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Coalesce {
            inner: Lazy::new(inner),
            layer: self.clone(),
        }
    }
}

/// The service of a [`CoalesceLayer`].
#[derive(Debug)]
pub struct Coalesce<S, Q, K, H = Whole> {
    inner: Lazy<S>,
    layer: CoalesceLayer<Q, K, H>,
}

impl<S: Clone, Q: Clone, K, H: Clone> Clone for Coalesce<S, Q, K, H> {
    fn clone(&self) -> Self {
        let CoalesceLayer { state, key, share } = &self.layer;
        Self {
            inner: self.inner.clone(),
            layer: CoalesceLayer {
                state: state.clone(),
                key: key.clone(),
                share: share.clone(),
            },
        }
    }
}

impl<S, Q, K, H, Req> Service<Req> for Coalesce<S, Q, K, H>
where
    Q: KeyBy<Req, Key = K>,
    K: Hash + Eq + Send + Sync + 'static,
    H: Share<S::Response> + Send + 'static,
    H::Response: Send + 'static,
    H::Collect: Send + 'static,
    S: Service<Req> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    Req: Send + 'static,
{
    type Response = H::Response;
    type Error = BoxError;
    type Future = CoalesceFuture<S, Req, K, H>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // A call that joins another needs none: while the one in flight holds all that there is, nobody shall wait
        // here to make a call that is being made.
        self.inner.poll_ready(cx);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let state = &self.layer.state;
        let share = self.layer.share.clone();
        let entry = match self.layer.key.key(&request) {
            Some(key) => state.enter(key),
            None => Entry::Alone,
        };
        let step = match entry {
            Entry::Alone => Step::Own {
                own: self.inner.call(request),
            },
            Entry::Follow(slot, call, member) => Step::Shared {
                seat: Seat::follow(state.hold(), slot, call, member),
                later: Some(Box::new((self.inner.later(), request))),
            },
            Entry::Lead(slot, spare) => {
                let (inner, share) = (&mut self.inner, &share);
                let make = || Drive::new(inner.call(request), share.clone());
                Step::Shared {
                    seat: Seat::lead(state.hold(), slot, spare, make),
                    later: None,
                }
            }
        };
        CoalesceFuture { step, share }
    }
}

pin_project! {
    /// The future of a [`Coalesce`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CoalesceFuture<S, Req, K, H>
    where
        S: Service<Req>,
        S: 'static,
        Req: 'static,
        H: Share<<S as Service<Req>>::Response>,
        H: 'static,
        K: Hash,
        K: Eq,
    {
        #[pin]
        step: Step<S, Req, K, H>,
        share: H,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, Req, K, H>
    where
        S: Service<Req>,
        S: 'static,
        Req: 'static,
        H: Share<<S as Service<Req>>::Response>,
        H: 'static,
        K: Hash,
        K: Eq,
    {
        // One of those who wait for a call.
        Shared { seat: Seat<K, Drive<S, Req, H>, H::Shared>, later: Option<Box<(S, Req)>> },
        // A call for itself.
        Own { #[pin] own: Own<S, Req> },
        Over,
    }
}

impl<S, Req, K, H> Future for CoalesceFuture<S, Req, K, H>
where
    Req: Send + 'static,
    S: Service<Req> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    H: Share<S::Response> + Send + 'static,
    H::Response: Send + 'static,
    H::Collect: Send,
    K: Hash + Eq,
{
    type Output = Result<H::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProj::Own { own } => {
                    let result = ready!(own.poll(cx));
                    return Poll::Ready(match result {
                        Ok(response) => Ok(this.share.pass(response)),
                        Err(error) => Err(error.into()),
                    });
                }
                StepProj::Shared { seat, later } => {
                    let ended = ready!(seat.poll(cx));
                    let later = later.take();
                    this.step.set(Step::Over);
                    return Poll::Ready(match ended {
                        Ended::Shared(shared) => Ok(this.share.again(shared, None)),
                        Ended::Own(own) => Ok(own),
                        Ended::Failed(error) => Err(error),
                        Ended::Apart => {
                            let Some(later) = later else {
                                return Poll::Pending;
                            };
                            let own = Own::waiting(later);
                            this.step.set(Step::Own { own });
                            continue;
                        }
                    });
                }
                StepProj::Over => return Poll::Pending,
            }
        }
    }
}

impl<S, Req, K, H> fmt::Debug for CoalesceFuture<S, Req, K, H>
where
    Req: 'static,
    S: Service<Req> + 'static,
    H: Share<S::Response> + 'static,
    K: Hash + Eq,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match &self.step {
            Step::Shared { .. } => "shared",
            Step::Own { .. } => "own",
            Step::Over => "over",
        };
        f.debug_tuple("CoalesceFuture").field(&step).finish()
    }
}
