use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};

use pin_project_lite::pin_project;
use tokio::{
    sync::mpsc::{OwnedPermit, Sender, error::SendError},
    time::{Instant, Sleep, sleep_until},
};
use tower_chassis_core::{
    Kind, Rejection, Verdict, clock,
    events::Event,
    refusal::Refusal,
    settle::{Observe, ResponseFuture, Settle},
};
use tower_service::Service;

use super::{
    super::{AuditRecord, state::Kept},
    LosslessTicket,
    layer::Shared,
};

/// What is answered from inside, once it is judged.
pub(super) type Settled<S, Req, J> = <J as Settle<
    <S as Service<Req>>::Response,
    <S as Service<Req>>::Error,
>>::Response<Option<LosslessTicket>>;

/// A call that is made.
type Called<S, Req, J> = ResponseFuture<<S as Service<Req>>::Future, Option<LosslessTicket>, J>;

pin_project! {
    /// The future of a [`LosslessAudit`](super::LosslessAudit): 32 bytes around that of the service. What waits for its place
    /// is in a box.
    #[must_use = "futures do nothing unless polled"]
    pub struct LosslessAuditFuture<S: Service<Req>, Req, J> {
        #[pin]
        state: State<S, Req, J>,
    }
}

pin_project! {
    #[project = StateNow]
    enum State<S: Service<Req>, Req, J> {
        Called {
            #[pin]
            called: Called<S, Req, J>,
        },
        Later {
            later: Pin<Box<Later<S, Req, J>>>,
        },
        Refused {
            grpc: bool,
        },
        Over,
    }
}

impl<S: Service<Req>, Req, J> LosslessAuditFuture<S, Req, J> {
    pub(super) const fn called(called: Called<S, Req, J>) -> Self {
        Self {
            state: State::Called { called },
        }
    }

    #[cold]
    pub(super) fn later(later: Later<S, Req, J>) -> Self {
        Self {
            state: State::Later {
                later: Box::pin(later),
            },
        }
    }

    #[cold]
    pub(super) fn refused(shared: &Shared, grpc: bool) -> Self {
        report(shared);
        Self {
            state: State::Refused { grpc },
        }
    }
}

fn report(shared: &Shared) {
    shared.state.refused();
    shared
        .events
        .emit(|| Event::refused("audit", Kind::Overloaded));
}

impl<S, Req, J> Future for LosslessAuditFuture<S, Req, J>
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
            let answered = match state.as_mut().project() {
                StateNow::Called { called } => ready!(called.poll(cx)),
                StateNow::Later { later } => match ready!(later.as_mut().poll_begin(cx)) {
                    Begun::Called(called) => {
                        state.set(State::Called { called });
                        continue;
                    }
                    Begun::Failed(answer) => answer,
                    Begun::Refused { grpc } => {
                        state.set(State::Refused { grpc });
                        continue;
                    }
                },
                StateNow::Refused { grpc } => {
                    let grpc = *grpc;
                    state.set(State::Over);
                    return Poll::Ready(J::refused(
                        Rejection::new(Kind::Overloaded, "audit"),
                        grpc,
                    ));
                }
                StateNow::Over => return Poll::Pending,
            };
            state.set(State::Over);
            return Poll::Ready(match answered {
                Ok(response) => Ok(J::response(response)),
                Err(error) => Err(J::error(error)),
            });
        }
    }
}

impl<S: Service<Req>, Req, J> fmt::Debug for LosslessAuditFuture<S, Req, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Later { .. } => "waiting",
            State::Refused { .. } => "refused",
            State::Over => "over",
        };
        f.debug_tuple("LosslessAuditFuture").field(&state).finish()
    }
}

/// Makes the call. The ticket is told when that panics.
pub(super) fn begin<S: Service<Req>, Req, J>(
    inner: &mut S,
    request: Req,
    ticket: Option<LosslessTicket>,
    settle: J,
) -> Called<S, Req, J> {
    struct Begins(Option<LosslessTicket>);
    impl Drop for Begins {
        fn drop(&mut self) {
            if let Some(ticket) = self.0.take() {
                debug_assert!(thread::panicking(), "it was taken");
                ticket.done(Verdict::FAILURE, clock::now());
            }
        }
    }
    let mut begins = Begins(ticket);
    let future = inner.call(request);
    ResponseFuture::new(future, begins.0.take(), settle)
}

