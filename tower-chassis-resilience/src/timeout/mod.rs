//! An answer in time, or an error: per try, or for all tries together.
//!
//! Works for every service. The time counts from `call`; readiness is not in it, nor is the body of the
//! response.
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
//! # Events and metrics
//! Each time that it fires is a `Refused` [event](tower_chassis_core::events::Event), if it was given
//! [somebody](TimeoutLayer::events) to tell. The error is a [`Rejection`] of [`Kind::Timeout`] by the layer
//! `timeout`, whose verdict every outer layer reads.
//!
//! # Cancellation
//! When it fires, the inner future is dropped at once, and the guards below are told why
//! ([`cause`](tower_chassis_core::cause)): [`Verdict::TIMEOUT`] per try, [`Verdict::CANCELLED`] in total. A panic of
//! the inner service stays a panic. Work that a handler moved to a blocking thread goes on.
//!
//! # Cost
//! No allocation; with events one reference count. One reading of the clock per call; no timer before the first `Pending`. A call that is
//! polled again reads the clock once more, so that a service which never yields is still ended.

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
    Carrier, Deadline, Events, Invocation, Kind, Live, Rejection, Respond, Verdict, clock,
    events::Event,
    invocation::Upload,
    live::{Invalid, Validate},
    refusal::{Fail, IsGrpc, Refusal},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::until::{Late, Until};

/// What a configuration says of a timeout.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct TimeoutConfig {
    /// How long a call may take until the head of its response. Above zero; 15 s by default.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub after: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(15),
        }
    }
}

/// A valid [`TimeoutConfig`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeoutPolicy {
    after: Duration,
}

impl TimeoutPolicy {
    /// A timeout of `after`.
    ///
    /// # Errors
    /// `after` is zero.
    pub fn new(after: Duration) -> Result<Self, Invalid> {
        if after.is_zero() {
            return Err(Invalid::new("after", "must be above 0"));
        }
        Ok(Self { after })
    }

    /// How long a call may take.
    #[must_use]
    pub const fn after(&self) -> Duration {
        self.after
    }
}

impl Default for TimeoutPolicy {
    fn default() -> Self {
        Self {
            after: TimeoutConfig::default().after,
        }
    }
}

impl TryFrom<TimeoutConfig> for TimeoutPolicy {
    type Error = Invalid;
    fn try_from(config: TimeoutConfig) -> Result<Self, Invalid> {
        Self::new(config.after)
    }
}

impl Validate for TimeoutPolicy {}

#[derive(Debug)]
struct State {
    live: Live<TimeoutPolicy>,
    nanos: AtomicU64,
    events: Events,
}

impl State {
    fn new(live: Live<TimeoutPolicy>, events: Events) -> Arc<Self> {
        let state = Arc::new(Self {
            live: live.clone(),
            nanos: AtomicU64::new(0),
            events,
        });
        live.bind(&state, |state, policy| {
            let nanos = u64::try_from(policy.after.as_nanos()).unwrap_or(u64::MAX);
            state.nanos.store(nanos, Ordering::Relaxed);
        });
        state
    }
}

/// Whose time a call takes: always the service's ([`Always`]), or not while the client is waited for
/// ([`NotWhileUploading`]).
pub trait Counts<Req>: Clone {
    /// What tells, while the call runs.
    fn upload(&self, request: &Req) -> Option<Upload>;
}

/// All time counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

impl<Req> Counts<Req> for Always {
    fn upload(&self, _: &Req) -> Option<Upload> {
        None
    }
}

/// Time in which the body of the request is waited for does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotWhileUploading;

impl<Req: Carrier> Counts<Req> for NotWhileUploading {
    fn upload(&self, request: &Req) -> Option<Upload> {
        request.invocation().map(Invocation::upload)
    }
}

