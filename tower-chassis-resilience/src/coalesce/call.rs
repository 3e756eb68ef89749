//! A call that is shared, with its result, and a caller's part in it.

use std::{
    error::Error,
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use tower_chassis_core::{BoxError, Kind, Rejection};

use super::{
    flight::{Flight, Member, Turn},
    state::State,
};
use crate::{keyed::hash::Hashed, share::Collected};

/// The inner call, to the end of what is shared of its answer.
pub(super) type Inner<T, R> =
    Pin<Box<dyn Future<Output = Result<Collected<T, R>, BoxError>> + Send>>;

pub(super) struct Call<K, T, R> {
    pub(super) key: Hashed<K>,
    pub(super) flight: Flight<Inner<T, R>>,
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

impl<K, T, R> Call<K, T, R> {
    pub(super) fn new(key: Hashed<K>) -> (Self, Member) {
        let (flight, member) = Flight::new();
        let call = Self {
            key,
            flight,
            done: OnceLock::new(),
        };
        (call, member)
    }
}

/// A caller's part in a call. Dropped, it hands the call on if it drove.
pub(super) struct Seat<K: Hash + Eq, T, R> {
    call: Arc<Call<K, T, R>>,
    state: Arc<State<K>>,
    /// None once the call is over for it.
    member: Option<Member>,
    driving: Option<Inner<T, R>>,
}

impl<K: Hash + Eq, T, R> Seat<K, T, R> {
    pub(super) const fn new(
        call: Arc<Call<K, T, R>>,
        member: Member,
        state: Arc<State<K>>,
    ) -> Self {
        Self {
            call,
            state,
            member: Some(member),
            driving: None,
        }
    }

    /// Takes the call that `make` begins. If that panics, so does this, and nobody waits for ever.
    pub(super) fn drive(&mut self, make: impl FnOnce() -> Inner<T, R>) {
        let bail = Bail::new(&self.call, &self.state);
        let inner = make();
        bail.disarm();
        self.driving = Some(inner);
    }
}

impl<K: Hash + Eq, T: Clone, R> Seat<K, T, R> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended<T, R>> {
        let Some(member) = &self.member else {
            return Poll::Pending;
        };
        let mut inner = match self.driving.take() {
            Some(inner) => inner,
            None => match self.call.flight.poll(member, cx.waker()) {
                Turn::Wait => return Poll::Pending,
                Turn::Drive(inner) => inner,
                Turn::Over => {
                    self.leave();
                    return Poll::Ready(self.result());
                }
            },
        };
        // Out of the seat: if it panics it is dropped, and not handed on.
        let bail = Bail::new(&self.call, &self.state);
        let Poll::Ready(result) = inner.as_mut().poll(cx) else {
            bail.disarm();
            self.driving = Some(inner);
            return Poll::Pending;
        };
        drop(inner);
        let (ended, alone) = bail.finish(result);
        if alone {
            // Nobody looks there any more.
            self.member = None;
        }
        self.leave();
        Poll::Ready(ended)
    }

    /// What the one who drove left.
    fn result(&self) -> Ended<T, R> {
        match self.call.done.get() {
            Some(Done::Shared(shared)) => Ended::Shared(shared.clone()),
            Some(Done::Failed(error)) => Ended::Failed(error.clone().into()),
            Some(Done::Apart) => Ended::Apart,
            Some(Done::Panicked) | None => {
                Ended::Failed(Rejection::new(Kind::Internal, "coalesce").into())
            }
        }
    }
}

impl<K: Hash + Eq, T, R> Seat<K, T, R> {
    fn leave(&mut self) {
        let Some(member) = self.member.take() else {
            return;
        };
        let flight = &self.call.flight;
        let last = match self.driving.take() {
            Some(inner) => flight.hand_back(member, inner),
            None => flight.leave(member),
        };
        if last.is_some() {
            // Before the call is dropped, which may take its time: the next one of the key begins anew.
            self.state.remove(&self.call);
        }
    }
}

impl<K: Hash + Eq, T, R> Drop for Seat<K, T, R> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Whether an error says something of the one whose request it was, and nothing of the others.
fn is_about_one(error: &BoxError) -> bool {
    let kind = Rejection::find(&**error).map(Rejection::kind);
    // The deadline that was over is that of the one who leads.
    kind.is_some_and(|kind| kind.status().is_client_error() || kind == Kind::DeadlineExceeded)
}

/// While foreign code runs: if it panics, those who wait hear of it.
struct Bail<'a, K: Hash + Eq, T, R> {
    call: &'a Arc<Call<K, T, R>>,
    state: &'a State<K>,
    armed: bool,
}

impl<'a, K: Hash + Eq, T, R> Bail<'a, K, T, R> {
    const fn new(call: &'a Arc<Call<K, T, R>>, state: &'a State<K>) -> Self {
        Self {
            call,
            state,
            armed: true,
        }
    }

    fn disarm(mut self) {
        self.armed = false;
    }

    /// What the call came to for the one who drove, and whether that was alone.
    fn finish(self, result: Result<Collected<T, R>, BoxError>) -> (Ended<T, R>, bool)
    where
        T: Clone,
    {
        let flight = &self.call.flight;
        let alone = flight.land();
        self.state.remove(self.call);
        if alone {
            self.disarm();
            let ended = match result {
                Ok(Collected::Shared(shared)) => Ended::Shared(shared),
                Ok(Collected::Apart(own)) => Ended::Own(own),
                Err(error) => Ended::Failed(error),
            };
            return (ended, true);
        }
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
        let _ = self.call.done.set(done);
        flight.landed();
        self.disarm();
        (ended, false)
    }
}

impl<K: Hash + Eq, T, R> Drop for Bail<'_, K, T, R> {
    fn drop(&mut self) {
        if self.armed {
            self.call.flight.land();
            self.state.remove(self.call);
            let _ = self.call.done.set(Done::Panicked);
            self.call.flight.landed();
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
