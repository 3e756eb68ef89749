//! The future of a route.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use tower_chassis_core::{Body, boxed::BoxFuture};

/// The answer of a router, in the making. It owns what it needs of the router; dropping it cancels the
/// call.
pub struct RouteFuture(BoxFuture<'static, Response<Body>>);

impl RouteFuture {
    pub(super) fn new(future: BoxFuture<'static, Response<Body>>) -> Self {
        Self(future)
    }
}

impl Future for RouteFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for RouteFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteFuture").finish_non_exhaustive()
    }
}
