//! More calls than there is room for: who waits, who is next, who is refused and when.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Semaphore, task::JoinHandle, time, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Carrier, Deadline, Events, Invocation, Kind};

use super::{
    super::{BulkheadConfig, BulkheadFuture, BulkheadLayer, BulkheadPolicy, QueueOrder},
    service::{SECOND, counts, echo, kind, policy, send, settle},
};
use crate::keyed::Forget;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn config(limit: u32, queue: u32) -> BulkheadConfig {
    policy(limit, queue).into()
}

fn layer(config: BulkheadConfig) -> BulkheadLayer {
    BulkheadLayer::new(BulkheadPolicy::try_from(config).unwrap())
}

/// How long a call took, and why it was refused if it was.
async fn timed<S, Req>(service: S, request: Req) -> (Duration, Result<(), Kind>)
where
    S: Service<Req, Error = BoxError> + Clone,
{
    let began = Instant::now();
    let result = send(&service, request).await;
    let result = result.map(drop).map_err(|error| kind(&error));
    (began.elapsed(), result)
}

/// A call takes as many milliseconds as it says.
async fn work(millis: u64) -> Result<(), Infallible> {
    time::sleep(ms(millis)).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn in_a_standing_queue_nobody_waits_for_longer_than_the_target() {
    let layer = layer(BulkheadConfig {
        codel: true,
        target: ms(5),
        interval: ms(100),
        ..config(1, 10)
    });
    let service = layer.layer(service_fn(work));
    let _held = tokio::spawn(service.clone().oneshot(10_000));
    settle().await;
    let call = |at| {
        let service = service.clone();
        tokio::spawn(async move {
            time::sleep(ms(at)).await;
            timed(service, 0).await
        })
    };
    // The first makes the queue one that stands from 100 on; until then each may wait, from then on for 5.
    let calls = [(0, 100), (60, 100), (98, 103), (100, 105), (104, 109)];
    let calls = calls.map(|(at, ends)| (at, ends, call(at)));
    for (at, ends, call) in calls {
        let (took, result) = call.await.unwrap();
        assert_eq!(result, Err(Kind::Overloaded));
        assert_eq!(ms(at) + took, ms(ends), "one who came at {at}");
    }
    // It was empty: whoever comes now is the first again.
    assert_eq!(timed(service, 0).await.0, ms(100));
}

#[tokio::test(start_paused = true)]
async fn the_newest_is_next_while_the_queue_stands_and_the_oldest_else() {
    let layer = layer(BulkheadConfig {
        queue_order: QueueOrder::AdaptiveLifo,
        interval: ms(50),
        ..config(1, 10)
    });
    let (door, order) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(Mutex::new(Vec::new())),
    );
    let service = layer.layer(service_fn({
        let (door, order) = (Arc::clone(&door), Arc::clone(&order));
        move |n: u32| {
            order.lock().unwrap().push(n);
            let door = Arc::clone(&door);
            async move {
                door.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(())
            }
        }
    }));
    for n in 0..7 {
        let service = service.clone();
        tokio::spawn(async move { send(&service, n).await });
        settle().await;
    }
    let next = async |after| {
        time::advance(after).await;
        door.add_permits(1);
        settle().await;
    };
    next(ms(10)).await;
    next(ms(39)).await;
    // Now it stands.
    next(ms(1)).await;
    next(ms(1)).await;
    for _ in 0..3 {
        next(ms(0)).await;
    }
    assert_eq!(counts(&layer.handle()), (0, 0));
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 6, 5, 4, 3]);
}

/// A request of a protocol of its own.
struct Dated(http::Extensions);

impl Dated {
    fn new(left: Option<Duration>) -> Self {
        let mut dated = Self(http::Extensions::new());
        if let Some(left) = left {
            let deadline = Deadline::at(Instant::now() + left);
            dated.invocation_mut().limit_deadline(deadline);
        }
        dated
    }
}

