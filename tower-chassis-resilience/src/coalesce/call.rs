//! A call that is shared, with its result, and a caller's part in it.

use std::{
    any::Any,
    error::Error,
    fmt,
    future::Future,
    hash::Hash,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{BoxError, Kind, Rejection, striped::Hold};
use tower_service::Service;

use super::{
    flight::{BEGINNER, Flight, Member, Turn},
    state::{Row, Slot, State},
};
use crate::{
    lazy::Own,
    share::{Collected, Share},
};

/// The inner call, to the end of what is shared of its answer. The box outlives it, for a later call.
pub(super) type Inner<F> = Pin<Box<Option<F>>>;

pin_project! {
    /// The inner call, and then what is shared of its answer.
    pub struct Drive<S, Req, H>
    where
        S: Service<Req>,
        H: Share<<S as Service<Req>>::Response>,
    {
        #[pin]
        step: Step<Own<S, Req>, H::Collect>,
        share: H,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<O, C> {
        Calling { #[pin] own: O },
        Collecting { #[pin] collect: C },
    }
}

impl<S, Req, H> Drive<S, Req, H>
where
    S: Service<Req>,
    H: Share<S::Response>,
{
    pub(super) const fn new(own: Own<S, Req>, share: H) -> Self {
        Self {
            step: Step::Calling { own },
            share,
        }
    }
}

impl<S, Req, H> Future for Drive<S, Req, H>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    H: Share<S::Response>,
{
    type Output = Result<Collected<H::Shared, H::Response>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let collect = match this.step.as_mut().project() {
                StepProj::Calling { own } => match ready!(own.poll(cx)) {
                    Ok(response) => this.share.collect(response),
                    Err(error) => return Poll::Ready(Err(error.into())),
                },
                StepProj::Collecting { collect } => return collect.poll(cx).map(Ok),
            };
            this.step.set(Step::Collecting { collect });
        }
    }
}

/// A call of which others know than the one who began it.
pub(super) struct Call<F, T> {
    pub(super) flight: Flight<Inner<F>>,
    /// What those get who did not drive.
    done: OnceLock<Done<T>>,
    /// What the one gets who began it, if it is for that one alone and another drove: a `Result` in a box, because few do.
    left: Mutex<Left>,
}

enum Left {
    Nothing,
    Answer(Box<dyn Any + Send>),
    /// Whom it would be for has gone.
    Gone,
}

enum Done<T> {
    Shared(T),
    Failed(SharedError),
    /// The answer was for one alone.
    Apart,
    Panicked,
}

/// How a call ended for one of its callers.
pub(super) enum Ended<T, R> {
    Shared(T),
    Own(R),
    Failed(BoxError),
    /// There is nothing for this one: it makes its own call.
    Apart,
}

impl<F, T> Call<F, T> {
    /// One that the one who began it has in hand.
    pub(super) fn driven() -> Self {
        Self {
            flight: Flight::new().0,
            done: OnceLock::new(),
            left: Mutex::new(Left::Nothing),
        }
    }

    /// Takes what was left for the one who began it, and leaves `instead`. What it takes is dropped outside of the lock.
    fn replace_left(&self, instead: Left) -> Left {
        mem::replace(&mut self.left(), instead)
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves what is for the one alone who began it, if it still waits.
    fn leave_for_beginner(&self, answer: Box<dyn Any + Send>) {
        let mut left = self.left();
        // What is not left is dropped after the lock, as a parameter is.
        if matches!(*left, Left::Nothing) {
            *left = Left::Answer(answer);
        }
    }

    fn end(&self, done: Done<T>) {
        let _ = self.done.set(done);
        self.flight.landed();
    }
}

/// Who polls a call that others wait for polls it with this.
impl<F: Send + 'static, T: Send + Sync + 'static> Wake for Call<F, T> {
    fn wake(self: Arc<Self>) {
        self.flight.wake();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.flight.wake();
    }
}

impl<F, T> Call<F, T> {
    /// What was left for the one who began it.
    fn answer<R: 'static>(&self) -> Ended<T, R> {
        if let Left::Answer(answer) = self.replace_left(Left::Gone)
            && let Ok(answer) = answer.downcast::<Result<R, BoxError>>()
        {
            return match *answer {
                Ok(own) => Ended::Own(own),
                Err(error) => Ended::Failed(error),
            };
        }
        Ended::Failed(Rejection::new(Kind::Internal, "coalesce").into())
    }
}

impl<F, T: Clone> Call<F, T> {
    /// What the one who drove left.
    fn result<R>(&self) -> Ended<T, R> {
        match self.done.get() {
            Some(Done::Shared(shared)) => Ended::Shared(shared.clone()),
            Some(Done::Failed(error)) => Ended::Failed(error.clone().into()),
            Some(Done::Apart) => Ended::Apart,
            Some(Done::Panicked) | None => {
                Ended::Failed(Rejection::new(Kind::Internal, "coalesce").into())
            }
        }
    }
}

/// A caller's part in a call. Dropped, it leaves the call to the others.
pub(super) struct Seat<K: Hash + Eq, F: 'static, T: 'static> {
    state: Hold<State<K>>,
    slot: Slot,
    /// None for the one who began it, before it waits.
    call: Option<Arc<Call<F, T>>>,
    /// None once the call is over for it.
    member: Option<Member>,
    /// The call, before it was polled for the first time.
    begun: Option<Inner<F>>,
}

impl<K: Hash + Eq, F: 'static, T: 'static> Seat<K, F, T> {
    /// One more who waits for a call.
    pub(super) const fn follow(
        state: Hold<State<K>>,
        slot: Slot,
        call: Arc<Call<F, T>>,
        member: Member,
    ) -> Self {
        Self {
            state,
            slot,
            call: Some(call),
            member: Some(member),
            begun: None,
        }
    }

    /// The first one, with the call that `make` begins, in the box of an earlier one if there is one. If that panics, so
    /// does this, and nobody waits for ever.
    #[inline]
    pub(super) fn lead(
        state: Hold<State<K>>,
        slot: Slot,
        spare: Option<Inner<F>>,
        make: impl FnOnce() -> F,
    ) -> Self {
        let bail = Bail::<K, F, T>::new(&state, slot, None);
        let begun = match spare {
            Some(mut spare) => {
                spare.set(Some(make()));
                spare
            }
            None => Box::pin(Some(make())),
        };
        bail.disarm();
        Self {
            state,
            slot,
            call: None,
            member: Some(BEGINNER),
            begun: Some(begun),
        }
    }

    fn leave(&mut self) {
        let Some(member) = self.member.take() else {
            return;
        };
        let last = match (self.begun.take(), &self.call) {
            (Some(inner), _) => return self.state.abandon::<F, T>(self.slot, member, inner),
            (None, Some(call)) => {
                if call.flight.was_begun_by(&member) {
                    drop(call.replace_left(Left::Gone));
                }
                call.flight.leave(member)
            }
            // It panicked, and those who wait have heard.
            (None, None) => None,
        };
        if last.is_some() {
            // Before the call is dropped, which may take its time: the next one of the key begins anew.
            drop(self.state.remove(self.slot));
        }
    }
}

impl<K, F, T> Seat<K, F, T>
where
    K: Hash + Eq,
    F: Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    #[inline]
    pub(super) fn poll<R>(&mut self, cx: &mut Context<'_>) -> Poll<Ended<T, R>>
    where
        F: Future<Output = Result<Collected<T, R>, BoxError>>,
        R: Send + 'static,
    {
        let Some(mut inner) = self.begun.take() else {
            return self.poll_again(cx);
        };
        // Out of the seat: if it panics it is dropped, and not handed on.
        let bail = Bail::new(&self.state, self.slot, None);
        if let Poll::Ready(result) = poll(&mut inner, cx) {
            let ended = bail.finish(result, inner, true);
            self.member = None;
            return Poll::Ready(ended);
        }
        bail.disarm();
        let (call, member) = self.state.deposit(self.slot, inner, cx.waker());
        (self.call, self.member) = (Some(call), Some(member));
        Poll::Pending
    }

    fn poll_again<R>(&mut self, cx: &mut Context<'_>) -> Poll<Ended<T, R>>
    where
        F: Future<Output = Result<Collected<T, R>, BoxError>>,
        R: Send + 'static,
    {
        let (Some(call), Some(member)) = (&self.call, &self.member) else {
            return Poll::Pending;
        };
        let mut inner = match call.flight.poll(member, cx.waker()) {
            Turn::Wait => return Poll::Pending,
            Turn::Drive(inner) => inner,
            Turn::Over => {
                let ended = match call.result() {
                    Ended::Apart if call.flight.was_begun_by(member) => call.answer(),
                    ended => ended,
                };
                self.leave();
                return Poll::Ready(ended);
            }
        };
        let waker = Waker::from(Arc::clone(call));
        // Out of the flight: if it panics it is dropped, and not handed on.
        let bail = Bail::new(&self.state, self.slot, Some(call));
        let Poll::Ready(result) = poll(&mut inner, &mut Context::from_waker(&waker)) else {
            bail.disarm();
            call.flight.give(inner);
            return Poll::Pending;
        };
        let ended = bail.finish(result, inner, call.flight.was_begun_by(member));
        // Nobody looks at the members any more.
        self.member = None;
        Poll::Ready(ended)
    }
}

/// Polls a call, and empties its box if that is over.
#[inline]
fn poll<F: Future>(inner: &mut Inner<F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let output = match inner.as_mut().as_pin_mut() {
        Some(future) => ready!(future.poll(cx)),
        None => return Poll::Pending,
    };
    inner.set(None);
    Poll::Ready(output)
}

impl<K: Hash + Eq, F: 'static, T: 'static> Drop for Seat<K, F, T> {
    #[inline]
    fn drop(&mut self) {
        if self.member.is_some() {
            self.leave();
        }
    }
}

/// Whether an error says something of the one whose request it was, and nothing of the others.
fn is_about_one(error: &BoxError) -> bool {
    let kind = Rejection::find(&**error).map(Rejection::kind);
    // The deadline that was over is that of the one who leads.
    kind.is_some_and(|kind| kind.status().is_client_error() || kind == Kind::DeadlineExceeded)
}

/// Whether what a call came to says something of the one alone who began it.
fn is_for_one<T, R>(result: &Result<Collected<T, R>, BoxError>) -> bool {
    match result {
        Ok(collected) => matches!(collected, Collected::Apart(_)),
        Err(error) => is_about_one(error),
    }
}

/// While foreign code runs: if it panics, those who wait hear of it.
struct Bail<'a, K: Hash + Eq, F: 'static, T: 'static> {
    state: &'a State<K>,
    slot: Slot,
    call: Option<&'a Call<F, T>>,
    /// What was taken from the table, in which others may have left a call of which the one who began it does not know.
    row: Option<Row<K>>,
    armed: bool,
}

impl<'a, K: Hash + Eq, F: 'static, T: 'static> Bail<'a, K, F, T> {
    const fn new(state: &'a State<K>, slot: Slot, call: Option<&'a Call<F, T>>) -> Self {
        Self {
            state,
            slot,
            call,
            row: None,
            armed: true,
        }
    }

    fn disarm(mut self) {
        self.armed = false;
    }

    /// The call, if there were ever others. Nobody joins from now on.
    fn known(&self) -> Option<&Call<F, T>> {
        self.call
            .or_else(|| self.row.as_ref()?.call.as_ref()?.downcast_ref())
    }

    /// What the call came to for the one who drove.
    fn finish<R>(
        mut self,
        result: Result<Collected<T, R>, BoxError>,
        spare: Inner<F>,
        began: bool,
    ) -> Ended<T, R>
    where
        F: Send,
        T: Clone,
        R: Send + 'static,
    {
        self.row = self.state.end(self.slot, spare);
        if !began && is_for_one(&result) {
            return self.finish_for_another(result);
        }
        // Who is alone has nobody to lay out a result for.
        let Some(call) = self.known().filter(|call| !call.flight.land()) else {
            self.disarm();
            return match result {
                Ok(Collected::Shared(shared)) => Ended::Shared(shared),
                Ok(Collected::Apart(own)) => Ended::Own(own),
                Err(error) => Ended::Failed(error),
            };
        };
        let (done, ended) = match result {
            Ok(Collected::Shared(shared)) => (Done::Shared(shared.clone()), Ended::Shared(shared)),
            Ok(Collected::Apart(own)) => (Done::Apart, Ended::Own(own)),
            // The others ask for themselves whether they may.
            Err(error) if is_about_one(&error) => (Done::Apart, Ended::Failed(error)),
            Err(error) => {
                let error = SharedError(Arc::new(error));
                (Done::Failed(error.clone()), Ended::Failed(error.into()))
            }
        };
        call.end(done);
        self.disarm();
        ended
    }

    /// What it came to is for the one alone who began it, and not for the one who drove.
    #[cold]
    fn finish_for_another<R: Send + 'static>(
        self,
        result: Result<Collected<T, R>, BoxError>,
    ) -> Ended<T, R> {
        if let Some(call) = self.known() {
            call.flight.land();
            match result {
                Ok(Collected::Apart(own)) => {
                    call.leave_for_beginner(Box::new(Ok::<R, BoxError>(own)))
                }
                Err(error) => call.leave_for_beginner(Box::new(Err::<R, BoxError>(error))),
                Ok(Collected::Shared(_)) => {}
            }
            call.end(Done::Apart);
        }
        self.disarm();
        Ended::Apart
    }

    #[cold]
    fn panicked(&mut self) {
        if self.row.is_none() {
            self.row = self.state.remove(self.slot);
        }
        if let Some(call) = self.known() {
            call.flight.land();
            call.end(Done::Panicked);
        }
    }
}

impl<K: Hash + Eq, F: 'static, T: 'static> Drop for Bail<'_, K, F, T> {
    #[inline]
    fn drop(&mut self) {
        if self.armed {
            self.panicked();
        }
    }
}

/// The error of a call that several waited for. Prints as the one that it shares, which is its source.
#[derive(Clone, Debug)]
pub struct SharedError(Arc<BoxError>);

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.0)
    }
}
