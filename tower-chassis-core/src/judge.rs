//! A classifier of one's own, given once and innermost, that every outer layer reads.
//!
//! By default every layer judges a call by the same function of what flows outward
//! ([`Auto`](crate::verdict::Auto)). Where that function is wrong for a service, say so once: this layer runs the
//! classifier for each response and error that passes and writes the verdict into it, where every layer outside,
//! also behind boxed bodies, finds it.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Class, JudgeLayer, Verdict, verdict::Outcome};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! // An old service that says 200 to everything, and what went wrong in a header.
//! let judge = JudgeLayer::by_fn(|result: Result<&Response<Body>, &BoxError>| match result {
//!     Ok(response) if response.headers().contains_key("x-error") => Verdict::FAILURE,
//!     Ok(_) => Verdict::SUCCESS,
//!     Err(error) => Verdict::of_error(error),
//! });
//! let service = ServiceBuilder::new().layer(judge).service(service_fn(async |_: Request<()>| {
//!     Ok::<_, BoxError>(Response::builder().header("x-error", "1").body(Body::empty())?)
//! }));
//! let response = service.oneshot(Request::new(())).await?;
//! assert_eq!(response.verdict().class(), Class::Failure);
//! # Ok(())
//! # }
//! ```
//!
//! What a gRPC call came to is in its trailers: a classifier that has nothing to say of a response answers
//! [`response.verdict()`](crate::verdict::Outcome), which knows that, and not `Verdict::SUCCESS`. An error type of your own that
//! is no [`BoxError`] is a failure to others, whatever it holds; here it gets its verdict.
//!
//! # Order
//! Innermost: around the handler or the connection, inside everything that judges. With a retry, inside it: it runs
//! once per attempt.
//!
//! # Cancellation
//! Holds nothing. A call that is dropped before its head is judged by whoever dropped it.
//!
//! # Cost
//! The extension of a response: three allocations, and one for the rule on the end of the body. Nothing in layers
//! outside.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    BoxError,
    verdict::{ByFn, Classify, Ending, Judged},
};

/// Judges calls for every layer outside. See the [module](self).
#[derive(Clone, Copy)]
#[must_use]
pub struct JudgeLayer<C> {
    classify: C,
}

impl<C> JudgeLayer<C> {
    /// Judges heads, errors and ends of bodies by `classify`.
    pub const fn new(classify: C) -> Self {
        Self { classify }
    }
}

impl<F> JudgeLayer<ByFn<F>> {
    /// Judges heads and errors by a closure `Fn(Result<&Response<B>, &E>) -> Verdict`.
    pub const fn by_fn(f: F) -> Self {
        Self::new(ByFn(f))
    }
}

impl<C> fmt::Debug for JudgeLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgeLayer").finish_non_exhaustive()
    }
}

impl<S, C: Clone> Layer<S> for JudgeLayer<C> {
    type Service = Judge<S, C>;
    fn layer(&self, inner: S) -> Judge<S, C> {
        Judge {
            inner,
            classify: self.classify.clone(),
        }
    }
}

/// The service of [`JudgeLayer`].
#[derive(Clone)]
pub struct Judge<S, C> {
    inner: S,
    classify: C,
}

impl<S: fmt::Debug, C> fmt::Debug for Judge<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, C, Req, B> Service<Req> for Judge<S, C>
where
    S: Service<Req, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    C: Classify<Response<B>, S::Error> + Send + Sync + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = JudgeFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        JudgeFuture {
            inner: self.inner.call(request),
            classify: self.classify.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Judge`].
    #[must_use = "futures do nothing unless polled"]
    pub struct JudgeFuture<F, C> {
        #[pin]
        inner: F,
        classify: C,
    }
}

impl<F, C> fmt::Debug for JudgeFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgeFuture").finish_non_exhaustive()
    }
}

impl<F, C, B, E> Future for JudgeFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
    E: Into<BoxError>,
    C: Classify<Response<B>, E> + Send + Sync + 'static,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match ready!(this.inner.poll(cx)) {
            Ok(mut response) => {
                let head = this.classify.head(&response);
                let ending = this.classify.ending(&response);
                let extensions = response.extensions_mut();
                extensions.insert(head);
                let ending = ending.unwrap_or_else(|| Ending::new(this.classify.clone(), head));
                extensions.insert(ending);
                Ok(response)
            }
            Err(error) => {
                let verdict = this.classify.error(&error);
                Err(Judged::new(verdict, error).into())
            }
        })
    }
}
