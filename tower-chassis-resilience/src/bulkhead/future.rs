use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_chassis_core::{Rejection, refusal::Refusal, settle::Settle};
use tower_service::Service;

use super::{Ticket, shared::Waiter};

/// What is answered from inside, once it is judged.
pub(super) type Settled<S, Req, J> =
    <J as Settle<<S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Response<Ticket>;

/// A call that is not made yet: the service for it is readied when its turn has come.
pub(super) struct Call<S, Req, J> {
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) settle: J,
}

pin_project! {
    /// The future of a [`Bulkhead`](super::Bulkhead).
    #[must_use = "futures do nothing unless polled"]
    pub struct BulkheadFuture<S, Req, J>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, S::Future, Req, J>,
        grpc: bool,
    }
}

pin_project! {
    // In each, the ticket is the last: what it stands for is dropped before another call begins.
    #[project = StateProj]
    enum State<S, F, Req, J> {
        Called {
            #[pin]
            inner: F,
            settle: J,
            ticket: Option<Ticket>,
        },
        Waiting {
            // None before the first Pending.
            #[pin]
            sleep: Option<Sleep>,
            call: Option<Call<S, Req, J>>,
            waiter: Option<Waiter>,
        },
        Readying {
            call: Option<Call<S, Req, J>>,
            ticket: Option<Ticket>,
        },
        Refused { rejection: Option<Rejection> },
    }
}

impl<S: Service<Req>, Req, J> BulkheadFuture<S, Req, J> {
    pub(super) fn called(inner: S::Future, ticket: Ticket, settle: J) -> Self {
        Self {
            state: State::called(inner, ticket, settle),
            grpc: false,
        }
    }

    pub(super) fn waiting(waiter: Waiter, call: Call<S, Req, J>, grpc: bool) -> Self {
        Self {
            state: State::Waiting {
                sleep: None,
                call: Some(call),
                waiter: Some(waiter),
            },
            grpc,
        }
    }

    pub(super) fn readying(ticket: Ticket, call: Call<S, Req, J>) -> Self {
        Self {
            state: State::Readying {
                call: Some(call),
                ticket: Some(ticket),
            },
            grpc: false,
        }
    }

    pub(super) fn refused(rejection: Rejection, grpc: bool) -> Self {
        Self {
            state: State::Refused {
                rejection: Some(rejection),
            },
            grpc,
        }
    }
}

impl<S, F, Req, J> State<S, F, Req, J> {
    fn called(inner: F, ticket: Ticket, settle: J) -> Self {
        Self::Called {
            inner,
            settle,
            ticket: Some(ticket),
        }
    }
}

impl<S, Req, J> Future for BulkheadFuture<S, Req, J>
where
    S: Service<Req>,
    J: Settle<S::Response, S::Error> + Refusal<Settled<S, Req, J>, S::Error>,
{
    type Output = Result<
        <J as Refusal<Settled<S, Req, J>, S::Error>>::Response,
        <J as Refusal<Settled<S, Req, J>, S::Error>>::Error,
    >;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut state = this.state;
        loop {
            let next = match state.as_mut().project() {
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
                StateProj::Waiting {
                    mut sleep,
                    call,
                    waiter,
                } => {
                    if let Some(waiter) = waiter.as_mut()
                        && waiter.poll(cx).is_pending()
                    {
                        if sleep.is_none() {
                            sleep.set(Some(sleep_until(waiter.until)));
                        }
                        if let Some(sleep) = sleep.as_pin_mut() {
                            ready!(sleep.poll(cx));
                        }
                    }
                    // Its turn has come, or its time is up; perhaps both at once.
                    match waiter.take().map(Waiter::leave) {
                        Some(Ok(ticket)) => State::Readying {
                            call: call.take(),
                            ticket: Some(ticket),
                        },
                        Some(Err(rejection)) => State::Refused {
                            rejection: Some(rejection),
                        },
                        None => return Poll::Pending,
                    }
                }
                StateProj::Readying { call, ticket } => {
                    if let Some(call) = call
                        && let Err(error) = ready!(call.inner.poll_ready(cx))
                    {
                        state.set(State::Refused { rejection: None });
                        return Poll::Ready(Err(J::error(error)));
                    }
                    let (Some(mut call), Some(ticket)) = (call.take(), ticket.take()) else {
                        return Poll::Pending;
                    };
                    State::called(call.inner.call(call.request), ticket, call.settle)
                }
                StateProj::Refused { rejection } => {
                    return match rejection.take() {
                        Some(rejection) => Poll::Ready(J::refused(rejection, *this.grpc)),
                        None => Poll::Pending,
                    };
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req, J> fmt::Debug for BulkheadFuture<S, Req, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Waiting { .. } => "waiting",
            State::Readying { .. } => "readying",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("BulkheadFuture").field(&state).finish()
    }
}
