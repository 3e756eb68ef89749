//! A limit for each key: whose calls count together, which keys are forgotten, and which never.

mod ends;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use tokio::{sync::Semaphore, time, time::Instant};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Events, Kind, Live, clock, events::Event};
use tower_layer::Layer;

use super::{
    super::{
        BulkheadLayer, BulkheadPolicy, KeyedBulkhead, KeyedBulkheadHandle, KeyedBulkheadLayer,
        shared::{Shared, Turn, enter},
    },
    service::{SECOND, counts, kind, policy, send, settle},
};
use crate::keyed::{By, Forget};

/// A call of a tenant, and a number.
type Call = (Option<u32>, u32);

async fn hang(_: Call) -> Result<u32, Infallible> {
    std::future::pending().await
}

async fn echo((_, n): Call) -> Result<u32, Infallible> {
    Ok(n)
}

fn tenant(call: &Call) -> Option<u32> {
    call.0
}

type Layered = KeyedBulkheadLayer<By<fn(&Call) -> Option<u32>, u32>, u32>;

fn keyed(policy: impl Into<Live<BulkheadPolicy>>) -> Layered {
    BulkheadLayer::new(policy).keyed(tenant)
}

/// Why a call is refused, at once.
async fn refusal<S>(service: &S, call: Call) -> Kind
where
    S: Service<Call, Response = u32, Error = BoxError> + Clone,
{
    let began = Instant::now();
    let result = time::timeout(SECOND, send(service, call)).await;
    let kind = kind(&result.expect("it waits, or was called").unwrap_err());
    assert_eq!(began.elapsed(), Duration::ZERO);
    kind
}

