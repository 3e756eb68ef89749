use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_chassis_core::{
    Rejection,
    refusal::Refusal,
    settle::{ResponseFuture, Settle},
};
use tower_service::Service;

use super::{Ticket, shared::Waiter};

/// What is answered from inside, once it is judged.
pub(super) type Settled<S, Req, J> =
    <J as Settle<<S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Response<Ticket>;

pin_project! {
    /// The future of an [`Adaptive`](super::Adaptive).
    #[must_use = "futures do nothing unless polled"]
    pub struct AdaptiveFuture<S, Req, J>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future, Pin<Box<Later<S, Req, J>>>, J>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, L, J> {
        Called { #[pin] future: ResponseFuture<F, Ticket, J> },
        // In a box: few calls wait, and all of them are moved through the layers outside.
        Later { later: L },
        Refused { rejection: Option<Rejection>, grpc: bool },
    }
}

/// How a call that could not begin at once ends up.
enum Begun<F, J, E> {
    Called(ResponseFuture<F, Ticket, J>),
    Failed(E),
    Refused(Rejection),
}

pin_project! {
    /// A call that is not made yet: it waits for its turn, and then for its service, which is readied when its turn
    /// has come.
    pub(super) struct Later<S, Req, J> {
        // None before the first Pending.
        #[pin]
        sleep: Option<Sleep>,
        call: Option<(S, Req, J)>,
        // Behind the call: what it stands for is dropped before another one begins.
        waiter: Option<Waiter>,
        ticket: Option<Ticket>,
        grpc: bool,
    }
}

impl<S: Service<Req>, Req, J> AdaptiveFuture<S, Req, J> {
    pub(super) fn called(inner: S::Future, ticket: Ticket, settle: J) -> Self {
        let future = ResponseFuture::new(inner, ticket, settle);
        Self {
            state: State::Called { future },
        }
    }

    #[cold]
    pub(super) fn later(turn: Result<Ticket, Waiter>, call: (S, Req, J), grpc: bool) -> Self {
        let (ticket, waiter) = match turn {
            Ok(ticket) => (Some(ticket), None),
            Err(waiter) => (None, Some(waiter)),
        };
        let later = Box::pin(Later {
            sleep: None,
            call: Some(call),
            waiter,
            ticket,
            grpc,
        });
        Self {
            state: State::Later { later },
        }
    }

    #[cold]
    pub(super) const fn refused(rejection: Rejection, grpc: bool) -> Self {
        Self {
            state: State::Refused {
                rejection: Some(rejection),
                grpc,
            },
        }
    }
}

impl<S: Service<Req>, Req, J> Later<S, Req, J> {
    fn poll_begin(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Begun<S::Future, J, S::Error>> {
        let mut this = self.project();
        if let Some(waiter) = this.waiter.as_mut() {
            if waiter.poll(cx).is_pending() {
                if this.sleep.is_none() {
                    this.sleep.set(Some(sleep_until(waiter.until)));
                }
                if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                    ready!(sleep.poll(cx));
                }
            }
            // Its turn has come, or its time is up; perhaps both at once.
            match this.waiter.take().map(Waiter::leave) {
                Some(Ok(ticket)) => *this.ticket = Some(ticket),
                Some(Err(rejection)) => {
                    // It goes while nothing is held for it.
                    drop(this.call.take());
                    return Poll::Ready(Begun::Refused(rejection));
                }
                None => return Poll::Pending,
            }
            this.sleep.set(None);
        }
        if let Some((inner, ..)) = this.call.as_mut()
            && let Err(error) = ready!(inner.poll_ready(cx))
        {
            drop(this.call.take());
            drop(this.ticket.take());
            return Poll::Ready(Begun::Failed(error));
        }
        let (Some((mut inner, request, settle)), Some(ticket)) =
            (this.call.take(), this.ticket.take())
        else {
            return Poll::Pending;
        };
        let inner = inner.call(request);
        Poll::Ready(Begun::Called(ResponseFuture::new(inner, ticket, settle)))
    }
}

impl<S, Req, J> Future for AdaptiveFuture<S, Req, J>
where
    S: Service<Req>,
    J: Settle<S::Response, S::Error> + Refusal<Settled<S, Req, J>, S::Error>,
{
    type Output = Result<
        <J as Refusal<Settled<S, Req, J>, S::Error>>::Response,
        <J as Refusal<Settled<S, Req, J>, S::Error>>::Error,
    >;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { future } => {
                    return Poll::Ready(match ready!(future.poll(cx)) {
                        Ok(response) => Ok(J::response(response)),
                        Err(error) => Err(J::error(error)),
                    });
                }
                StateProj::Later { later } => {
                    let grpc = later.grpc;
                    match ready!(later.as_mut().poll_begin(cx)) {
                        Begun::Called(future) => state.set(State::Called { future }),
                        Begun::Failed(error) => return Poll::Ready(Err(J::error(error))),
                        Begun::Refused(rejection) => {
                            return Poll::Ready(J::refused(rejection, grpc));
                        }
                    }
                }
                StateProj::Refused { rejection, grpc } => {
                    return match rejection.take() {
                        Some(rejection) => Poll::Ready(J::refused(rejection, *grpc)),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }
}

impl<S: Service<Req>, Req, J> fmt::Debug for AdaptiveFuture<S, Req, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Later { later } if later.waiter.is_some() => "waiting",
            State::Later { .. } => "readying",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("AdaptiveFuture").field(&state).finish()
    }
}
