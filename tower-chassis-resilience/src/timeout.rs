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
//! # Events and metrics
//! None of its own. The error is a [`Rejection`] of [`Kind::Timeout`] by the layer `timeout`, whose verdict
//! every outer layer reads.
//!
//! # Cancellation
//! When it fires, the inner future is dropped at once, and the guards below are told why
//! ([`cause`]): [`Verdict::TIMEOUT`] per try, [`Verdict::CANCELLED`] in total. A panic of
//! the inner service stays a panic. Work that a handler moved to a blocking thread goes on.
//!
//! # Cost
//! No allocation. One reading of the clock per call; no timer before the first `Pending`. A call that is
//! polled again reads the clock once more, so that a service which never yields is still ended.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_chassis_core::{
    BoxError, Deadline, Kind, Live, Rejection, Verdict, cause,
    live::{Invalid, Validate},
};
use tower_layer::Layer;
use tower_service::Service;

/// What a configuration says of a timeout.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct TimeoutConfig {
    /// How long a call may take until the head of its response. Above zero; 15 s by default.
    #[cfg_attr(feature = "config", serde(with = "tower_chassis_core::config::duration"))]
    pub after: Duration,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { after: Duration::from_secs(15) }
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
        Self { after: TimeoutConfig::default().after }
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
}

/// Ends calls that take too long. See the [module](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct TimeoutLayer {
    state: Arc<State>,
    verdict: Verdict,
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
        let state = Arc::new(State { live: live.clone(), nanos: AtomicU64::new(0) });
        live.bind(&state, |state, policy| {
            let nanos = u64::try_from(policy.after.as_nanos()).unwrap_or(u64::MAX);
            state.nanos.store(nanos, Ordering::Relaxed);
        });
        Self { state, verdict }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle { state: Arc::clone(&self.state) }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;
    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, state: Arc::clone(&self.state), verdict: self.verdict }
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
pub struct Timeout<S> {
    inner: S,
    state: Arc<State>,
    verdict: Verdict,
}

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let after = Duration::from_nanos(self.state.nanos.load(Ordering::Relaxed));
        let deadline = Deadline::after(Instant::now(), after).instant();
        TimeoutFuture { inner: Some(self.inner.call(request)), sleep: None, deadline, verdict: self.verdict }
    }
}

pin_project! {
    /// The future of [`Timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutFuture<F> {
        // None once the time was up.
        #[pin]
        inner: Option<F>,
        // None before the first Pending: most calls to a near service never need it.
        #[pin]
        sleep: Option<Sleep>,
        deadline: Instant,
        verdict: Verdict,
    }
}

