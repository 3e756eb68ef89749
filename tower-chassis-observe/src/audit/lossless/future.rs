use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};

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

/// The future of a [`LosslessAudit`](super::LosslessAudit). The call is in a box: 24 bytes for the layers outside.
#[must_use = "futures do nothing unless polled"]
pub struct LosslessAuditFuture<S: Service<Req>, Req, J>(State<S, Req, J>);

enum State<S: Service<Req>, Req, J> {
    Called(Pin<Box<Called<S, Req, J>>>),
    Later(Box<Later<S, Req, J>>),
    Refused { grpc: bool },
    Over,
}

impl<S: Service<Req>, Req, J> LosslessAuditFuture<S, Req, J> {
    pub(super) fn called(called: Called<S, Req, J>) -> Self {
        Self(State::Called(Box::pin(called)))
    }

    #[cold]
    pub(super) fn later(later: Later<S, Req, J>) -> Self {
        Self(State::Later(Box::new(later)))
    }

    #[cold]
    pub(super) fn refused(shared: &Shared, grpc: bool) -> Self {
        report(shared);
        Self(State::Refused { grpc })
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let answered = match &mut self.0 {
                State::Called(called) => ready!(called.as_mut().poll(cx)),
                State::Later(later) => match ready!(later.poll_begin(cx)) {
                    Begun::Called(called) => {
                        self.0 = State::Called(Box::pin(called));
                        continue;
                    }
                    Begun::Failed(answer) => answer,
                    Begun::Refused { grpc } => {
                        self.0 = State::Refused { grpc };
                        continue;
                    }
                },
                State::Refused { grpc } => {
                    let grpc = *grpc;
                    self.0 = State::Over;
                    return Poll::Ready(J::refused(
                        Rejection::new(Kind::Overloaded, "audit"),
                        grpc,
                    ));
                }
                State::Over => return Poll::Pending,
            };
            self.0 = State::Over;
            return Poll::Ready(match answered {
                Ok(response) => Ok(J::response(response)),
                Err(error) => Err(J::error(error)),
            });
        }
    }
}

impl<S: Service<Req>, Req, J> fmt::Debug for LosslessAuditFuture<S, Req, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Called(_) => "called",
            State::Later(_) => "waiting",
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

/// A call that is not made yet.
pub(super) struct Later<S, Req, J> {
    turn: Turn,
    /// The service for it is readied when it has its place.
    call: Option<Call<S, Req, J>>,
    shared: Shared,
}

struct Call<S, Req, J> {
    inner: S,
    request: Req,
    settle: J,
}

enum Turn {
    Waits {
        place: Place,
        /// None before the first Pending.
        sleep: Option<Pin<Box<Sleep>>>,
        until: Instant,
        kept: Option<Box<Kept>>,
        grpc: bool,
    },
    /// It has its place, or needs none.
    Came(Option<LosslessTicket>),
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
            turn: Turn::Came(None),
            call,
            shared: shared.clone(),
        }
    }

    pub(super) fn readying(self, ticket: Option<LosslessTicket>) -> Self {
        Self {
            turn: Turn::Came(ticket),
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
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Begun<Called<S, Req, J>, Result<Settled<S, Req, J>, S::Error>>>
    where
        S: Service<Req>,
        J: Settle<S::Response, S::Error>,
    {
        if let Turn::Waits {
            place,
            sleep,
            until,
            kept,
            grpc,
        } = &mut self.turn
        {
            let place = match place.as_mut().poll(cx) {
                Poll::Ready(place) => place.ok(),
                Poll::Pending => {
                    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(*until)));
                    ready!(sleep.as_mut().poll(cx));
                    None
                }
            };
            let (Some(place), Some(kept)) = (place, kept.take()) else {
                let grpc = *grpc;
                self.call = None;
                self.turn = Turn::Came(None);
                report(&self.shared);
                return Poll::Ready(Begun::Refused { grpc });
            };
            self.turn = Turn::Came(Some(LosslessTicket { kept, place }));
        }
        let Turn::Came(ticket) = &mut self.turn else {
            return Poll::Pending;
        };
        let Some(call) = &mut self.call else {
            return Poll::Pending;
        };
        let ready = ready!(call.inner.poll_ready(cx));
        let ticket = ticket.take();
        let Some(mut call) = self.call.take() else {
            return Poll::Pending;
        };
        Poll::Ready(match ready {
            Ok(()) => Begun::Called(begin(&mut call.inner, call.request, ticket, call.settle)),
            // It was not made, and that is recorded too.
            Err(error) => Begun::Failed(call.settle.settle(Err(error), ticket)),
        })
    }
}
