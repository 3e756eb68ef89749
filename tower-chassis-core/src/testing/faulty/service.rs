use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    Flaw, LimitBody, LimitFuture,
    permits::{Permit, Permits},
};
use crate::{Body, BoxError, Kind, Rejection};

/// The service of [`LimitLayer`](super::LimitLayer).
#[derive(Debug)]
pub struct Limit<S> {
    inner: S,
    permits: Arc<Permits>,
    /// Who it is among those that wait.
    name: u64,
    permit: Option<Permit>,
    more: Vec<Permit>,
    /// The inner service is ready.
    ready: bool,
    flaw: Option<Flaw>,
}

impl<S> Limit<S> {
    pub(super) fn new(inner: S, permits: Arc<Permits>, flaw: Option<Flaw>) -> Self {
        Self {
            inner,
            name: permits.name(),
            permits,
            permit: None,
            more: Vec::new(),
            ready: false,
            flaw,
        }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

impl<S: Clone> Clone for Limit<S> {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.inner.clone(), Arc::clone(&self.permits), self.flaw);
        if self.has(Flaw::ClonesReadiness) {
            copy.ready = self.ready;
        }
        copy
    }
}

impl<S> Drop for Limit<S> {
    fn drop(&mut self) {
        if self.has(Flaw::LeaksWhenReady)
            && self.ready
            && let Some(permit) = &mut self.permit
        {
            permit.leak();
        }
        self.permits.forget(self.name);
    }
}

impl<S> Service<Request<Body>> for Limit<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone,
{
    type Response = Response<LimitBody>;
    type Error = BoxError;
    type Future = LimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.has(Flaw::LooksFirst) {
            if !self.permits.any() && self.permits.take(self.name, cx).is_none() {
                return Poll::Pending;
            }
        } else if self.permit.is_none() {
            let permit = self.permits.take(self.name, cx);
            if permit.is_none() && self.has(Flaw::RefusesInReady) {
                return Poll::Ready(Err(Rejection::new(Kind::Overloaded, "faulty").into()));
            }
            if permit.is_none() {
                return Poll::Pending;
            }
            self.permit = permit;
        } else if self.ready && self.has(Flaw::ReservesAgain) {
            self.more.extend(self.permits.take(self.name, cx));
        }
        if self.ready && self.has(Flaw::ClonesReadiness) {
            return Poll::Ready(Ok(()));
        }
        // Out of the instance, so that a panic shows where it is.
        let kept = self.permit.as_ref().and_then(Permit::permits);
        if self.has(Flaw::LeaksOnReadyPanic)
            && let Some(permit) = &mut self.permit
        {
            permit.leak();
        }
        let polled = self.inner.poll_ready(cx);
        if self.has(Flaw::LeaksOnReadyPanic) {
            self.permit = Some(Permit::again(kept));
        }
        self.ready = matches!(polled, Poll::Ready(Ok(())));
        if matches!(polled, Poll::Ready(Err(_)))
            && let Some(mut permit) = self.permit.take()
            && self.has(Flaw::LeaksOnReadyError)
        {
            permit.leak();
        }
        polled
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.ready = false;
        let mut permit = self.permit.take();
        if self.has(Flaw::LooksFirst) {
            permit = Some(self.permits.take_anyway());
        }
        if self.has(Flaw::CallsTwice) {
            let mut copy = self.inner.clone();
            let mut cx = Context::from_waker(Waker::noop());
            if copy.poll_ready(&mut cx).is_ready() {
                drop(copy.call(Request::new(Body::empty())));
            }
        }
        let kept = permit.as_ref().and_then(Permit::permits);
        if self.has(Flaw::LeaksOnPanicInCall)
            && let Some(permit) = &mut permit
        {
            permit.leak();
        }
        let future = if self.has(Flaw::CallsAClone) {
            self.inner.clone().call(request)
        } else {
            self.inner.call(request)
        };
        if self.has(Flaw::LeaksOnPanicInCall) {
            permit = Some(Permit::again(kept));
        }
        LimitFuture::new(future, permit, mem::take(&mut self.more), self.flaw)
    }
}
