//! [`Script`] for layers of the field that ask for more: the request, the response and the error can be cloned and shared
//! between threads.

use std::{
    error::Error,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{Service, ServiceExt};
use tower_chassis::BoxError;

use crate::script::Script;

/// What is sent.
pub type Ask = Request<()>;
/// What is answered.
pub type Said = Response<()>;

/// An error that can be cloned.
#[derive(Clone, Debug)]
pub struct Failed(Arc<BoxError>);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.0)
    }
}

impl From<BoxError> for Failed {
    fn from(error: BoxError) -> Self {
        Self(Arc::new(error))
    }
}

/// Answers as its script does.
#[derive(Clone, Debug)]
pub struct Plain(Script);

impl Plain {
    pub fn new(script: &Script) -> Self {
        Self(script.clone())
    }
}

impl Service<Ask> for Plain {
    type Response = Said;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Said, Failed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        let call = self.0.call(ask);
        Box::pin(async { Ok(call.await?.map(drop)) })
    }
}

/// A service with these types, for what can be said of it without a call.
#[derive(Debug)]
pub struct Of<Res, Err>(PhantomData<fn() -> (Res, Err)>);

impl<Res, Err> Clone for Of<Res, Err> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<Res: 'static, Err: 'static> Service<Ask> for Of<Res, Err> {
    type Response = Res;
    type Error = Err;
    type Future = Pin<Box<dyn Future<Output = Result<Res, Err>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Err>> {
        Poll::Pending
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        Box::pin(std::future::pending())
    }
}

/// Whether a type is a service for [`Ask`], found while this is compiled: a constant of the type itself is taken before one of
/// a trait, and is there only if the bound holds.
macro_rules! is_service {
    ($service:ty) => {{
        // The names are seen by the type that is given: no other has these.
        struct ProbedService<S>(std::marker::PhantomData<S>);
        #[allow(dead_code, reason = "not taken where the bound holds")]
        trait NotAService {
            const IS: bool = false;
        }
        impl<S> NotAService for ProbedService<S> {}
        #[allow(dead_code, reason = "not taken where the bound does not hold")]
        impl<S: tower::Service<$crate::plain::Ask>> ProbedService<S> {
            const IS: bool = true;
        }
        ProbedService::<$service>::IS
    }};
}
pub(crate) use is_service;

/// A service under test.
pub trait Subject:
    Service<Ask, Response = Said, Error: Send, Future: Send> + Clone + Send + 'static
{
}

impl<S> Subject for S where
    S: Service<Ask, Response = Said, Error: Send, Future: Send> + Clone + Send + 'static
{
}

/// Makes ready and calls.
pub async fn call<S: Subject>(mut service: S, path: &'static str) -> Result<Said, S::Error> {
    let ask = Request::get(path).body(()).unwrap();
    service.ready().await?.call(ask).await
}