impl Carrier for Dated {
    fn extensions(&self) -> &http::Extensions {
        &self.0
    }
    fn extensions_mut(&mut self) -> &mut http::Extensions {
        &mut self.0
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_past_its_deadline() {
    let layer = layer(config(1, 10)).deadlines();
    let door = Arc::new(Semaphore::new(0));
    let served = Arc::new(Mutex::new(Vec::new()));
    let service = layer.layer(service_fn({
        let (door, served) = (Arc::clone(&door), Arc::clone(&served));
        move |dated: Dated| {
            let left = dated.invocation().and_then(Invocation::deadline);
            served.lock().unwrap().push(left.is_some());
            let door = Arc::clone(&door);
            async move {
                door.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(())
            }
        }
    }));
    let spawn = |left| -> JoinHandle<_> {
        let service = service.clone();
        tokio::spawn(async move { timed(service, Dated::new(left)).await })
    };
    // With a permit it is not asked: to refuse what is late is the business of others.
    let first = spawn(Some(Duration::ZERO));
    settle().await;
    assert_eq!(counts(&layer.handle()), (1, 0));
    let late = spawn(Some(Duration::ZERO));
    let (near, far, none) = (spawn(Some(ms(200))), spawn(Some(ms(5_000))), spawn(None));
    settle().await;
    assert_eq!(
        counts(&layer.handle()),
        (1, 3),
        "who is late takes no place"
    );
    let exceeded = Err(Kind::DeadlineExceeded);
    assert_eq!(late.await.unwrap(), (Duration::ZERO, exceeded));
    assert_eq!(near.await.unwrap(), (ms(200), exceeded));
    let overloaded = Err(Kind::Overloaded);
    assert_eq!(
        far.await.unwrap(),
        (SECOND, overloaded),
        "max_wait is nearer"
    );
    assert_eq!(none.await.unwrap(), (SECOND, overloaded));

    // The timer of a task may be late: a permit does not go to one who has no use for it.
    let mut near = Box::pin(service.clone().oneshot(Dated::new(Some(ms(20)))));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(near.as_mut().poll(&mut cx).is_pending());
    let next = spawn(None);
    settle().await;
    assert_eq!(counts(&layer.handle()), (1, 2));
    time::advance(ms(30)).await;
    door.add_permits(2);
    assert_eq!(next.await.unwrap().1, Ok(()));
    assert_eq!(kind(&near.await.unwrap_err()), Kind::DeadlineExceeded);
    assert_eq!(first.await.unwrap().1, Ok(()));
    assert_eq!(*served.lock().unwrap(), [true, false]);
    assert_eq!(counts(&layer.handle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn shut_it_refuses_all_but_those_in_flight() {
    let layer = layer(config(1, 10));
    let handle = layer.handle();
    let service = layer.layer(service_fn(work));
    let runs = tokio::spawn(service.clone().oneshot(300));
    settle().await;
    let waits = tokio::spawn(timed(service.clone(), 0));
    settle().await;
    time::advance(ms(100)).await;
    handle.shut();
    assert!(handle.is_shut());
    assert_eq!(counts(&handle), (1, 0));
    let overloaded = Err(Kind::Overloaded);
    assert_eq!(waits.await.unwrap(), (ms(100), overloaded));
    assert_eq!(
        timed(service.clone(), 0).await,
        (Duration::ZERO, overloaded)
    );
    // Other settings do not open it.
    handle.update(|config| config.limit = 5).unwrap();
    assert_eq!(timed(service.clone(), 0).await.1, overloaded);
    runs.await.unwrap().unwrap();
    assert_eq!(counts(&handle), (0, 0));
    assert_eq!(timed(service.clone(), 0).await.1, overloaded);
    handle.open();
    handle.open();
    assert_eq!(timed(service, 0).await, (Duration::ZERO, Ok(())));
    assert!(!handle.is_shut());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_shut_is_not_forgotten() {
    let keyed = layer(config(1, 0)).keyed(|key: &u32| Some(*key));
    let service = keyed.layer(service_fn(echo));
    send(&service, 7).await.unwrap();
    let handle = keyed.handle().get(7).unwrap();
    assert!(handle.0.is_idle(Instant::now()));
    handle.shut();
    assert!(!handle.0.is_idle(Instant::now()));
    assert!(send(&service, 7).await.is_err());
    assert_eq!(send(&service, 8).await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_and_waits_can_be_read_where_it_reports() {
    let events = Events::new();
    let read = || {
        let mut all = Vec::new();
        events.read(|metric, name, value| all.push((metric, name.to_string(), value)));
        all
    };
    // Made anew with each of these, under another name at first.
    let layer = layer(config(2, 4)).events(events.clone()).named("stock");
    let service = layer.layer(service_fn(work));
    for _ in 0..5 {
        tokio::spawn(service.clone().oneshot(10));
    }
    settle().await;
    let of = |in_flight, queued, limit| {
        [
            ("chassis_bulkhead_in_flight", "stock".to_owned(), in_flight),
            ("chassis_bulkhead_limit", "stock".to_owned(), limit),
            ("chassis_bulkhead_queued", "stock".to_owned(), queued),
        ]
    };
    assert_eq!(read(), of(2.0, 3.0, 2.0));
    time::sleep(ms(100)).await;
    assert_eq!(read(), of(0.0, 0.0, 2.0));
    drop((layer, service));
    assert_eq!(read(), of(0.0, 0.0, 0.0));
    assert!(read().is_empty());
}

/// Twice as many calls as can be served, for three seconds, by callers who wait for 50 ms: how many of a hundred
/// that could be served in time are.
async fn goodput(config: BulkheadConfig) -> u64 {
    // A call takes 10 ms: 1,000 a second.
    let service = layer(config).layer(service_fn(|()| work(10)));
    let began = Instant::now();
    let mut calls = Vec::new();
    for n in 0..6_000_u32 {
        let service = service.clone();
        calls.push(tokio::spawn(async move {
            time::sleep_until(began + n * Duration::from_micros(500)).await;
            let came = Instant::now();
            let served = send(&service, ()).await.is_ok();
            served && came.elapsed() <= ms(50)
        }));
    }
    let mut good = 0;
    for call in calls {
        good += u64::from(call.await.unwrap());
    }
    good * 100 / 3_000
}

#[tokio::test(start_paused = true)]
async fn under_twice_the_load_most_of_what_is_served_is_served_in_time() {
    let plain = config(10, 500);
    let codel = BulkheadConfig {
        codel: true,
        ..plain.clone()
    };
    let lifo = BulkheadConfig {
        queue_order: QueueOrder::AdaptiveLifo,
        ..plain.clone()
    };
    let both = BulkheadConfig {
        queue_order: QueueOrder::AdaptiveLifo,
        ..codel.clone()
    };
    let good = [
        goodput(plain).await,
        goodput(codel).await,
        goodput(lifo).await,
        goodput(both).await,
    ];
    assert!(
        good[0] < 10,
        "in order of arrival nearly all are late: {good:?}"
    );
    assert!(good[1..].iter().all(|good| *good >= 90), "{good:?}");
}

/// All calls are moved with their futures, and few wait.
#[test]
fn the_future_is_the_inner_one_and_little_more() {
    fn size<S: Service<Req>, Req>() -> usize {
        size_of::<BulkheadFuture<S, Req, tower_chassis_core::settle::UntilHead>>()
            - size_of::<S::Future>()
    }
    type Inner = tower::util::BoxCloneSyncService<[u8; 500], u32, Infallible>;
    assert!(
        size::<Inner, [u8; 500]>() <= 16,
        "{}",
        size::<Inner, [u8; 500]>()
    );
}
