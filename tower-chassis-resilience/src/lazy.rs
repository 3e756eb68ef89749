//! An inner service that may not be needed.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

/// An inner service that is made ready if that takes no time, because the call may be answered without it. The
/// instance that was readied is the one that is called; what it reserved is let go by a call that does not need it.
#[derive(Debug)]
pub(crate) struct Lazy<S> {
    service: S,
    /// It answered that it is ready, and was not called since.
    readied: bool,
    /// It was asked whether it is: it may hold something, if only a place in a queue.
    asked: bool,
}

impl<S: Clone> Clone for Lazy<S> {
    fn clone(&self) -> Self {
        // A clone starts unready.
        Self::new(self.service.clone())
    }
}

impl<S> Lazy<S> {
    pub(crate) const fn new(service: S) -> Self {
        Self {
            service,
            readied: false,
            asked: false,
        }
    }

    /// Asks for readiness. What it comes to is known to the call.
    pub(crate) fn poll_ready<Req>(&mut self, cx: &mut Context<'_>)
    where
        S: Service<Req> + Clone,
    {
        self.asked = true;
        match self.service.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.readied = true,
            Poll::Pending => self.readied = false,
            // A call that needs it asks again, and hears of it.
            Poll::Ready(Err(_)) => self.let_go(),
        }
    }

    /// The call is answered without it.
    pub(crate) fn let_go(&mut self)
    where
        S: Clone,
    {
        self.readied = false;
        if mem::take(&mut self.asked) {
            self.service = self.service.clone();
        }
    }

    /// An instance for later, which holds nothing.
    pub(crate) fn later(&mut self) -> S
    where
        S: Clone,
    {
        self.let_go();
        self.service.clone()
    }

    /// The call is made: now by the instance that was readied, else by one that is readied first.
    pub(crate) fn call<Req>(&mut self, request: Req) -> Own<S, Req>
    where
        S: Service<Req> + Clone,
    {
        if mem::take(&mut self.readied) {
            self.asked = false;
            let future = self.service.call(request);
            return Own::Calling { future };
        }
        Own::later(self.later(), request)
    }
}

pin_project! {
    /// A call of the inner service, readied first if need be.
    #[project = OwnProj]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) enum Own<S, Req>
    where
        S: Service<Req>,
    {
        // Boxed: mostly there is nothing to wait for, and a future is moved.
        Readying { call: Option<Box<(S, Req)>> },
        Calling { #[pin] future: S::Future },
    }
}

impl<S: Service<Req>, Req> Own<S, Req> {
    /// Readies `service` and calls it.
    pub(crate) fn later(service: S, request: Req) -> Self {
        Self::waiting(Box::new((service, request)))
    }

    /// The same.
    pub(crate) const fn waiting(call: Box<(S, Req)>) -> Self {
        Self::Readying { call: Some(call) }
    }
}

impl<S: Service<Req>, Req> Future for Own<S, Req> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                OwnProj::Readying { call } => {
                    let Some(waiting) = call else {
                        return Poll::Pending;
                    };
                    if let Err(error) = ready!(waiting.0.poll_ready(cx)) {
                        *call = None;
                        return Poll::Ready(Err(error));
                    }
                    let Some(called) = call.take() else {
                        return Poll::Pending;
                    };
                    let (mut service, request) = *called;
                    let future = service.call(request);
                    self.set(Self::Calling { future });
                }
                OwnProj::Calling { future } => return future.poll(cx),
            }
        }
    }
}
