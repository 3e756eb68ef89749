//! The wiring of a layer that answers some requests itself and passes the others on as they are.
//!
//! A policy supplies [`Answers`], [`Answered`] is its service: the error stays that of the inner service, and the body
//! is either's.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::rescue::RescueBody;

/// A policy that answers some requests itself.
pub trait Answers<B> {
    /// The answer, or none: then the request goes on.
    fn answer(&self, request: &Request<B>) -> Option<Response<Bytes>>;
}

/// The service of a policy that [`Answers`].
///
/// It is ready when the inner service is: also what it answers itself waits for that.
#[derive(Clone, Debug)]
pub struct Answered<S, P> {
    inner: S,
    policy: P,
}

impl<S, P> Answered<S, P> {
    /// Answers by `policy`, else calls `inner`.
    pub const fn new(inner: S, policy: P) -> Self {
        Self { inner, policy }
    }
}

impl<S, P, B, R> Service<Request<B>> for Answered<S, P>
where
    S: Service<Request<B>, Response = Response<R>>,
    P: Answers<B>,
    R: Body<Data = Bytes>,
{
    type Response = Response<RescueBody<R>>;
    type Error = S::Error;
    type Future = AnsweredFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        AnsweredFuture {
            state: match self.policy.answer(&request) {
                None => State::Called {
                    future: self.inner.call(request),
                },
                Some(answer) => State::Made {
                    answer: Some(Box::new(answer)),
                },
            },
        }
    }
}

pin_project! {
    /// The future of [`Answered`]: that of the inner service and a word.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct AnsweredFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Called { #[pin] future: F },
        // In a box: a future is as large as the larger of the two.
        Made { answer: Option<Box<Response<Bytes>>> },
    }
}

impl<F, R, E> Future for AnsweredFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<RescueBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProj::Called { future } => {
                ready!(future.poll(cx)).map(|response| response.map(RescueBody::inner))
            }
            StateProj::Made { answer } => match answer.take() {
                Some(answer) => Ok(answer.map(RescueBody::made)),
                None => return Poll::Pending,
            },
        })
    }
}
