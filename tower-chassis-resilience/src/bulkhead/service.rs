use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower_chassis_core::{
    refusal::{IsGrpc, Refusal},
    settle::{Settle, UntilHead},
    verdict::OkIsSuccess,
};
use tower_service::Service;

use super::{
    BulkheadFuture,
    future::{Call, Settled},
    shared::{Shared, Turn},
};

/// The service of a [`BulkheadLayer`](super::BulkheadLayer).
pub struct Bulkhead<S, J = UntilHead<OkIsSuccess>> {
    inner: S,
    shared: Arc<Shared>,
    settle: J,
    /// The inner service answered that it is ready, and was not called since.
    readied: bool,
}

impl<S, J> Bulkhead<S, J> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, settle: J) -> Self {
        Self {
            inner,
            shared,
            settle,
            readied: false,
        }
    }

    /// Lets go of what readiness reserved in the inner service.
    fn unready(&mut self)
    where
        S: Clone,
    {
        if std::mem::take(&mut self.readied) {
            self.inner = self.inner.clone();
        }
    }
}

impl<S: Clone, J: Clone> Clone for Bulkhead<S, J> {
    fn clone(&self) -> Self {
        // A clone starts unready.
        Self::new(
            self.inner.clone(),
            Arc::clone(&self.shared),
            self.settle.clone(),
        )
    }
}

impl<S: fmt::Debug, J> fmt::Debug for Bulkhead<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", &self.shared.setup.name)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, J, Req> Service<Req> for Bulkhead<S, J>
where
    S: Service<Req> + Clone,
    J: Settle<S::Response, S::Error> + IsGrpc<Req> + Refusal<Settled<S, Req, J>, S::Error>,
{
    type Response = <J as Refusal<Settled<S, Req, J>, S::Error>>::Response;
    type Error = <J as Refusal<Settled<S, Req, J>, S::Error>>::Error;
    type Future = BulkheadFuture<S, Req, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // While none is free nobody shall wait here, outside of the queue and its bounds, nor hold
        // what the inner service reserves: `call` queues or refuses.
        if !self.shared.is_free() {
            return Poll::Ready(Ok(()));
        }
        self.readied = false;
        ready!(self.inner.poll_ready(cx)).map_err(J::error)?;
        self.readied = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grpc = J::is_grpc(&request);
        match self.shared.enter() {
            Turn::Now(ticket) if self.readied => {
                self.readied = false;
                let inner = self.inner.call(request);
                BulkheadFuture::called(inner, ticket, self.settle.clone())
            }
            Turn::Now(ticket) => BulkheadFuture::readying(ticket, self.later(request)),
            Turn::Wait(waiter) => {
                self.unready();
                BulkheadFuture::waiting(waiter, self.later(request), grpc)
            }
            Turn::Refused(rejection) => {
                self.unready();
                BulkheadFuture::refused(rejection, grpc)
            }
        }
    }
}

impl<S: Clone, J: Clone> Bulkhead<S, J> {
    fn later<Req>(&self, request: Req) -> Call<S, Req, J> {
        Call {
            inner: self.inner.clone(),
            request,
            settle: self.settle.clone(),
        }
    }
}
