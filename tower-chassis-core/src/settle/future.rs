use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::{Held, Observe, Settle};

pin_project! {
    /// The future of every layer that observes a call. Dropped early, its ticket is told why.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, G, J>
    where
        G: Observe,
    {
        #[pin]
        inner: F,
        // After the future: what the call holds further in is let go first, or a limit would be passed for a moment.
        guard: Held<G>,
        settle: J,
    }
}

impl<F, G: Observe, J> ResponseFuture<F, G, J> {
    #[inline]
    pub(crate) const fn holding(inner: F, guard: Held<G>, settle: J) -> Self {
        Self {
            inner,
            guard,
            settle,
        }
    }

    /// Watches `inner` with `guard`, judged by `settle`.
    #[inline]
    pub const fn new(inner: F, guard: G, settle: J) -> Self {
        Self::holding(inner, Held::new(guard), settle)
    }
}

impl<F, G, J, Res, Err> Future for ResponseFuture<F, G, J>
where
    F: Future<Output = Result<Res, Err>>,
    G: Observe,
    J: Settle<Res, Err>,
{
    type Output = Result<J::Response<G>, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let result = ready!(this.guard.run(|| inner.poll(cx)));
        match this.guard.take() {
            Some(guard) => Poll::Ready(this.settle.settle(result, guard)),
            // Polled after it was ready: the inner future has the say (most panic).
            None => Poll::Pending,
        }
    }
}
