use std::{
    borrow::Cow,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Carrier, Deadline, Events, Invocation, Live,
    events::Event,
    testing::{Control, ControlledService, Hand, Plan, advance, settle},
};

use super::{
    MirrorBody, MirrorConfig, MirrorHandle, MirrorLayer, MirrorPolicy, Shadow, Tee, is_shadow,
};

const ALL: u32 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// What shadows are called with.
type Sent = Arc<Mutex<Vec<(Request<()>, Bytes, Option<HeaderMap>)>>>;

fn policy(change: impl FnOnce(&mut MirrorConfig)) -> MirrorPolicy {
    MirrorPolicy::new(ALL).unwrap().with(change).unwrap()
}

/// A shadow that keeps what it gets and answers 200.
fn keeper() -> (
    Sent,
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync,
) {
    let sent = Sent::default();
    let keep = Arc::clone(&sent);
    let shadow = service_fn(move |request: Request<Body>| {
        let keep = Arc::clone(&keep);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap();
            let trailers = body.trailers().cloned();
            let kept = (Request::from_parts(head, ()), body.to_bytes(), trailers);
            keep.lock().unwrap().push(kept);
            Ok(Response::new(Body::empty()))
        }
    });
    (sent, shadow)
}

/// A service that reads the body of its request and answers with it.
async fn echo<B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>>(
    request: Request<MirrorBody<B>>,
) -> Result<Response<Bytes>, Infallible> {
    let body = request.into_body().collect().await.unwrap();
    Ok(Response::new(body.to_bytes()))
}

fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("http://shop:80/items?x=1")
        .body(Full::from(body))
        .unwrap()
}

fn outcome(handle: &MirrorHandle, of: &str) -> u64 {
    let outcomes = handle.outcomes();
    outcomes
        .into_iter()
        .find(|(name, _)| *name == of)
        .unwrap()
        .1
}

#[tokio::test]
async fn a_copy_is_the_request_and_says_that_it_is_one() {
    let (sent, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|c| c.host_suffix = "-shadow".into()), shadow);
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    let mut request = post("body");
    request
        .headers_mut()
        .insert("host", "shop".parse().unwrap());
    request.headers_mut().insert("x-a", "1".parse().unwrap());
    request
        .extensions_mut()
        .insert(Arc::new("a guard that must not live on"));
    let started = Instant::now();
    let far = Deadline::after(started, SECOND * 3600);
    request.invocation_mut().limit_deadline(far);
    request.invocation_mut().set_request_id("r-1".into());
    let call = request.invocation().unwrap().clone();
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.into_body(), "body");
    settle().await;
    let (copy, body, _) = sent.lock().unwrap().pop().unwrap();
    assert_eq!(body, "body");
    assert_eq!(
        (copy.method().as_str(), copy.uri().to_string()),
        ("POST", "http://shop-shadow:80/items?x=1".into())
    );
    assert_eq!(copy.headers()["x-chassis-shadow"], "1");
    assert_eq!(
        (&copy.headers()["host"], &copy.headers()["x-a"]),
        (&"shop-shadow".parse().unwrap(), &"1".parse().unwrap())
    );
    assert!(is_shadow(&copy) && copy.extensions().get::<Shadow>().is_some());
    assert!(copy.extensions().get::<Arc<&str>>().is_none());
    let own = copy.invocation().unwrap();
    assert_eq!(own.request_id().map(|id| &**id), Some("r-1"));
    assert!(own.deadline().unwrap() < far, "a deadline of its own");
    // What the copy writes the call does not read.
    own.note_endpoint(7);
    let mut second = call.clone();
    second.set_attempt(2);
    assert!(!second.has_tried(7));
    assert_eq!(
        (handle.sent(), handle.in_flight(), outcome(&handle, "ok")),
        (1, 0, 1)
    );
}

