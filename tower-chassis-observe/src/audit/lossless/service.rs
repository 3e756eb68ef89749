use std::{
    fmt, mem,
    task::{Context, Poll, ready},
};

use http::Request;
use tokio::sync::mpsc::error::TrySendError;
use tower_chassis_core::{
    Carrier, clock,
    refusal::{IsGrpc, Refusal},
    settle::{Settle, UntilEnd},
    verdict::Auto,
};
use tower_service::Service;

use super::{
    super::state::Kept,
    LosslessAuditFuture, LosslessTicket,
    future::{Later, Settled, begin},
    layer::Shared,
};

/// The service of a [`LosslessAuditLayer`](super::LosslessAuditLayer).
pub struct LosslessAudit<S, J = UntilEnd<Auto>> {
    inner: S,
    shared: Shared,
    settle: J,
    /// The inner service answered that it is ready, and was not called since.
    readied: bool,
    /// It was asked whether it is, and was not called since: it may have a place in a queue of its own.
    asked: bool,
}

impl<S, J> LosslessAudit<S, J> {
    pub(super) const fn new(inner: S, shared: Shared, settle: J) -> Self {
        Self {
            inner,
            shared,
            settle,
            readied: false,
            asked: false,
        }
    }

    /// Lets go of what readiness reserved, and of a place in a queue for it.
    fn unready(&mut self) -> S
    where
        S: Clone,
    {
        self.readied = false;
        if mem::take(&mut self.asked) {
            self.inner = self.inner.clone();
        }
        self.inner.clone()
    }
}

impl<S: Clone, J: Clone> Clone for LosslessAudit<S, J> {
    fn clone(&self) -> Self {
        // A clone starts unready.
        Self::new(self.inner.clone(), self.shared.clone(), self.settle.clone())
    }
}

impl<S: fmt::Debug, J> fmt::Debug for LosslessAudit<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LosslessAudit")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, J, B> Service<Request<B>> for LosslessAudit<S, J>
where
    S: Service<Request<B>> + Clone,
    J: Settle<S::Response, S::Error>
        + IsGrpc<Request<B>>
        + Refusal<Settled<S, Request<B>, J>, S::Error>,
{
    type Response = <J as Refusal<Settled<S, Request<B>, J>, S::Error>>::Response;
    type Error = <J as Refusal<Settled<S, Request<B>, J>, S::Error>>::Error;
    type Future = LosslessAuditFuture<S, Request<B>, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // While there is no place nobody shall hold what the inner service reserves: `call` waits or refuses.
        if self.shared.places.capacity() == 0 || self.shared.places.is_closed() {
            return Poll::Ready(Ok(()));
        }
        self.readied = false;
        self.asked = true;
        ready!(self.inner.poll_ready(cx)).map_err(J::error)?;
        self.readied = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let entered = clock::enter();
        let now = entered.now();
        let kept = Kept::of(&self.shared.state, &mut request, now);
        let place = match kept {
            None => Ok(None),
            Some(kept) => match self.shared.places.clone().try_reserve_owned() {
                Ok(place) => Ok(Some(LosslessTicket { kept, place })),
                Err(TrySendError::Full(places)) => Err((kept, places)),
                Err(TrySendError::Closed(_)) => {
                    self.unready();
                    let grpc = J::is_grpc(&request);
                    return LosslessAuditFuture::refused(&self.shared, grpc);
                }
            },
        };
        match place {
            Ok(ticket) if self.readied => {
                (self.readied, self.asked) = (false, false);
                let settle = self.settle.clone();
                LosslessAuditFuture::called(begin(&mut self.inner, request, ticket, settle))
            }
            Ok(ticket) => {
                let inner = self.unready();
                let later = Later::new(inner, request, self.settle.clone(), &self.shared);
                LosslessAuditFuture::later(later.readying(ticket))
            }
            Err((kept, places)) => {
                let inner = self.unready();
                let wait = self.shared.state.policy().config().max_wait;
                let deadline = request
                    .invocation()
                    .and_then(|invocation| invocation.deadline());
                let until = now + wait;
                let until = deadline.map_or(until, |deadline| until.min(deadline.instant()));
                let grpc = J::is_grpc(&request);
                let later = Later::new(inner, request, self.settle.clone(), &self.shared);
                LosslessAuditFuture::later(later.waiting(kept, places, until, grpc))
            }
        }
    }
}
