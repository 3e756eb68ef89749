//! The scenarios with the layers of tower-resilience 0.13. Those whose layers read the clock of the system need real
//! time; the others run under a paused clock.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit};
use tower_chassis::{BoxError, prometheus::Prometheus};
use tower_resilience_bulkhead::BulkheadLayer;
use tower_resilience_circuitbreaker::{
    CircuitBreakerConfigBuilder, CircuitBreakerError, CircuitBreakerLayer, DefaultClassifier,
    FnClassifier, SlidingWindowType,
};
use tower_resilience_ratelimiter::{RateLimiterLayer, RateLimiterServiceError};
use tower_resilience_retry::{
    ExponentialRandomBackoff, RetryBudgetBuilder, RetryConfigBuilder, RetryLayer,
};
use tower_resilience_router::WeightedRouter;
use tower_resilience_timelimiter::TimeLimiterLayer;

use crate::{
    bulkhead, heap, paused, real,
    scenario::{self, Req, Res, Saw, TwoReady},
    script::Script,
};

/// How long breakers stay open in these scenarios.
const OPEN: Duration = Duration::from_millis(50);

type Judge = FnClassifier<fn(&Result<Res, BoxError>) -> bool>;
type Builder = CircuitBreakerConfigBuilder<Judge>;

fn failed(result: &Result<Res, BoxError>) -> bool {
    result
        .as_ref()
        .map_or(true, |response| response.status().is_server_error())
}

/// A breaker over ten calls, of which half must fail; one probe.
fn breaker(change: impl FnOnce(Builder) -> Builder) -> CircuitBreakerLayer<Judge> {
    let builder = CircuitBreakerConfigBuilder::<DefaultClassifier>::new()
        .failure_classifier(failed as fn(&Result<Res, BoxError>) -> bool)
        .sliding_window_size(10)
        .failure_rate_threshold(0.5)
        .permitted_calls_in_half_open(1)
        .wait_duration_in_open(OPEN)
        .name("a");
    change(builder).build().unwrap()
}

/// 1: failures until it opens after 1,000 good calls, with a window of ten calls.
pub fn failures_after_good_calls() -> usize {
    let script = Script::default();
    let service = breaker(|it| it).layer(script.clone());
    paused(scenario::failures_to_open(service, &script, 1_000))
}

/// 2: failures until it opens, at least five calls asked for of the hundred in the window.
pub fn failures_at_the_minimum() -> usize {
    let script = Script::default();
    let layer = breaker(|it| it.sliding_window_size(100).minimum_number_of_calls(5));
    paused(scenario::failures_to_open(
        layer.layer(script.clone()),
        &script,
        0,
    ))
}

/// 3: refused out of 20, three probes asked for that take longer than the window each.
pub fn refused_after_slow_probes() -> usize {
    let script = Script::default();
    let layer = breaker(|it| {
        it.sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_millis(40))
            .minimum_number_of_calls(5)
            .permitted_calls_in_half_open(3)
    });
    let takes = Duration::from_millis(60);
    real(scenario::refused_after_slow_probes(
        layer.layer(script.clone()),
        &script,
        OPEN,
        takes,
        20,
    ))
}

/// 4: whether a good or a bad result from before the outage is taken for the probe's.
pub fn stale_result_counts(good: bool) -> bool {
    let script = Script::default();
    let service = breaker(|it| it).layer(script.clone());
    real(scenario::stale_result_counts(service, &script, OPEN, good))
}

/// 5: two ready clones and one probe, in the mode that promises that who is ready is served.
pub fn two_ready() -> TwoReady<CircuitBreakerError<BoxError>> {
    let script = Script::default();
    let service = breaker(|it| it.backpressure()).layer(script.clone());
    real(scenario::two_ready(service, &script, OPEN))
}

/// 6: how many of 50 calls reach a service that never answers.
pub fn reached_when_cut() -> usize {
    let script = Script::default();
    let timeout = TimeLimiterLayer::builder()
        .timeout_duration(Duration::from_millis(5))
        .build();
    let service = timeout.layer(breaker(|it| it).layer(script.clone()));
    paused(scenario::reached_when_cut(service, &script, 50))
}

