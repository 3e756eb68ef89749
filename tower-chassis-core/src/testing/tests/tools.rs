use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tower::{Service, service_fn};

use crate::{Body, testing::*};

fn ready(service: &mut ControlledService, waker: &Arc<CountingWaker>) -> bool {
    let waker = Waker::from(Arc::clone(waker));
    let mut cx = Context::from_waker(&waker);
    Service::<()>::poll_ready(service, &mut cx).is_ready()
}

#[test]
fn a_slot_comes_back_when_its_instance_goes() {
    let mut first = ControlledService::new();
    let control = first.control();
    control.slots(1);
    let mut second = first.clone();
    let (one, two) = (CountingWaker::new(), CountingWaker::new());
    assert!(ready(&mut first, &one));
    assert!(ready(&mut first, &one), "ready stays ready");
    assert_eq!(control.counts().reserved, 1);
    assert!(!ready(&mut second, &two));
    drop(first);
    assert_eq!(two.wakes(), 1);
    assert!(ready(&mut second, &two));
}

#[test]
fn a_slot_comes_back_when_its_call_is_over_or_dropped() {
    for dropped in [false, true] {
        let mut first = ControlledService::new();
        let control = first.control();
        control.slots(1);
        control.plan(Plan::answer().held());
        let mut second = first.clone();
        let (one, two) = (CountingWaker::new(), CountingWaker::new());
        assert!(ready(&mut first, &one));
        let mut call = Box::pin(first.call(()));
        assert_pending!(poll_once(&mut call));
        assert!(!ready(&mut first, &one) && !ready(&mut second, &two));
        if dropped {
            drop(call);
        } else {
            control.release();
            assert!(assert_ready!(poll_once(&mut call)).is_ok());
        }
        assert_eq!((one.wakes(), two.wakes()), (1, 1));
        assert!(ready(&mut second, &two) && !ready(&mut first, &one));
        assert_eq!(control.counts().in_flight, 0);
    }
}

#[test]
fn a_closed_service_wakes_who_waits_when_it_opens() {
    let mut service = ControlledService::new();
    let control = service.control();
    control.close();
    let waker = CountingWaker::new();
    assert!(!ready(&mut service, &waker));
    assert_eq!(waker.wakes(), 0);
    control.open();
    assert_eq!(waker.wakes(), 1);
    assert!(ready(&mut service, &waker));
}

#[test]
fn a_call_that_was_not_ready_is_counted_and_served() {
    let mut service = ControlledService::new();
    assert!(ready(&mut service, &CountingWaker::new()));
    let mut call = service.clone().call(());
    assert!(assert_ready!(poll_once(&mut call)).is_ok());
    assert_eq!(service.control().counts().unready_calls, 1);
    assert_pending!(poll_once(&mut call));
    assert_eq!(service.control().counts().polls_after_end, 1);
}

