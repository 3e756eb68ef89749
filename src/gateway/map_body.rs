//! The seam at which a stack's response body becomes [`Body`].

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use pin_project_lite::pin_project;
use tower_chassis_core::{Body, BoxError};
use tower_service::Service;

/// Answers with [`Body`], whatever the inner body is.
#[derive(Clone, Debug)]
pub(crate) struct MapBody<S>(S);

impl<S> MapBody<S> {
    pub(crate) const fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, Req, B> Service<Req> for MapBody<S>
where
    S: Service<Req, Response = Response<B>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = MapBodyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        MapBodyFuture {
            inner: self.0.call(request),
        }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(crate) struct MapBodyFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, B, E> Future for MapBodyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().inner.poll(cx)).map(|response| response.map(Body::new)))
    }
}
