use std::{
    fmt,
    future::Future,
    mem,
    pin::{Pin, pin},
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tower_chassis_core::{Carrier, Deadline, Verdict, cause, clock, verdict::Classify};
use tower_service::Service;

use super::{
    copies::Copies,
    race::{Race, Turn},
    timed::{Sent, Timed},
};
use crate::retry::{
    Replay, Withdrawal,
    rules::{Listed, Wait, of_error, of_response, rejection_of},
};

/// The longest wait that a service may ask for before the next attempt, as with a retry.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

pin_project! {
    /// The future of [`Hedge`](super::Hedge).
    #[must_use = "futures do nothing unless polled"]
    pub struct HedgeFuture<S, R, C, Req>
    where
        S: Service<R::Request>,
        R: Replay<Req>,
    {
        // None once it has failed while others go on.
        #[pin]
        first: Option<S::Future>,
        // None before the first Pending.
        #[pin]
        timer: Option<Sleep>,
        // None before the first hedge.
        hedges: Option<Box<Hedges<S, S::Future, R::Request>>>,
        // None for a call that just passes, and once it is over.
        call: Option<Call<S, R, Req>>,
        classify: C,
    }
}

impl<S, R, C, Req> HedgeFuture<S, R, C, Req>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    pub(super) const fn new(first: S::Future, call: Option<Call<S, R, Req>>, classify: C) -> Self {
        Self {
            first: Some(first),
            timer: None,
            hedges: None,
            call,
            classify,
        }
    }
}

/// Whose result it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    First,
    /// Of the hedge with this index.
    Hedge(usize),
    /// Of a service that was to be made ready for the next.
    Nobody,
}

impl<S, R, C, Req> Future for HedgeFuture<S, R, C, Req>
where
    R: Replay<Req>,
    S: Service<R::Request> + Clone,
    S::Error: 'static,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(call) = this.call.as_mut() else {
            return match this.first.as_pin_mut() {
                Some(first) => first.poll(cx),
                None => Poll::Pending,
            };
        };
        loop {
            // In the order in which they began: of two that are there at once the elder wins.
            let first = this.first.as_mut().as_pin_mut();
            let (whose, result) = if let Some(first) = first
                && let Poll::Ready(result) = first.poll(cx)
            {
                (Whose::First, result)
            } else if let Some(hedges) = this.hedges
                && let Some((index, result)) = hedges.poll(cx)
            {
                (Whose::Hedge(index), result)
            } else {
                match ready!(call.poll_next(this.timer.as_mut(), this.hedges, cx)) {
                    Ok(()) => continue,
                    Err(error) => (Whose::Nobody, Err(error)),
                }
            };
            if this.hedges.is_none() && call.asks_nothing() {
                *this.call = None;
                return Poll::Ready(result);
            }

            let now = clock::now();
            let verdict = judge(&result, this.classify);
            let again = || again(&result, verdict);
            let mut turn = match (whose, this.hedges.as_mut()) {
                (Whose::First, _) => {
                    call.first_ended(verdict, now);
                    call.race.ended(verdict, again)
                }
                (Whose::Hedge(index), Some(hedges)) => {
                    hedges.running[index].1.timed.end(verdict, now);
                    call.race.ended(verdict, again)
                }
                _ => call.race.failed_to_send(),
            };
            if turn != Turn::Answer {
                // What it still holds goes first: a body comes back only when it has been let go.
                match (whose, this.hedges.as_mut()) {
                    (Whose::First, _) => this.first.set(None),
                    (Whose::Hedge(index), Some(hedges)) => hedges.failed(index),
                    _ => {}
                }
            }
            if let Turn::Again(wait) = turn
                && !call.send_after(wait, now, this.timer.as_mut(), this.hedges)
            {
                turn = call.race.or_else();
            }
            if !call.race.may_send() {
                call.give_up(this.hedges);
            }
            match turn {
                Turn::Answer => {
                    if let Some(hedges) = this.hedges {
                        hedges.over(whose, verdict);
                    }
                    cause::drop_with(Verdict::CANCELLED, || {
                        if whose != Whose::First {
                            this.first.set(None);
                        }
                        *this.hedges = None;
                    });
                    *this.call = None;
                    return Poll::Ready(result);
                }
                Turn::NotBefore(wait) => call.put_off(wait, now, this.timer.as_mut()),
                Turn::Again(_) | Turn::Others => {}
            }
        }
    }
}

