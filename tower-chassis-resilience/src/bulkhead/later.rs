//! A call that is not made yet.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_chassis_core::Kind;
use tower_service::Service;

use super::{
    Ticket,
    shared::{Held, Waiter},
};

pin_project! {
    /// Waits for its turn, if it has not come, and for the service.
    pub(super) struct Later<S, Req, J, H>
    where
        H: Held,
    {
        // None before the first Pending.
        #[pin]
        sleep: Option<Sleep>,
        call: Option<Call<S, Req, J>>,
        // After the call: that is dropped before another one begins.
        turn: Turn<H>,
        grpc: bool,
    }
}

enum Turn<H: Held> {
    Waits(Waiter<H>),
    Came(Ticket<H>),
    Over,
}

/// The service for it is readied when its turn has come.
struct Call<S, Req, J> {
    inner: S,
    request: Req,
    settle: J,
}

/// How a call begins.
pub(super) enum Begun<F, J, E, H: Held> {
    Called(F, Ticket<H>, J),
    /// The inner service did not become ready.
    Failed(E),
    Refused(Kind, bool),
}

impl<S, Req, J, H: Held> Later<S, Req, J, H> {
    pub(super) const fn waiting(waiter: Waiter<H>, inner: S, request: Req, settle: J) -> Self {
        Self::new(Turn::Waits(waiter), inner, request, settle)
    }

    pub(super) const fn readying(ticket: Ticket<H>, inner: S, request: Req, settle: J) -> Self {
        Self::new(Turn::Came(ticket), inner, request, settle)
    }

    const fn new(turn: Turn<H>, inner: S, request: Req, settle: J) -> Self {
        let call = Some(Call {
            inner,
            request,
            settle,
        });
        Self {
            sleep: None,
            call,
            turn,
            grpc: false,
        }
    }

    /// Whether its refusal is one of gRPC.
    pub(super) fn grpc(self, grpc: bool) -> Self {
        Self { grpc, ..self }
    }

    pub(super) const fn waits(&self) -> bool {
        matches!(self.turn, Turn::Waits(_))
    }

    /// Once; after that it pends.
    pub(super) fn poll_begin(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Begun<S::Future, J, S::Error, H>>
    where
        S: Service<Req>,
    {
        let mut this = self.project();
        if let Turn::Waits(waiter) = this.turn {
            if waiter.poll(cx).is_pending() {
                if this.sleep.is_none() {
                    this.sleep.set(Some(sleep_until(waiter.until())));
                }
                if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                    ready!(sleep.poll(cx));
                }
            }
            // Its turn has come, or its time is up; perhaps both at once.
            *this.turn = match waiter.leave() {
                Ok(ticket) => Turn::Came(ticket),
                Err(kind) => {
                    *this.turn = Turn::Over;
                    *this.call = None;
                    return Poll::Ready(Begun::Refused(kind, *this.grpc));
                }
            };
        }
        if let Some(call) = this.call
            && let Err(error) = ready!(call.inner.poll_ready(cx))
        {
            *this.call = None;
            *this.turn = Turn::Over;
            return Poll::Ready(Begun::Failed(error));
        }
        let turn = std::mem::replace(this.turn, Turn::Over);
        let (Turn::Came(ticket), Some(mut call)) = (turn, this.call.take()) else {
            return Poll::Pending;
        };
        let inner = call.inner.call(call.request);
        Poll::Ready(Begun::Called(inner, ticket, call.settle))
    }
}
