use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower_chassis_core::{clock, refusal::Fail, striped::Striped};
use tower_service::Service;

use super::{
    RateLimitFuture,
    answer::Answer,
    cost::CostOf,
    future::Waiting,
    shared::{Shared, Turn},
};
use crate::keyed::{KeyOf, One};

/// The service of a [`RateLimitLayer`](super::RateLimitLayer).
pub struct RateLimit<S, F = One, K = (), J = Fail> {
    inner: S,
    shared: Striped<Shared<F, K>>,
    answer: J,
}

impl<S, F, K, J> RateLimit<S, F, K, J> {
    pub(super) const fn new(inner: S, shared: Striped<Shared<F, K>>, answer: J) -> Self {
        Self {
            inner,
            shared,
            answer,
        }
    }
}

impl<S: Clone, F, K, J: Clone> Clone for RateLimit<S, F, K, J> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.shared.clone(), self.answer.clone())
    }
}

impl<S: fmt::Debug, F, K, J> fmt::Debug for RateLimit<S, F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("policy", &self.shared.live)
            .finish_non_exhaustive()
    }
}

impl<S, F, K, J, Req> Service<Req> for RateLimit<S, F, K, J>
where
    S: Service<Req> + Clone,
    F: KeyOf<Req, K> + CostOf<Req>,
    K: Hash + Eq,
    J: Answer<Req, S::Response, S::Error>,
{
    type Response = J::Response;
    type Error = J::Error;
    type Future = RateLimitFuture<S, Req, F, K, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), J::Error>> {
        self.inner.poll_ready(cx).map_err(J::error)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let cost = self.shared.key.cost_of(&request);
        if cost == 1 && self.answer.tells().is_none() && self.shared.take_spare() {
            return RateLimitFuture::called(self.inner.call(request), J::note(None));
        }
        self.enter(request, cost)
    }
}

impl<S, F, K, J> RateLimit<S, F, K, J> {
    #[inline(never)]
    fn enter<Req>(&mut self, request: Req, cost: u32) -> RateLimitFuture<S, Req, F, K, J>
    where
        S: Service<Req> + Clone,
        F: KeyOf<Req, K>,
        K: Hash + Eq,
        J: Answer<Req, S::Response, S::Error>,
    {
        let mut read = None;
        match self
            .shared
            .enter(&request, cost, &mut read, self.answer.tells())
        {
            Turn::Now(quota) => {
                let inner = call(&mut self.inner, request, read);
                RateLimitFuture::called(inner, J::note(quota))
            }
            Turn::Refused(rejection) => {
                self.unready();
                RateLimitFuture::refused(rejection, J::is_grpc(&request))
            }
            Turn::Wait { wait, held, quota } => {
                self.unready();
                let later = self.inner.clone();
                let shared = Arc::clone(self.shared.arc());
                let since = read.unwrap_or_else(clock::now);
                let waiting = Waiting::new(later, request, shared, held, since, wait);
                RateLimitFuture::waiting(waiting, J::note(quota))
            }
        }
    }
}

impl<S: Clone, F, K, J> RateLimit<S, F, K, J> {
    /// Lets go of what readiness reserved: who waits or is refused does not hold it.
    #[cold]
    fn unready(&mut self) {
        self.inner = self.inner.clone();
    }
}

/// Calls; with the time, if it was read just now.
#[inline]
pub(super) fn call<S: Service<Req>, Req>(
    service: &mut S,
    request: Req,
    read: Option<Instant>,
) -> S::Future {
    match read {
        Some(now) => {
            let _entered = clock::enter_at(now);
            service.call(request)
        }
        None => service.call(request),
    }
}
