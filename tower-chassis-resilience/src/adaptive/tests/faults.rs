//! What other limiters do wrong.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::time::sleep;
use tower::{ServiceExt, service_fn};
use tower_chassis_core::Verdict;
use tower_layer::Layer;

use super::{super::AdaptiveLayer, Answer, policy};
use crate::adaptive::{
    Algorithm, Reason,
    limit::{Controller, MILLIS, SECOND, Window},
};

#[tokio::test(start_paused = true)]
async fn fault_14_one_layer_over_five_routes_is_one_limit() {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let layer = AdaptiveLayer::new(policy(|config| {
        (config.start, config.max, config.queue) = (2, 2, 10.0);
    }));
    let mut calls = Vec::new();
    for _ in 0..5 {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let route = layer.layer(service_fn(move |_: u32| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, SeqCst);
                Ok::<_, Infallible>(Answer(Verdict::SUCCESS))
            }
        }));
        for _ in 0..4 {
            calls.push(tokio::spawn(route.clone().oneshot(0)));
        }
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(most.load(SeqCst), 2);
}

fn controller(algorithm: Algorithm, start: u32) -> Controller {
    let settings = policy(|config| (config.algorithm, config.start) = (algorithm, start));
    Controller::new(settings.config().settings(), 7)
}

/// A window of steady calls, every 200 ms; what is in flight is a share of the limit, or what it is.
fn window(controller: &mut Controller, now: &mut u64, millis: f64, in_flight: impl Fn(u32) -> u32) {
    *now += 200 * MILLIS;
    let latency = millis * MILLIS as f64;
    let seen = Window {
        samples: 300,
        p90: latency,
        mean: latency,
        peak: in_flight(controller.now().limit),
    };
    if controller.is_over(seen.samples, *now) {
        controller.window(&seen, *now);
    }
}

/// A latency that does not answer to the limit is no queue, however good it once was.
#[test]
fn fault_15_a_latency_that_was_better_once_does_not_hold_the_limit_down() {
    let (mut controller, mut now) = (controller(Algorithm::Gradient, 50), 0);
    for _ in 0..100 {
        window(&mut controller, &mut now, 0.1, |limit| limit);
    }
    let began = controller.now().limit;
    let mut low = 0;
    for _ in 0..300 {
        window(&mut controller, &mut now, 20.0, |limit| limit);
        low += u32::from(controller.now().limit < began / 2);
    }
    assert!(low <= 5, "{low} windows of 300");
    assert!(controller.now().limit >= began, "{:?}", controller.now());
    assert!(controller.baseline().unwrap() > 19.0 * MILLIS as f64);
}

#[test]
fn fault_15_a_limit_that_is_not_used_does_not_grow() {
    for algorithm in [Algorithm::Gradient, Algorithm::Aimd] {
        for share in [2, 4, 20] {
            let (mut controller, mut now) = (controller(algorithm, 20), 0);
            for _ in 0..5_000 {
                window(&mut controller, &mut now, 10.0, |limit| limit / share);
            }
            assert_eq!(controller.now().limit, 20, "{algorithm:?} {share}");
        }
    }
}

#[test]
fn fault_16_a_burst_of_failures_lowers_the_limit_once() {
    for algorithm in [Algorithm::Gradient, Algorithm::Aimd] {
        let mut controller = controller(algorithm, 100);
        for failure in 0..100 {
            // All were under way together, and fail one after the other for a second.
            controller.overloaded(failure, SECOND + failure * 10 * MILLIS);
        }
        assert_eq!(controller.now().limit, 90, "{algorithm:?}");
        assert_eq!(controller.now().reason, Reason::Overloaded);
        // Those that began under the lower limit say something of that.
        controller.overloaded(SECOND + MILLIS, 3 * SECOND);
        assert_eq!(controller.now().limit, 81, "{algorithm:?}");
    }
}

#[test]
fn a_call_let_in_at_the_very_instant_of_a_fall_says_nothing_of_the_new_limit() {
    for algorithm in [Algorithm::Gradient, Algorithm::Aimd] {
        let mut controller = controller(algorithm, 100);
        assert!(controller.overloaded(0, 0).is_some());
        assert!(controller.overloaded(0, SECOND).is_none());
        assert!(controller.overloaded(SECOND, SECOND).is_some());
        assert!(controller.overloaded(SECOND, 2 * SECOND).is_none());
        assert_eq!(controller.now().limit, 81, "{algorithm:?}");
        assert!(controller.overloaded(SECOND + 1, 2 * SECOND).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn fault_16_a_burst_of_failures_lowers_the_limit_once_around_a_service() {
    let layer = AdaptiveLayer::new(policy(|config| config.start = 100));
    let service = layer.layer(service_fn(async |n: u64| {
        sleep(Duration::from_millis(100 + n)).await;
        Ok::<_, Infallible>(Answer(Verdict::TIMEOUT))
    }));
    let calls: Vec<_> = (0..100)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(layer.handle().limit(), 90);
}

/// And 6: calls that an outer timeout cuts are not seen.
#[tokio::test(start_paused = true)]
async fn fault_06_calls_that_a_timeout_cuts_lower_the_limit() {
    let layer = AdaptiveLayer::new(policy(|_| {}));
    let service = crate::timeout::TimeoutLayer::per_try(
        crate::timeout::TimeoutPolicy::new(Duration::from_millis(10)).unwrap(),
    )
    .layer(layer.layer(service_fn(async |_: u32| {
        sleep(Duration::from_secs(10)).await;
        Ok::<_, Infallible>(Answer(Verdict::SUCCESS))
    })));
    for _ in 0..50 {
        assert!(service.clone().oneshot(0).await.is_err());
    }
    assert!(layer.handle().limit() <= 2, "{}", layer.handle().limit());
    assert_eq!(layer.handle().in_flight(), 0);
}