/// They are said to the next hop, which the shadow is not.
#[tokio::test]
async fn what_is_said_of_one_connection_is_not_copied() {
    let (sent, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|_| ()), shadow);
    let service = layer.layer(service_fn(echo));
    let mut request = post("body");
    for (name, value) in [
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic eA=="),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("te", "trailers"),
        ("x-a", "1"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    service.oneshot(request).await.unwrap();
    settle().await;
    let (copy, ..) = sent.lock().unwrap().pop().unwrap();
    let mut names: Vec<_> = copy.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["te", "x-a", "x-chassis-shadow"]);
}

/// Also where it is cloned.
#[tokio::test]
async fn a_clone_of_an_http_request_is_for_another_service_too() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&sent);
    let shadow = service_fn(move |request: Request<Full<Bytes>>| {
        keep.lock().unwrap().push(request);
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    let layer = MirrorLayer::new(policy(|_| ()), shadow).clone_request();
    let handle = layer.handle();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = Arc::clone(&seen);
    let service = layer.layer(service_fn(move |request: Request<Full<Bytes>>| {
        look.lock().unwrap().push(request);
        std::future::ready(Ok::<_, Infallible>(()))
    }));
    let mut request = post("body");
    for (name, value) in [
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic eA=="),
        ("expect", "100-continue"),
        ("te", "trailers"),
        ("x-a", "1"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let alive = Arc::new("a guard that must not live on");
    request.extensions_mut().insert(Arc::clone(&alive));
    request.invocation_mut().set_request_id("r-1".into());
    service.clone().oneshot(request).await.unwrap();
    settle().await;
    let call = seen.lock().unwrap().pop().unwrap();
    let copy = sent.lock().unwrap().pop().unwrap();
    assert_eq!((call.headers().len(), Arc::strong_count(&alive)), (7, 2));
    let mut names: Vec<_> = copy.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["te", "x-a", "x-chassis-shadow"]);
    let own = copy.invocation().unwrap();
    assert_eq!(own.request_id().map(|id| &**id), Some("r-1"));
    // What the copy writes the call does not read.
    own.note_endpoint(7);
    let mut second = call.invocation().unwrap().clone();
    second.set_attempt(2);
    assert!(!second.has_tried(7));

    let upgrade = Request::get("/").header("upgrade", "websocket");
    for request in [upgrade, Request::connect("shop:80")] {
        let request = request.body(Full::default()).unwrap();
        service.clone().oneshot(request).await.unwrap();
    }
    settle().await;
    assert!(sent.lock().unwrap().is_empty());
    assert_eq!((outcome(&handle, "skipped"), handle.in_flight()), (2, 0));
}

/// A copy would open a second connection of another protocol.
#[tokio::test]
async fn what_asks_for_another_protocol_is_not_copied() {
    let (sent, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|_| ()), shadow);
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    let upgrade = Request::get("/").header("upgrade", "websocket");
    let connect = Request::connect("shop:80");
    for request in [upgrade, connect] {
        let request = request.body(Full::<Bytes>::default()).unwrap();
        service.clone().oneshot(request).await.unwrap();
    }
    settle().await;
    assert!(sent.lock().unwrap().is_empty());
    assert_eq!((outcome(&handle, "skipped"), handle.in_flight()), (2, 0));
}

#[tokio::test]
async fn of_a_copy_no_copy_is_made() {
    let (sent, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|_| ()), shadow);
    let service = layer.layer(service_fn(echo));
    let mut by_header = post("x");
    by_header
        .headers_mut()
        .insert("x-chassis-shadow", "1".parse().unwrap());
    let mut by_extension = post("x");
    by_extension.extensions_mut().insert(Shadow);
    for request in [by_header, by_extension] {
        service.clone().oneshot(request).await.unwrap();
    }
    settle().await;
    assert!(sent.lock().unwrap().is_empty() && layer.handle().sent() == 0);
    // A mirror whose shadow is mirrored again, by the same layer: one copy.
    let (sent, shadow) = keeper();
    let inner = MirrorLayer::new(policy(|_| ()), shadow.clone());
    let twice = MirrorLayer::new(policy(|_| ()), inner.layer(BodyShadow(shadow)));
    twice
        .layer(service_fn(echo))
        .oneshot(post("x"))
        .await
        .unwrap();
    settle().await;
    assert_eq!((sent.lock().unwrap().len(), inner.handle().sent()), (1, 0));
}

