use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tower_chassis_core::{
    clock::{self, Entered},
    refusal::{IsGrpc, Refusal},
    settle::{Settle, UntilHead},
};
use tower_service::Service;

use super::{
    AdaptiveFuture,
    future::Settled,
    shared::{Shared, Turn},
};

/// Which limit a call is under.
pub trait Limits<Req>: sealed::Sealed<Req> {}

pub(super) mod sealed {
    use std::sync::Arc;

    use super::Shared;

    pub trait Sealed<Req> {
        #[allow(private_interfaces, reason = "sealed")]
        fn of(&self, request: &Req) -> Arc<Shared>;
        /// Whether a call would begin at once, as far as that is known before it is made.
        fn is_free(&self) -> bool;
    }
}

/// One limit for all calls.
#[derive(Clone)]
pub struct OneLimit(pub(super) Arc<Shared>);

impl fmt::Debug for OneLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OneLimit").field(self.0.name()).finish()
    }
}

impl<Req> Limits<Req> for OneLimit {}
impl<Req> sealed::Sealed<Req> for OneLimit {
    #[allow(private_interfaces, reason = "sealed")]
    fn of(&self, _: &Req) -> Arc<Shared> {
        Arc::clone(&self.0)
    }
    fn is_free(&self) -> bool {
        self.0.is_free()
    }
}

/// The service of an [`AdaptiveLayer`](super::AdaptiveLayer).
pub struct Adaptive<S, J = UntilHead, L = OneLimit> {
    inner: S,
    limits: L,
    settle: J,
    /// It answered that it is ready, and was not called since.
    readied: bool,
    /// It was asked whether it is, and was not called since: it may have a place in a queue of its own.
    asked: bool,
}

impl<S, J, L> Adaptive<S, J, L> {
    pub(super) const fn new(inner: S, limits: L, settle: J) -> Self {
        Self {
            inner,
            limits,
            settle,
            readied: false,
            asked: false,
        }
    }

    /// Lets go of what readiness reserved, and of a place in a queue for it.
    fn unready(&mut self)
    where
        S: Clone,
    {
        self.readied = false;
        if mem::take(&mut self.asked) {
            self.inner = self.inner.clone();
        }
    }

    /// A clone of the inner service for a call that is made later.
    fn later(&mut self) -> S
    where
        S: Clone,
    {
        self.unready();
        self.inner.clone()
    }
}

impl<S: Clone, J: Clone, L: Clone> Clone for Adaptive<S, J, L> {
    fn clone(&self) -> Self {
        // A clone starts unready.
        Self::new(self.inner.clone(), self.limits.clone(), self.settle.clone())
    }
}

impl<S: fmt::Debug, J, L: fmt::Debug> fmt::Debug for Adaptive<S, J, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adaptive")
            .field("limits", &self.limits)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, J, L, Req> Service<Req> for Adaptive<S, J, L>
where
    S: Service<Req> + Clone,
    J: Settle<S::Response, S::Error> + IsGrpc<Req> + Refusal<Settled<S, Req, J>, S::Error>,
    L: Limits<Req>,
{
    type Response = <J as Refusal<Settled<S, Req, J>, S::Error>>::Response;
    type Error = <J as Refusal<Settled<S, Req, J>, S::Error>>::Error;
    type Future = AdaptiveFuture<S, Req, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.readied = false;
        // While none is free nobody shall wait here, outside of the queue and its bounds, nor hold
        // what the inner service reserves: `call` queues or refuses.
        if !self.limits.is_free() {
            return Poll::Ready(Ok(()));
        }
        self.asked = true;
        ready!(self.inner.poll_ready(cx)).map_err(J::error)?;
        self.readied = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grpc = J::is_grpc(&request);
        let shared = self.limits.of(&request);
        // Whoever is further in reads the clock itself if it must.
        let entered = shared.meter.measures().then(clock::enter);
        let settle = self.settle.clone();
        match shared.enter(entered.as_ref().map(Entered::now)) {
            Turn::Now(ticket) if self.readied => {
                (self.readied, self.asked) = (false, false);
                let inner = self.inner.call(request);
                AdaptiveFuture::called(inner, ticket, settle)
            }
            Turn::Now(ticket) => {
                let call = (self.later(), request, settle);
                AdaptiveFuture::later(Ok(ticket), call, grpc)
            }
            Turn::Wait(waiter) => {
                let call = (self.later(), request, settle);
                AdaptiveFuture::later(Err(waiter), call, grpc)
            }
            Turn::Refused(rejection) => {
                self.unready();
                AdaptiveFuture::refused(rejection, grpc)
            }
        }
    }
}
