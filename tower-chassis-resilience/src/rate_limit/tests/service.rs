use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Events, Kind, Live, Rejection, clock, events::Event};
use tower_layer::Layer;

use super::super::*;

async fn echo(n: u32) -> Result<u32, Infallible> {
    Ok(n)
}

async fn send<S>(service: &S, n: u32) -> Result<u32, BoxError>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    service.clone().oneshot(n).await
}

#[tokio::test(start_paused = true)]
async fn layered_many_times_it_is_one_limit() {
    let events = Events::new();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    events.listen(move |event| {
        assert!(matches!(
            event,
            Event::Refused {
                layer: "rate_limit",
                kind: Kind::RateLimited,
                ..
            }
        ));
        count.fetch_add(1, Ordering::Relaxed);
    });
    let layer = RateLimitLayer::new(RateLimitPolicy::new(10.0, 5).unwrap()).events(events);
    let services: Vec<_> = (0..5)
        .map(|_| layer.clone().layer(service_fn(echo)))
        .collect();
    for service in &services {
        assert_eq!(send(service, 7).await.unwrap(), 7);
    }
    for service in &services {
        let error = send(service, 7).await.unwrap_err();
        let rejection = Rejection::find(&*error).unwrap();
        assert_eq!(
            (rejection.kind(), rejection.layer()),
            (Kind::RateLimited, "rate_limit")
        );
        assert_eq!(rejection.retry_after(), Some(Duration::from_millis(100)));
    }
    assert_eq!(heard.load(Ordering::Relaxed), 5);
    assert!(
        send(&layer.fresh().layer(service_fn(echo)), 7)
            .await
            .is_ok()
    );
    time::advance(Duration::from_millis(100)).await;
    assert!(send(&services[3], 7).await.is_ok());
    assert!(send(&services[4], 7).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_bucket_and_so_have_those_without() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 1).unwrap())
        .keyed(|n: &u32| (*n > 0).then_some(*n))
        .max_keys(50);
    let service = layer.layer(service_fn(echo));
    for n in 0..20 {
        assert!(send(&service, n).await.is_ok());
        assert!(send(&service, n).await.is_err());
    }
    assert_eq!(layer.handle().keys(), 19);
    assert!(
        send(&layer.fresh().layer(service_fn(echo)), 1)
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn settings_are_live_and_bad_ones_are_refused() {
    let live = Live::new(RateLimitPolicy::new(1.0, 2).unwrap());
    let layer = RateLimitLayer::new(live.clone()).keyed(|n: &u32| Some(*n));
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    assert!(send(&service, 1).await.is_ok());
    handle
        .update(|config| (config.rate, config.burst) = (100.0, 200))
        .unwrap();
    assert_eq!(
        handle
            .update(|config| config.burst = 0)
            .unwrap_err()
            .field(),
        "burst"
    );
    assert_eq!(
        (live.load().config().burst, handle.config().version()),
        (200, 1)
    );
    for _ in 0..100 {
        assert!(send(&service, 1).await.is_ok());
    }
    assert!(send(&service, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_only_readied_uses_nothing() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 1).unwrap());
    let mut service = layer.layer(service_fn(echo));
    for _ in 0..10 {
        let mut readied = service.clone();
        readied.ready().await.unwrap();
    }
    // Called, and dropped before it was polled: the place is used.
    drop(service.ready().await.unwrap().call(1));
    assert!(send(&service, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_read_long_ago_refuses_nobody() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(10.0, 1).unwrap());
    let mut service = layer.layer(service_fn(echo));
    let long_ago = time::Instant::now();
    service.ready().await.unwrap().call(1).await.unwrap();
    time::advance(Duration::from_millis(99)).await;
    let error = clock::entered_at(long_ago, |_| service.call(2)).await;
    let error = error.unwrap_err();
    let wait = Rejection::find(&*error).and_then(Rejection::retry_after);
    assert_eq!(wait, Some(Duration::from_millis(1)), "from now on");
    time::advance(Duration::from_millis(1)).await;
    let call = clock::entered_at(long_ago, |_| service.call(3));
    assert_eq!(call.await.unwrap(), 3);
}
