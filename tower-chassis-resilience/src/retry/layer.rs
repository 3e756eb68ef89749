use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_chassis_core::{
    Carrier, Events, Live,
    striped::Striped,
    verdict::{Auto, ByFn, Classify},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    attempt,
    budget::Budget,
    buffered::Buffered,
    config::RetryPolicy,
    future::{Call, RetryFuture},
    replay::{Cloned, Replay, Rewrapped, RewrappedWith},
    state::{Attempted, RetryHandle, Setup, State},
};
use crate::template::Template;

/// Tries calls again, within a budget. See the [module](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryLayer<R = Buffered, C = Auto> {
    state: Arc<State>,
    replay: R,
    classify: C,
}

impl RetryLayer {
    /// Retries by `policy`, which may be [live](Live).
    pub fn new(policy: impl Into<Live<RetryPolicy>>) -> Self {
        Self {
            state: State::new(policy.into(), Setup::default()),
            replay: Buffered::default(),
            classify: Auto,
        }
    }
}

impl<R, C> RetryLayer<R, C> {
    /// Clones a request instead of recording its body. This is the one for a protocol of your own, whose request
    /// is `Clone` and a [`Carrier`], and for HTTP bodies that are cheap to clone.
    pub fn clone_body(self) -> RetryLayer<Cloned, C> {
        self.replay(Cloned)
    }

    /// Sends requests a second time as `replay` does, in place of [`Buffered`].
    pub fn replay<Q>(self, replay: Q) -> RetryLayer<Q, C> {
        RetryLayer {
            state: self.state,
            replay,
            classify: self.classify,
        }
    }

    /// Hands the inner service bodies that `wrap` makes, for one that takes no other: `tonic::body::Body::new` for a
    /// tonic `Channel`, `axum::body::Body::new` for a `service_fn` over axum's.
    pub fn rewrap_with<F>(self, wrap: F) -> RetryLayer<RewrappedWith<F, R>, C> {
        RetryLayer {
            state: self.state,
            replay: RewrappedWith::new(self.replay, wrap),
            classify: self.classify,
        }
    }

    /// Hands the inner service HTTP bodies of type `O`, for one that takes no other.
    pub fn rewrap<O>(self) -> RetryLayer<Rewrapped<O, R>, C> {
        RetryLayer {
            state: self.state,
            replay: Rewrapped::new(self.replay),
            classify: self.classify,
        }
    }

    /// Judges responses and errors by `classify`. Its verdict is all that is read of a response: a failure,
    /// timeout or unreachable one without a status or code is tried again like a listed status, a success never,
    /// and the wait is the one that [it names](tower_chassis_core::Verdict::with_retry_after).
    pub fn classify<D>(self, classify: D) -> RetryLayer<R, D> {
        RetryLayer {
            state: self.state,
            replay: self.replay,
            classify,
        }
    }

    /// Judges by a closure `Fn(Result<&Res, &Err>) -> Verdict`, as [`classify`](Self::classify) does.
    pub fn classify_fn<F>(self, f: F) -> RetryLayer<R, ByFn<F>> {
        self.classify(ByFn(f))
    }

    /// Asks `rule` after each attempt that was no plain success whether to make another. `Attempted::again` is what the
    /// rules say, so `|it| it.again || it.verdict.http_status() == Some(500)` adds to them and
    /// `|it| it.again && it.attempt < 2` takes away. Deadline, attempts, budget and a service that forbids it stay in
    /// force. Counters begin anew.
    pub fn retry_if(self, rule: impl Fn(&Attempted) -> bool + Send + Sync + 'static) -> Self {
        self.set_up(|setup| setup.rule = Some(Arc::new(rule)))
    }

    /// Draws on `budget`, which other layers may share, instead of one of its own. The `budget_…` fields of the
    /// policy no longer count. Counters begin anew.
    pub fn budget(self, budget: Budget) -> Self {
        self.set_up(|setup| setup.budget = Some(budget))
    }

    /// Reports [`Event::Retry`](tower_chassis_core::events::Event::Retry) and
    /// [`Event::BudgetExhausted`](tower_chassis_core::events::Event::BudgetExhausted). Counters begin anew.
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Draws jitter from `seed`, so that a run can be repeated. Counters begin anew.
    pub fn seed(self, seed: u64) -> Self {
        self.set_up(|setup| setup.seed = Some(seed))
    }

    /// Makes no [`Invocation`](tower_chassis_core::Invocation) for a request that comes without one, which saves four allocations: for an inner
    /// service that has one endpoint only. A balancer below could not tell which endpoints were tried.
    pub fn untracked(self) -> Self {
        self.set_up(|setup| setup.untracked = true)
    }

    /// The same layer with a state of its own: counters at zero and, unless it was given one, a new budget.
    pub fn fresh(self) -> Self {
        self.set_up(|_| ())
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.state.setup().clone();
        change(&mut setup);
        Self {
            state: State::new(self.state.live().clone(), setup),
            ..self
        }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> RetryHandle {
        RetryHandle::new(Arc::clone(&self.state))
    }
}

impl<S: Clone, R: Clone, C: Clone> Layer<S> for RetryLayer<R, C> {
    type Service = Retry<S, R, C>;

    fn layer(&self, inner: S) -> Retry<S, R, C> {
        let template = Template::new(inner.clone());
        let shared = Striped::new(Shared {
            state: Arc::clone(&self.state),
            template,
        });
        Retry {
            inner,
            shared,
            replay: self.replay.clone(),
            classify: self.classify.clone(),
        }
    }
}

/// What the clones of a service share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) state: Arc<State>,
    /// Later attempts are made with clones of it.
    pub(super) template: Template<S>,
}

/// The service of [`RetryLayer`].
#[derive(Debug)]
pub struct Retry<S, R = Buffered, C = Auto> {
    inner: S,
    shared: Striped<Shared<S>>,
    replay: R,
    classify: C,
}

impl<S: Clone, R: Clone, C: Clone> Clone for Retry<S, R, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            replay: self.replay.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<S, R, C, Req> Service<Req> for Retry<S, R, C>
where
    Req: Carrier,
    R: Replay<Req>,
    S: Service<R::Request> + Clone,
    S::Error: 'static,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, R, C, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let state = &*self.shared.state;
        let attempts = state.attempts();
        if attempts <= 1 {
            attempt::tell_served(&mut request);
            let request = self.replay.once(request);
            return RetryFuture::new(self.inner.call(request), None, self.classify.clone());
        }
        let mut call = Call::new(self.shared.hold(), state, self.replay.clone(), attempts);
        // Where the clock was read here, the layers below share the reading.
        let (request, _way) = call.split(state, request);
        RetryFuture::new(self.inner.call(request), Some(call), self.classify.clone())
    }
}