/// 7: the states that the gauge shows after a whole cycle.
pub fn states_at_one() -> usize {
    let (prometheus, script) = (Prometheus::new(), Script::default());
    metrics::with_local_recorder(&*prometheus.recorder(), || {
        let service = breaker(|it| it).layer(script.clone());
        real(scenario::cycle(service, &script, OPEN, 1));
    });
    scenario::series_at_one(&prometheus.render(), "circuitbreaker_state")
}

/// 8: whether it closes by a probe that is good after three times what counts as slow.
pub fn closes_by_a_slow_probe() -> bool {
    let script = Script::default();
    let layer = breaker(|it| it.slow_call_duration_threshold(Duration::from_millis(20)));
    let takes = Duration::from_millis(60);
    real(scenario::passes_after_a_slow_probe(
        layer.layer(script.clone()),
        &script,
        OPEN,
        takes,
    ))
}

fn retry() -> RetryConfigBuilder<Req, Res, BoxError> {
    RetryLayer::builder()
        .retry_on_response(|response: &Res| response.status() == StatusCode::SERVICE_UNAVAILABLE)
}

/// 17: the attempts of 1,000 calls that need two each, with a budget of ten tokens.
pub fn attempts_within_the_budget() -> usize {
    let script = Script::default();
    let budget = RetryBudgetBuilder::new()
        .token_bucket()
        .tokens_per_second(1e-9)
        .max_tokens(10)
        .initial_tokens(10)
        .build();
    let layer = retry().budget(budget.unwrap()).build();
    paused(scenario::attempts_of(
        layer.layer(script.clone()),
        &script,
        1_000,
    ))
}

/// 18: the failed responses that are held over the wait.
pub fn held_over_the_wait() -> usize {
    let script = Script::default();
    let service = retry().build().layer(script.clone());
    paused(scenario::held_over_the_wait(service, &script))
}

/// 18: three attempts, and the copies that they took.
pub fn copies_of_a_request() -> (usize, usize) {
    let script = Script::default();
    let service = retry().build().layer(script.clone());
    paused(scenario::copies_of(service, &script))
}

/// 18: the longest of 500 waits of at most 100 ms.
pub fn longest_wait() -> Duration {
    let script = Script::default();
    let most = Duration::from_millis(100);
    let backoff = ExponentialRandomBackoff::new(most, 0.5)
        .unwrap()
        .max_interval(most);
    let layer = retry().max_attempts(2).backoff(backoff).build();
    paused(scenario::longest_wait(
        layer.layer(script.clone()),
        &script,
        500,
    ))
}

/// 18: the attempts of a call whose connection breaks each time, by the layer's defaults.
pub fn attempts_when_broken(method: Method) -> usize {
    let script = Script::default();
    let layer = RetryLayer::<Req, Res, BoxError>::builder().build();
    paused(scenario::attempts_when_broken(
        layer.layer(script.clone()),
        &script,
        method,
    ))
}

/// 19: how long a refusal takes whose next permit is a minute away, for a caller that would wait for a second.
pub fn refusal() -> (Duration, RateLimiterServiceError<BoxError>) {
    let layer = RateLimiterLayer::builder()
        .limit_for_period(1)
        .refresh_period(Duration::from_secs(60))
        .timeout_duration(Duration::from_secs(1))
        .build()
        .unwrap();
    paused(scenario::refusal(layer.layer(Script::default())))
}

/// 20: how long a call waits in a bulkhead of one that is taken, by default; at most an hour.
pub fn wait_when_full() -> Duration {
    let script = Script::default();
    let service = one_at_once().layer(script.clone());
    paused(bulkhead::wait_when_full(service, &script))
}

/// 20: whether calls pass beside an unread body and after it.
pub fn passes_beside_a_body() -> (bool, bool) {
    let script = Script::default();
    let service = one_at_once().layer(script.clone());
    paused(bulkhead::passes_beside_a_body(service, &script))
}

