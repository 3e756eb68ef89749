use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep_until};
use tower_chassis_core::{
    clock,
    refusal::{Fail, IsGrpc, Refusal},
    striped::Striped,
};
use tower_service::Service;

use super::{
    NoPriority, PriorityClass, PriorityOf, ShedFuture,
    shared::{Site, State},
    unready::Unready,
};

/// The service of a [`ShedLayer`](super::ShedLayer).
pub struct Shed<S, P = NoPriority, J = Fail> {
    inner: S,
    site: Striped<Site<P>>,
    answer: J,
    readiness: Readiness,
}

/// What is known of the inner service of this instance, while that is not ready.
#[derive(Debug, Default)]
struct Readiness {
    /// The call is refused for it.
    refused: bool,
    /// It is waited for.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// In nanoseconds.
    since: u64,
    timer: Pin<Box<Sleep>>,
}

impl<S, P, J> Shed<S, P, J> {
    pub(super) fn new(inner: S, site: Striped<Site<P>>, answer: J) -> Self {
        Self {
            inner,
            site,
            answer,
            readiness: Readiness::default(),
        }
    }

    #[cold]
    fn refuse<F>(&self, class: Option<PriorityClass>, grpc: bool) -> ShedFuture<F, J> {
        self.site.state.refuse(class);
        ShedFuture::refused(grpc)
    }
}

impl<S: Clone, P, J: Clone> Clone for Shed<S, P, J> {
    fn clone(&self) -> Self {
        // A clone starts unready.
        Self::new(self.inner.clone(), self.site.clone(), self.answer.clone())
    }
}

impl<S: fmt::Debug, P, J> fmt::Debug for Shed<S, P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shed")
            .field("name", &self.site.state.setup.name)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, P, J, Req> Service<Req> for Shed<S, P, J>
where
    S: Service<Req>,
    P: PriorityOf<Req>,
    J: IsGrpc<Req> + Refusal<S::Response, S::Error>,
{
    type Response = J::Response;
    type Error = J::Error;
    type Future = ShedFuture<S::Future, J>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), J::Error>> {
        match self.inner.poll_ready(cx) {
            Poll::Ready(result) => {
                self.readiness = Readiness::default();
                if result.is_ok() {
                    self.site.unready.ready();
                }
                Poll::Ready(result.map_err(J::error))
            }
            // The inner service has the waker, and keeps its place in a queue.
            Poll::Pending => {
                let Site { state, unready, .. } = &*self.site;
                self.readiness.poll(state, unready, cx).map(Ok)
            }
        }
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        if mem::take(&mut self.readiness.refused) {
            return self.refuse(None, J::is_grpc(&request));
        }
        let site = &*self.site;
        let Some(priority) = site.priority.priority_of(&request) else {
            return ShedFuture::called(self.inner.call(request));
        };
        let entered = clock::enter();
        if site.state.admits(priority, entered.now()) {
            return ShedFuture::called(self.inner.call(request));
        }
        self.refuse(Some(priority.class()), J::is_grpc(&request))
    }
}

impl Readiness {
    /// The inner service is not ready. Ready once its time is up: then the call is refused.
    #[cold]
    fn poll(&mut self, state: &State, unready: &Unready, cx: &mut Context<'_>) -> Poll<()> {
        // Who was told that it may call may do so.
        if self.refused {
            return Poll::Ready(());
        }
        let Some(max) = state.max_unready() else {
            self.waiting = None;
            return Poll::Pending;
        };
        // With nothing to wait for it is refused at once.
        loop {
            if max == 0 {
                break;
            }
            let now = clock::now();
            // From 1: 0 stands for ready.
            let at = state.nanos(now).saturating_add(1);
            let mut since = unready.pending(at, max);
            // What this one has waited counts in any case: another one may be ready each time, and this one never.
            if let Some(waiting) = &self.waiting {
                since = since.min(waiting.since);
            }
            let left = max.saturating_sub(at.saturating_sub(since));
            if left == 0 {
                break;
            }
            let end = now + Duration::from_nanos(left);
            let waiting = self.waiting.get_or_insert_with(|| Waiting {
                since,
                timer: Box::pin(sleep_until(end)),
            });
            waiting.since = since;
            if waiting.timer.deadline() != end {
                waiting.timer.as_mut().reset(end);
            }
            // It wakes even if the inner service does not.
            if waiting.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        *self = Self {
            refused: true,
            waiting: None,
        };
        Poll::Ready(())
    }
}
