//! However a call ends, what it holds comes back, once.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{Body, Kind, upgrade::Switched};
use tower_layer::Layer;

use super::{
    super::BulkheadLayer,
    service::{SECOND, counts, echo, kind, policy, send, settle},
};

/// What a call holds comes back, wherever it ends: after each number of polls, unpolled, in the queue, between
/// the queue and the service, in the service, in its body.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_poll_gives_back_what_it_holds() {
    // Each phase of a call takes some polls.
    #[derive(Clone)]
    struct Slow(u32);
    impl Service<u32> for Slow {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;
        fn poll_ready(
            &mut self,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            if self.0 > 0 {
                self.0 -= 1;
                cx.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            Box::pin(async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                Ok(Response::new(Body::from("hello")))
            })
        }
    }
    for queued in [false, true] {
        let mut finished = false;
        for polls in 0.. {
            let layer = BulkheadLayer::new(policy(1, 1)).until_end();
            let handle = layer.handle();
            let service = layer.layer(Slow(2));
            let mut first = service.clone();
            let mut held = queued.then(|| first.call(0));
            let mut call = Box::pin(async {
                let response = send(&service, 1).await.unwrap();
                tokio::task::yield_now().await;
                let mut body = response.into_body();
                while body.frame().await.is_some() {
                    tokio::task::yield_now().await;
                }
                finished = true;
            });
            for poll in 0..polls {
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                if call.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                if poll == 1 {
                    held = None;
                }
            }
            drop(call);
            drop(held);
            assert_eq!(
                counts(&handle),
                (0, 0),
                "queued {queued}, after {polls} polls"
            );
            if finished {
                assert!(polls > 6);
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_passes_its_turn_on() {
    let layer = BulkheadLayer::new(policy(1, 3));
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(echo));
    let held = service.ready().await.unwrap().call(0);
    let [first, second, third] = [1, 2, 3].map(|n| service.call(n));
    drop(held);
    // Granted to the first, which has not come for it.
    assert_eq!(counts(&handle), (1, 2));
    let third = tokio::spawn(third);
    settle().await;
    drop(first);
    assert_eq!(counts(&handle), (1, 1));
    drop(second);
    assert_eq!(third.await.unwrap().unwrap(), 3);
    assert_eq!(counts(&handle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_its_permit_back() {
    fn at_once(_: u32) -> std::future::Ready<Result<u32, Infallible>> {
        panic!("planted")
    }
    async fn later(n: u32) -> Result<u32, Infallible> {
        tokio::task::yield_now().await;
        panic!("planted {n}")
    }
    let layer = BulkheadLayer::new(policy(1, 2));
    let handle = layer.handle();
    let (now, then) = (
        layer.layer(service_fn(at_once)),
        layer.layer(service_fn(later)),
    );
    for _ in 0..2 {
        let now = now.clone();
        let call = tokio::spawn(async move { send(&now, 0).await });
        assert!(call.await.unwrap_err().is_panic());
        let then = then.clone();
        let call = tokio::spawn(async move { send(&then, 0).await });
        assert!(call.await.unwrap_err().is_panic());
    }
    assert_eq!(counts(&handle), (0, 0));
    // One that waited, and panics when it is made.
    let held = then.clone().ready().await.unwrap().call(0);
    let call = tokio::spawn(async move { send(&now, 0).await });
    settle().await;
    drop(held);
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(counts(&handle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_error_gives_its_permit_back_and_stays_what_it_is() {
    let layer = BulkheadLayer::new(policy(1, 0));
    let service = layer.layer(service_fn(async |_: u32| {
        Err::<u32, _>(std::io::Error::other("planted"))
    }));
    for _ in 0..3 {
        let error = send(&service, 0).await.unwrap_err();
        assert!(error.is::<std::io::Error>());
    }
    assert_eq!(counts(&layer.handle()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn until_end_holds_the_permit_to_the_end_of_the_body() {
    let answer = async |_: u32| Ok::<_, Infallible>(Response::new(Body::from("hello")));
    let (head, end) = (
        BulkheadLayer::new(policy(1, 0)),
        BulkheadLayer::new(policy(1, 0)).until_end(),
    );
    let (to_head, to_end) = (
        head.layer(service_fn(answer)),
        end.layer(service_fn(answer)),
    );

    let response = send(&to_head, 0).await.unwrap();
    assert_eq!(counts(&head.handle()), (0, 0));
    drop(response);

    let response = send(&to_end, 0).await.unwrap();
    assert_eq!(counts(&end.handle()), (1, 0));
    assert_eq!(
        kind(&send(&to_end, 0).await.map(drop).unwrap_err()),
        Kind::Overloaded
    );
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    assert_eq!(counts(&end.handle()), (0, 0));
    // Dropped unread.
    drop(send(&to_end, 0).await.unwrap());
    assert_eq!(counts(&end.handle()), (0, 0));
}

/// Its refusals are answers, and the error type is that of the inner service.
#[tokio::test(start_paused = true)]
async fn respond_answers_who_is_refused_and_who_waited_in_vain() {
    let layer = BulkheadLayer::new(policy(1, 1)).until_end().respond();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let request = |grpc| {
        let kind = if grpc {
            "application/grpc"
        } else {
            "text/plain"
        };
        Request::builder()
            .header("content-type", kind)
            .body(())
            .unwrap()
    };
    let held = service.call(request(false)).await.unwrap();
    let began = Instant::now();
    let (waited, refused) = tokio::join!(service.clone().oneshot(request(true)), async {
        tokio::task::yield_now().await;
        service.call(request(false)).await
    });
    assert_eq!(began.elapsed(), SECOND);
    let (waited, refused) = (waited.unwrap(), refused.unwrap());
    assert_eq!(
        (
            refused.status(),
            refused.headers()["x-chassis-reject"].as_bytes()
        ),
        (
            http::StatusCode::SERVICE_UNAVAILABLE,
            b"overloaded".as_slice(),
        )
    );
    assert_eq!(
        (waited.status(), waited.headers()["grpc-status"].as_bytes()),
        (http::StatusCode::OK, b"14".as_slice(),)
    );
    assert_eq!(counts(&handle), (1, 0));
    assert_eq!(
        held.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    assert_eq!(counts(&handle), (0, 0));
}

/// A websocket is in flight until whoever has its connection lets go of it.
#[tokio::test(start_paused = true)]
async fn a_switch_of_protocols_keeps_its_permit_until_end() {
    let layer = BulkheadLayer::new(policy(1, 0)).until_end();
    let service = layer.layer(service_fn(async |_: u32| {
        let switch = Response::builder().status(101).body(Body::empty());
        Ok::<_, Infallible>(switch.unwrap())
    }));
    let (mut head, body) = send(&service, 0).await.unwrap().into_parts();
    drop(body);
    let connection = Switched::take(&mut head.extensions).unwrap();
    drop(head);
    assert_eq!(counts(&layer.handle()), (1, 0));
    drop(connection);
    assert_eq!(counts(&layer.handle()), (0, 0));
}

/// Many threads, calls that are cut off at any time, a limit that moves: never more inside than it allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_inside_than_the_limit() {
    #[derive(Default)]
    struct Inside {
        now: std::sync::atomic::AtomicU32,
        most: std::sync::atomic::AtomicU32,
    }
    struct Guard(Arc<Inside>);
    impl Guard {
        fn new(inside: &Arc<Inside>) -> Self {
            use std::sync::atomic::Ordering::SeqCst;
            let now = inside.now.fetch_add(1, SeqCst) + 1;
            inside.most.fetch_max(now, SeqCst);
            Self(Arc::clone(inside))
        }
    }
    impl Drop for Guard {
        fn drop(&mut self) {
            use std::sync::atomic::Ordering::SeqCst;
            // The longer this takes, the likelier that somebody else comes in too early.
            std::thread::yield_now();
            self.0.now.fetch_sub(1, SeqCst);
        }
    }
    for limit in [1, 3, 50] {
        let inside = Arc::new(Inside::default());
        let layer = BulkheadLayer::new(policy(limit, 40));
        let service = layer.layer(service_fn({
            let inside = Arc::clone(&inside);
            move |n: u32| {
                let guard = Guard::new(&inside);
                async move {
                    for _ in 0..n % 5 {
                        tokio::task::yield_now().await;
                    }
                    drop(guard);
                    Ok::<_, Infallible>(n)
                }
            }
        }));
        let calls: Vec<_> = (0..64)
            .map(|task| {
                let service = service.clone();
                tokio::spawn(async move {
                    let mut served = 0;
                    for n in 0..200 {
                        let call = send(&service, n);
                        tokio::pin!(call);
                        // Some are given up after a few polls.
                        let mut patience = if (n + task) % 3 == 0 { n % 7 } else { u32::MAX };
                        let result = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
                            std::task::Poll::Pending if patience == 0 => {
                                std::task::Poll::Ready(None)
                            }
                            std::task::Poll::Pending if patience < u32::MAX => {
                                patience -= 1;
                                cx.waker().wake_by_ref();
                                std::task::Poll::Pending
                            }
                            other => other.map(Some),
                        })
                        .await;
                        served += u32::from(matches!(result, Some(Ok(_))));
                    }
                    served
                })
            })
            .collect();
        let mut served = 0;
        for call in calls {
            served += call.await.unwrap();
        }
        let most = inside.most.load(std::sync::atomic::Ordering::SeqCst);
        assert!(most <= limit, "{most} of {limit}");
        assert!(served > 1_000, "{served} served");
        assert_eq!(counts(&layer.handle()), (0, 0));
    }
}

/// Wakers are foreign code: one gives a permit back and opens what is being shut.
#[test]
fn who_waits_when_it_is_opened_again_gets_what_is_free() {
    use std::{
        task::{Wake, Waker},
        time::Duration,
    };

    use crate::bulkhead::{
        codel::Discipline,
        permits::{Comer, Entry, Permits},
    };

    struct Opens(Arc<Permits>);
    impl Wake for Opens {
        fn wake(self: Arc<Self>) {
            self.0.release(0, Instant::now);
            self.0.open(0, Instant::now);
        }
    }

    let permits = Arc::new(Permits::new(1, 2, 1));
    let comer = || Comer {
        now: Instant::now(),
        deadline: None,
        discipline: Discipline {
            max_wait: Duration::from_secs(60),
            target: None,
            interval: Duration::from_secs(60),
            newest_first: false,
        },
    };
    let enter = || permits.enter(0, comer);
    assert_eq!(enter(), Entry::Permit);
    let (Entry::Queued(first, _), Entry::Queued(second, _)) = (enter(), enter()) else {
        panic!("both wait");
    };
    assert!(!permits.poll(&first, &Waker::from(Arc::new(Opens(Arc::clone(&permits))))));
    permits.shut(0);
    assert!(permits.poll(&second, Waker::noop()), "a permit is free");
    assert!(!permits.leave(first, 0) && permits.leave(second, 0));
    permits.release(0, Instant::now);
    assert_eq!(permits.in_use(), 0);
}

/// The permits of a limit that is gone are another's only when nothing of them is in use.
#[tokio::test(start_paused = true)]
async fn what_a_limit_left_behind_does_not_reach_the_next() {
    for round in 0..20 {
        let layer = BulkheadLayer::new(policy(1, 1));
        let mut service = layer.layer(service_fn(async |_: u32| {
            std::future::pending::<Result<u32, Infallible>>().await
        }));
        let call = service.ready().await.unwrap().call(1);
        let (handle, shut) = (layer.handle(), round % 2 == 0);
        if shut {
            handle.shut();
        }
        drop((service, layer, handle));
        let next = BulkheadLayer::new(policy(1, 0));
        let handle = next.handle();
        assert_eq!((handle.limit(), counts(&handle)), (1, (0, 0)));
        assert!(!handle.is_shut());
        let service = next.layer(service_fn(async |_: u32| {
            std::future::pending::<Result<u32, Infallible>>().await
        }));
        let of_next = service.clone().ready_oneshot().await.unwrap().call(2);
        assert_eq!(counts(&handle), (1, 0));
        drop(call);
        assert_eq!(counts(&handle), (1, 0));
        assert_eq!(
            kind(&send(&service, 3).await.unwrap_err()),
            Kind::Overloaded
        );
        drop(of_next);
        assert_eq!(counts(&handle), (0, 0));
    }
}
