//! The stacks: tower's, tower-resilience's, ours.

use std::{
    cell::RefCell,
    fmt::Debug,
    future::{Future, Ready, ready},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tower::{
    BoxError, Layer, Service, ServiceBuilder,
    buffer::{Buffer, future::ResponseFuture},
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load_shed::LoadShed,
    retry::{Policy, Retry},
    timeout::Timeout,
    util::MapResult,
};
use tower_chassis::{
    breaker::{BreakerLayer, BreakerPolicy},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    fallback::FallbackLayer,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{Cloned, RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};
use tower_resilience_bulkhead as bulkhead;
use tower_resilience_circuitbreaker as circuitbreaker;
use tower_resilience_fallback as fallback;
use tower_resilience_ratelimiter as ratelimiter;
use tower_resilience_retry as retry;
use tower_resilience_timelimiter as timelimiter;

use crate::call::{Call, noop};

pub(crate) const NEVER: Duration = Duration::from_secs(60);
pub(crate) const MANY: usize = 100_000_000;

/// Tries errors again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnError;

impl<C: Clone, Res, E> Policy<C, Res, E> for OnError {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut C, result: &mut Result<Res, E>) -> Option<Ready<()>> {
        result.is_err().then(|| ready(()))
    }
    fn clone_request(&mut self, request: &C) -> Option<C> {
        Some(request.clone())
    }
}

/// tower's, that can be cloned.
pub(crate) fn towers_four<C: Call>()
-> impl Service<C, Response = C::Reply, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let inner = LoadShed::new(ConcurrencyLimit::new(noop::<C>(), MANY));
    Retry::new(OnError, Timeout::new(inner, NEVER))
}

pub(crate) fn towers_five<C: Call>()
-> impl Service<C, Response = C::Reply, Error = BoxError, Future: Send> + Send + 'static {
    RateLimit::new(towers_four(), Rate::new(u64::MAX, NEVER))
}

/// With what comes closest to a fallback: an answer in place of an error.
pub(crate) fn towers_six<C: Call>() -> impl Service<C, Error = BoxError> + 'static {
    MapResult::new(towers_five::<C>(), |result: Result<C::Reply, BoxError>| {
        result.or_else(|_| Ok::<_, BoxError>(C::reply()))
    })
}

/// tower's five behind its buffer, which a rate limit needs to be cloned. Its worker is polled by who calls: that is
/// less than a task of its own costs.
pub(crate) fn towers_buffered<C: Call>() -> impl Service<C, Error = BoxError> + Clone + 'static {
    let (buffer, worker) = Buffer::pair(towers_five::<C>(), 1_024);
    let worker: Rc<RefCell<Pin<Box<dyn Future<Output = ()>>>>> =
        Rc::new(RefCell::new(Box::pin(worker)));
    Driven { buffer, worker }
}

struct Driven<C, F> {
    buffer: Buffer<C, F>,
    worker: Rc<RefCell<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl<C: Send + 'static, F: Send + 'static> Clone for Driven<C, F> {
    fn clone(&self) -> Self {
        Self {
            buffer: self.buffer.clone(),
            worker: Rc::clone(&self.worker),
        }
    }
}

impl<C, F, Res, E> Service<C> for Driven<C, F>
where
    C: Send + 'static,
    F: Future<Output = Result<Res, E>> + Send + 'static,
    E: Into<BoxError>,
{
    type Response = Res;
    type Error = BoxError;
    type Future = ResponseFuture<F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.buffer.poll_ready(cx)
    }
    fn call(&mut self, request: C) -> Self::Future {
        let response = self.buffer.call(request);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = self.worker.borrow_mut().as_mut().poll(&mut cx);
        response
    }
}

pub(crate) fn t_breaker() -> circuitbreaker::CircuitBreakerLayer {
    circuitbreaker::CircuitBreakerLayer::builder()
        .build()
        .unwrap()
}
pub(crate) fn t_bulkhead() -> bulkhead::BulkheadLayer {
    let builder = bulkhead::BulkheadLayer::builder().max_concurrent_calls(10_000);
    builder.reject_when_full().build().unwrap()
}
pub(crate) fn t_rate() -> ratelimiter::RateLimiterLayer {
    let builder = ratelimiter::RateLimiterLayer::builder().limit_for_period(1 << 40);
    builder.refresh_period(NEVER).build().unwrap()
}
pub(crate) fn t_timeout() -> timelimiter::TimeLimiterLayer {
    timelimiter::TimeLimiterLayer::builder()
        .timeout_duration(NEVER)
        .build()
}

/// tower-resilience's.
pub(crate) fn theirs<C: Call>()
-> impl Service<C, Response = C::Reply, Error: Debug + Send + Sync + 'static, Future: Send>
+ Clone
+ Send
+ 'static {
    let inner = t_timeout().layer(t_breaker().layer(t_bulkhead().layer(noop::<C>())));
    let retry = retry::RetryLayer::<C, C::Reply, _>::builder().build();
    t_rate().layer(retry.layer(inner))
}

/// With a fallback around it.
pub(crate) fn their_six<C: Call>() -> impl Service<C, Error: Debug> + Clone + 'static {
    fallback::FallbackLayer::<C, C::Reply, _>::value(C::reply()).layer(theirs::<C>())
}

pub(crate) fn our_timeout() -> TimeoutLayer {
    TimeoutLayer::per_try(TimeoutPolicy::new(NEVER).unwrap())
}
/// Ten seconds' worth: a thread that loses its core after it read the clock is not refused.
pub(crate) fn our_rate() -> RateLimitLayer {
    RateLimitLayer::new(RateLimitPolicy::new(1e8, 1_000_000_000).unwrap())
}
pub(crate) fn our_bulkhead() -> BulkheadLayer {
    BulkheadLayer::new(BulkheadPolicy::new(10_000).unwrap())
}
pub(crate) fn our_breaker() -> BreakerLayer {
    BreakerLayer::new(BreakerPolicy::default())
}
pub(crate) fn our_retry() -> RetryLayer<Cloned> {
    RetryLayer::new(RetryPolicy::default()).clone_body()
}

/// Ours, with a retry that makes an invocation where there is none, or one that does not.
pub(crate) fn ours<C: Call>(
    retry: RetryLayer<Cloned>,
) -> impl Service<C, Response = C::Reply, Error = BoxError, Future: Send> + Clone + Send + 'static {
    ServiceBuilder::new()
        .layer(our_rate())
        .layer(retry)
        .layer(our_timeout())
        .layer(our_breaker())
        .layer(our_bulkhead())
        .service(noop::<C>())
}

/// With a fallback around it.
pub(crate) fn our_six<C: Call>(
    retry: RetryLayer<Cloned>,
) -> impl Service<C, Error: Debug> + Clone + 'static {
    FallbackLayer::with(|_| C::reply()).layer(ours::<C>(retry))
}

/// Names of cases that others are compared with.
pub(crate) const TR: [&str; 7] = [
    "tower-resilience: timeout",
    "tower-resilience: retry",
    "tower-resilience: breaker",
    "tower-resilience: bulkhead",
    "tower-resilience: rate limit",
    "tower-resilience: five layers",
    "tower-resilience: six layers",
];
