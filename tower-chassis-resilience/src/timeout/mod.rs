//! An answer in time, or an error: per try, or for all tries together; to its head or its end. And streams that do not
//! stall.
//!
//! Works for every service. The time counts from `call`; readiness is not in it, nor is the body of the
//! response, unless it is [asked for](#streams).
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{BoxError, Rejection};
//! use tower_chassis_resilience::timeout::{TimeoutLayer, TimeoutPolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let layer = TimeoutLayer::per_try(TimeoutPolicy::new(Duration::from_millis(250))?);
//! let handle = layer.handle();
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |wait: Duration| {
//!     tokio::time::sleep(wait).await;
//!     Ok::<_, BoxError>("done")
//! }));
//! assert_eq!(service.clone().oneshot(Duration::from_millis(100)).await?, "done");
//!
//! let error = service.clone().oneshot(Duration::from_secs(1)).await.unwrap_err();
//! assert!(Rejection::find(&*error).is_some_and(Rejection::is_timeout));
//!
//! // Live: calls that begin now have two seconds.
//! handle.config().set(TimeoutPolicy::new(Duration::from_secs(2))?)?;
//! assert_eq!(service.oneshot(Duration::from_secs(1)).await?, "done");
//! # Ok(())
//! # }
//! ```
//!
//! # Streams
//! A timeout to the head says nothing of a body that stalls. Two more do, for HTTP and gRPC:
//!
//! | layer | ends a body |
//! |---|---|
//! | [`IdleLayer`] | in which nothing moves for so long, 60 s by default |
//! | [`TimeoutLayer::until_end`] | that is not over when the time of the call is up |
//!
//! ```
//! use std::{convert::Infallible, pin::Pin, task::{Context, Poll}, time::Duration};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body::{Body, Frame};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{BoxError, Rejection};
//! use tower_chassis_resilience::timeout::{IdleLayer, TimeoutLayer, TimeoutPolicy};
//!
//! struct Stalls;
//!
//! impl Body for Stalls {
//!     type Data = Bytes;
//!     type Error = Infallible;
//!     fn poll_frame(
//!         self: Pin<&mut Self>,
//!         _: &mut Context<'_>,
//!     ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
//!         Poll::Pending
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(TimeoutLayer::total(TimeoutPolicy::new(Duration::from_secs(600))?).until_end())
//!     .layer(IdleLayer::new(TimeoutPolicy::new(Duration::from_secs(30))?))
//!     .service(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Stalls))));
//! let mut body = service.oneshot(Request::new(())).await?.into_body();
//! let error = body.frame().await.expect("an error").unwrap_err();
//! assert!(Rejection::find(&*error).is_some_and(Rejection::is_timeout));
//! # Ok(())
//! # }
//! ```
//! Both end it with an error (a [`Rejection`] of [`Kind::Timeout`]; the client sees a stream that was reset), after
//! what was inside has been dropped. Idle is a stream in which neither half moves: each frame of the response begins
//! the time anew, and so does each frame of the request's body, where [our server](tower_chassis_core::invocation::Upload)
//! hands it in. Time in which nobody asks for a frame does not count: that is a reader who is slow, for whom a server
//! has a limit of its own, as it has for an upload that stalls.
//!
//! # Configuration
//! [`TimeoutConfig`]: one duration, live. A call in flight keeps the one it began with. The resolution is that
//! of tokio's timer, a millisecond, rounded up.
//!
//! # Order
//! [`TimeoutLayer::per_try`] below retry and above the balancer: it bounds one attempt, and what it ends
//! counts as a timeout of the endpoint. [`TimeoutLayer::total`] above retry: it bounds all attempts and the
//! waits between them. A total that fires may be the fault of our own queue or backoff, so the layers below
//! read it as a call that was given up, not as a failure of the endpoint.
//!
//! Above a balancer, where one client's requests reach many endpoints, add
//! [`not_while_uploading`](TimeoutLayer::not_while_uploading) to the timeout of a try: it is for the service, and a
//! client that stalls its upload is not the service.
//!
//! [`IdleLayer`] in a client nearest to the transport, inside what judges to the end of the body; in a server inside
//! the compression, which may hold frames back.
//!
//! # Events and metrics
//! Each time that it fires is a `Refused` [event](tower_chassis_core::events::Event), if it was given
//! [somebody](TimeoutLayer::events) to tell, and that listened when the call began. The error is a [`Rejection`] of [`Kind::Timeout`] by the layer
//! `timeout`, whose verdict every outer layer reads.
//!
//! # Cancellation
//! When it fires, the inner future is dropped at once, and the guards below are told why
//! ([`cause`](tower_chassis_core::cause)): [`Verdict::TIMEOUT`] per try and of a stream that is idle,
//! [`Verdict::CANCELLED`] in total. A panic of
//! the inner service stays a panic. Work that a handler moved to a blocking thread goes on.
//!
//! # Cost
//! No allocation; where somebody listens one reference count, which cores do not share. One reading of the clock per
//! call; no timer before the first `Pending`. A call that is polled again reads the clock once more, so that a service
//! which never yields is still ended. The future is some 170 bytes larger than the inner one, most of it the timer's
//! place.
//!
//! A body of which the time is watched is some 100 bytes larger. Its timer is made at its first `Pending` (one
//! allocation), and set again when it fires, not with each frame: a wait costs one reading of the clock. One that is to
//! be over by an instant reads the clock for each frame.

mod body;
mod config;
mod counts;
mod idle;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower_chassis_core::{
    Deadline, Events, Kind, Live, Rejection, Respond, Verdict, clock,
    events::Event,
    refusal::{Fail, IsGrpc, Refusal},
    striped::{Hold, Striped},
};
use tower_layer::Layer;
use tower_service::Service;

pub use self::{
    body::{Bounds, TimedBody, ToEnd, ToHead},
    config::{TimeoutConfig, TimeoutPolicy},
    counts::{Always, Client, Counts, NotWhileUploading, Uploading},
    idle::{Idle, IdleFuture, IdleLayer},
};
use crate::until::{Late, Until};

#[derive(Debug)]
struct State {
    live: Live<TimeoutPolicy>,
    nanos: AtomicU64,
    events: Events,
}

impl State {
    fn new(live: Live<TimeoutPolicy>, events: Events) -> Striped<Self> {
        let state = Arc::new(Self {
            live: live.clone(),
            nanos: AtomicU64::new(0),
            events,
        });
        live.bind(&state, |state, policy| {
            let nanos = u64::try_from(policy.after.as_nanos()).unwrap_or(u64::MAX);
            state.nanos.store(nanos, Ordering::Relaxed);
        });
        Striped::of_arc(state)
    }
}

/// Where a call reports that its time was up: to those who listened when it began.
#[derive(Debug)]
pub struct Report(Option<Hold<State>>);

impl Report {
    #[inline]
    fn new(state: &Striped<State>) -> Self {
        Self(state.events.is_heard().then(|| state.hold()))
    }

    /// Leaves none here.
    #[inline]
    const fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    #[cold]
    fn refused(&self) {
        if let Some(state) = &self.0 {
            let refused = || Event::refused("timeout", Kind::Timeout);
            state.events.emit(refused);
        }
    }
}

/// Ends calls that take too long. See the [module](self).
///
/// `W` says whose time counts, `A` whether a refusal is an error or [an answer](Self::respond), `E` how far it bounds
/// a call.
#[derive(Debug)]
#[must_use]
pub struct TimeoutLayer<W = Always, A = Fail, E = ToHead> {
    state: Striped<State>,
    verdict: Verdict,
    counts: W,
    kind: PhantomData<fn() -> (A, E)>,
}

impl TimeoutLayer {
    /// Bounds one attempt; the layers below count it as a timeout.
    pub fn per_try(policy: impl Into<Live<TimeoutPolicy>>) -> Self {
        Self::new(policy.into(), Verdict::TIMEOUT)
    }

    /// Bounds all attempts together; the layers below are told that the call was given up, because the time
    /// may have gone by in our own queue.
    pub fn total(policy: impl Into<Live<TimeoutPolicy>>) -> Self {
        Self::new(policy.into(), Verdict::CANCELLED)
    }

    fn new(live: Live<TimeoutPolicy>, verdict: Verdict) -> Self {
        Self {
            state: State::new(live, Events::none()),
            verdict,
            counts: Always,
            kind: PhantomData,
        }
    }
}

impl<A, E> TimeoutLayer<Always, A, E> {
    /// Begins anew where the time is up while the body of the request is waited for. Above a balancer, or one
    /// client that stalls its uploads opens the breakers of all endpoints. The server bounds the stall, and
    /// a [`total`](TimeoutLayer::total) above bounds the call.
    pub fn not_while_uploading(self) -> TimeoutLayer<NotWhileUploading, A, E> {
        self.with(NotWhileUploading)
    }
}

impl<W, E> TimeoutLayer<W, Fail, E> {
    /// Answers a call that took too long (504, `DEADLINE_EXCEEDED`) instead of failing, and passes errors from
    /// inside on: the error type is that of the inner service. To be said last; for HTTP and gRPC.
    pub fn respond(self) -> TimeoutLayer<W, Respond, E> {
        self.with_kind()
    }
}

impl<W, A> TimeoutLayer<W, A> {
    /// The time is that to the end of the response's body. A body that is not over by then ends with an error; it is
    /// ended also while frames come, and while nobody takes them. For HTTP and gRPC.
    pub fn until_end(self) -> TimeoutLayer<W, A, ToEnd> {
        self.with_kind()
    }
}

impl<W, A, E> TimeoutLayer<W, A, E> {
    /// Reports the calls that it ends. Default: to nobody.
    pub fn events(self, events: Events) -> Self {
        Self {
            state: State::new(self.state.live.clone(), events),
            ..self
        }
    }

    /// The same settings in a layer of its own. A timeout keeps nothing of its calls, so it does the same.
    pub fn fresh(&self) -> Self
    where
        W: Clone,
    {
        Self {
            state: State::new(self.state.live.clone(), self.state.events.clone()),
            ..self.clone()
        }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle {
            state: Arc::clone(self.state.arc()),
        }
    }

    fn with<V>(self, counts: V) -> TimeoutLayer<V, A, E> {
        TimeoutLayer {
            state: self.state,
            verdict: self.verdict,
            counts,
            kind: PhantomData,
        }
    }

    fn with_kind<B, F>(self) -> TimeoutLayer<W, B, F> {
        TimeoutLayer {
            state: self.state,
            verdict: self.verdict,
            counts: self.counts,
            kind: PhantomData,
        }
    }
}

impl<W: Clone, A, E> Clone for TimeoutLayer<W, A, E> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.keep(),
            verdict: self.verdict,
            counts: self.counts.clone(),
            kind: PhantomData,
        }
    }
}