/// In flight and waiting, of a key that has a limit of its own.
fn of<F>(handle: &KeyedBulkheadHandle<F, u32>, key: u32) -> Option<(u32, u32)> {
    handle.get(key).map(|one| counts(&one))
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_limit_and_two_services_share_it() {
    let (events, heard) = (Events::new(), Arc::new(Mutex::new(0)));
    let log = Arc::clone(&heard);
    events.listen(move |event| {
        *log.lock().unwrap() += u32::from(matches!(event, Event::Refused { .. }));
    });
    let layer = keyed(policy(2, 0)).named("stock").events(events);
    let handle = layer.handle();
    let mut a = layer.layer(service_fn(hang));
    let mut b = layer.clone().layer(service_fn(hang));
    let mut held = Vec::new();
    for key in [Some(1), None] {
        held.push(a.ready().await.unwrap().call((key, 0)));
        held.push(b.ready().await.unwrap().call((key, 1)));
        for service in [&a, &b] {
            let refusal = refusal(service, (key, 2)).await;
            assert_eq!(refusal, Kind::Overloaded, "{key:?}");
        }
    }
    assert_eq!(*heard.lock().unwrap(), 4);
    held.push(b.call((Some(2), 0)));
    assert_eq!(
        (of(&handle, 1), of(&handle, 2)),
        (Some((2, 0)), Some((1, 0)))
    );
    assert_eq!(
        (counts(&handle.one()), handle.one().name()),
        ((2, 0), "stock")
    );
    assert_eq!((of(&handle, 3), handle.keys()), (None, 2));
    let mut seen = Vec::new();
    handle.for_each(|key, in_flight, queued| seen.push((*key, in_flight, queued)));
    seen.sort_unstable();
    assert_eq!(seen, [(1, 2, 0), (2, 1, 0)]);

    let fresh = layer.fresh();
    let other = fresh.layer(service_fn(echo));
    assert_eq!(send(&other, (Some(1), 7)).await.unwrap(), 7);
    assert_eq!(send(&other, (None, 8)).await.unwrap(), 8);
    assert_eq!(fresh.handle().one().name(), "stock");
    drop(held);
    assert_eq!(
        (of(&handle, 1), counts(&handle.one())),
        (Some((0, 0)), (0, 0))
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_is_bounded_and_forgets_nobody_in_flight_or_waiting() {
    let layer = keyed(policy(1, 1)).max_keys(64);
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(hang));
    let in_flight = service.call((Some(0), 0));
    let (first, waits) = (service.call((Some(1), 0)), service.call((Some(1), 1)));
    // Granted, and not come for: all that is held of it is its place.
    let (gone, granted) = (service.call((Some(2), 0)), service.call((Some(2), 1)));
    drop(gone);
    // Nobody calls, but somebody looks.
    drop(service.call((Some(3), 0)));
    let looks = handle.get(3).unwrap();

    for key in 10..5_000 {
        assert_eq!(
            send(&layer.layer(service_fn(echo)), (Some(key), key))
                .await
                .unwrap(),
            key
        );
        assert!(handle.keys() <= 64);
    }
    // None of these is idle.
    let busy: Vec<_> = (5_000..5_500)
        .map(|key| service.call((Some(key), 0)))
        .collect();
    assert_eq!(handle.keys(), 64);
    for (key, left) in [(0, (1, 0)), (1, (1, 1)), (2, (1, 0)), (3, (0, 0))] {
        assert_eq!(of(&handle, key), Some(left), "{key}");
    }
    let held = service.call((Some(3), 0));
    assert_eq!(counts(&looks), (1, 0), "the same limit as ever");
    drop(first);
    assert_eq!(
        of(&handle, 1),
        Some((1, 0)),
        "handed over to the one who waits"
    );

    drop((in_flight, waits, granted, held, looks, busy));
    for key in 10_000..15_000 {
        time::advance(Duration::from_millis(1)).await;
        send(&layer.layer(service_fn(echo)), (Some(key), 0))
            .await
            .unwrap();
    }
    for key in 0..4 {
        assert_eq!(of(&handle, key), None, "{key}");
    }
}

#[test]
fn only_what_nobody_uses_is_idle() {
    let layer = keyed(policy(1, 1));
    let handle = layer.handle();
    let limit = handle.one().0.for_key();
    let come = |limit: &Arc<Shared>| enter(limit, || Arc::clone(limit), || None);
    let idle = |limit: &Shared| limit.is_idle(Instant::now());
    assert!(idle(&limit));
    let Turn::Now(ticket) = come(&limit) else {
        panic!("no permit");
    };
    assert!(!idle(&limit));
    let Turn::Wait(waiter) = come(&limit) else {
        panic!("no place");
    };
    // Fewer permits than are in use.
    handle.one().update(|config| config.limit = 3).unwrap();
    limit.apply(&handle.one().config().load());
    assert!(!idle(&limit));
    limit.apply(&policy(1, 1));
    drop(ticket);
    assert!(!idle(&limit), "granted");
    drop(waiter);
    assert!(idle(&limit));
}

/// To a key with calls in flight and waiting, to one that is idle, to those that share, to those that come later.
#[tokio::test(start_paused = true)]
async fn a_change_reaches_every_key() {
    let live = Live::new(policy(1, 4));
    // The second key finds no room.
    let layer = keyed(live.clone()).max_keys(1);
    let handle = layer.handle();
    let service = layer.layer(service_fn(hang));
    let calls: Vec<_> = [Some(1), Some(2), None]
        .into_iter()
        .flat_map(|key| (0..5).map(move |n| (key, n)))
        .map(|call| {
            let service = service.clone();
            tokio::spawn(async move { send(&service, call).await })
        })
        .collect();
    settle().await;
    assert_eq!((of(&handle, 1), handle.keys()), (Some((1, 4)), 1));
    let shared = |key| {
        let mut free = 0;
        let mut service = service.clone();
        let mut held = Vec::new();
        // Each that is in flight or waits is one place less.
        while held.len() < 100 {
            let mut call = Box::pin(service.call((Some(key), 0)));
            if call
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
            {
                break;
            }
            held.push(call);
            free += 1;
        }
        free
    };
    assert_eq!(shared(2), 0);
    live.update(|policy| *policy = policy.clone().with(|config| config.limit = 3).unwrap())
        .unwrap();
    settle().await;
    assert_eq!(of(&handle, 1), Some((3, 2)));
    assert_eq!(counts(&handle.one()), (3, 2));
    assert_eq!(shared(2), 2, "of seven");
    handle.one().update(|config| config.queue = 6).unwrap();
    assert_eq!(shared(2), 4, "of nine");

    // Lower: nothing is taken back, and nobody comes in.
    handle.one().update(|config| config.limit = 1).unwrap();
    assert_eq!(of(&handle, 1), Some((3, 2)));
    calls[0].abort();
    settle().await;
    assert_eq!(of(&handle, 1), Some((2, 2)));
    for call in &calls {
        call.abort();
    }
    settle().await;
    assert_eq!((of(&handle, 1), shared(2)), (Some((0, 0)), 7));

    // Idle, and changed.
    handle
        .one()
        .update(|config| (config.limit, config.queue) = (2, 0))
        .unwrap();
    assert_eq!((shared(1), shared(2)), (2, 2));
    time::advance(SECOND).await;
    assert_eq!(shared(3), 2);
    assert_eq!(
        of(&handle, 3),
        Some((0, 0)),
        "new, and in the place of the first"
    );
}

#[tokio::test(start_paused = true)]
async fn how_long_a_call_waits_is_the_same_for_all_keys_and_live() {
    let layer = keyed(policy(1, 1));
    let mut service = layer.layer(service_fn(hang));
    let _held = service.call((Some(1), 0));
    for wait in [SECOND, 3 * SECOND] {
        layer
            .handle()
            .one()
            .update(|config| config.max_wait = wait)
            .unwrap();
        let began = Instant::now();
        let error = send(&service, (Some(1), 1)).await.unwrap_err();
        assert_eq!((kind(&error), began.elapsed()), (Kind::Overloaded, wait));
    }
}

/// A key that shares a limit and finds room of its own later would have two of them.
#[tokio::test(start_paused = true)]
async fn a_key_never_has_two_limits_at_once() {
    let layer = keyed(policy(1, 0)).max_keys(1);
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(hang));
    let first = service.call((Some(1), 0));
    let shares = service.call((Some(2), 0));
    assert_eq!((of(&handle, 1), of(&handle, 2)), (Some((1, 0)), None));
    drop(first);
    time::advance(SECOND).await;
    let refusal = refusal(&service, (Some(2), 1)).await;
    assert_eq!(refusal, Kind::Overloaded);
    drop(shares);
    let own = service.call((Some(2), 2));
    assert_eq!(of(&handle, 2), Some((1, 0)));
    drop(own);
}

#[tokio::test(start_paused = true)]
async fn in_each_queue_who_comes_first_is_first() {
    let order = Arc::new(Mutex::new(HashMap::<_, Vec<u32>>::new()));
    let doors: [_; 2] = std::array::from_fn(|_| Arc::new(Semaphore::new(0)));
    let layer = keyed(policy(1, 10));
    let handle = layer.handle();
    let service = layer.layer(service_fn({
        let (order, doors) = (Arc::clone(&order), doors.clone());
        move |(key, n): Call| {
            let key = key.unwrap();
            order.lock().unwrap().entry(key).or_default().push(n);
            let door = Arc::clone(&doors[key as usize]);
            async move {
                door.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(n)
            }
        }
    }));
    let mut calls = Vec::new();
    for n in 0..12 {
        let service = service.clone();
        calls.push(tokio::spawn(async move {
            send(&service, (Some(n % 2), n)).await
        }));
        settle().await;
    }
    assert_eq!(
        (of(&handle, 0), of(&handle, 1)),
        (Some((1, 5)), Some((1, 5)))
    );
    // From the middle of one, the front of the other.
    for n in [6, 3] {
        calls[n].abort();
    }
    doors[1].add_permits(10);
    settle().await;
    assert_eq!(
        (of(&handle, 0), of(&handle, 1)),
        (Some((1, 4)), Some((0, 0)))
    );
    doors[0].add_permits(10);
    settle().await;
    let order = order.lock().unwrap();
    assert_eq!(order[&0], [0, 2, 4, 8, 10]);
    assert_eq!(order[&1], [1, 5, 7, 9, 11]);
}

/// It knows its key, and has no use for the time.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_known_key_reads_no_clock() {
    let service = keyed(policy(1, 1)).layer(service_fn(echo));
    send(&service, (Some(1), 7)).await.unwrap();
    let before = clock::readings();
    assert_eq!(send(&service, (Some(1), 7)).await.unwrap(), 7);
    assert_eq!(clock::readings(), before);
}