/// A shadow under a mirror: it takes the body that the mirror makes.
#[derive(Clone)]
struct BodyShadow<S>(S);

impl<S> Service<Request<MirrorBody<Body>>> for BodyShadow<S>
where
    S: Service<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;
    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: Request<MirrorBody<Body>>) -> S::Future {
        self.0.call(request.map(Body::new))
    }
}

#[tokio::test]
async fn the_share_is_the_same_calls_each_time() {
    let chosen = async |change: fn(&mut MirrorConfig), name: &'static str| {
        let (sent, shadow) = keeper();
        let layer = MirrorLayer::new(policy(change), shadow).named(name);
        let service = layer.layer(service_fn(echo));
        for n in 0..400 {
            let mut request = post("");
            let id = format!("r-{n}").parse().unwrap();
            request.headers_mut().insert("x-request-id", id);
            service.clone().oneshot(request).await.unwrap();
        }
        settle().await;
        let sent = sent.lock().unwrap();
        let ids = sent
            .iter()
            .map(|(copy, ..)| copy.headers()["x-request-id"].clone());
        ids.collect::<Vec<_>>()
    };
    let first = chosen(|c| c.ppm = 250_000, "a").await;
    assert!((60..140).contains(&first.len()), "{}", first.len());
    assert_eq!(first, chosen(|c| c.ppm = 250_000, "a").await);
    assert_ne!(first, chosen(|c| c.ppm = 250_000, "b").await);
    let seeded = |c: &mut MirrorConfig| (c.ppm, c.seed) = (250_000, 1);
    assert_ne!(first, chosen(seeded, "a").await);
    assert!(chosen(|c| c.ppm = 0, "a").await.is_empty());
}

/// A stream of frames that a test drives.
fn streamed(frames: &[&'static str], trailers: bool) -> (Control, Request<Body>) {
    let inner = ControlledService::new();
    let control = inner.control();
    control.frames(frames.iter().copied());
    control.trailers(trailers);
    let mut hand = Hand::new(async move { inner.oneshot(()).await.unwrap().into_body() });
    let tower_chassis_core::testing::Polled::Ready(body) = hand.poll() else {
        panic!("at once")
    };
    (control, Request::post("/").body(body).unwrap())
}

#[tokio::test]
async fn a_body_is_copied_while_it_is_read() {
    for (frames, trailers, limit, copied) in [
        (&["one ", "two"][..], false, 7, true),
        (&["one ", "two"], true, 7, true),
        (&["one ", "two"], false, 6, false),
        (&["one ", "", "two"], true, 6, false),
        (&["one two"], false, 7, true),
        (&[], true, 0, true),
    ] {
        let (sent, shadow) = keeper();
        let layer = MirrorLayer::new(policy(|c| c.body_limit = limit), shadow);
        let handle = layer.handle();
        let (_, request) = streamed(frames, trailers);
        let response = layer
            .layer(service_fn(echo))
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(
            response.into_body(),
            frames.concat(),
            "the call has all of it"
        );
        settle().await;
        let sent = sent.lock().unwrap();
        assert_eq!(sent.len(), usize::from(copied), "{frames:?} {limit}");
        if let Some((_, body, found)) = sent.first() {
            assert_eq!(
                (body, found.is_some()),
                (&Bytes::from(frames.concat()), trailers)
            );
        }
        assert_eq!(
            (handle.skipped(), handle.in_flight()),
            (u64::from(!copied), 0)
        );
    }
}

#[tokio::test]
async fn what_the_service_leaves_unread_is_not_read_for_the_copy() {
    let (sent, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|_| ()), shadow);
    let handle = layer.handle();
    for read in [0, 1] {
        let (control, request) = streamed(&["one", "two"], false);
        let service = layer.layer(service_fn(
            move |request: Request<MirrorBody<Body>>| async move {
                let mut body = request.into_body();
                for _ in 0..read {
                    body.frame().await.unwrap().unwrap();
                }
                Ok::<_, Infallible>(Response::new(()))
            },
        ));
        service.oneshot(request).await.unwrap();
        settle().await;
        assert_eq!(control.counts().bodies, 0, "it was let go");
    }
    let inner = ControlledService::new();
    inner.control().break_bodies(1);
    let body = inner.oneshot(()).await.unwrap().into_body();
    let request = Request::post("/").body(body).unwrap();
    let service = layer.layer(service_fn(async |request: Request<MirrorBody<Body>>| {
        Ok::<_, Infallible>(Response::new(request.into_body().collect().await.is_err()))
    }));
    assert!(service.oneshot(request).await.unwrap().into_body());
    settle().await;
    assert_eq!(
        (
            sent.lock().unwrap().len(),
            handle.skipped(),
            handle.in_flight()
        ),
        (0, 3, 0)
    );
}

