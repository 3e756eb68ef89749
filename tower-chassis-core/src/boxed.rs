//! The named seams at which types are erased. Nothing else on the request path boxes.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

/// The error of every layer that can refuse or fail by itself.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A boxed, cloneable service that can move between threads and be shared by them.
///
/// A clone is one allocation (the clone of the inner service), a call is one (its future).
pub struct BoxService<Req, Res, E = BoxError>(Box<dyn CloneService<Req, Res, E>>);

impl<Req, Res, E> BoxService<Req, Res, E> {
    /// Erases the type of `service`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Box::new(service))
    }
}

trait CloneService<Req, Res, E>: Send + Sync {
    fn boxed_clone(&self) -> Box<dyn CloneService<Req, Res, E>>;
    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>>;
    fn serve(&mut self, req: Req) -> BoxFuture<'static, Result<Res, E>>;
}

impl<S, Req, Res, E> CloneService<Req, Res, E> for S
where
    S: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn boxed_clone(&self) -> Box<dyn CloneService<Req, Res, E>> {
        Box::new(self.clone())
    }

    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.poll_ready(cx)
    }

    fn serve(&mut self, req: Req) -> BoxFuture<'static, Result<Res, E>> {
        Box::pin(self.call(req))
    }
}

impl<Req, Res, E> Clone for BoxService<Req, Res, E> {
    fn clone(&self) -> Self {
        Self(self.0.boxed_clone())
    }
}

impl<Req, Res, E> fmt::Debug for BoxService<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxService").finish_non_exhaustive()
    }
}

impl<Req, Res, E> Service<Req> for BoxService<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = BoxFuture<'static, Result<Res, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.0.ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        self.0.serve(req)
    }
}