impl<S, R, C, Req> fmt::Debug for HedgeFuture<S, R, C, Req>
where
    S: Service<R::Request>,
    R: Replay<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hedges = self.hedges.as_ref();
        f.debug_struct("HedgeFuture")
            .field("hedges", &hedges.map_or(0, |hedges| hedges.running.len()))
            .finish_non_exhaustive()
    }
}

fn judge<C, Res, E>(result: &Result<Res, E>, classify: &C) -> Verdict
where
    C: Classify<Res, E>,
{
    match result {
        Ok(response) => classify.head(response),
        Err(error) => classify.error(error),
    }
}

/// When a failed attempt might be made again: what a retry with its default statuses does, without its backoff.
fn again<Res, E: 'static>(result: &Result<Res, E>, verdict: Verdict) -> Option<Duration> {
    let listed = Listed::of(&[502, 503, 504], &[14]);
    let wish = match result {
        Ok(_) => of_response(verdict, true, &listed),
        Err(error) => of_error(verdict, rejection_of(error), true, &listed),
    };
    wish.map(|wish| match wish.wait {
        Wait::Backoff => Duration::ZERO,
        Wait::Exactly(wait) | Wait::AtLeast(wait) => wait,
    })
}

/// The attempts after the first.
struct Hedges<S, F, Q> {
    running: Vec<(Pin<Box<F>>, Sent<S>)>,
    next: Option<Next<S, Q>>,
}

/// The next attempt, before it is sent.
struct Next<S, Q> {
    /// Made ready for it.
    service: Option<S>,
    request: Q,
    place: Withdrawal,
}

impl<S, F, Q> Hedges<S, F, Q> {
    const fn new() -> Self {
        Self {
            running: Vec::new(),
            next: None,
        }
    }

    /// One that has ended.
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Option<(usize, T)>
    where
        F: Future<Output = T>,
    {
        let mut running = self.running.iter_mut().enumerate();
        running.find_map(|(index, (future, _))| match future.as_mut().poll(cx) {
            Poll::Ready(result) => Some((index, result)),
            Poll::Pending => None,
        })
    }

    /// One failed, and others go on.
    fn failed(&mut self, index: usize) {
        let (future, mut sent) = self.running.remove(index);
        drop(future);
        sent.outcome = "failed";
    }

    /// The call has its answer.
    fn over(&mut self, whose: Whose, verdict: Verdict) {
        for (index, (_, sent)) in self.running.iter_mut().enumerate() {
            sent.outcome = match whose == Whose::Hedge(index) {
                true if verdict.is_success() => {
                    let won = &sent.timed.shared.state.won;
                    won.fetch_add(1, Relaxed);
                    "won"
                }
                true => "failed",
                false => "lost",
            };
        }
    }
}

/// When the next attempt is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// The call was not polled yet.
    New,
    /// When the timer fires.
    Waiting,
    /// When its service is ready.
    Readying,
    /// Never.
    Over,
}

/// A call that may be hedged, or whose time is taken.
pub(super) struct Call<S, R: Replay<Req>, Req> {
    /// The first attempt.
    timed: Timed<S>,
    copies: Copies<R, Req>,
    deadline: Option<Deadline>,
    race: Race,
    pace: Pace,
    /// How many attempts there were.
    made: u8,
    /// The budget was empty when the call began, so nothing was copied.
    unfunded: bool,
    /// It counts as a call under way.
    paid: bool,
}

impl<S, R: Replay<Req>, Req> Drop for Call<S, R, Req> {
    fn drop(&mut self) {
        if self.paid {
            self.timed.shared.state.budget.leave();
        }
    }
}