impl<S, W: Clone, A, E> Layer<S> for TimeoutLayer<W, A, E> {
    type Service = Timeout<S, W, A, E>;
    fn layer(&self, inner: S) -> Timeout<S, W, A, E> {
        Timeout {
            inner,
            state: self.state.keep(),
            verdict: self.verdict,
            counts: self.counts.clone(),
            kind: PhantomData,
        }
    }
}

/// A view of a [`TimeoutLayer`] or an [`IdleLayer`] and all of its services.
#[derive(Clone, Debug)]
pub struct TimeoutHandle {
    state: Arc<State>,
}

impl TimeoutHandle {
    /// The setting in force; a change reaches calls that begin after it.
    #[must_use]
    pub fn config(&self) -> &Live<TimeoutPolicy> {
        &self.state.live
    }
}

/// The service of [`TimeoutLayer`].
#[derive(Debug)]
pub struct Timeout<S, W = Always, A = Fail, E = ToHead> {
    inner: S,
    state: Striped<State>,
    verdict: Verdict,
    counts: W,
    kind: PhantomData<fn() -> (A, E)>,
}

impl<S: Clone, W: Clone, A, E> Clone for Timeout<S, W, A, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            state: self.state.clone(),
            verdict: self.verdict,
            counts: self.counts.clone(),
            kind: PhantomData,
        }
    }
}

