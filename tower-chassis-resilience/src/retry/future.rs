use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, request::Parts};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_chassis_core::{
    Deadline, Invocation,
    events::Event,
    verdict::{Classify, is_grpc},
};
use tower_service::Service;

use super::{
    backoff::Backoff,
    config::LONGEST_WAIT,
    layer::Shared,
    replay::Replay,
    rules::{is_idempotent, of_error, of_response, rejection_of},
    wait::Wait,
};

static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

pin_project! {
    /// The future of [`Retry`](super::Retry).
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, R, C, B>
    where
        S: Service<Request<R::Body>>,
        R: Replay<B>,
    {
        #[pin]
        step: Step<S::Future>,
        // None once the result is the caller's, whatever it is.
        call: Option<Call<S, R, B>>,
        classify: C,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F> {
        /// An attempt is under way.
        Calling { #[pin] future: F },
        /// The wait before the next; nothing is held but the copy of the request.
        Sleeping { #[pin] sleep: Sleep },
        /// A service of its own is made ready for the next attempt.
        Readying,
    }
}

impl<S, R, C, B> RetryFuture<S, R, C, B>
where
    S: Service<Request<R::Body>>,
    R: Replay<B>,
{
    pub(super) const fn new(future: S::Future, call: Option<Call<S, R, B>>, classify: C) -> Self {
        Self {
            step: Step::Calling { future },
            call,
            classify,
        }
    }
}

impl<S, R, C, B, ResBody, E> Future for RetryFuture<S, R, C, B>
where
    S: Service<Request<R::Body>, Response = Response<ResBody>, Error = E> + Clone,
    R: Replay<B>,
    C: Classify<Response<ResBody>, E>,
    E: 'static,
{
    type Output = Result<Response<ResBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = match this.step.as_mut().project() {
                StepProj::Calling { future } => ready!(future.poll(cx)),
                StepProj::Sleeping { sleep } => {
                    ready!(sleep.poll(cx));
                    this.step.set(Step::Readying);
                    continue;
                }
                StepProj::Readying => {
                    let Some(call) = this.call.as_mut() else {
                        return Poll::Pending;
                    };
                    match ready!(call.service().poll_ready(cx)) {
                        Ok(()) => {
                            let Some(request) = call.request() else {
                                return Poll::Pending;
                            };
                            let future = call.service().call(request);
                            this.step.set(Step::Calling { future });
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            let Some(call) = this.call.as_mut() else {
                return Poll::Ready(result);
            };
            let Some(wait) = call.wish(&result, this.classify) else {
                *this.call = None;
                return Poll::Ready(result);
            };
            // What the attempt still holds goes first: a body comes back only when it has been let go.
            this.step.set(Step::Readying);
            let Some(delay) = call.next(wait) else {
                *this.call = None;
                return Poll::Ready(result);
            };
            // The failed response and its connection are not kept over the wait.
            drop(result);
            if !delay.is_zero() {
                this.step.set(Step::Sleeping {
                    sleep: sleep(delay),
                });
            }
        }
    }
}

impl<S, R, C, B> fmt::Debug for RetryFuture<S, R, C, B>
where
    S: Service<Request<R::Body>>,
    R: Replay<B>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("attempt", &self.call.as_ref().map(|call| call.attempt))
            .finish_non_exhaustive()
    }
}

/// A call that may be tried again.
pub(super) struct Call<S, R: Replay<B>, B> {
    shared: Arc<Shared<S>>,
    replay: R,
    /// How many attempts it may have; a change of the policy leaves it as it is.
    attempts: u32,
    attempt: u32,
    /// The number that the first attempt came with: above 1 under another retry.
    first: u32,
    deadline: Option<Deadline>,
    backoff: Backoff,
    pub(super) idempotent: bool,
    /// The budget was empty when the call began, so nothing was copied.
    pub(super) unfunded: bool,
    pub(super) kept: Option<Kept<R::Source>>,
    /// The body of the next attempt, once it is decided.
    body: Option<R::Body>,
    /// Makes the attempts after the first.
    service: Option<S>,
}

/// What is kept of a request.
pub(super) struct Kept<Source> {
    pub(super) head: Parts,
    /// The invocation, where the head did not bring one.
    pub(super) invocation: Option<Invocation>,
    pub(super) source: Source,
}

impl<S, R: Replay<B>, B> Call<S, R, B> {
    pub(super) fn new(shared: Arc<Shared<S>>, replay: R, attempts: u32, head: &Parts) -> Self {
        let invocation = head.extensions.get::<Invocation>();
        Self {
            shared,
            replay,
            attempts,
            attempt: 1,
            first: invocation.map_or(1, Invocation::attempt),
            deadline: invocation.and_then(Invocation::deadline),
            backoff: Backoff::default(),
            idempotent: is_idempotent(head),
            unfunded: false,
            kept: None,
            body: None,
            service: None,
        }
    }

    /// Whether the outcome is one that is tried again, if that is possible.
    fn wish<C, ResBody, E>(
        &self,
        result: &Result<Response<ResBody>, E>,
        classify: &C,
    ) -> Option<Wait>
    where
        C: Classify<Response<ResBody>, E>,
        E: 'static,
    {
        match result {
            Ok(response) => {
                let is_listed = |status| self.shared.state.is_listed(status);
                let verdict = classify.head(response);
                of_response(
                    verdict,
                    response.status(),
                    response.headers(),
                    self.idempotent,
                    is_listed,
                )
            }
            Err(error) => of_error(classify.error(error), rejection_of(error), self.idempotent),
        }
    }

    /// Begins another attempt if it is possible, and says how long to wait before it. A token is taken last, so
    /// that none is lost.
    fn next(&mut self, wait: Wait) -> Option<Duration> {
        let state = &self.shared.state;
        if self.attempt >= self.attempts {
            return None;
        }
        if let Wait::Exactly(delay) | Wait::AtLeast(delay) = wait {
            if delay > LONGEST_WAIT {
                return None;
            }
            // The service knows better; a later wait of our own begins at the base again.
            self.backoff.reset();
        }
        let delay = match wait {
            Wait::Backoff => {
                let (base, max) = state.backoff();
                self.backoff.next(base, max, state.chance.unit())
            }
            Wait::Exactly(delay) => delay,
            Wait::AtLeast(delay) => delay + delay.mul_f64(state.chance.unit() / 10.0),
        };
        let now = Instant::now();
        if let Some(deadline) = self.deadline
            && delay >= deadline.remaining(now)?
        {
            return None;
        }
        if !self.unfunded && self.body.is_none() {
            self.body = Some(self.replay.again(&self.kept.as_ref()?.source)?);
        }
        if self.unfunded || !state.budget.withdraw(now) {
            state.exhausted.fetch_add(1, Ordering::Relaxed);
            state.events().emit(|| Event::BudgetExhausted);
            return None;
        }
        self.attempt += 1;
        state.retries.fetch_add(1, Ordering::Relaxed);
        state.events().emit(|| Event::retry(self.attempt, delay));
        Some(delay)
    }

    /// The request of this attempt. The last one takes the copy itself.
    fn request(&mut self) -> Option<Request<R::Body>> {
        let body = self.body.take()?;
        let kept = self.kept.as_mut()?;
        let mut head = if self.attempt < self.attempts {
            kept.head.clone()
        } else {
            take(&mut kept.head)
        };
        if let Some(invocation) = &kept.invocation {
            head.extensions.insert(invocation.clone());
        }
        if let Some(invocation) = head.extensions.get_mut::<Invocation>() {
            invocation.set_attempt(self.first.saturating_add(self.attempt - 1));
        }
        if is_grpc(&head.headers) {
            head.headers
                .insert(&PREVIOUS_ATTEMPTS, HeaderValue::from(self.attempt - 1));
        }
        Some(Request::from_parts(head, body))
    }

    /// The service of the attempts after the first.
    fn service(&mut self) -> &mut S
    where
        S: Clone,
    {
        let template = &self.shared.template;
        self.service.get_or_insert_with(|| {
            template
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        })
    }
}

fn take(head: &mut Parts) -> Parts {
    mem::replace(head, Request::new(()).into_parts().0)
}