impl<S, R: Replay<Req>, Req> Call<S, R, Req> {
    pub(super) const fn new(
        timed: Timed<S>,
        copies: Copies<R, Req>,
        race: Race,
        deadline: Option<Deadline>,
    ) -> Self {
        Self {
            timed,
            copies,
            deadline,
            race,
            pace: Pace::Over,
            made: 1,
            unfunded: false,
            paid: false,
        }
    }

    /// The request of the first attempt, with a copy for others if there is a token for one.
    pub(super) fn split(&mut self, request: Req, funded: bool, now: Instant) -> R::Request
    where
        Req: Carrier,
    {
        if !funded {
            self.unfunded = true;
            return self.copies.once(request);
        }
        let state = &self.timed.shared.state;
        let request = self.copies.split(request, now, state);
        if self.copies.is_possible() {
            self.pace = Pace::New;
        }
        request
    }

    /// Pays its share, if it is an `original` call, and is under way until it is dropped. Whether there is a token.
    pub(super) fn pay(&mut self, original: bool, now: Instant) -> bool {
        let budget = &self.timed.shared.state.budget;
        self.paid = original;
        if original {
            budget.enter(|| now)
        } else {
            budget.is_funded(now)
        }
    }

    /// Whether it makes no difference how the first attempt ended.
    const fn asks_nothing(&self) -> bool {
        !self.timed.is_open() && !self.unfunded && !self.race.sends_on_failure()
    }

    fn first_ended(&mut self, verdict: Verdict, now: Instant) {
        let took = now.saturating_duration_since(self.timed.begun);
        if mem::take(&mut self.unfunded) && took > self.timed.delay() {
            self.timed.shared.state.unfunded();
        }
        self.timed.end(verdict, now);
    }

    /// The next attempt is sent when the delay has passed from `begun` on: at once, and not when a timer has had its
    /// millisecond, where there is none.
    fn wait_from(&mut self, begun: Instant, mut timer: Pin<&mut Option<Sleep>>) {
        let delay = self.timed.delay();
        timer.set((!delay.is_zero()).then(|| sleep_until(begun + delay)));
        self.pace = Pace::Waiting;
    }

    /// The next attempt is not sent before that time.
    fn put_off(&mut self, wait: Duration, now: Instant, mut timer: Pin<&mut Option<Sleep>>) {
        if self.pace != Pace::Over {
            timer.set(Some(sleep_until(Deadline::after(now, wait).instant())));
            self.pace = Pace::Waiting;
        }
    }

    /// What is left until the deadline is more than `wait`.
    fn has_time(&self, wait: Duration, now: Instant) -> bool {
        self.deadline.is_none_or(|deadline| {
            let left = deadline.remaining(now);
            left.is_some_and(|left| left > wait)
        })
    }
}

/// Whether the next attempt can be sent.
enum Prepared {
    Yes,
    /// The body is not all there.
    NotYet,
    Never,
}

