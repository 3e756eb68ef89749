use std::{
    fmt,
    marker::PhantomData,
    mem,
    task::{Context, Poll, ready},
};

use tower_chassis_core::{
    refusal::{IsGrpc, Refusal},
    settle::{Settle, UntilHead},
    striped::Striped,
    verdict::OkIsSuccess,
};
use tower_service::Service;

use super::{
    BulkheadFuture, NoDeadlines, Patience,
    future::Settled,
    later::Later,
    shared::{Held, Shared, Turn, enter},
};

/// The service of a [`BulkheadLayer`](super::BulkheadLayer).
pub struct Bulkhead<S, J = UntilHead<OkIsSuccess>, D = NoDeadlines> {
    inner: Inner<S>,
    shared: Striped<Shared>,
    settle: J,
    deadlines: PhantomData<fn() -> D>,
}

impl<S, J, D> Bulkhead<S, J, D> {
    pub(super) const fn new(inner: S, shared: Striped<Shared>, settle: J) -> Self {
        Self {
            inner: Inner::new(inner),
            shared,
            settle,
            deadlines: PhantomData,
        }
    }
}

impl<S: Clone, J: Clone, D> Clone for Bulkhead<S, J, D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            settle: self.settle.clone(),
            deadlines: PhantomData,
        }
    }
}

impl<S: fmt::Debug, J, D> fmt::Debug for Bulkhead<S, J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", self.shared.name())
            .field("inner", &self.inner.service)
            .finish_non_exhaustive()
    }
}

impl<S, J, D, Req> Service<Req> for Bulkhead<S, J, D>
where
    S: Service<Req> + Clone,
    D: Patience<Req>,
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
        self.inner.poll_ready(cx).map_err(J::error)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grpc = J::is_grpc(&request);
        let turn = enter(
            &self.shared,
            || self.shared.hold(),
            || D::deadline(&request),
        );
        self.inner.begin(turn, request, &self.settle, grpc)
    }
}

/// The inner service, and whether it was readied.
#[derive(Debug)]
pub(super) struct Inner<S> {
    pub(super) service: S,
    /// It answered that it is ready, and was not called since.
    readied: bool,
    /// It was asked whether it is, and was not called since: it may have a place in a queue of its own.
    asked: bool,
}

impl<S: Clone> Clone for Inner<S> {
    fn clone(&self) -> Self {
        // A clone starts unready.
        Self::new(self.service.clone())
    }
}

impl<S> Inner<S> {
    pub(super) const fn new(service: S) -> Self {
        Self {
            service,
            readied: false,
            asked: false,
        }
    }

    pub(super) fn poll_ready<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
    {
        self.readied = false;
        self.asked = true;
        ready!(self.service.poll_ready(cx))?;
        self.readied = true;
        Poll::Ready(Ok(()))
    }

    /// Begins a call in its turn.
    pub(super) fn begin<Req, J, H: Held>(
        &mut self,
        turn: Turn<H>,
        request: Req,
        settle: &J,
        grpc: bool,
    ) -> BulkheadFuture<S, Req, J, H>
    where
        S: Service<Req> + Clone,
        J: Clone,
    {
        let settle = settle.clone();
        match turn {
            Turn::Now(ticket) if self.readied => {
                (self.readied, self.asked) = (false, false);
                let inner = self.service.call(request);
                BulkheadFuture::called(inner, ticket, settle)
            }
            Turn::Now(ticket) => {
                let inner = self.unready().clone();
                BulkheadFuture::later(Later::readying(ticket, inner, request, settle))
            }
            Turn::Wait(waiter) => {
                let inner = self.unready().clone();
                let later = Later::waiting(waiter, inner, request, settle);
                BulkheadFuture::later(later.grpc(grpc))
            }
            Turn::Refused(kind) => {
                self.unready();
                BulkheadFuture::refused(kind, grpc)
            }
        }
    }

    /// Lets go of what readiness reserved, and of a place in a queue for it.
    fn unready(&mut self) -> &S
    where
        S: Clone,
    {
        self.readied = false;
        if mem::take(&mut self.asked) {
            self.service = self.service.clone();
        }
        &self.service
    }
}