/// Ten thousand of them are a few megabytes.
#[test]
fn a_limit_of_a_key_is_small() {
    let limit = keyed(policy(1_000_000, 10)).handle().one().0.for_key();
    assert!(size_of::<Shared>() <= 160, "{}", size_of::<Shared>());
    assert_eq!(limit.permits.width(), 1);
    assert_eq!(limit.permits.kept(), 0);
}

#[test]
fn what_is_shared_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    type Inner = tower::util::BoxCloneSyncService<Call, u32, Infallible>;
    type Key = By<fn(&Call) -> Option<std::cell::Cell<u32>>, std::cell::Cell<u32>>;
    check::<KeyedBulkheadLayer<Key, std::cell::Cell<u32>>>();
    check::<KeyedBulkheadHandle<Key, std::cell::Cell<u32>>>();
    check::<KeyedBulkhead<Inner, Key, std::cell::Cell<u32>>>();
}

#[tokio::test(start_paused = true)]
async fn gauges_tell_of_all_keys_together() {
    let events = Events::new();
    let layer = keyed(policy(1, 1)).named("stock").events(events.clone());
    let gauges = || {
        let mut gauges = Vec::new();
        events.read(|metric, name, value| {
            let metric = metric.trim_start_matches("chassis_bulkhead_");
            gauges.push((metric, name.to_string(), value));
        });
        gauges.sort_by_key(|gauge| gauge.0);
        gauges
    };
    let of = |in_flight, queued| {
        ["in_flight", "limit", "queued"]
            .into_iter()
            .zip([in_flight, 1.0, queued])
            .map(|(metric, value)| (metric, "stock".to_owned(), value))
            .collect::<Vec<_>>()
    };
    let mut service = layer.layer(service_fn(hang));
    let mut held = Vec::new();
    for key in [None, Some(1), Some(2), Some(2)] {
        held.push(service.ready().await.unwrap().call((key, 0)));
    }
    assert_eq!(gauges(), of(3.0, 1.0));
    drop(held);
    assert_eq!(gauges(), of(0.0, 0.0));
}
