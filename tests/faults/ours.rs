//! The scenarios with our layers. Under a paused clock.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};
use tower_chassis::{
    BoxError, Carrier, Endpoint, Events,
    balance::{Algorithm, Balance, BalanceConfig, BalancePolicy, Picker},
    breaker::{Breaker, BreakerConfig, BreakerLayer, BreakerPolicy},
    discover::{Discover, StaticDiscover},
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{Budget, BudgetConfig, BudgetPolicy, Retry, RetryConfig, RetryLayer, RetryPolicy},
    router::rules::{Destination, Rule, TrafficLayer, TrafficPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};
use tower_chassis_observe::events::record;

use crate::{
    heap,
    scenario::{self, GAP, Saw, TwoReady},
    script::{Answer, Script},
};

/// How long breakers stay open in these scenarios.
pub const OPEN: Duration = Duration::from_millis(500);
/// How far back they look.
pub const WINDOW: Duration = Duration::from_secs(1);
/// How long probes may take.
pub const PROBE: Duration = Duration::from_secs(10);

/// A breaker by rate alone: half of at least five calls in a second, one probe.
pub fn by_rate(change: impl FnOnce(&mut BreakerConfig)) -> BreakerLayer {
    let mut config = BreakerConfig {
        consecutive_failures: 0,
        failure_rate: 0.5,
        minimum_calls: 5,
        window: WINDOW,
        open_base: OPEN,
        open_max: OPEN,
        half_open_probes: 1,
        probe_timeout: PROBE,
        ..BreakerConfig::default()
    };
    change(&mut config);
    BreakerLayer::new(BreakerPolicy::try_from(config).unwrap()).seed(1)
}

/// A breaker by rate alone, and the script behind it.
pub fn guarded(change: impl FnOnce(&mut BreakerConfig)) -> (Breaker<Script>, Script) {
    let script = Script::default();
    (by_rate(change).layer(script.clone()), script)
}

/// 1: failures until it opens after 1,000 good calls, with ten calls in a window.
pub async fn failures_after_good_calls() -> usize {
    let (service, script) = guarded(|_| ());
    scenario::failures_to_open(service, &script, 1_000).await
}

/// 2: failures until it opens, at least five calls asked for of the hundred in a window.
pub async fn failures_at_the_minimum() -> usize {
    let (service, script) = guarded(|config| config.window = 100 * GAP);
    scenario::failures_to_open(service, &script, 0).await
}

/// 3: refused out of 20, three probes asked for that take twice the window each.
pub async fn refused_after_slow_probes() -> usize {
    let (service, script) = guarded(|config| config.half_open_probes = 3);
    scenario::refused_after_slow_probes(service, &script, OPEN, 2 * WINDOW, 20).await
}

/// 4: whether a good or a bad result from before the outage is taken for the probe's.
pub async fn stale_result_counts(good: bool) -> bool {
    let (service, script) = guarded(|_| ());
    scenario::stale_result_counts(service, &script, OPEN, good).await
}

/// 5: two ready clones and one probe.
pub async fn two_ready() -> TwoReady<BoxError> {
    let (service, script) = guarded(|_| ());
    scenario::two_ready(service, &script, OPEN).await
}

/// 6: how many of 50 calls reach a service that never answers, timeout outside, breaker with its defaults.
pub async fn reached_when_cut() -> usize {
    let script = Script::default();
    let breaker = BreakerLayer::new(BreakerPolicy::default());
    let timeout = TimeoutPolicy::new(Duration::from_millis(5)).unwrap();
    let service = TimeoutLayer::per_try(timeout).layer(breaker.layer(script.clone()));
    scenario::reached_when_cut(service, &script, 50).await
}

/// 7: the states that the gauge shows after a whole cycle, and its text.
pub async fn states_at_one() -> (usize, String) {
    let (prometheus, events, script) = (Prometheus::new(), Events::new(), Script::default());
    record(&events, prometheus.recorder());
    let breaker = by_rate(|_| ()).named("a").events(events);
    scenario::cycle(breaker.layer(script.clone()), &script, OPEN, 1).await;
    let text = prometheus.render();
    (
        scenario::series_at_one(&text, "chassis_breaker_state"),
        text,
    )
}

/// 8: whether it closes by a probe that is good after three times what a probe may take.
pub async fn closes_by_a_slow_probe() -> bool {
    let (service, script) = guarded(|config| config.probe_timeout = GAP);
    scenario::passes_after_a_slow_probe(service, &script, OPEN, 3 * GAP).await
}

/// A retry with room in its budget, and the script behind it.
pub fn retrying(change: impl FnOnce(&mut RetryConfig)) -> (Retry<Script>, Script) {
    let script = Script::default();
    let mut config = RetryConfig {
        budget_ratio: 10.0,
        ..RetryConfig::default()
    };
    change(&mut config);
    let layer = RetryLayer::new(RetryPolicy::try_from(config).unwrap()).seed(1);
    (layer.layer(script.clone()), script)
}

/// 17: the attempts of 1,000 calls that need two each, with a budget of ten retries for them.
pub async fn attempts_within_the_budget() -> usize {
    let script = Script::default();
    let config = BudgetConfig {
        ratio: 0.01,
        min_per_second: 0.0,
        ..BudgetConfig::default()
    };
    let budget = Budget::new(&BudgetPolicy::try_from(config).unwrap());
    let layer = RetryLayer::new(RetryPolicy::default()).budget(budget);
    scenario::attempts_of(layer.layer(script.clone()), &script, 1_000).await
}

/// 18: the failed responses that are held over the wait.
pub async fn held_over_the_wait() -> usize {
    let (service, script) = retrying(|config| {
        config.backoff_base = Duration::from_secs(1);
    });
    scenario::held_over_the_wait(service, &script).await
}

/// 18: three attempts, and the copies that they took.
pub async fn copies_of_a_request() -> (usize, usize) {
    let (service, script) = retrying(|_| ());
    scenario::copies_of(service, &script).await
}

/// 18: the longest of 500 waits of at most 100 ms.
pub async fn longest_wait() -> Duration {
    let (service, script) = retrying(|config| {
        config.attempts = 2;
        config.backoff_base = Duration::from_millis(100);
        config.backoff_max = Duration::from_millis(100);
    });
    scenario::longest_wait(service, &script, 500).await
}

/// 18: the attempts of a call whose connection breaks each time, by the layer's defaults.
pub async fn attempts_when_broken(method: Method) -> usize {
    let script = Script::default();
    let service = RetryLayer::new(RetryPolicy::default()).layer(script.clone());
    scenario::attempts_when_broken(service, &script, method).await
}

/// One call a minute.
pub fn one_a_minute() -> RateLimitLayer {
    let policy = RateLimitPolicy::new(1.0, 1).unwrap();
    let policy = policy.with(|config| config.per = Duration::from_secs(60));
    RateLimitLayer::new(policy.unwrap())
}

/// 19: how long a refusal takes whose next permit is a minute away, and what it says.
pub async fn refusal() -> (Duration, BoxError) {
    scenario::refusal(one_a_minute().layer(Script::default())).await
}

/// A balancer over two endpoints, one after the other.
pub fn balanced<S>(mut make: impl FnMut(usize) -> S + Send + 'static) -> Balance<S>
where
    S: Clone + Send + Sync + 'static,
{
    let (discover, mut count) = (StaticDiscover::new(), 0);
    let endpoints = ["http://a:80", "http://b:80"].map(|uri| Endpoint::new(uri).unwrap());
    discover.set("shop", endpoints);
    let policy = BalanceConfig {
        algorithm: Algorithm::RoundRobin,
    };
    let picker = Picker::new(BalancePolicy::try_from(policy).unwrap());
    // The set stays as it is: nobody needs the worker.
    let made = Balance::new(
        discover.watch("shop"),
        move |_| {
            count += 1;
            make(count - 1)
        },
        picker,
    );
    made.0
}

/// 21: how many of ten calls are served beside an idle clone, each of the two endpoints with a limit of one.
pub async fn served_beside_an_idle_clone() -> usize {
    let script = Script::default();
    let service = balanced(move |_| ConcurrencyLimit::new(script.clone(), 1));
    scenario::served_beside_an_idle_clone(service, 10).await
}

/// 22: which calls a rule with these weights sends to its first destination.
pub async fn picks(weights: [u32; 2], calls: usize) -> Vec<bool> {
    let [first, second] = weights;
    let to = [
        Destination::new([("version", "1")], first),
        Destination::new([("version", "2")], second),
    ];
    let policy = TrafficPolicy::new(vec![Rule::new("canary", to)], 7).unwrap();
    let mut service =
        TrafficLayer::new(policy).layer(service_fn(|request: Request<Empty<Bytes>>| async move {
            let subset = request.invocation().and_then(|call| call.subset().cloned());
            Ok::<_, Infallible>(subset.unwrap().tags().any(|tag| tag == ("version", "1")))
        }));
    let mut picks = Vec::with_capacity(calls);
    for _ in 0..calls {
        let ready = service.ready().await.unwrap();
        picks.push(ready.call(Request::new(Empty::new())).await.unwrap());
    }
    picks
}

/// 23: what a caller sees of a panic under a timeout of ten seconds.
pub async fn a_panic() -> Saw {
    let script = Script::default();
    let policy = TimeoutPolicy::new(Duration::from_secs(10)).unwrap();
    let service = TimeoutLayer::per_try(policy).layer(script.clone());
    scenario::a_panic(service, &script).await
}

/// 27: whether one breaker layer over two services is one breaker.
pub async fn a_breaker_opens_for_both() -> bool {
    let (script, layer) = (Script::default(), by_rate(|_| ()));
    let (one, other) = (layer.layer(script.clone()), layer.layer(script.clone()));
    scenario::opens_for_both(one, other, &script).await
}

/// 27: the calls that pass one rate limit of two a second over five services.
pub async fn passed_by_a_rate() -> usize {
    let script = Script::default();
    let layer = RateLimitLayer::new(RateLimitPolicy::new(2.0, 2).unwrap());
    let routes = (0..5).map(|_| layer.layer(script.clone())).collect();
    scenario::passed_by(routes, &script).await
}

/// 29: whether a breaker goes by the paused clock.
pub async fn a_jump_opens_a_breaker() -> bool {
    let minute = Duration::from_secs(60);
    let (service, script) = guarded(|config| {
        config.open_base = minute;
        config.open_max = minute;
    });
    scenario::passes_after_a_jump(service, &script, minute).await
}

/// 30: the bytes that this many calls in one window leave behind. The breaker looks at its rate every second call
/// and stays closed.
pub async fn left_behind(calls: usize) -> isize {
    let (mut service, script) = guarded(|config| {
        config.failure_rate = 1.0;
        config.window = Duration::from_secs(24 * 60 * 60);
    });
    scenario::many_calls(&mut service, &script, 1_000).await;
    let before = heap::held();
    scenario::many_calls(&mut service, &script, calls).await;
    assert_eq!(script.calls(), 1_000 + calls);
    script.answer(Answer::Good);
    heap::held() - before
}