/// 20: the calls in flight that the gauge shows once a call was cut short.
pub fn in_flight_after_a_cut() -> String {
    let (prometheus, script) = (Prometheus::new(), Script::default());
    metrics::with_local_recorder(&*prometheus.recorder(), || {
        let service = one_at_once().layer(script.clone());
        paused(bulkhead::cut(service, &script));
    });
    let text = prometheus.render();
    let gauge = |line: &&str| line.starts_with("bulkhead_concurrent_calls{");
    let line = text.lines().find(gauge).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

/// 20: the places in the inner service that one call that runs and one that waits take.
pub fn places_taken() -> usize {
    let (script, places) = (Script::default(), Arc::new(Semaphore::new(3)));
    let inner = ConcurrencyLimit::with_semaphore(script.clone(), Arc::clone(&places));
    let service = one_at_once().layer(inner);
    paused(bulkhead::places_taken(service, &script, &places))
}

/// 27: the calls that run at once through one layer with a limit of two over five services.
pub fn at_once() -> usize {
    let script = Script::default();
    let layer = bulkhead_of(2);
    let routes = (0..5).map(|_| layer.layer(script.clone())).collect();
    paused(bulkhead::at_once(routes, &script))
}

fn one_at_once() -> BulkheadLayer {
    bulkhead_of(1)
}

fn bulkhead_of(calls: usize) -> BulkheadLayer {
    BulkheadLayer::builder()
        .max_concurrent_calls(calls)
        .name("a")
        .build()
        .unwrap()
}

/// 21: how many of ten calls are served beside an idle clone, each of the two backends with a limit of one.
pub fn served_beside_an_idle_clone() -> usize {
    let script = Script::default();
    let router = WeightedRouter::builder()
        .route(ConcurrencyLimit::new(script.clone(), 1), 1)
        .route(ConcurrencyLimit::new(script, 1), 1)
        .build();
    paused(scenario::served_beside_an_idle_clone(router, 10))
}

/// Says which backend it is.
#[derive(Clone)]
struct First(bool);

impl Service<()> for First {
    type Response = bool;
    type Error = Infallible;
    type Future = Ready<Result<bool, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

/// 22: which calls "random" routing with these weights sends to its first backend.
pub fn picks([first, second]: [u32; 2], calls: usize) -> Vec<bool> {
    let mut router = WeightedRouter::builder()
        .route(First(true), first)
        .route(First(false), second)
        .random()
        .build();
    paused(async move {
        let mut picks = Vec::with_capacity(calls);
        for _ in 0..calls {
            picks.push(router.ready().await.unwrap().call(()).await.unwrap());
        }
        picks
    })
}

/// 23: what a caller sees of a panic under a limit of ten seconds that lets calls run on.
pub fn a_panic() -> Saw {
    let script = Script::default();
    let layer = TimeLimiterLayer::builder()
        .timeout_duration(Duration::from_secs(10))
        .cancel_running_future(false)
        .build();
    paused(scenario::a_panic(layer.layer(script.clone()), &script))
}

/// 27: whether one breaker layer over two services is one breaker.
pub fn a_breaker_opens_for_both() -> bool {
    let (script, layer) = (Script::default(), breaker(|it| it));
    let (one, other) = (layer.layer(script.clone()), layer.layer(script.clone()));
    paused(scenario::opens_for_both(one, other, &script))
}

/// 27: the calls that pass one rate limit of two a second over five services.
pub fn passed_by_a_rate() -> usize {
    let script = Script::default();
    let layer = RateLimiterLayer::per_second(2).build().unwrap();
    let routes = (0..5).map(|_| layer.layer(script.clone())).collect();
    real(scenario::passed_by(routes, &script))
}

/// 29: whether a breaker goes by the paused clock.
pub fn a_jump_opens_a_breaker() -> bool {
    let script = Script::default();
    let minute = Duration::from_secs(60);
    let service = breaker(|it| it.wait_duration_in_open(minute)).layer(script.clone());
    paused(scenario::passes_after_a_jump(service, &script, minute))
}

/// 30: the bytes that this many calls in one window leave behind, and how many times longer the last thousand
/// took than the first.
pub fn left_behind(calls: usize) -> (isize, f64) {
    let script = Script::default();
    let layer = breaker(|it| {
        it.sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_secs(24 * 60 * 60))
            .failure_rate_threshold(1.0)
            .minimum_number_of_calls(5)
    });
    let mut service = layer.layer(script.clone());
    real(async {
        let before = heap::held();
        let slower = crate::slower(&mut service, &script, calls).await;
        (heap::held() - before, slower)
    })
}
