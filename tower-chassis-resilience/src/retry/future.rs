use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_chassis_core::{Carrier, Deadline, Invocation, clock, events::Event, verdict::Classify};
use tower_service::Service;

use super::{
    backoff::Backoff,
    budget::{Deposit, Withdrawal},
    config::LONGEST_WAIT,
    layer::Shared,
    replay::Replay,
    rules::{Wait, of_error, of_response, rejection_of},
};

pin_project! {
    /// The future of [`Retry`](super::Retry).
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, R, C, Req>
    where
        S: Service<R::Request>,
        R: Replay<Req>,
    {
        #[pin]
        step: Step<S::Future, R::Request>,
        // None once the result is the caller's, whatever it is.
        call: Option<Call<S, R, Req>>,
        classify: C,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, Req> {
        /// An attempt is under way.
        Calling { #[pin] future: F },
        /// The wait before the next; nothing is held but copies of the request.
        Sleeping { #[pin] sleep: Sleep, request: Option<Req> },
        /// A service of its own is made ready for the next attempt.
        Readying { request: Option<Req> },
    }
}

impl<S, R, C, Req> RetryFuture<S, R, C, Req>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    pub(super) const fn new(future: S::Future, call: Option<Call<S, R, Req>>, classify: C) -> Self {
        Self {
            step: Step::Calling { future },
            call,
            classify,
        }
    }
}

impl<S, R, C, Req> Future for RetryFuture<S, R, C, Req>
where
    R: Replay<Req>,
    S: Service<R::Request> + Clone,
    S::Error: 'static,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = match this.step.as_mut().project() {
                StepProj::Calling { future } => ready!(future.poll(cx)),
                StepProj::Sleeping { sleep, request } => {
                    ready!(sleep.poll(cx));
                    let request = request.take();
                    this.step.set(Step::Readying { request });
                    continue;
                }
                StepProj::Readying { request } => {
                    let Some(call) = this.call.as_mut() else {
                        return Poll::Pending;
                    };
                    match ready!(call.service().poll_ready(cx)) {
                        Ok(()) => {
                            let Some(request) = request.take() else {
                                return Poll::Pending;
                            };
                            let future = clock::entered(|_| call.service().call(request));
                            this.step.set(Step::Calling { future });
                            continue;
                        }
                        Err(error) => {
                            // What failed to be ready is not polled again.
                            call.service = None;
                            Err(error)
                        }
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
            this.step.set(Step::Readying { request: None });
            let Some((delay, request)) = call.next(wait) else {
                *this.call = None;
                return Poll::Ready(result);
            };
            // The failed response and its connection are not kept over the wait.
            drop(result);
            let request = Some(request);
            this.step.set(if delay.is_zero() {
                Step::Readying { request }
            } else {
                Step::Sleeping {
                    sleep: sleep(delay),
                    request,
                }
            });
        }
    }
}

impl<S, R, C, Req> fmt::Debug for RetryFuture<S, R, C, Req>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("attempt", &self.call.as_ref().map(|call| call.attempt))
            .finish_non_exhaustive()
    }
}

/// A call that may be tried again.
pub(super) struct Call<S, R: Replay<Req>, Req> {
    shared: Arc<Shared<S>>,
    replay: R,
    /// How many attempts it may have; a change of the policy leaves it as it is.
    attempts: u32,
    attempt: u32,
    /// The number that the first attempt came with: above 1 under another retry.
    first: u32,
    deadline: Option<Deadline>,
    backoff: Backoff,
    idempotent: bool,
    /// The budget was empty when the call began, so nothing was copied.
    pub(super) unfunded: bool,
    /// What the later attempts are made of.
    source: Option<R::Source>,
    /// The invocation, where the request did not bring one.
    invocation: Option<Invocation>,
    /// Makes the attempts after the first.
    service: Option<S>,
    /// The place of the attempt that runs, if it is a retry.
    retry: Option<Withdrawal>,
    _deposit: Deposit,
}

impl<S, R: Replay<Req>, Req> Call<S, R, Req> {
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        replay: R,
        attempts: u32,
        request: &Req,
        deposit: Deposit,
    ) -> Self
    where
        Req: Carrier,
    {
        let invocation = request.invocation();
        Self {
            shared,
            replay,
            attempts,
            attempt: 1,
            first: invocation.map_or(1, Invocation::attempt),
            deadline: invocation.and_then(Invocation::deadline),
            backoff: Backoff::default(),
            idempotent: request.is_idempotent(),
            unfunded: false,
            source: None,
            invocation: None,
            service: None,
            retry: None,
            _deposit: deposit,
        }
    }

    /// The request of the first attempt. An invocation is made after the copy, which need not copy it.
    pub(super) fn split(&mut self, request: Req, now: Instant) -> R::Request {
        let state = &self.shared.state;
        let (mut request, source) = self
            .replay
            .split(request, state.body_limit(), self.idempotent);
        if source.is_some() && !state.setup().untracked && request.invocation().is_none() {
            let invocation = Invocation::new(now);
            request.extensions_mut().insert(invocation.clone());
            self.invocation = Some(invocation);
        }
        self.source = source;
        request
    }

    /// Whether the outcome is one that is tried again, if that is possible.
    fn wish<C, Res, E>(&self, result: &Result<Res, E>, classify: &C) -> Option<Wait>
    where
        C: Classify<Res, E>,
        E: 'static,
    {
        let is_listed = |status| self.shared.state.is_listed(status);
        match result {
            Ok(response) => of_response(classify.head(response), self.idempotent, is_listed),
            Err(error) => of_error(
                classify.error(error),
                rejection_of(error),
                self.idempotent,
                is_listed,
            ),
        }
    }

    /// Begins another attempt if it is possible, and says how long to wait before it. A token is taken last, so
    /// that none is lost.
    fn next(&mut self, wait: Wait) -> Option<(Duration, R::Request)> {
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
        let now = clock::now();
        if let Some(deadline) = self.deadline
            && delay >= deadline.remaining(now)?
        {
            return None;
        }
        let request = if self.unfunded {
            None
        } else {
            Some(self.again()?)
        };
        let state = &self.shared.state;
        // A retry that is over makes room for the next.
        self.retry = None;
        if request.is_some() {
            self.retry = state.budget.try_withdraw(now);
        }
        let Some(request) = request.filter(|_| self.retry.is_some()) else {
            state.exhausted.fetch_add(1, Ordering::Relaxed);
            state.events().emit(|| Event::BudgetExhausted);
            return None;
        };
        self.attempt += 1;
        state.retries.fetch_add(1, Ordering::Relaxed);
        state.events().emit(|| Event::retry(self.attempt, delay));
        Some((delay, request))
    }

    /// The request of the next attempt.
    fn again(&mut self) -> Option<R::Request> {
        let made = self.attempt;
        let last = made + 1 >= self.attempts;
        let mut request = self.replay.again(self.source.as_mut()?, last)?;
        if let Some(invocation) = &self.invocation {
            request.extensions_mut().insert(invocation.clone());
        }
        if let Some(invocation) = request.extensions_mut().get_mut::<Invocation>() {
            invocation.set_attempt(self.first.saturating_add(made));
        }
        // gRPC A6, for whatever protocol says that it carries gRPC.
        let content_type = request.meta("content-type");
        if content_type.is_some_and(|content_type| content_type.starts_with("application/grpc")) {
            request.set_meta("grpc-previous-rpc-attempts", made.to_string().into());
        }
        Some(request)
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