/// hyper drops a body of known length after its last byte.
#[tokio::test]
async fn a_body_of_known_length_need_not_be_asked_for_its_end() {
    let (sent, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|_| ()), shadow);
    let service = layer.layer(service_fn(
        async |request: Request<MirrorBody<Full<Bytes>>>| {
            let mut body = request.into_body();
            let frame = body.frame().await.unwrap().unwrap();
            Ok::<_, Infallible>(Response::new(frame.into_data().unwrap()))
        },
    ));
    service.oneshot(post("all")).await.unwrap();
    settle().await;
    assert_eq!(sent.lock().unwrap()[0].1, "all");
}

/// How a shadow misbehaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Bad {
    None,
    Hangs,
    Fails,
    Errs,
    Panics,
    PanicsInCall,
    PanicsInClone,
    NeverReady,
    EndlessBody,
}

struct BadShadow(Bad);

impl Clone for BadShadow {
    fn clone(&self) -> Self {
        assert!(self.0 != Bad::PanicsInClone, "planted");
        Self(self.0)
    }
}

impl Service<Request<Body>> for BadShadow {
    type Response = Response<Endless>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        if self.0 == Bad::NeverReady {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let bad = self.0;
        assert!(bad != Bad::PanicsInCall, "planted");
        Box::pin(async move {
            let mut response = Response::new(Endless(bad == Bad::EndlessBody));
            match bad {
                Bad::Hangs => std::future::pending().await,
                Bad::Fails => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
                Bad::Errs => return Err("a wire broke".into()),
                Bad::Panics => panic!("planted"),
                _ => {}
            }
            Ok(response)
        })
    }
}

/// A body that never ends, if so.
struct Endless(bool);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let frame = || Ok(http_body::Frame::data(Bytes::from_static(&[0; 1024])));
        std::task::Poll::Ready(self.0.then(frame))
    }
}

