use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{Kind, Rejection, refusal::Refusal, settle::Settle, striped::Hold};
use tower_service::Service;

use super::{
    Ticket,
    later::{Begun, Later},
    shared::{Held, Shared},
};

/// What is answered from inside, once it is judged.
pub(super) type Settled<S, Req, J, H = Hold<Shared>> =
    <J as Settle<<S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Response<Ticket<H>>;

pin_project! {
    /// The future of a [`Bulkhead`](super::Bulkhead).
    #[must_use = "futures do nothing unless polled"]
    pub struct BulkheadFuture<S, Req, J, H = Hold<Shared>>
    where
        S: Service<Req>,
        H: Held,
    {
        #[pin]
        state: State<S::Future, Pin<Box<Later<S, Req, J, H>>>, J, H>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, L, J, H>
    where
        H: Held,
    {
        Called {
            #[pin]
            inner: F,
            settle: J,
            // The last: what it stands for is dropped before another call begins.
            ticket: Option<Ticket<H>>,
        },
        // In a box: few calls wait, and all of them are moved through the layers outside.
        Later { later: L },
        Refused { kind: Kind, grpc: bool },
        Over,
    }
}

impl<S: Service<Req>, Req, J, H: Held> BulkheadFuture<S, Req, J, H> {
    pub(super) const fn called(inner: S::Future, ticket: Ticket<H>, settle: J) -> Self {
        let ticket = Some(ticket);
        Self {
            state: State::Called {
                inner,
                settle,
                ticket,
            },
        }
    }

    #[cold]
    pub(super) fn later(later: Later<S, Req, J, H>) -> Self {
        let later = Box::pin(later);
        Self {
            state: State::Later { later },
        }
    }

    #[cold]
    pub(super) const fn refused(kind: Kind, grpc: bool) -> Self {
        Self {
            state: State::Refused { kind, grpc },
        }
    }
}

impl<S, Req, J, H> Future for BulkheadFuture<S, Req, J, H>
where
    S: Service<Req>,
    H: Held,
    J: Settle<S::Response, S::Error> + Refusal<Settled<S, Req, J, H>, S::Error>,
{
    type Output = Result<
        <J as Refusal<Settled<S, Req, J, H>, S::Error>>::Response,
        <J as Refusal<Settled<S, Req, J, H>, S::Error>>::Error,
    >;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let begun = match state.as_mut().project() {
                StateProj::Called {
                    inner,
                    settle,
                    ticket,
                } => {
                    let result = ready!(inner.poll(cx));
                    // Polled after it was ready: the inner future has the say (most panic).
                    let Some(ticket) = ticket.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(match settle.settle(result, ticket) {
                        Ok(response) => Ok(J::response(response)),
                        Err(error) => Err(J::error(error)),
                    });
                }
                StateProj::Later { later } => ready!(later.as_mut().poll_begin(cx)),
                StateProj::Refused { kind, grpc } => Begun::Refused(*kind, *grpc),
                StateProj::Over => return Poll::Pending,
            };
            match begun {
                Begun::Called(inner, ticket, settle) => {
                    state.set(Self::called(inner, ticket, settle).state);
                }
                Begun::Failed(error) => {
                    state.set(State::Over);
                    return Poll::Ready(Err(J::error(error)));
                }
                Begun::Refused(kind, grpc) => {
                    state.set(State::Over);
                    return Poll::Ready(J::refused(Rejection::new(kind, "bulkhead"), grpc));
                }
            }
        }
    }
}

impl<S: Service<Req>, Req, J, H: Held> fmt::Debug for BulkheadFuture<S, Req, J, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Later { later } if later.waits() => "waiting",
            State::Later { .. } => "readying",
            State::Refused { .. } => "refused",
            State::Over => "over",
        };
        f.debug_tuple("BulkheadFuture").field(&state).finish()
    }
}
