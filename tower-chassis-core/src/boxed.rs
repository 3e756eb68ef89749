//! The named seams at which types are erased. Nothing else on the request path boxes.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
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

/// A boxed service that is shared, not cloned: it serves through `&self`.
///
/// A clone is a reference count. A call is one allocation, for the clone of the inner service, its readiness and its
/// future together: each call readies a clone of its own.
pub struct SharedService<Req, Res, E = BoxError>(Arc<dyn Serve<Req, Res, E>>);

impl<Req, Res, E> SharedService<Req, Res, E> {
    /// Erases the type of `service`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Send + 'static,
        Res: 'static,
        E: 'static,
    {
        Self(Arc::new(service))
    }

    /// Waits until a clone of the service is ready, and calls it.
    pub fn serve(&self, request: Req) -> BoxFuture<'static, Result<Res, E>> {
        self.0.serve(request)
    }
}

trait Serve<Req, Res, E>: Send + Sync {
    fn serve(&self, request: Req) -> BoxFuture<'static, Result<Res, E>>;
}

impl<S, Req, Res, E> Serve<Req, Res, E> for S
where
    S: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    Req: Send + 'static,
{
    fn serve(&self, request: Req) -> BoxFuture<'static, Result<Res, E>> {
        Box::pin(OneCall::Readying {
            service: self.clone(),
            request: Some(request),
        })
    }
}

pin_project! {
    #[project = OneCallPinned]
    enum OneCall<S, Req, F> {
        Readying { service: S, request: Option<Req> },
        Called { #[pin] answer: F },
    }
}

impl<S: Service<Req>, Req> Future for OneCall<S, Req, S::Future> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let answer = match self.as_mut().project() {
                OneCallPinned::Called { answer } => return answer.poll(cx),
                OneCallPinned::Readying { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    match request.take() {
                        Some(request) => service.call(request),
                        // Its service panicked while it was called, and who polled it polls it again.
                        None => return Poll::Pending,
                    }
                }
            };
            self.set(Self::Called { answer });
        }
    }
}

impl<Req, Res, E> Clone for SharedService<Req, Res, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Req, Res, E> fmt::Debug for SharedService<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedService").finish_non_exhaustive()
    }
}

impl<Req, Res, E> Service<Req> for SharedService<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = BoxFuture<'static, Result<Res, E>>;

    /// Always ready: the clone that is called is readied in the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.0.serve(request)
    }
}
