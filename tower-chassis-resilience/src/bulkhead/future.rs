use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_chassis_core::{BoxError, Rejection, settle::Settle};
use tower_service::Service;

use super::{Ticket, shared::Waiter};

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
        }
    }

    pub(super) fn waiting(waiter: Waiter, call: Call<S, Req, J>) -> Self {
        Self {
            state: State::Waiting {
                sleep: None,
                call: Some(call),
                waiter: Some(waiter),
            },
        }
    }

    pub(super) fn readying(ticket: Ticket, call: Call<S, Req, J>) -> Self {
        Self {
            state: State::Readying {
                call: Some(call),
                ticket: Some(ticket),
            },
        }
    }

    pub(super) fn refused(rejection: Rejection) -> Self {
        Self {
            state: State::Refused {
                rejection: Some(rejection),
            },
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
    S::Error: Into<BoxError>,
    J: Settle<S::Response, S::Error>,
{
    type Output = Result<J::Response<Ticket>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
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
                    return Poll::Ready(settle.settle(result, ticket).map_err(Into::into));
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
                        return Poll::Ready(Err(error.into()));
                    }
                    let (Some(mut call), Some(ticket)) = (call.take(), ticket.take()) else {
                        return Poll::Pending;
                    };
                    State::called(call.inner.call(call.request), ticket, call.settle)
                }
                StateProj::Refused { rejection } => {
                    return match rejection.take() {
                        Some(rejection) => Poll::Ready(Err(Box::new(rejection))),
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
