//! The layer as its users see it: what is refused, what waits, what comes back.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Semaphore, time, time::Instant};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Events, Kind, Live, Rejection, clock, events::Event};
use tower_layer::Layer;

use super::super::{
    Bulkhead, BulkheadConfig, BulkheadFuture, BulkheadHandle, BulkheadLayer, BulkheadPolicy, Ticket,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn policy(limit: u32, queue: u32) -> BulkheadPolicy {
    BulkheadPolicy::throttle(limit, queue, SECOND).unwrap()
}

pub(super) fn kind(error: &BoxError) -> Kind {
    Rejection::find(&**error).unwrap().kind()
}

pub(super) async fn send<S, Req>(service: &S, request: Req) -> Result<S::Response, BoxError>
where
    S: Service<Req, Error = BoxError> + Clone,
{
    service.clone().oneshot(request).await
}

/// Lets other tasks run until they have nothing to do.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn counts(handle: &BulkheadHandle) -> (u32, u32) {
    (handle.in_flight(), handle.queued())
}

async fn hang(_: u32) -> Result<u32, Infallible> {
    std::future::pending().await
}

pub(super) async fn echo(n: u32) -> Result<u32, Infallible> {
    Ok(n)
}

/// Answers one call for each permit of `door`.
async fn through(door: Arc<Semaphore>, n: u32) -> Result<u32, Infallible> {
    door.acquire().await.unwrap().forget();
    Ok(n)
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_a_call_is_refused_at_once() {
    let (events, heard) = (Events::new(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&heard);
    events.listen(move |event| {
        if let Event::Refused { layer, kind, .. } = event {
            log.lock().unwrap().push((*layer, *kind));
        }
    });
    let layer = BulkheadLayer::new(BulkheadPolicy::new(2).unwrap())
        .named("stock")
        .events(events);
    let (handle, service) = (layer.handle(), layer.layer(service_fn(hang)));
    let calls = [0, 1].map(|n| {
        tokio::spawn({
            let service = service.clone();
            async move { send(&service, n).await }
        })
    });
    settle().await;
    assert_eq!(counts(&handle), (2, 0));

    let began = Instant::now();
    let error = send(&service, 2).await.unwrap_err();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let rejection = Rejection::find(&*error).unwrap();
    assert_eq!(
        (rejection.kind(), rejection.layer(), rejection.retry_after()),
        (Kind::Overloaded, "bulkhead", None)
    );
    assert_eq!(*heard.lock().unwrap(), [("bulkhead", Kind::Overloaded)]);
    assert_eq!(
        format!("{handle:?}"),
        r#"BulkheadHandle { name: "stock", in_flight: 2, queued: 0, limit: 2 }"#
    );

    for call in calls {
        call.abort();
    }
    settle().await;
    assert_eq!(counts(&handle), (0, 0));
}

/// axum layers once for each route, and clones for each request: a limit of 2 is 2.
#[tokio::test(start_paused = true)]
async fn layered_and_cloned_many_times_it_is_one_limit() {
    let layer = BulkheadLayer::new(BulkheadPolicy::new(2).unwrap());
    let routes: Vec<_> = (0..5)
        .map(|_| layer.clone().layer(service_fn(hang)))
        .collect();
    let calls: Vec<_> = routes
        .iter()
        .map(|route| {
            let route = route.clone();
            tokio::spawn(async move { send(&route, 0).await })
        })
        .collect();
    settle().await;
    assert_eq!(counts(&layer.handle()), (2, 0));
    assert_eq!(calls.iter().filter(|call| call.is_finished()).count(), 3);

    let fresh = layer.fresh();
    assert_eq!(send(&fresh.layer(service_fn(echo)), 7).await.unwrap(), 7);
    assert_eq!(counts(&fresh.handle()), (0, 0));
    for call in calls {
        call.abort();
    }
}

/// It has no use for the time while nobody waits.
#[tokio::test(start_paused = true)]
async fn a_call_that_finds_a_permit_reads_no_clock() {
    let service = BulkheadLayer::new(policy(1, 1)).layer(service_fn(echo));
    let before = clock::readings();
    assert_eq!(send(&service, 7).await.unwrap(), 7);
    assert_eq!(clock::readings(), before);
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_is_first() {
    let door = Arc::new(Semaphore::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let layer = BulkheadLayer::new(policy(1, 10));
    let service = layer.layer(service_fn({
        let (door, order) = (Arc::clone(&door), Arc::clone(&order));
        move |n| {
            order.lock().unwrap().push(n);
            through(Arc::clone(&door), n)
        }
    }));
    let mut calls = Vec::new();
    for n in 0..8 {
        let service = service.clone();
        calls.push(tokio::spawn(async move { send(&service, n).await }));
        settle().await;
    }
    assert_eq!(counts(&layer.handle()), (1, 7));
    // From the middle, the front and the end.
    for n in [3, 1, 7] {
        calls[n].abort();
    }
    settle().await;
    assert_eq!(counts(&layer.handle()), (1, 4));
    for round in 0..5 {
        door.add_permits(1);
        // One who comes now is behind those who wait.
        if round == 0 {
            let service = service.clone();
            calls.push(tokio::spawn(async move { send(&service, 8).await }));
        }
        settle().await;
    }
    door.add_permits(1);
    settle().await;
    assert_eq!(*order.lock().unwrap(), [0, 2, 4, 5, 6, 8]);
    assert_eq!(counts(&layer.handle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_so_many_places_and_no_more() {
    let layer = BulkheadLayer::new(policy(1, 2));
    let (handle, mut service) = (layer.handle(), layer.layer(service_fn(hang)));
    let first = service.ready().await.unwrap().call(0);
    let waiting = [1, 2].map(|n| service.call(n));
    assert_eq!(counts(&handle), (1, 2));
    assert_eq!(kind(&service.call(3).await.unwrap_err()), Kind::Overloaded);
    drop(waiting);
    assert_eq!(counts(&handle), (1, 0));
    let waiting = service.call(4);
    drop(first);
    assert_eq!(counts(&handle), (1, 0), "handed over to the one who waits");
    drop(waiting);
    assert_eq!(counts(&handle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused() {
    let layer = BulkheadLayer::new(policy(1, 2));
    let handle = layer.handle();
    let service = layer.layer(service_fn(hang));
    let _held = service.clone().ready().await.unwrap().call(0);

    let began = Instant::now();
    let waits = tokio::spawn({
        let service = service.clone();
        async move { send(&service, 1).await }
    });
    settle().await;
    time::advance(Duration::from_millis(400)).await;
    assert_eq!(handle.waiting_for(), Some(Duration::from_millis(400)));
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!((kind(&error), began.elapsed()), (Kind::Overloaded, SECOND));
    assert_eq!((counts(&handle), handle.waiting_for()), ((1, 0), None));

    // Another limit is for those who begin to wait after it.
    let mut old = service.clone();
    let mut old = tokio::spawn(old.call(2));
    settle().await;
    handle
        .update(|config| config.max_wait = 3 * SECOND)
        .unwrap();
    let began = Instant::now();
    let new = send(&service, 3).await;
    assert_eq!(kind(&new.unwrap_err()), Kind::Overloaded);
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert!((&mut old).await.unwrap().is_err());
}

/// When the turn comes in the instant in which the time is up, the call is made.
#[tokio::test(start_paused = true)]
async fn a_turn_that_comes_with_the_end_of_the_time_is_taken() {
    let layer = BulkheadLayer::new(policy(1, 1));
    let mut held = layer.layer(service_fn(hang));
    let held = held.ready().await.unwrap().call(0);
    let mut waits = tokio::spawn(layer.layer(service_fn(echo)).call(1));
    settle().await;
    time::advance(SECOND - Duration::from_millis(1)).await;
    drop(held);
    time::advance(Duration::from_millis(2)).await;
    assert_eq!((&mut waits).await.unwrap().unwrap(), 1);
    assert_eq!(counts(&layer.handle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_live() {
    let live = Live::new(policy(1, 10));
    let layer = BulkheadLayer::new(live.clone());
    let handle = layer.handle();
    let door = Arc::new(Semaphore::new(0));
    let service = layer.layer(service_fn({
        let door = Arc::clone(&door);
        move |n| through(Arc::clone(&door), n)
    }));
    for n in 0..6 {
        let service = service.clone();
        tokio::spawn(async move { send(&service, n).await });
    }
    settle().await;
    assert_eq!(counts(&handle), (1, 5));
    live.update(|policy| *policy = policy.clone().with(|config| config.limit = 4).unwrap())
        .unwrap();
    settle().await;
    assert_eq!((counts(&handle), handle.limit()), ((4, 2), 4));

    handle.update(|config| config.limit = 2).unwrap();
    settle().await;
    assert_eq!(counts(&handle), (4, 2), "nothing is taken back");
    for left in [(3, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)] {
        door.add_permits(1);
        settle().await;
        assert_eq!(counts(&handle), left);
    }

    for (change, field) in [
        (
            BulkheadConfig {
                limit: 0,
                ..Default::default()
            },
            "limit",
        ),
        (
            BulkheadConfig {
                queue: 1_000_001,
                ..Default::default()
            },
            "queue",
        ),
        (
            BulkheadConfig {
                max_wait: Duration::ZERO,
                ..Default::default()
            },
            "max_wait",
        ),
    ] {
        let fault = handle.update(|config| *config = change).unwrap_err();
        assert_eq!(fault.field(), field);
    }
    assert_eq!(handle.config().load().config().limit, 2);
}

#[test]
fn what_is_shared_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    type Inner = tower::util::BoxCloneSyncService<u32, u32, Infallible>;
    check::<BulkheadLayer>();
    check::<BulkheadHandle>();
    check::<Bulkhead<Inner>>();
    check::<Ticket>();
    fn sends<T: Send>() {}
    sends::<BulkheadFuture<Inner, u32, tower_chassis_core::settle::UntilHead>>();
}

#[tokio::test(start_paused = true)]
async fn readiness_that_was_begun_and_left_holds_nothing() {
    use std::task::{Context, Poll, Waker};
    let layer = BulkheadLayer::new(policy(2, 4));
    let inner = service_fn(async |wait: u64| {
        time::sleep(Duration::from_millis(wait)).await;
        Ok::<_, BoxError>(())
    });
    let service = layer.layer(tower::limit::ConcurrencyLimit::new(inner, 2));
    let (mut a, mut b, mut c) = (service.clone(), service.clone(), service.clone());
    // The two places inside are taken, one permit is in use.
    let called = c.ready().await.unwrap().call(100);
    let b = b.ready().await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut ready = |a: &mut _| Service::<u64>::poll_ready(a, &mut cx);
    assert!(
        matches!(ready(&mut a), Poll::Pending),
        "a waits for the inner service"
    );
    let held = b.call(1_000_000);
    assert_eq!(layer.handle().in_flight(), 2);
    // Nothing is free: it may call, and waits here.
    assert!(ready(&mut a).is_ready());
    let waiting = tokio::spawn(a.call(1));
    tokio::spawn(called).await.unwrap().unwrap();
    let ended = time::timeout(30 * SECOND, waiting).await;
    ended
        .expect("it waits for a place that it holds itself")
        .unwrap()
        .unwrap();
    drop(held);
}