/// The call takes as long to the nanosecond, whatever the shadow does, and answers the same.
#[tokio::test(start_paused = true)]
async fn the_call_is_the_same_whatever_the_shadow_does() {
    let mut took = Vec::new();
    for (bad, wanted) in [
        (Bad::None, "ok"),
        (Bad::Hangs, "timeout"),
        (Bad::Fails, "failed"),
        (Bad::Errs, "failed"),
        (Bad::Panics, "panicked"),
        (Bad::PanicsInCall, "panicked"),
        (Bad::PanicsInClone, "panicked"),
        (Bad::NeverReady, "timeout"),
        (Bad::EndlessBody, "ok"),
    ] {
        let layer = MirrorLayer::new(policy(|_| ()), BadShadow(bad));
        let handle = layer.handle();
        let service = layer.layer(service_fn(
            async |request: Request<MirrorBody<Full<Bytes>>>| {
                let wait = request.uri().query().unwrap().parse().unwrap();
                request.into_body().collect().await.unwrap();
                tokio::time::sleep(Duration::from_millis(wait)).await;
                Ok::<_, Infallible>(Response::new(wait))
            },
        ));
        let calls = (0..100u64).map(|n| {
            let request = Request::post(format!("/?{}", n * n % 97)).body(Full::from("body"));
            let call = service.clone().oneshot(request.unwrap());
            tokio::spawn(async move {
                let began = Instant::now();
                let answer = call.await.unwrap();
                (began.elapsed(), answer.status(), answer.into_body())
            })
        });
        let mut times = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            times.push(call.await.unwrap());
        }
        took.push(times);
        advance(SECOND * 6).await;
        assert_eq!(
            (handle.sent(), outcome(&handle, wanted)),
            (100, 100),
            "{bad:?} {handle:?}"
        );
        assert_eq!(handle.in_flight(), 0, "{bad:?}");
        assert_eq!(handle.failed(), if wanted == "ok" { 0 } else { 100 });
    }
    assert!(took.iter().all(|times| *times == took[0]));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_most_are_under_way() {
    let layer = MirrorLayer::new(policy(|c| c.max_in_flight = 3), BadShadow(Bad::Hangs));
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    for _ in 0..10 {
        service.clone().oneshot(post("x")).await.unwrap();
    }
    settle().await;
    assert_eq!(
        (handle.in_flight(), handle.sent(), handle.dropped()),
        (3, 3, 7)
    );
    handle.update(|config| config.max_in_flight = 4).unwrap();
    service.clone().oneshot(post("x")).await.unwrap();
    assert_eq!((handle.in_flight(), handle.dropped()), (4, 7));
    advance(SECOND * 6).await;
    assert_eq!((handle.in_flight(), outcome(&handle, "timeout")), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_read_counts_as_under_way() {
    let (_, shadow) = keeper();
    let layer = MirrorLayer::new(policy(|c| c.max_in_flight = 1), shadow);
    let handle = layer.handle();
    let (control, request) = streamed(&["one", "two"], false);
    control.hold_bodies(1);
    let service = layer.layer(service_fn(echo));
    let slow = tokio::spawn(service.clone().oneshot(request));
    settle().await;
    assert_eq!((handle.in_flight(), handle.sent()), (1, 0));
    let (_, second) = streamed(&["x"], false);
    service.clone().oneshot(second).await.unwrap();
    assert_eq!(handle.dropped(), 1);
    control.release_bodies();
    slow.await.unwrap().unwrap();
    settle().await;
    assert_eq!((handle.in_flight(), outcome(&handle, "ok")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn copies_end_when_nobody_is_there_any_more() {
    for shut_down in [false, true] {
        let events = Events::new();
        let seen = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&seen);
        events.listen(move |event| {
            if matches!(
                event,
                Event::Mirrored {
                    outcome: "aborted",
                    ..
                }
            ) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let layer = MirrorLayer::new(policy(|_| ()), BadShadow(Bad::Hangs)).events(events);
        let handle = layer.handle();
        let service = layer.layer(service_fn(echo));
        for _ in 0..5 {
            service.clone().oneshot(post("x")).await.unwrap();
        }
        settle().await;
        assert_eq!(handle.in_flight(), 5);
        if shut_down {
            handle.shut_down();
            settle().await;
            assert_eq!((handle.in_flight(), outcome(&handle, "aborted")), (0, 5));
            handle.resume();
            service.oneshot(post("x")).await.unwrap();
            assert_eq!(handle.sent(), 5, "it stays shut down");
        } else {
            drop((layer, handle));
            settle().await;
            assert_eq!(seen.load(Ordering::Relaxed), 0, "a service is there");
            drop(service);
            settle().await;
            assert_eq!(seen.load(Ordering::Relaxed), 5);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_leaves_its_copy_alone_unless_told() {
    for (together, wanted) in [(false, "ok"), (true, "aborted")] {
        let shadow = ControlledService::<Response<Body>>::new();
        let control = shadow.control();
        control.plan(Plan::answer().held());
        let layer = MirrorLayer::new(
            policy(|c| c.cancel_with_primary = together),
            SyncShadow(shadow),
        );
        let handle = layer.handle();
        let service = layer.layer(service_fn(
            async |request: Request<MirrorBody<Full<Bytes>>>| {
                request.into_body().collect().await.unwrap();
                std::future::pending::<Result<Response<()>, Infallible>>().await
            },
        ));
        let call = tokio::spawn(service.clone().oneshot(post("x")));
        settle().await;
        assert_eq!((handle.in_flight(), control.counts().in_flight), (1, 1));
        call.abort();
        settle().await;
        control.release();
        settle().await;
        assert_eq!(
            (handle.in_flight(), outcome(&handle, wanted)),
            (0, 1),
            "{together}"
        );
        assert_eq!(
            (control.counts().in_flight, control.counts().bodies),
            (0, 0)
        );
    }
    // A call that is over is not dropped.
    let layer = MirrorLayer::new(
        policy(|c| c.cancel_with_primary = true),
        BadShadow(Bad::Hangs),
    );
    layer
        .layer(service_fn(echo))
        .oneshot(post("x"))
        .await
        .unwrap();
    let handle = layer.handle();
    settle().await;
    assert_eq!(handle.in_flight(), 1);
}

/// `ControlledService` is made anew from a control, so that it is `Sync` for sure.
#[derive(Clone)]
struct SyncShadow(ControlledService);

impl Service<Request<Body>> for SyncShadow {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = <ControlledService as Service<Request<Body>>>::Future;
    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

#[tokio::test]
async fn it_can_be_paused_and_its_share_is_live() {
    let (_, shadow) = keeper();
    let live = Live::new(MirrorPolicy::default());
    let layer = MirrorLayer::new(live.clone(), shadow);
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    let call = async || drop(service.clone().oneshot(post("x")).await);
    call().await;
    assert_eq!(handle.sent(), 0, "nothing unless said");
    live.set(MirrorPolicy::new(ALL).unwrap()).unwrap();
    call().await;
    assert_eq!(handle.sent(), 1);
    handle.pause();
    handle.update(|config| config.seed = 9).unwrap();
    call().await;
    assert_eq!((handle.sent(), handle.is_paused()), (1, true));
    handle.resume();
    call().await;
    assert_eq!(handle.sent(), 2);
    let fresh = layer.fresh();
    assert_eq!(
        (fresh.handle().sent(), layer.clone().handle().sent()),
        (0, 2)
    );
}

#[test]
fn without_a_runtime_there_is_no_copy_and_no_panic() {
    let layer = MirrorLayer::new(policy(|_| ()), BadShadow(Bad::None));
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(echo));
    let mut hand = Hand::new(service.call(post("x")));
    assert!(matches!(
        hand.poll(),
        tower_chassis_core::testing::Polled::Ready(Ok(_))
    ));
    assert_eq!(
        (handle.sent(), handle.dropped(), handle.in_flight()),
        (0, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_may_be_dropped_at_every_poll() {
    for plan in [
        Plan::answer(),
        Plan::answer().after_polls(2),
        Plan::error().after_polls(1),
        Plan::panic().after_polls(1),
        Plan::panic_in_call(),
    ] {
        for together in [false, true] {
            for polls in 0..6 {
                let inner = ControlledService::new();
                let control = inner.control();
                control.slots(1);
                control.plan(plan);
                let layer = MirrorLayer::new(
                    policy(|c| c.cancel_with_primary = together),
                    BadShadow(Bad::Hangs),
                );
                let handle = layer.handle();
                let mut service = layer.layer(inner);
                let mut hand = Hand::new(async move {
                    let request = post("x").map(|_| Full::<Bytes>::default());
                    let ready = ServiceExt::<Request<Full<Bytes>>>::ready(&mut service).await;
                    drop(ready.unwrap().call(request).await);
                });
                for _ in 0..polls {
                    hand.poll();
                    control.nudge();
                    settle().await;
                }
                assert_eq!(hand.self_wakes(), 0);
                drop(hand);
                advance(SECOND * 6).await;
                let counts = control.counts();
                assert_eq!(
                    (counts.in_flight, counts.reserved, counts.bodies),
                    (0, 0, 0)
                );
                assert_eq!((counts.unready_calls, counts.polls_after_end), (0, 0));
                let all: u64 = handle.outcomes().iter().map(|(_, count)| count).sum();
                assert_eq!(
                    (handle.in_flight(), all),
                    (0, u64::from(polls > 0)),
                    "{plan:?} {polls}"
                );
            }
        }
    }
}

/// A request of a protocol of one's own.
#[derive(Clone, Debug)]
struct Frame {
    text: &'static str,
    extensions: Extensions,
}

impl Carrier for Frame {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn operation(&self) -> Cow<'_, str> {
        self.text.into()
    }
}

#[tokio::test]
async fn a_protocol_of_one_s_own_is_cloned() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let shadow = service_fn(move |frame: Frame| {
        keep.lock().unwrap().push((frame.text, is_shadow(&frame)));
        async { Ok::<_, Infallible>(()) }
    });
    let layer = MirrorLayer::new(policy(|_| ()), shadow).clone_request();
    let service = layer.layer(service_fn(async |frame: Frame| {
        assert!(!is_shadow(&frame));
        Ok::<_, Infallible>(frame.text.len())
    }));
    let frame = Frame {
        text: "get",
        extensions: Extensions::new(),
    };
    assert_eq!(service.oneshot(frame).await.unwrap(), 3);
    settle().await;
    assert_eq!(*seen.lock().unwrap(), [("get", true)]);
}

#[test]
fn every_field_is_checked_and_named() {
    for (change, field) in [
        ((|c| c.ppm = ALL + 1) as fn(&mut MirrorConfig), "ppm"),
        (|c| c.max_in_flight = 0, "max_in_flight"),
        (|c| c.max_in_flight = ALL + 1, "max_in_flight"),
        (|c| c.timeout = Duration::ZERO, "timeout"),
        (|c| c.timeout = SECOND * 3601, "timeout"),
        (|c| c.host_suffix = "a b".into(), "host_suffix"),
    ] {
        let invalid = MirrorPolicy::default().with(change).unwrap_err();
        assert_eq!(invalid.field(), field);
    }
}

/// What is in the page.
#[test]
fn a_call_that_is_left_alone_costs_a_word() {
    type Inner = std::future::Ready<Result<Response<Body>, BoxError>>;
    assert_eq!(
        size_of::<super::MirrorFuture<Inner>>(),
        size_of::<Inner>() + size_of::<usize>()
    );
    assert_eq!(
        size_of::<MirrorBody<Body>>(),
        size_of::<Body>() + size_of::<usize>()
    );
    let _ = (Tee, Invocation::new(Instant::now()));
}

fn cases() -> u32 {
    if std::env::var_os("CHASSIS_LONG").is_some() {
        5_000
    } else {
        256
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// However a body comes and whatever is left unread, the call has what it had, and the copy all or nothing.
    #[test]
    fn a_copy_is_all_or_nothing(
        frames in proptest::collection::vec("[a-z]{0,9}", 0..8),
        trailers in any::<bool>(),
        limit in 0usize..40,
        read in 0usize..12,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (sent, shadow) = keeper();
            let layer = MirrorLayer::new(policy(|c| c.body_limit = limit), shadow);
            let inner = ControlledService::new();
            let control = inner.control();
            control.frames(frames.clone());
            control.trailers(trailers);
            let body = inner.oneshot(()).await.unwrap().into_body();
            let service = layer.layer(service_fn(move |request: Request<MirrorBody<Body>>| async move {
                let (mut body, mut got, mut over) = (request.into_body(), String::new(), false);
                for _ in 0..read {
                    match body.frame().await {
                        None => {
                            over = true;
                            break;
                        }
                        Some(frame) => {
                            let frame = frame.unwrap();
                            over |= frame.is_trailers();
                            if let Some(data) = frame.data_ref() {
                                got += std::str::from_utf8(data).unwrap();
                            }
                        }
                    }
                }
                Ok::<_, Infallible>((got, over))
            }));
            let request = Request::post("/").body(body).unwrap();
            let (got, over) = service.oneshot(request).await.unwrap();
            let whole = frames.concat();
            let wanted: String = frames.iter().take(read).cloned().collect();
            assert_eq!(got, wanted);
            settle().await;
            let handle = layer.handle();
            let copied = over && whole.len() <= limit;
            assert_eq!(sent.lock().unwrap().len(), usize::from(copied));
            assert_eq!((handle.skipped(), handle.in_flight()), (u64::from(!copied), 0));
            if copied {
                assert_eq!(sent.lock().unwrap()[0].1, whole);
            }
        });
    }
}
