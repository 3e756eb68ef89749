//! However a call of a key ends, what it holds comes back.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{Body, Kind};
use tower_layer::Layer;

use super::{
    super::{
        super::BulkheadLayer,
        service::{SECOND, counts, kind, policy, send, settle},
        waiting::{Reserves, Slots},
    },
    Call, keyed, of,
};

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
    let mut clone = service.clone();
    assert_eq!(service.call(10).await.unwrap(), 10);
    assert_eq!(slots.reserved(), 0);
    assert_eq!(clone.call(11).await.unwrap(), 11);

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

/// More keys than there is room for, on many threads, cut off at any time, while the settings change: no key ever
/// has more inside than its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_inside_than_the_limit_of_a_key() {
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
