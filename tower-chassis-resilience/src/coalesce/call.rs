//! A call that is shared, with its result, and a caller's part in it.

use std::{
    error::Error,
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{BoxError, Kind, Rejection, striped::Hold};
use tower_service::Service;

use super::{
    flight::{DRIVER, Flight, Member, Turn},
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
    /// One that somebody drives.
    pub(super) fn driven() -> Self {
        Self {
            flight: Flight::new().0,
            done: OnceLock::new(),
        }
    }

    fn end(&self, done: Done<T>) {
        let _ = self.done.set(done);
        self.flight.landed();
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

/// A caller's part in a call. Dropped, it hands the call on if it drove.
pub(super) struct Seat<K: Hash + Eq, F: 'static, T: 'static> {
    state: Hold<State<K>>,
    slot: Slot,
    /// None for the one who began it, who learns at the end whether there are others.
    call: Option<Arc<Call<F, T>>>,
    /// None once the call is over for it.
    member: Option<Member>,
    driving: Option<Inner<F>>,
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
            driving: None,
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
        let driving = match spare {
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
            member: Some(DRIVER),
            driving: Some(driving),
        }
    }

    fn leave(&mut self) {
        let Some(member) = self.member.take() else {
            return;
        };
        let last = match (self.driving.take(), &self.call) {
            (Some(inner), Some(call)) => call.flight.hand_back(member, inner),
            (Some(inner), None) => return self.state.abandon::<F, T>(self.slot, member, inner),
            (None, Some(call)) => call.flight.leave(member),
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
    T: Clone + 'static,
{
    #[inline]
    pub(super) fn poll<R>(&mut self, cx: &mut Context<'_>) -> Poll<Ended<T, R>>
    where
        F: Future<Output = Result<Collected<T, R>, BoxError>>,
    {
        let mut inner = match (self.driving.take(), &self.call, &self.member) {
            (Some(inner), ..) => inner,
            (None, Some(call), Some(member)) => match call.flight.poll(member, cx.waker()) {
                Turn::Wait => return Poll::Pending,
                Turn::Drive(inner) => inner,
                Turn::Over => {
                    let ended = call.result();
                    self.leave();
                    return Poll::Ready(ended);
                }
            },
            _ => return Poll::Pending,
        };
        // Out of the seat: if it panics it is dropped, and not handed on.
        let bail = Bail::new(&self.state, self.slot, self.call.as_deref());
        let polled = match inner.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        };
        let Poll::Ready(result) = polled else {
            bail.disarm();
            self.driving = Some(inner);
            return Poll::Pending;
        };
        inner.set(None);
        let ended = bail.finish(result, inner);
        // Nobody looks at the members any more.
        self.member = None;
        Poll::Ready(ended)
    }
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
    ) -> Ended<T, R>
    where
        F: Send,
        T: Clone,
    {
        self.row = self.state.end(self.slot, spare);
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