impl<S, R, Req> Call<S, R, Req>
where
    R: Replay<Req>,
    S: Service<R::Request> + Clone,
{
    /// Makes the request of the next attempt and takes a token, in this order, so that none is lost.
    fn prepare(
        &mut self,
        now: Instant,
        hedges: &mut Option<Box<Hedges<S, S::Future, R::Request>>>,
    ) -> Prepared {
        let shared = &self.timed.shared;
        if !shared.state.is_on() || !self.has_time(Duration::ZERO, now) {
            return Prepared::Never;
        }
        let last = self.race.is_last();
        let left = self.deadline.map(|deadline| deadline.remaining(now));
        let (made, left) = (u32::from(self.made), left.flatten());
        let Some(request) = self.copies.again(made, last, left) else {
            return Prepared::NotYet;
        };
        let Some(place) = shared.state.budget.try_withdraw(now) else {
            shared.state.unfunded();
            return Prepared::Never;
        };
        let hedges = hedges.get_or_insert_with(|| Box::new(Hedges::new()));
        hedges.next = Some(Next {
            service: None,
            request,
            place,
        });
        Prepared::Yes
    }

    /// Sends the next after `wait`, if it can be sent.
    fn send_after(
        &mut self,
        wait: Duration,
        now: Instant,
        mut timer: Pin<&mut Option<Sleep>>,
        hedges: &mut Option<Box<Hedges<S, S::Future, R::Request>>>,
    ) -> bool {
        let on_its_way = hedges.as_ref().is_some_and(|hedges| hedges.next.is_some());
        if !on_its_way {
            let in_time = wait <= LONGEST_WAIT && self.has_time(wait, now);
            if !in_time || !matches!(self.prepare(now, hedges), Prepared::Yes) {
                return false;
            }
        }
        if wait.is_zero() {
            self.pace = Pace::Readying;
        } else {
            timer.set(Some(sleep_until(now + wait)));
            self.pace = Pace::Waiting;
        }
        true
    }

    /// No more are sent, the one neither that was about to be.
    fn give_up(&mut self, hedges: &mut Option<Box<Hedges<S, S::Future, R::Request>>>) {
        self.pace = Pace::Over;
        if let Some(hedges) = hedges {
            hedges.next = None;
        }
    }

    /// Waits for the time of the next attempt and for its service, and begins it.
    fn poll_next(
        &mut self,
        mut timer: Pin<&mut Option<Sleep>>,
        hedges: &mut Option<Box<Hedges<S, S::Future, R::Request>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>> {
        loop {
            match self.pace {
                Pace::Over => return Poll::Pending,
                Pace::New => self.wait_from(self.timed.begun, timer.as_mut()),
                Pace::Waiting => {
                    if let Some(timer) = timer.as_mut().as_pin_mut() {
                        // Also where the first attempt uses up the task's share of every poll.
                        ready!(pin!(unconstrained(timer)).poll(cx));
                    }
                    self.pace = Pace::Readying;
                    if hedges.as_ref().is_some_and(|hedges| hedges.next.is_some()) {
                        continue;
                    }
                    let now = clock::now();
                    match self.prepare(now, hedges) {
                        Prepared::Yes => {}
                        Prepared::NotYet => {
                            // As long again as it took so far.
                            let took = now.saturating_duration_since(self.timed.begun);
                            self.put_off(took.max(Duration::from_millis(1)), now, timer.as_mut());
                        }
                        Prepared::Never => {
                            self.race.stop();
                            self.pace = Pace::Over;
                        }
                    }
                }
                Pace::Readying => {
                    let Some(hedges) = hedges.as_mut() else {
                        return Poll::Pending;
                    };
                    let Some(next) = hedges.next.as_mut() else {
                        return Poll::Pending;
                    };
                    let service = match &mut next.service {
                        Some(service) => service,
                        none => none.insert(ready!(self.timed.shared.template.poll_clone(cx))),
                    };
                    let ready = ready!(service.poll_ready(cx));
                    self.pace = Pace::Over;
                    let Some(next) = hedges.next.take() else {
                        return Poll::Pending;
                    };
                    ready?;
                    let Some(service) = next.service else {
                        return Poll::Pending;
                    };
                    let sent = self.send(service, next.request, next.place);
                    hedges.running.push(sent);
                    if self.race.may_send() {
                        let begun = hedges.running.last().map(|(_, sent)| sent.timed.begun);
                        let begun = begun.unwrap_or(self.timed.begun);
                        self.wait_from(begun, timer.as_mut());
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn send(
        &mut self,
        mut service: S,
        request: R::Request,
        place: Withdrawal,
    ) -> (Pin<Box<S::Future>>, Sent<S>) {
        let (future, begun) = clock::entered(|now| (Box::pin(service.call(request)), now));
        self.race.sent();
        self.made = self.made.saturating_add(1);
        self.timed.shared.state.sent.fetch_add(1, Relaxed);
        let timed = self.timed.again(begun);
        let after = begun.saturating_duration_since(self.timed.begun);
        (future, Sent::new(timed, u32::from(self.made), after, place))
    }
}