#[test]
fn plans_are_kept_in_order() {
    let mut service = ControlledService::new();
    let control = service.control();
    control.next(Plan::error());
    control.next(Plan::answer().after_polls(1));
    let error = assert_ready!(poll_once(&mut service.call(()))).unwrap_err();
    assert_eq!(Marked::find(&*error), Some(&Marked { call: 1 }));
    let mut hand = Hand::new(service.call(()));
    assert!(matches!(hand.poll(), Polled::Pending));
    assert!(!hand.is_woken());
    control.nudge();
    assert!(hand.is_woken());
    assert!(matches!(hand.poll(), Polled::Ready(Ok(_))));
    assert!(matches!(
        poll_once(&mut service.call(())),
        Poll::Ready(Ok(_))
    ));
    assert_eq!((control.counts().calls, control.counts().peak), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_time() {
    let mut service = ControlledService::new();
    service
        .control()
        .plan(Plan::answer().after(Duration::from_secs(2)));
    let mut call = Hand::new(service.call(()));
    assert!(matches!(call.poll(), Polled::Pending));
    advance(Duration::from_secs(1)).await;
    assert!(!call.is_woken());
    advance(Duration::from_secs(1)).await;
    assert!(call.is_woken());
    assert!(matches!(call.poll(), Polled::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn settling_lets_tasks_run_and_time_stand() {
    let (before, ran) = (
        tokio::time::Instant::now(),
        Arc::new(AtomicBool::new(false)),
    );
    let flag = Arc::clone(&ran);
    tokio::spawn(async move {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        flag.store(true, Ordering::Relaxed);
    });
    settle().await;
    assert!(ran.load(Ordering::Relaxed));
    assert_eq!(before, tokio::time::Instant::now());
}

#[test]
fn a_hand_that_panics_drops_its_future_while_it_unwinds() {
    struct Sees(Arc<AtomicBool>);
    impl Drop for Sees {
        fn drop(&mut self) {
            self.0.store(std::thread::panicking(), Ordering::Relaxed);
        }
    }
    let panicking = Arc::new(AtomicBool::new(false));
    let sees = Sees(Arc::clone(&panicking));
    let mut service = ControlledService::new();
    service.control().plan(Plan::panic());
    let call = service.call(());
    let mut hand = Hand::new(async move {
        let _sees = sees;
        call.await.is_ok()
    });
    assert!(matches!(hand.poll(), Polled::Panicked));
    assert!(panicking.load(Ordering::Relaxed));
    assert!(hand.is_over() && !hand.is_woken());
}

#[test]
fn a_hand_sees_who_wakes_itself() {
    let mut good = Hand::new(pending::<()>());
    assert!(good.is_woken(), "polled a first time");
    let _ = good.poll();
    assert_eq!((good.is_woken(), good.self_wakes()), (false, 0));
    let mut bad = Hand::new(std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    let _ = bad.poll();
    assert_eq!(
        (bad.is_woken(), bad.self_wakes(), bad.polls()),
        (true, 1, 1)
    );
}

#[tokio::test]
async fn bodies_stop_break_and_end_as_they_are_told() {
    let mut service = ControlledService::new();
    let control = service.control();
    control.frames(["a", "b", "c"]);
    control.trailers(true);
    control.hold_bodies(2);
    let mut body = service.call(()).await.unwrap().into_body();
    let mut hand = Hand::new(async move {
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            read.push(frame.unwrap().into_data().map_err(|_| "trailers"));
        }
        read
    });
    assert!(matches!(hand.poll(), Polled::Pending));
    assert_eq!(control.counts().bodies, 1);
    control.release_bodies();
    assert!(hand.is_woken());
    let Polled::Ready(read) = hand.poll() else {
        panic!("it was released")
    };
    assert_eq!(read.len(), 4);
    assert_eq!(read[2].as_deref(), Ok(&b"c"[..]));
    assert_eq!(read[3], Err("trailers"));
    assert_eq!(control.counts().bodies, 0);

    control.break_bodies(1);
    let body = service.call(()).await.unwrap().into_body();
    assert!(Marked::find(&*body.collect().await.unwrap_err()).is_some());
    assert_eq!(control.counts().bodies, 0);
}

#[tokio::test]
async fn a_client_sends_and_reads_all_of_it() {
    let echo = service_fn(async |request: Request<Body>| {
        let (head, body) = request.into_parts();
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "end".parse().unwrap())]);
        let body = body.with_trailers(async { Some(Ok(trailers)) });
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::CREATED;
        response.headers_mut().extend(head.headers);
        response.headers_mut().insert(
            "x-asked",
            format!("{} {}", head.method, head.uri).parse().unwrap(),
        );
        response
            .extensions_mut()
            .insert(*head.extensions.get::<u32>().unwrap());
        Ok::<_, Infallible>(response)
    });
    let client = TestClient::new(echo);
    let response = client
        .post("/a?b")
        .header("x-tag", "1")
        .extension(7_u32)
        .body("hello")
        .send()
        .await;
    assert_eq!(response.status(), 201);
    assert_eq!(
        (response.header("x-tag"), response.header("x-asked")),
        (Some("1"), Some("POST /a?b"))
    );
    assert_eq!((response.text(), response.bytes().len()), ("hello", 5));
    assert_eq!(response.trailers().unwrap()["etag"], "end");
    assert_eq!(response.extension::<u32>(), Some(&7));
}

#[tokio::test]
async fn a_client_makes_its_service_ready_and_hands_on_its_errors() {
    let service = ControlledService::new();
    let control = service.control();
    let client = TestClient::new(service);
    assert_eq!(client.get("/").send().await.text(), "one two");
    assert_eq!(control.counts().unready_calls, 0);
    control.fail_ready();
    assert!(client.get("/").try_send().await.is_err());
    control.next(Plan::error());
    assert!(client.get("/").try_send().await.is_err());
    control.break_bodies(1);
    assert!(client.get("/").try_send().await.is_err());
}
