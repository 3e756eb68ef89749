use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tower_chassis_core::{
    BoxError, Verdict,
    verdict::{Auto, Classify},
};
use tower_service::Service;

use super::{
    alternative::{Alternative, Keep},
    future::FallbackFuture,
    layer::Shared,
    mark::{Mark, Unmarked},
};

/// The service of [`FallbackLayer`](super::FallbackLayer).
pub struct Fallback<S, A, C = Auto, M = Unmarked> {
    inner: S,
    shared: Arc<Shared<A>>,
    classify: C,
    mark: M,
    /// Readiness failed, and another answer is wanted.
    unready: Option<Box<Unready>>,
}

/// Why readiness failed.
pub(super) struct Unready {
    pub(super) error: BoxError,
    pub(super) verdict: Verdict,
}

impl<S, A, C, M> Fallback<S, A, C, M> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<A>>, classify: C, mark: M) -> Self {
        Self {
            inner,
            shared,
            classify,
            mark,
            unready: None,
        }
    }
}

impl<S: Clone, A, C: Clone, M: Clone> Clone for Fallback<S, A, C, M> {
    fn clone(&self) -> Self {
        // A clone starts unready: that readiness failed is readiness.
        Self::new(
            self.inner.clone(),
            Arc::clone(&self.shared),
            self.classify.clone(),
            self.mark.clone(),
        )
    }
}

impl<S: fmt::Debug, A, C, M> fmt::Debug for Fallback<S, A, C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("name", &self.shared.state.setup.name)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, A, C, M, Req> Service<Req> for Fallback<S, A, C, M>
where
    A: Keep<Req> + Alternative<Req, S::Response, S::Error>,
    S: Service<<A as Keep<Req>>::Request>,
    S::Error: Into<BoxError>,
    C: Classify<S::Response, S::Error>,
    M: Mark<<A as Alternative<Req, S::Response, S::Error>>::Response>,
{
    type Response = <A as Alternative<Req, S::Response, S::Error>>::Response;
    type Error = <A as Alternative<Req, S::Response, S::Error>>::Error;
    type Future = FallbackFuture<S, A, C, M, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.unready.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map(|ready| match ready {
            Ok(()) => Ok(()),
            Err(error) => {
                // A pool that is closed, a connection that cannot be made: the call is answered all the same.
                let verdict = self.classify.error(&error);
                if !self.shared.state.wants(verdict) {
                    return Err(A::pass(error));
                }
                let error = error.into();
                self.unready = Some(Box::new(Unready { error, verdict }));
                Ok(())
            }
        })
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let (request, kept) = shared.alternative.keep(request);
        let (classify, mark) = (self.classify.clone(), self.mark);
        match mem::take(&mut self.unready) {
            None => {
                let future = self.inner.call(request);
                FallbackFuture::called(future, shared, kept, classify, mark)
            }
            // The request goes here, and with it what holds the body that may be wanted again.
            Some(unready) => FallbackFuture::unready(unready, shared, kept, classify, mark),
        }
    }
}