impl<F, Res, Err> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Res, Err>>,
    Err: Into<BoxError>,
{
    type Output = Result<Res, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Pending };
        if let Poll::Ready(result) = inner.poll(cx) {
            return Poll::Ready(result.map_err(Into::into));
        }
        // tokio's timer pends when the task has used up its share of a poll. An inner future that uses it up
        // each time would never be ended, so after the first poll the clock has the last word.
        let first = this.sleep.is_none();
        if first {
            this.sleep.set(Some(sleep_until(*this.deadline)));
        }
        let fired = this.sleep.as_mut().as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready());
        if !fired && (first || Instant::now() < *this.deadline) {
            return Poll::Pending;
        }
        cause::drop_with(*this.verdict, || this.inner.set(None));
        Poll::Ready(Err(Rejection::new(Kind::Timeout, "timeout").into()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tower::{ServiceBuilder, ServiceExt, service_fn};
    use tower_chassis_core::{
        Class,
        settle::{Observe, UntilHead},
        verdict::OkIsSuccess,
        wire::{Observed, Start},
    };

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn policy(after: u64) -> TimeoutPolicy {
        TimeoutPolicy::new(ms(after)).unwrap()
    }

    /// A guard below the timeout, as a breaker has it.
    #[derive(Clone, Default)]
    struct Below(Arc<Mutex<Vec<Class>>>);
    impl<Req> Start<Req> for Below {
        type Ticket = Self;
        fn start(&self, _: &mut Req, _: Instant) -> Self {
            self.clone()
        }
    }
    impl Observe for Below {
        fn done(self, verdict: Verdict, _: Instant) {
            self.0.lock().unwrap_or_else(|e| e.into_inner()).push(verdict.class());
        }
    }

    async fn nap(wait: Duration) -> Result<(), BoxError> {
        tokio::time::sleep(wait).await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn fires_in_time_and_tells_the_guards_below() {
        for (layer, class) in [
            (TimeoutLayer::per_try(policy(100)), Class::Timeout),
            (TimeoutLayer::total(policy(100)), Class::Cancelled),
        ] {
            let below = Below::default();
            let inner = Observed::new(service_fn(nap), below.clone(), UntilHead::new(OkIsSuccess));
            let service = layer.layer(inner);
            let start = Instant::now();
            let error = service.clone().oneshot(ms(500)).await.unwrap_err();
            assert_eq!(start.elapsed(), ms(100));
            let rejection = Rejection::find(&*error).unwrap();
            assert_eq!((rejection.kind(), rejection.layer()), (Kind::Timeout, "timeout"));
            service.oneshot(ms(99)).await.unwrap();
            assert_eq!(*below.0.lock().unwrap(), [class, Class::Success]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_inner_future_is_dropped_before_the_error_is_seen() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let service = TimeoutLayer::per_try(policy(5)).layer(service_fn(move |(): ()| {
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                std::future::pending::<Result<(), BoxError>>().await
            }
        }));
        let mut future = Box::pin(service.clone().call_ready(()));
        assert!(future.as_mut().await.is_err());
        assert_eq!(Arc::strong_count(&alive), 2, "the future is still there, what it held is not");
        drop((future, service));
    }

    #[test]
    fn no_timer_before_the_first_pending() {
        // There is no runtime here: arming a timer would panic.
        let mut service = TimeoutLayer::total(policy(1)).layer(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
        let mut future = std::pin::pin!(service.call(7));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(future.as_mut().poll(&mut cx), Poll::Ready(Ok(7))));
        assert!(future.sleep.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_reaches_new_calls_and_leaves_those_in_flight() {
        let layer = TimeoutLayer::per_try(policy(100));
        let service = ServiceBuilder::new().layer(layer.clone()).service(service_fn(nap));
        let flying = tokio::spawn(service.clone().oneshot(ms(150)));
        tokio::task::yield_now().await;
        layer.handle().config().set(policy(200)).unwrap();
        assert!(service.clone().oneshot(ms(150)).await.is_ok());
        assert!(flying.await.unwrap().is_err());
        assert!(service.oneshot(ms(250)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn measured_from_the_call() {
        let mut service = TimeoutLayer::per_try(policy(100)).layer(service_fn(nap));
        let future = service.call(ms(50));
        tokio::time::advance(ms(120)).await;
        let start = Instant::now();
        assert!(future.await.is_err());
        assert!(start.elapsed() <= ms(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_below_stays_a_panic() {
        let below = Below::default();
        let inner = service_fn(async |(): ()| -> Result<(), BoxError> {
            tokio::task::yield_now().await;
            panic!("planted")
        });
        let inner = Observed::new(inner, below.clone(), UntilHead::new(OkIsSuccess));
        let service = TimeoutLayer::per_try(policy(100)).layer(inner);
        assert!(tokio::spawn(service.oneshot(())).await.unwrap_err().is_panic());
        assert_eq!(*below.0.lock().unwrap_or_else(|e| e.into_inner()), [Class::Failure]);
    }

    #[tokio::test]
    async fn a_service_that_uses_up_its_task_is_ended() {
        // The clock runs: a task that is always awake does not let a paused one go on.
        let start = Instant::now();
        let service = TimeoutLayer::per_try(policy(20)).layer(service_fn(move |(): ()| async move {
            while start.elapsed() < ms(5_000) {
                tokio::task::coop::consume_budget().await;
            }
            Ok::<_, BoxError>(())
        }));
        assert!(service.oneshot(()).await.is_err());
    }

    #[test]
    fn zero_is_refused_and_forever_is_not() {
        let error = TimeoutPolicy::try_from(TimeoutConfig { after: Duration::ZERO }).unwrap_err();
        assert_eq!(error.to_string(), "after must be above 0");
        let mut service = TimeoutLayer::total(TimeoutPolicy::new(Duration::MAX).unwrap())
            .layer(service_fn(async |(): ()| Ok::<_, BoxError>(())));
        drop(service.call(()));
    }

    trait CallReady<Req>: Service<Req> + Sized {
        fn call_ready(mut self, request: Req) -> Self::Future {
            self.call(request)
        }
    }
    impl<S: Service<Req>, Req> CallReady<Req> for S {}
}
