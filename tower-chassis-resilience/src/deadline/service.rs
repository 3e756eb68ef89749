use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{
    Carrier, Kind, Rejection, Verdict, clock,
    events::Event,
    refusal::{Fail, IsGrpc, Refusal},
    striped::{Hold, Striped},
};
use tower_service::Service;

use super::{Accept, Side, layer::Shared};
use crate::until::{Late, Until};

/// The service of [`DeadlineLayer`](super::DeadlineLayer).
pub struct Deadlined<S, D = Accept, A = Fail> {
    inner: S,
    shared: Striped<Shared>,
    side: D,
    answer: PhantomData<fn() -> A>,
}

impl<S, D, A> Deadlined<S, D, A> {
    pub(super) const fn new(inner: S, shared: Striped<Shared>, side: D) -> Self {
        Self {
            inner,
            shared,
            side,
            answer: PhantomData,
        }
    }
}

impl<S: Clone, D: Clone, A> Clone for Deadlined<S, D, A> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.shared.clone(), self.side.clone())
    }
}

impl<S: fmt::Debug, D: fmt::Debug, A> fmt::Debug for Deadlined<S, D, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlined")
            .field("inner", &self.inner)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

impl<S, D, A, Req> Service<Req> for Deadlined<S, D, A>
where
    S: Service<Req>,
    D: Side,
    A: Refusal<S::Response, S::Error> + IsGrpc<Req>,
    Req: Carrier,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = DeadlineFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        self.inner.poll_ready(cx).map_err(A::error)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let grpc = A::is_grpc(&request);
        clock::entered(|now| {
            let found = self.side.find(&mut request, &self.shared.bounds(), now);
            let state = match found {
                Ok(_) if !self.side.ends() => State::Told {
                    future: self.inner.call(request),
                },
                Ok(deadline) => State::Called {
                    until: Until::new(
                        self.inner.call(request),
                        deadline.instant(),
                        // The time may have gone by anywhere: that is not the fault of what is below.
                        Verdict::CANCELLED,
                    ),
                },
                Err(rejection) => {
                    let kind = rejection.kind();
                    self.shared.events.emit(|| Event::refused("deadline", kind));
                    State::Refused {
                        rejection: Some(rejection),
                    }
                }
            };
            DeadlineFuture {
                state,
                report: self.shared.events.is_heard().then(|| self.shared.hold()),
                grpc,
                answer: PhantomData,
            }
        })
    }
}

pin_project! {
    /// The future of [`Deadlined`].
    #[must_use = "futures do nothing unless polled"]
    pub struct DeadlineFuture<F, A = Fail> {
        #[pin]
        state: State<F>,
        // Of one who listened when the call began.
        report: Option<Hold<Shared>>,
        grpc: bool,
        answer: PhantomData<fn() -> A>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] until: Until<F> },
        Told { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F, A> fmt::Debug for DeadlineFuture<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = matches!(self.state, State::Refused { .. });
        f.debug_struct("DeadlineFuture")
            .field("refused", &refused)
            .finish_non_exhaustive()
    }
}

impl<F, A, Res, Err> Future for DeadlineFuture<F, A>
where
    F: Future<Output = Result<Res, Err>>,
    A: Refusal<Res, Err>,
{
    type Output = Result<A::Response, A::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rejection = match this.state.project() {
            StateProj::Told { future } => {
                return future.poll(cx).map_ok(A::response).map_err(A::error);
            }
            StateProj::Called { until } => {
                match ready!(until.poll_until(cx, Late::Ends, || None)) {
                    Some(result) => {
                        return Poll::Ready(result.map(A::response).map_err(A::error));
                    }
                    None => {
                        let kind = Kind::Timeout;
                        if let Some(shared) = this.report {
                            shared.events.emit(|| Event::refused("deadline", kind));
                        }
                        Rejection::new(kind, "deadline")
                    }
                }
            }
            StateProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => rejection,
                None => return Poll::Pending,
            },
        };
        Poll::Ready(A::refused(rejection, *this.grpc))
    }
}

#[cfg(test)]
impl<F: Future, A> DeadlineFuture<F, A> {
    /// Whether it has a timer.
    pub(super) const fn is_armed(&self) -> bool {
        match &self.state {
            State::Called { until } => until.is_armed(),
            State::Told { .. } | State::Refused { .. } => false,
        }
    }
}
