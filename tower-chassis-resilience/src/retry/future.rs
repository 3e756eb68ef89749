use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_chassis_core::{
    Carrier, Class, Deadline, Invocation, Kind, Rejection, Verdict,
    clock::{self, Entered},
    events::Event,
    invocation::RouteSlot,
    striped::Hold,
    verdict::Classify,
};
use tower_service::Service;

use super::{
    attempt,
    backoff::Backoff,
    budget::Withdrawal,
    config::LONGEST_WAIT,
    layer::Shared,
    replay::Replay,
    rules::{Wait, Why, Wish, of_error, of_response, rejection_of},
    state::{Attempted, State},
};
use crate::deadline::dialect;

pin_project! {
    /// The future of [`Retry`](super::Retry).
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, R, C, Req>
    where
        S: Service<R::Request>,
        R: Replay<Req>,
    {
        #[pin]
        step: Step<S::Future>,
        // None once the result is the caller's, whatever it is.
        call: Option<Call<S, R, Req>>,
        classify: C,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F> {
        /// An attempt is under way.
        Calling { #[pin] future: F },
        /// The next one is waited for: what is known of it is in `More`.
        Between,
    }
}

impl<S, R, C, Req> RetryFuture<S, R, C, Req>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    #[inline]
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
                StepProj::Between => {
                    let Some(call) = this.call.as_mut() else {
                        return Poll::Pending;
                    };
                    match ready!(call.poll_next(cx)) {
                        Ok(future) => {
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
            if let Some(wish) = call.wish(&result, this.classify) {
                // What the attempt still holds goes first: a body comes back only when it has been let go.
                this.step.set(Step::Between);
                if call.prepare(wish) {
                    // The failed response and its connection are not kept over the wait.
                    drop(result);
                    continue;
                }
            }
            *this.call = None;
            return Poll::Ready(result);
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
            .field("attempt", &self.call.as_ref().map(Call::attempt))
            .finish_non_exhaustive()
    }
}

/// A call that may be tried again: what its first attempt needs. It moves with the future, so every byte counts.
pub(super) struct Call<S, R: Replay<Req>, Req> {
    shared: Hold<Shared<S>>,
    /// What the later attempts are made of.
    source: Option<R::Source>,
    /// What attempts share of the invocation that was made here.
    made: Option<RouteSlot>,
    /// Made when the first attempt has failed.
    more: Option<Box<More<S, R::Request>>>,
    /// How many attempts it may have; a change of the policy leaves it as it is.
    attempts: u8,
    idempotent: bool,
    /// It serves a retry of its caller, or is one of a retry further out.
    under_retry: bool,
    /// When the call began the budget was empty, and no attempt would have been free: so nothing was copied.
    unfunded: bool,
    replay: R,
}

/// What a call needs from its second attempt on.
struct More<S, Req> {
    /// Makes the attempts after the first.
    service: Option<S>,
    /// The next attempt, and the wait before it.
    request: Option<Req>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The place of the attempt that runs.
    place: Option<Withdrawal>,
    backoff: Backoff,
    /// How many attempts were made.
    made: u32,
    /// How many of them count.
    counted: u8,
    /// One was made for nothing.
    transparent: bool,
    /// One was made because the first came too early.
    too_early: bool,
    /// The one before it never left us.
    unsent: bool,
}

impl<S, Req> More<S, Req> {
    fn new() -> Self {
        Self {
            service: None,
            request: None,
            sleep: None,
            place: None,
            backoff: Backoff::default(),
            made: 1,
            counted: 1,
            transparent: false,
            too_early: false,
            unsent: false,
        }
    }
}

impl<S, R: Replay<Req>, Req> Drop for Call<S, R, Req> {
    fn drop(&mut self) {
        self.shared.state.budget.leave();
    }
}

impl<S, R: Replay<Req>, Req> Call<S, R, Req> {
    /// A call that begins now. `state` is that of `shared`, which is some way off.
    #[inline]
    pub(super) fn new(shared: Hold<Shared<S>>, state: &State, replay: R, attempts: u8) -> Self {
        let funded = state.budget.enter(|| clock::entered(|now| now));
        // What never leaves us needs no token.
        let unfunded = !funded && !state.is_fertile();
        Self {
            shared,
            source: None,
            made: None,
            more: None,
            attempts,
            idempotent: false,
            under_retry: false,
            unfunded,
            replay,
        }
    }

    /// The request of the first attempt.
    #[inline]
    pub(super) fn split(&mut self, state: &State, mut request: Req) -> (R::Request, Option<Entered>)
    where
        Req: Carrier,
    {
        let mut invoked = state.setup().untracked;
        if let Some(invocation) = request.invocation() {
            invoked = true;
            let serves = invocation.caller_attempt();
            self.under_retry = serves > 1 || invocation.attempt() > 1;
            attempt::tell(&mut request, serves);
        }
        self.idempotent = state.is_idempotent(&request);
        if self.unfunded {
            return (self.replay.once(request), None);
        }
        let (mut request, source) = self
            .replay
            .split(request, state.body_limit(), self.idempotent);
        let mut way = None;
        // After the copy, which need not copy it.
        if !invoked && source.is_some() {
            let entered = clock::enter();
            let invocation = Invocation::new(entered.now());
            self.made = Some(invocation.route_slot());
            request.extensions_mut().insert(invocation);
            way = Some(entered);
        }
        self.source = source;
        (request, way)
    }

    fn attempt(&self) -> u32 {
        self.more.as_ref().map_or(1, |more| more.made)
    }

    /// Whether the outcome is one that is tried again, if that is possible.
    fn wish<C, Res, E>(&self, result: &Result<Res, E>, classify: &C) -> Option<Wish>
    where
        C: Classify<Res, E>,
        E: 'static,
    {
        let (verdict, wish, kind) = match result {
            Ok(response) => {
                let verdict = classify.head(response);
                if verdict.class() == Class::Success && self.more.is_none() {
                    return None;
                }
                let listed = self.shared.state.listed();
                (
                    verdict,
                    of_response(verdict, self.idempotent, &listed),
                    None,
                )
            }
            Err(error) => {
                let verdict = classify.error(error);
                let rejection = rejection_of(error);
                let listed = self.shared.state.listed();
                let wish = of_error(verdict, rejection, self.idempotent, &listed);
                (verdict, wish, rejection.map(Rejection::kind))
            }
        };
        if self.more.as_ref().is_some_and(|more| more.unsent) {
            let again = wish.is_some_and(|wish| wish.why == Why::Unsent);
            self.shared.state.note_unsent(again);
        }
        self.overruled(verdict, wish, kind)
    }

    /// What the user's rule makes of a wish.
    fn overruled(&self, verdict: Verdict, wish: Option<Wish>, kind: Option<Kind>) -> Option<Wish> {
        let Some(rule) = &self.shared.state.setup().rule else {
            return wish;
        };
        if verdict.class() == Class::Success || verdict.forbids_retry() {
            return wish;
        }
        let attempted = Attempted {
            verdict,
            kind,
            idempotent: self.idempotent,
            attempt: self.attempt(),
            again: wish.is_some(),
        };
        rule(&attempted).then(|| wish.unwrap_or_else(|| Wish::of(verdict, Why::Outcome)))
    }

    /// Begins another attempt if it is possible. What it needs of the budget is taken last, so that nothing is lost.
    fn prepare(&mut self, wish: Wish) -> bool {
        let mut more = self.more.take().unwrap_or_else(|| Box::new(More::new()));
        let prepared = self.prepare_more(wish, &mut more);
        self.more = Some(more);
        prepared
    }

    fn prepare_more(&mut self, wish: Wish, more: &mut More<S, R::Request>) -> bool {
        // A retry that is over makes room for the next.
        more.place = None;
        if more.counted >= self.attempts || (wish.why == Why::TooEarly && more.too_early) {
            return false;
        }
        let state = Arc::clone(&self.shared.state);
        let free = wish.why == Why::Unsent && !more.transparent && state.is_fertile();
        if let Wait::Exactly(delay) | Wait::AtLeast(delay) = wish.wait {
            if delay > LONGEST_WAIT {
                return false;
            }
            // The service knows better; a later wait of our own begins at the base again.
            more.backoff.reset();
        }
        let delay = match wish.wait {
            _ if free => Duration::ZERO,
            Wait::Backoff => state.wait(&mut more.backoff),
            Wait::Exactly(delay) => delay,
            Wait::AtLeast(delay) => state.spread(delay),
        };
        if self.under_retry && !free && !state.retries_under_retry() {
            state.suppressed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if self.unfunded {
            return state.refuse();
        }
        let now = clock::now();
        let counted = more.counted + u8::from(!free);
        let mut place = None;
        if !free && !state.budget.is_funded(now) {
            // A copy for nothing would cost more than to ask twice.
            place = state.budget.try_withdraw(now);
            if place.is_none() {
                return state.refuse();
            }
        }
        let Some(mut request) = self.again(counted >= self.attempts) else {
            return false;
        };
        let known = Known::of(&request);
        if let Some(deadline) = known.deadline {
            let left = deadline.remaining(now).unwrap_or_default();
            if delay + state.min_attempt_time() > left {
                return false;
            }
            dialect::shorten(&mut request, left - delay);
        }
        if free {
            state.transparent.fetch_add(1, Ordering::Relaxed);
        } else {
            more.place = place.or_else(|| state.budget.try_withdraw(now));
            if more.place.is_none() {
                return state.refuse();
            }
            state.retries.fetch_add(1, Ordering::Relaxed);
        }
        known.tell(&mut request, more.made, counted);
        more.request = Some(request);
        more.sleep = (!delay.is_zero()).then(|| Box::pin(sleep(delay)));
        more.made += 1;
        more.counted = counted;
        more.transparent |= free;
        more.too_early |= wish.why == Why::TooEarly;
        more.unsent = wish.why == Why::Unsent;
        state.events().emit(|| Event::retry(more.made, delay));
        true
    }

    /// The request once more, with the invocation that it came with, or that was made here.
    fn again(&mut self, last: bool) -> Option<R::Request> {
        let mut request = self.replay.again(self.source.as_mut()?, last)?;
        if let Some(slot) = &self.made {
            request.extensions_mut().insert(Invocation::again(slot));
        }
        Some(request)
    }

    /// The next attempt, when its wait is over and a service of its own is ready.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>>
    where
        S: Service<R::Request> + Clone,
    {
        let Some(more) = &mut self.more else {
            return Poll::Pending;
        };
        if let Some(sleep) = &mut more.sleep {
            ready!(sleep.as_mut().poll(cx));
            more.sleep = None;
        }
        let service = match &mut more.service {
            Some(service) => service,
            none => none.insert(ready!(self.shared.template.poll_clone(cx))),
        };
        if let Err(error) = ready!(service.poll_ready(cx)) {
            // What failed to be ready is not polled again.
            more.service = None;
            more.request = None;
            return Poll::Ready(Err(error));
        }
        let Some(request) = more.request.take() else {
            return Poll::Pending;
        };
        Poll::Ready(Ok({
            let _way = clock::enter();
            service.call(request)
        }))
    }
}

/// What the copy of a request says of its call.
struct Known {
    deadline: Option<Deadline>,
    /// The number that the first attempt came with: above 1 under another retry in this process.
    first: u32,
    /// The attempt of the caller that it serves.
    serves: u32,
}

impl Known {
    fn of<Req: Carrier>(request: &Req) -> Self {
        let invocation = request.invocation();
        let first = invocation.map_or(1, Invocation::attempt);
        let serves = invocation.map_or(1, Invocation::caller_attempt);
        Self {
            deadline: invocation.and_then(Invocation::deadline),
            first,
            serves,
        }
    }

    /// Tells the layers below and the next service which attempt it is: the one after so many `made`, and of those that
    /// count the one with the number `counted`.
    fn tell<Req: Carrier>(&self, request: &mut Req, made: u32, counted: u8) {
        if let Some(invocation) = request.extensions_mut().get_mut::<Invocation>() {
            invocation.set_attempt(self.first.saturating_add(made));
        }
        let previous = u32::from(counted) - 1;
        let number = self.first.saturating_add(previous).max(self.serves);
        attempt::tell(request, number);
        // gRPC A6, for whatever protocol says that it carries gRPC.
        if previous > 0 && request.is_grpc() {
            request.set_meta("grpc-previous-rpc-attempts", previous.to_string().into());
        }
    }
}