impl<S, W, A, E, Req> Service<Req> for Timeout<S, W, A, E>
where
    S: Service<Req>,
    W: Counts<Req>,
    E: Bounds<S::Response>,
    A: Refusal<E::Response, S::Error> + IsGrpc<Req>,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = TimeoutFuture<S::Future, A, W::Client, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        self.inner.poll_ready(cx).map_err(A::error)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let after = Duration::from_nanos(self.state.nanos.load(Ordering::Relaxed));
        let client = self.counts.client(&request, after);
        let grpc = A::is_grpc(&request);
        let entered = clock::enter();
        let end = Deadline::after(entered.now(), after).instant();
        let report = Report::new(&self.state);
        TimeoutFuture {
            until: Until::new(self.inner.call(request), end, self.verdict),
            bounds: E::new(end, self.verdict),
            client,
            report,
            grpc,
            answer: PhantomData,
        }
    }
}

pin_project! {
    /// The future of [`Timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F, A = Fail, U = (), E = ToHead> {
        #[pin]
        until: Until<F>,
        bounds: E,
        client: U,
        report: Report,
        grpc: bool,
        answer: PhantomData<fn() -> A>,
    }
}

impl<F, A, U, E, Res, Err> Future for TimeoutFuture<F, A, U, E>
where
    F: Future<Output = Result<Res, Err>>,
    U: Client,
    E: Bounds<Res>,
    A: Refusal<E::Response, Err>,
{
    type Output = Result<A::Response, A::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let longer = || {
            let end = Deadline::after(clock::now(), this.client.more()?).instant();
            this.bounds.prolong(end);
            Some(end)
        };
        match ready!(this.until.poll_until(cx, Late::Answers, longer)) {
            Some(Ok(response)) => {
                let response = this.bounds.bound(response, this.report);
                Poll::Ready(Ok(A::response(response)))
            }
            Some(Err(error)) => Poll::Ready(Err(A::error(error))),
            None => {
                this.report.refused();
                let rejection = Rejection::new(Kind::Timeout, "timeout");
                Poll::Ready(A::refused(rejection, *this.grpc))
            }
        }
    }
}
