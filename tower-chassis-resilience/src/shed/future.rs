use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{
    Kind, Rejection,
    refusal::{Fail, Refusal},
};

pin_project! {
    /// The future of a [`Shed`](super::Shed).
    #[must_use = "futures do nothing unless polled"]
    pub struct ShedFuture<F, J = Fail> {
        #[pin]
        state: State<F>,
        answer: PhantomData<fn() -> J>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] inner: F },
        Refused { grpc: bool },
        Over,
    }
}

impl<F, J> ShedFuture<F, J> {
    #[inline]
    pub(super) const fn called(inner: F) -> Self {
        Self::of(State::Called { inner })
    }

    #[cold]
    pub(super) const fn refused(grpc: bool) -> Self {
        Self::of(State::Refused { grpc })
    }

    const fn of(state: State<F>) -> Self {
        Self {
            state,
            answer: PhantomData,
        }
    }
}

impl<F, J, Res, Err> Future for ShedFuture<F, J>
where
    F: Future<Output = Result<Res, Err>>,
    J: Refusal<Res, Err>,
{
    type Output = Result<J::Response, J::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        match state.as_mut().project() {
            StateProj::Called { inner } => inner.poll(cx).map(|result| match result {
                Ok(response) => Ok(J::response(response)),
                Err(error) => Err(J::error(error)),
            }),
            StateProj::Refused { grpc } => {
                let grpc = *grpc;
                state.set(State::Over);
                let rejection = Rejection::new(Kind::Overloaded, "shed");
                Poll::Ready(J::refused(rejection, grpc))
            }
            StateProj::Over => Poll::Pending,
        }
    }
}

impl<F, J> fmt::Debug for ShedFuture<F, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Refused { .. } => "refused",
            State::Over => "over",
        };
        f.debug_tuple("ShedFuture").field(&state).finish()
    }
}