/// Ends calls that take too long. See the [module](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct TimeoutLayer<W = Always, A = Fail> {
    state: Arc<State>,
    verdict: Verdict,
    counts: W,
    answer: PhantomData<fn() -> A>,
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
            answer: PhantomData,
        }
    }

    /// Begins anew where the time is up while the body of the request is waited for. Above a balancer, or one
    /// client that stalls its uploads opens the breakers of all endpoints. The server bounds the stall, and
    /// a [`total`](Self::total) above bounds the call.
    pub fn not_while_uploading(self) -> TimeoutLayer<NotWhileUploading> {
        TimeoutLayer {
            state: self.state,
            verdict: self.verdict,
            counts: NotWhileUploading,
            answer: PhantomData,
        }
    }
}

impl<W> TimeoutLayer<W> {
    /// Answers a call that took too long (504, `DEADLINE_EXCEEDED`) instead of failing, and passes errors from
    /// inside on: the error type is that of the inner service. To be said last; for HTTP and gRPC.
    pub fn respond(self) -> TimeoutLayer<W, Respond> {
        TimeoutLayer {
            state: self.state,
            verdict: self.verdict,
            counts: self.counts,
            answer: PhantomData,
        }
    }
}

impl<W, A> TimeoutLayer<W, A> {
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
            verdict: self.verdict,
            counts: self.counts.clone(),
            answer: PhantomData,
        }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle {
            state: Arc::clone(&self.state),
        }
    }
}

impl<S, W: Clone, A> Layer<S> for TimeoutLayer<W, A> {
    type Service = Timeout<S, W, A>;
    fn layer(&self, inner: S) -> Timeout<S, W, A> {
        Timeout {
            inner,
            state: Arc::clone(&self.state),
            verdict: self.verdict,
            counts: self.counts.clone(),
            answer: PhantomData,
        }
    }
}

/// A view of a [`TimeoutLayer`] and all of its services.
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
#[derive(Clone, Debug)]
pub struct Timeout<S, W = Always, A = Fail> {
    inner: S,
    state: Arc<State>,
    verdict: Verdict,
    counts: W,
    answer: PhantomData<fn() -> A>,
}

impl<S, W, A, Req> Service<Req> for Timeout<S, W, A>
where
    S: Service<Req>,
    W: Counts<Req>,
    A: Refusal<S::Response, S::Error> + IsGrpc<Req>,
{
    type Response = A::Response;
    type Error = A::Error;
    type Future = TimeoutFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        self.inner.poll_ready(cx).map_err(A::error)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let after = Duration::from_nanos(self.state.nanos.load(Ordering::Relaxed));
        let upload = self.counts.upload(&request);
        let grpc = A::is_grpc(&request);
        let entered = clock::enter();
        let end = Deadline::after(entered.now(), after).instant();
        let events = self.state.events.clone();
        TimeoutFuture {
            until: Until::new(self.inner.call(request), end, self.verdict),
            after,
            upload,
            events,
            grpc,
            answer: PhantomData,
        }
    }
}

pin_project! {
    /// The future of [`Timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F, A = Fail> {
        #[pin]
        until: Until<F>,
        after: Duration,
        upload: Option<Upload>,
        events: Events,
        grpc: bool,
        answer: PhantomData<fn() -> A>,
    }
}

impl<F, A, Res, Err> Future for TimeoutFuture<F, A>
where
    F: Future<Output = Result<Res, Err>>,
    A: Refusal<Res, Err>,
{
    type Output = Result<A::Response, A::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let longer = || {
            let waiting = this.upload.as_ref().is_some_and(Upload::is_waiting);
            // The service has nothing to answer yet.
            waiting.then(|| Deadline::after(clock::now(), *this.after).instant())
        };
        match ready!(this.until.poll_until(cx, Late::Answers, longer)) {
            Some(result) => Poll::Ready(result.map(A::response).map_err(A::error)),
            None => {
                this.events
                    .emit(|| Event::refused("timeout", Kind::Timeout));
                let rejection = Rejection::new(Kind::Timeout, "timeout");
                Poll::Ready(A::refused(rejection, *this.grpc))
            }
        }
    }
}
