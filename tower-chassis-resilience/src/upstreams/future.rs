use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tower_chassis_core::{BoxError, Rejection, boxed::BoxFuture};

/// The answer of an upstream.
pub struct ResponseFuture<Res>(State<Res>);

enum State<Res> {
    Called(BoxFuture<'static, Result<Res, BoxError>>),
    Refused(Option<Rejection>),
}

impl<Res> ResponseFuture<Res> {
    pub(super) fn called(answer: BoxFuture<'static, Result<Res, BoxError>>) -> Self {
        Self(State::Called(answer))
    }

    pub(super) fn refused(rejection: Rejection) -> Self {
        Self(State::Refused(Some(rejection)))
    }
}

impl<Res> Future for ResponseFuture<Res> {
    type Output = Result<Res, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Called(answer) => answer.as_mut().poll(cx),
            State::Refused(rejection) => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(rejection.into())),
                None => Poll::Pending,
            },
        }
    }
}

impl<Res> fmt::Debug for ResponseFuture<Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
