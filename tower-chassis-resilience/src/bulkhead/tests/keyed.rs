//! A limit for each key: whose calls count together, which keys are forgotten, and which never.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::{sync::Semaphore, time, time::Instant};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{Body, Events, Kind, Live, events::Event};
use tower_layer::Layer;

use super::{
    super::{
        BulkheadLayer, BulkheadPolicy, KeyedBulkhead, KeyedBulkheadHandle, KeyedBulkheadLayer,
        shared::{Shared, Turn},
    },
    service::{SECOND, counts, kind, policy, send, settle},
    waiting::{Reserves, Slots},
};
use crate::keyed::{By, Forget, Store};

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
            let refused = send(service, (key, 2)).await.unwrap_err();
            assert_eq!(kind(&refused), Kind::Overloaded, "{key:?}");
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

    drop((in_flight, waits, granted, held, looks));
    for key in 5_000..10_000 {
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
    let idle = |limit: &Shared| limit.is_idle(Instant::now());
    assert!(idle(&limit));
    let Turn::Now(ticket) = limit.enter() else {
        panic!("no permit");
    };
    assert!(!idle(&limit));
    let Turn::Wait(waiter) = limit.enter() else {
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
    let error = send(&service, (Some(2), 1)).await.unwrap_err();
    assert_eq!(kind(&error), Kind::Overloaded);
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

/// Answers with a body; each phase takes some polls.
#[derive(Clone)]
struct Slow(u32);

impl Service<Call> for Slow {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.0 > 0 {
            self.0 -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        Box::pin(async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            Ok(Response::new(Body::from("hello")))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_poll_gives_back_what_it_holds() {
    for key in [Some(1), None] {
        for queued in [false, true] {
            let mut finished = false;
            for polls in 0.. {
                let layer = keyed(policy(1, 1)).until_end();
                let handle = layer.handle();
                let service = layer.layer(Slow(2));
                let mut first = service.clone();
                let mut held = queued.then(|| first.call((key, 0)));
                let mut call = Box::pin(async {
                    let response = send(&service, (key, 1)).await.unwrap();
                    tokio::task::yield_now().await;
                    let mut body = response.into_body();
                    while body.frame().await.is_some() {
                        tokio::task::yield_now().await;
                    }
                    finished = true;
                });
                let mut cx = Context::from_waker(Waker::noop());
                for poll in 0..polls {
                    if call.as_mut().poll(&mut cx).is_ready() {
                        break;
                    }
                    // In the queue by now.
                    if poll == 3 {
                        held = None;
                    }
                }
                drop(call);
                drop(held);
                let left = match key {
                    Some(key) => of(&handle, key).unwrap_or_default(),
                    None => counts(&handle.one()),
                };
                let place = format!("{key:?}, queued {queued}, after {polls} polls");
                assert_eq!(left, (0, 0), "{place}");
                // Nobody holds the limit either: it can be forgotten.
                let again = handle.get(1).map(|one| Arc::strong_count(&one.0));
                assert!(again.is_none_or(|count| count == 2), "{place}");
                if finished {
                    assert!(polls > 6);
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_inner_service_and_goes_with_the_call_or_the_refusal() {
    let layer = BulkheadLayer::new(policy(1, 1)).keyed(|n: &u32| Some(n / 10));
    let (slots, handle) = (Arc::new(Slots::default()), layer.handle());
    let mut service = layer.layer(Reserves::new(&slots));
    for _ in 0..3 {
        service.ready().await.unwrap();
    }
    assert_eq!((slots.reserved(), handle.keys()), (1, 0));
    // The one that was readied is the one that is called; its clone is not.
    let clone = service.clone();
    assert_eq!(service.call(10).await.unwrap(), 10);
    assert_eq!(slots.reserved(), 0);
    assert_eq!(send(&clone, 11).await.unwrap(), 11);

    // The limit of this key is used up; that of the others is not.
    let never = service_fn(|_: u32| std::future::pending::<Result<u32, Infallible>>());
    let held = layer.layer(never).call(20);
    service.ready().await.unwrap();
    let waits = service.call(21);
    assert_eq!((slots.reserved(), of(&handle, 2)), (0, Some((1, 1))));
    service.ready().await.unwrap();
    assert_eq!(kind(&service.call(22).await.unwrap_err()), Kind::Overloaded);
    assert_eq!(slots.reserved(), 0);
    assert_eq!(send(&service, 30).await.unwrap(), 30);

    // Whoever waits is readied when its turn comes, and holds its permit meanwhile.
    slots.shut();
    assert!(time::timeout(SECOND / 2, service.ready()).await.is_err());
    let waits = tokio::spawn(waits);
    drop(held);
    settle().await;
    assert_eq!(of(&handle, 2), Some((1, 0)));
    slots.open();
    assert_eq!(waits.await.unwrap().unwrap(), 21);
    assert_eq!((of(&handle, 2), slots.reserved()), (Some((0, 0)), 0));
    service.ready().await.unwrap();
    drop(service);
    assert_eq!(slots.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn respond_and_until_end_are_as_for_one() {
    let layer = BulkheadLayer::new(policy(1, 0))
        .keyed(|request: &Request<()>| request.headers().get("tenant").cloned())
        .until_end()
        .respond();
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let send = |tenant: &str| {
        let request = Request::builder().header("tenant", tenant).body(());
        service.clone().oneshot(request.unwrap())
    };
    let held = send("a").await.unwrap();
    let refused = send("a").await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(send("b").await.unwrap().status(), StatusCode::OK);
    let body = held.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "hello");
    assert_eq!(send("a").await.unwrap().status(), StatusCode::OK);
}

/// It knows its key, and has no use for the time.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_known_key_reads_no_clock() {
    use tower_chassis_core::clock;
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
    assert!(size_of::<Shared>() <= 256, "{}", size_of::<Shared>());
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

/// More keys than there is room for, on many threads, cut off at any time, while the settings change: no key ever
/// has more inside than its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_inside_than_the_limit_of_a_key() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    const KEYS: usize = 16;
    struct Guard(Arc<[AtomicU32; KEYS]>, usize);
    impl Drop for Guard {
        fn drop(&mut self) {
            std::thread::yield_now();
            self.0[self.1].fetch_sub(1, SeqCst);
        }
    }
    let inside: Arc<[AtomicU32; KEYS]> = Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let layer = keyed(policy(1, 8)).max_keys(4);
    let service = layer.layer(service_fn({
        let (inside, over) = (Arc::clone(&inside), Arc::clone(&over));
        move |(key, n): Call| {
            let key = key.unwrap() as usize;
            if inside[key].fetch_add(1, SeqCst) > 0 {
                over.store(true, SeqCst);
            }
            let guard = Guard(Arc::clone(&inside), key);
            async move {
                for _ in 0..n % 4 {
                    tokio::task::yield_now().await;
                }
                drop(guard);
                Ok::<_, Infallible>(n)
            }
        }
    }));
    let calls: Vec<_> = (0..48_u32)
        .map(|task| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut served = 0;
                for n in 0..300 {
                    let key = (task * 7 + n * n) % KEYS as u32;
                    let mut call = Box::pin(send(&service, (Some(key), n)));
                    let mut patience = if (n + task) % 3 == 0 { n % 7 } else { u32::MAX };
                    let result = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
                        Poll::Pending if patience == 0 => Poll::Ready(None),
                        Poll::Pending if patience < u32::MAX => {
                            patience -= 1;
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                        other => other.map(Some),
                    });
                    served += u32::from(matches!(result.await, Some(Ok(_))));
                }
                served
            })
        })
        .collect();
    let handle = layer.handle();
    for queue in (0..200).map(|n| 4 + n % 8) {
        handle.one().update(|config| config.queue = queue).unwrap();
        assert!(handle.keys() <= 4);
        tokio::task::yield_now().await;
    }
    let mut served = 0;
    for call in calls {
        served += call.await.unwrap();
    }
    assert!(!over.load(SeqCst), "two of one key");
    assert!(served > 1_000, "{served} served");
    handle.for_each(|key, in_flight, queued| assert_eq!((in_flight, queued), (0, 0), "{key}"));
}

/// A change that is published while a key's limit is made is in it, also where it is one that keys share.
#[test]
fn no_change_is_missed_by_a_limit_that_is_made_meanwhile() {
    struct Made(Live<BulkheadPolicy>, Mutex<u32>);
    impl Forget for Made {
        fn is_idle(&self, _: Instant) -> bool {
            false
        }
    }
    for key in [0, 1] {
        let live = Live::new(policy(1, 0));
        let store = Arc::new(Store::<u32, Made>::new(1));
        if key == 1 {
            store.get(0, Instant::now, || {
                Arc::new(Made(live.clone(), Mutex::new(1)))
            });
        }
        live.bind(&store, |store, policy| {
            store.for_all(|made| *made.1.lock().unwrap() = policy.config().limit);
        });
        let (reads, go) = std::sync::mpsc::channel();
        let writer = std::thread::spawn({
            let live = live.clone();
            move || {
                go.recv().unwrap();
                live.set(policy(2, 0)).unwrap();
            }
        });
        let made = store.get(key, Instant::now, || {
            let limit = live.load().config().limit;
            reads.send(()).unwrap();
            // Published, though not pushed.
            while live.load().config().limit == 1 {
                std::thread::yield_now();
            }
            // The writer has all the time to pass by.
            for _ in 0..1_000 {
                std::thread::yield_now();
            }
            Arc::new(Made(live.clone(), Mutex::new(limit)))
        });
        writer.join().unwrap();
        assert_eq!(*made.1.lock().unwrap(), 2, "key {key}");
        assert_eq!(made.0.version(), 1);
    }
}
