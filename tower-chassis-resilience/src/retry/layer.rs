use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::Instant;
use tower_chassis_core::{
    Events, Invocation, Live,
    verdict::{Auto, ByFn, Classify},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    budget::Budget,
    config::RetryPolicy,
    future::{Call, Kept, RetryFuture},
    replay::{Buffered, Cloned, Replay, Rewrapped},
    state::{RetryHandle, Setup, State},
};

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
            replay: Buffered,
            classify: Auto,
        }
    }
}

impl<R, C> RetryLayer<R, C> {
    /// Clones the body of a request instead of recording it, for bodies that are cheap to clone.
    pub fn clone_body(self) -> RetryLayer<Cloned, C> {
        RetryLayer {
            state: self.state,
            replay: Cloned,
            classify: self.classify,
        }
    }

    /// Hands the inner service bodies of type `O`, for one that takes no other.
    pub fn rewrap<O>(self) -> RetryLayer<Rewrapped<O, R>, C> {
        RetryLayer {
            state: self.state,
            replay: Rewrapped::new(self.replay),
            classify: self.classify,
        }
    }

    /// Judges responses and errors by `classify`. A failure, timeout or unreachable verdict without a status is
    /// tried again like a listed status, a success never.
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

    /// Draws on `budget`, which other layers may share, instead of one of its own. `budget_ratio` and
    /// `budget_min_per_second` of the policy no longer count. Counters begin anew.
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

    /// Makes no [`Invocation`] for a request that comes without one, which saves four allocations: for an inner
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
        let template = Mutex::new(inner.clone());
        let shared = Arc::new(Shared {
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
    /// Never readied and never called: later attempts are made with clones of it. Behind a lock so that `S` need
    /// not be `Sync`; taken only when a second attempt is made.
    pub(super) template: Mutex<S>,
}

/// The service of [`RetryLayer`].
#[derive(Debug)]
pub struct Retry<S, R = Buffered, C = Auto> {
    inner: S,
    shared: Arc<Shared<S>>,
    replay: R,
    classify: C,
}

impl<S: Clone, R: Clone, C: Clone> Clone for Retry<S, R, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            replay: self.replay.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<S, R, C, B, ResBody, E> Service<Request<B>> for Retry<S, R, C>
where
    S: Service<Request<R::Body>, Response = Response<ResBody>, Error = E> + Clone,
    R: Replay<B>,
    C: Classify<Response<ResBody>, E>,
    E: 'static,
{
    type Response = Response<ResBody>;
    type Error = E;
    type Future = RetryFuture<S, R, C, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = &self.shared.state;
        let attempts = state.attempts();
        if attempts <= 1 {
            let request = request.map(|body| self.replay.once(body));
            return RetryFuture::new(self.inner.call(request), None, self.classify.clone());
        }
        let now = Instant::now();
        state.budget.deposit(now);
        let (mut head, body) = request.into_parts();
        let mut call = Call::new(
            Arc::clone(&self.shared),
            self.replay.clone(),
            attempts,
            &head,
        );
        // Decided before the head is copied: a request that cannot be tried again is not.
        let (body, source) = if state.budget.is_funded(now) {
            self.replay.split(body, state.body_limit(), call.idempotent)
        } else {
            call.unfunded = true;
            (self.replay.once(body), None)
        };
        if let Some(source) = source {
            let copy = head.clone();
            let invocation = (!state.setup().untracked
                && head.extensions.get::<Invocation>().is_none())
            .then(|| {
                let invocation = Invocation::new(now);
                head.extensions.insert(invocation.clone());
                invocation
            });
            call.kept = Some(Kept {
                head: copy,
                invocation,
                source,
            });
        }
        let future = self.inner.call(Request::from_parts(head, body));
        RetryFuture::new(future, Some(call), self.classify.clone())
    }
}