type Place = Pin<Box<dyn Future<Output = Result<OwnedPermit<AuditRecord>, SendError<()>>> + Send>>;

pin_project! {
    /// A call that is not made yet.
    pub(super) struct Later<S, Req, J> {
        #[pin]
        turn: Turn,
        // The service for it is readied when it has its place.
        call: Option<Call<S, Req, J>>,
        shared: Shared,
    }
}

struct Call<S, Req, J> {
    inner: S,
    request: Req,
    settle: J,
}

pin_project! {
    #[project = TurnNow]
    enum Turn {
        Waits {
            // A future of tokio's without a name.
            place: Place,
            // None before the first Pending.
            #[pin]
            sleep: Option<Sleep>,
            until: Instant,
            kept: Option<Box<Kept>>,
            grpc: bool,
        },
        // It has its place, or needs none.
        Came {
            ticket: Option<LosslessTicket>,
        },
    }
}

/// How a call begins.
pub(super) enum Begun<C, A> {
    Called(C),
    /// The inner service did not become ready.
    Failed(A),
    Refused {
        grpc: bool,
    },
}

impl<S, Req, J> Later<S, Req, J> {
    pub(super) fn new(inner: S, request: Req, settle: J, shared: &Shared) -> Self {
        let call = Some(Call {
            inner,
            request,
            settle,
        });
        Self {
            turn: Turn::Came { ticket: None },
            call,
            shared: shared.clone(),
        }
    }

    pub(super) fn readying(self, ticket: Option<LosslessTicket>) -> Self {
        Self {
            turn: Turn::Came { ticket },
            ..self
        }
    }

    pub(super) fn waiting(
        self,
        kept: Box<Kept>,
        places: Sender<AuditRecord>,
        until: Instant,
        grpc: bool,
    ) -> Self {
        Self {
            turn: Turn::Waits {
                place: Box::pin(places.reserve_owned()),
                sleep: None,
                until,
                kept: Some(kept),
                grpc,
            },
            ..self
        }
    }

    /// Once; after that it pends.
    fn poll_begin(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Begun<Called<S, Req, J>, Result<Settled<S, Req, J>, S::Error>>>
    where
        S: Service<Req>,
        J: Settle<S::Response, S::Error>,
    {
        let mut this = self.project();
        if let TurnNow::Waits {
            place,
            mut sleep,
            until,
            kept,
            grpc,
        } = this.turn.as_mut().project()
        {
            let place = match place.as_mut().poll(cx) {
                Poll::Ready(place) => place.ok(),
                Poll::Pending => {
                    if sleep.is_none() {
                        sleep.set(Some(sleep_until(*until)));
                    }
                    if let Some(sleep) = sleep.as_pin_mut() {
                        ready!(sleep.poll(cx));
                    }
                    None
                }
            };
            let (Some(place), Some(kept)) = (place, kept.take()) else {
                let grpc = *grpc;
                *this.call = None;
                this.turn.set(Turn::Came { ticket: None });
                report(this.shared);
                return Poll::Ready(Begun::Refused { grpc });
            };
            let ticket = Some(LosslessTicket { kept, place });
            this.turn.set(Turn::Came { ticket });
        }
        let TurnNow::Came { ticket } = this.turn.project() else {
            return Poll::Pending;
        };
        let Some(call) = this.call.as_mut() else {
            return Poll::Pending;
        };
        let ready = ready!(call.inner.poll_ready(cx));
        let ticket = ticket.take();
        let Some(mut call) = this.call.take() else {
            return Poll::Pending;
        };
        Poll::Ready(match ready {
            Ok(()) => Begun::Called(begin(&mut call.inner, call.request, ticket, call.settle)),
            // It was not made, and that is recorded too.
            Err(error) => Begun::Failed(call.settle.settle(Err(error), ticket)),
        })
    }
}
