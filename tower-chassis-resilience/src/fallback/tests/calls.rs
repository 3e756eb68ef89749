//! The layer as its users see it.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Class, Events, Kind, Rejection, Verdict,
    events::Event,
    testing::{Control, ControlledService, Hand, Plan, Polled},
    verdict::Outcome,
};
use tower_layer::Layer;

use super::super::{BothFailed, FallbackConfig, FallbackLayer, FallbackPolicy};
use crate::{
    retry::{Buffered, Rewrapped},
    share::HttpKeys,
};

fn status(code: u16) -> Response<Body> {
    Response::builder()
        .status(code)
        .body(Body::empty())
        .unwrap()
}

fn refused(kind: Kind) -> BoxError {
    Rejection::new(kind, "test").into()
}

async fn get<S>(service: S) -> Result<S::Response, S::Error>
where
    S: Service<Request<Body>>,
{
    service
        .oneshot(Request::get("/").body(Body::empty()).unwrap())
        .await
}

#[tokio::test]
async fn failures_are_answered_and_the_callers_faults_are_not() {
    for (code, answered) in [
        (200, false),
        (404, false),
        (401, false),
        (429, false),
        (500, true),
        (503, true),
        (504, true),
    ] {
        let layer = FallbackLayer::with(|_| status(299)).mark();
        let inner =
            service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(status(code)) });
        let response = get(layer.layer(inner)).await.unwrap();
        let expected = if answered { 299 } else { code };
        assert_eq!(response.status(), expected);
        assert_eq!(
            response.headers().contains_key("x-chassis-fallback"),
            answered
        );
        assert_eq!(layer.handle().fallbacks(), u64::from(answered));
    }
    for (kind, answered) in [
        (Kind::CircuitOpen, true),
        (Kind::Overloaded, true),
        (Kind::NoEndpoint, true),
        (Kind::Timeout, true),
        (Kind::Unreachable, true),
        (Kind::Reset, true),
        (Kind::Internal, true),
        (Kind::RateLimited, false),
        (Kind::Forbidden, false),
        (Kind::Unauthenticated, false),
        (Kind::BadRequest, false),
    ] {
        let layer = FallbackLayer::with(|_| status(299));
        let inner =
            service_fn(
                move |_: Request<Body>| async move { Err::<Response<Body>, _>(refused(kind)) },
            );
        let result = get(layer.layer(inner)).await;
        assert_eq!(result.is_ok(), answered, "{kind:?}");
    }
}

#[tokio::test]
async fn a_closure_is_told_why_and_what_was_kept_of_the_request() {
    let layer = FallbackLayer::with_request(
        |request: &Request<Body>| request.uri().path().to_owned(),
        |path: String, failure| {
            let kind = failure.rejection().map(Rejection::kind);
            assert_eq!(failure.verdict().class(), Class::Refused);
            Response::new(Body::from(format!("{path} {kind:?}")))
        },
    );
    let inner =
        service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(refused(Kind::CircuitOpen)));
    let response = get(layer.layer(inner)).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "/ Some(CircuitOpen)");
}

#[tokio::test]
async fn any_protocol_and_the_inner_error_type() {
    #[derive(Clone, Debug, PartialEq)]
    struct Reply(u32);
    impl Outcome for Reply {}
    let layer = FallbackLayer::value(Reply(0));
    let inner = service_fn(async |n: u32| match n {
        0 => Err(std::io::Error::other("broke")),
        n => Ok(Reply(n)),
    });
    let service = layer.layer(inner);
    let result: Result<Reply, std::io::Error> = service.clone().oneshot(0).await;
    assert_eq!(result.unwrap(), Reply(0));
    assert_eq!(service.oneshot(7).await.unwrap(), Reply(7));
}

#[tokio::test]
async fn an_own_answer_is_reported_and_read_as_what_it_stands_for() {
    let events = Events::new();
    let mut stream = events.subscribe(4);
    let layer = FallbackLayer::with(|_| status(200))
        .mark()
        .named("stock")
        .events(events);
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(status(503)));
    let response = get(layer.layer(inner)).await.unwrap();
    let verdict = response.verdict();
    assert_eq!(
        (verdict.class(), verdict.http_status()),
        (Class::Failure, Some(200))
    );
    let event = stream.try_recv().unwrap();
    let expected = Event::fallback("stock", Class::Failure);
    assert_eq!(event, tower_chassis_core::events::Received::Event(expected));

    let layer = layer.as_success();
    let response = get(layer.layer(inner)).await.unwrap();
    assert_eq!(response.verdict().class(), Class::Success);
    assert_eq!(layer.handle().fallbacks(), 1);
}

#[tokio::test]
async fn settings_change_under_load() {
    let layer = FallbackLayer::with(|_| status(299));
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(status(503))
    }));
    assert_eq!(get(service.clone()).await.unwrap().status(), 299);
    handle.update(|config| config.enabled = false).unwrap();
    assert_eq!(get(service.clone()).await.unwrap().status(), 503);
    handle.update(|config| config.enabled = true).unwrap();
    assert_eq!(get(service).await.unwrap().status(), 299);

    let not_found = |verdict: Verdict| verdict.http_status() == Some(404);
    let layer = FallbackLayer::with(|_| status(299)).when(not_found);
    for (code, expected) in [(404, 299), (503, 503), (200, 200)] {
        let inner =
            service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(status(code)) });
        assert_eq!(get(layer.layer(inner)).await.unwrap().status(), expected);
    }
}

/// Counts the calls that it answers with what it was sent.
#[derive(Clone, Default)]
struct Echo(Arc<AtomicU32>);

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Relaxed);
        Box::pin(async {
            let body = request.into_body().collect().await?.to_bytes();
            Ok(Response::new(Body::from(body)))
        })
    }
}

fn rewrapped() -> Rewrapped<Body> {
    Rewrapped::new(Buffered::default())
}

#[tokio::test]
async fn a_second_service_gets_a_copy() {
    let echo = Echo::default();
    let layer = FallbackLayer::service(echo.clone()).replay(rewrapped());
    let inner = service_fn(async |request: Request<Body>| {
        request.into_body().collect().await?;
        Ok::<_, BoxError>(status(503))
    });
    let service = layer.layer(inner);
    let put = Request::put("/")
        .body(Full::new(Bytes::from("kept")))
        .unwrap();
    let response = service.clone().oneshot(put).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "kept"
    );
    // It may have been served, so it is not sent twice.
    let post = || {
        Request::post("/")
            .body(Full::new(Bytes::from("kept")))
            .unwrap()
    };
    let response = service.oneshot(post()).await.unwrap();
    assert_eq!((response.status().as_u16(), echo.0.load(Relaxed)), (503, 1));
    let bare = Request::post("/").body(Full::new(Bytes::new())).unwrap();
    let response = layer.layer(inner).oneshot(bare).await.unwrap();
    assert_eq!((response.status().as_u16(), echo.0.load(Relaxed)), (503, 1));
    let service = layer.clone().every_method().layer(inner);
    let response = service.oneshot(post()).await.unwrap();
    assert_eq!((response.status().as_u16(), echo.0.load(Relaxed)), (200, 2));
    let service = layer.clone().body_limit(3).layer(inner);
    let put = Request::put("/")
        .body(Full::new(Bytes::from("kept")))
        .unwrap();
    let response = service.oneshot(put).await.unwrap();
    assert_eq!((response.status().as_u16(), echo.0.load(Relaxed)), (503, 2));
    // What nobody has seen may go elsewhere, whatever it is, and however much was read of it.
    let refuses =
        service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(refused(Kind::CircuitOpen)));
    let response = layer.layer(refuses).oneshot(post()).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "kept"
    );
    assert_eq!(layer.handle().failed(), 3);
}

#[tokio::test]
async fn if_both_fail_the_first_has_the_say() {
    let broken = service_fn(async |_: Request<Body>| {
        Err::<Response<Body>, _>(BoxError::from("afar is down too"))
    });
    let layer = FallbackLayer::service(broken).replay(rewrapped());
    let refuses =
        service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(refused(Kind::CircuitOpen)));
    let error = get(layer.layer(refuses)).await.unwrap_err();
    assert_eq!(Verdict::of_error(&error).class(), Class::Refused);
    assert!(Rejection::find(&*error).is_some_and(Rejection::is_circuit_open));
    let both: &BothFailed = error.downcast_ref().unwrap();
    assert_eq!(both.fallback().to_string(), "afar is down too");

    let answers = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(status(503)));
    assert_eq!(get(layer.layer(answers)).await.unwrap().status(), 503);
    assert_eq!(
        (layer.handle().fallbacks(), layer.handle().failed()),
        (0, 2)
    );
}

/// Ready as `ready` says; answers.
#[derive(Clone)]
struct Readies(fn() -> Poll<Result<(), BoxError>>);

impl Service<Request<Body>> for Readies {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        (self.0)()
    }
    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!((self.0)().is_ready());
        std::future::ready(Ok(status(200)))
    }
}

/// Fault 26: in others a readiness that fails passes the fallback by.
#[tokio::test]
async fn a_readiness_that_fails_is_answered() {
    let closed = Readies(|| Poll::Ready(Err("closed".into())));
    let layer = FallbackLayer::with(|failure| {
        assert_eq!(failure.error().unwrap().to_string(), "closed");
        status(299)
    });
    assert_eq!(
        get(layer.layer(closed.clone())).await.unwrap().status(),
        299
    );
    let layer = FallbackLayer::service(Echo::default()).replay(rewrapped());
    assert_eq!(
        get(layer.layer(closed.clone())).await.unwrap().status(),
        200
    );
    // What is not wanted is told at once.
    let config = FallbackConfig {
        failures: false,
        ..FallbackConfig::default()
    };
    let layer = FallbackLayer::with(|_| status(299)).policy(FallbackPolicy::from(config));
    let mut service = layer.layer(closed);
    assert!(
        ServiceExt::<Request<Body>>::ready(&mut service)
            .await
            .is_err()
    );
}

/// Fault 26: in others one second service that is slow to be ready delays all.
#[tokio::test]
async fn a_second_service_that_is_slow_delays_those_alone_who_need_it() {
    let layer = FallbackLayer::service(Readies(|| Poll::Pending)).replay(rewrapped());
    let ok = Arc::new(AtomicU32::new(0));
    let inner = service_fn({
        let ok = Arc::clone(&ok);
        move |_: Request<Body>| {
            let fails = ok.fetch_add(1, Relaxed) == 0;
            async move { Ok::<_, BoxError>(status(if fails { 503 } else { 200 })) }
        }
    });
    let service = layer.layer(inner);
    let mut slow = Hand::new(get(service.clone()));
    assert!(matches!(slow.poll(), Polled::Pending));
    assert_eq!(get(service).await.unwrap().status(), 200);
    assert!(matches!(slow.poll(), Polled::Pending));
}

#[tokio::test]
async fn dropped_at_any_poll_it_leaves_nothing() {
    for polls in 0..4 {
        let first: ControlledService = ControlledService::new();
        let second: ControlledService = ControlledService::new();
        let (one, two): (Control, Control) = (first.control(), second.control());
        let (before_one, before_two) = (one.counts(), two.counts());
        {
            let layer = FallbackLayer::service(second).replay(rewrapped());
            let mut call = Hand::new({
                let service = layer.layer(first);
                async move { get(service).await }
            });
            one.plan(Plan::error().held());
            two.plan(Plan::answer().held());
            for poll in 0..polls {
                if poll == 1 {
                    one.release();
                }
                assert!(matches!(call.poll(), Polled::Pending), "{poll}");
            }
        }
        for (control, before) in [(one, before_one), (two, before_two)] {
            let counts = control.counts();
            assert_eq!(
                (counts.in_flight, counts.reserved),
                (before.in_flight, before.reserved)
            );
            assert_eq!((counts.instances, counts.bodies), (0, 0));
        }
    }
    // A panic of the closure is the call's.
    let layer = FallbackLayer::with(|_| -> Response<Body> { panic!("planted") });
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(status(503)));
    let mut call = Hand::new(get(layer.layer(inner)));
    assert!(matches!(call.poll(), Polled::Panicked));
    assert_eq!(layer.handle().fallbacks(), 0);
}

#[test]
fn a_future_is_small() {
    let layer = FallbackLayer::with(|_| status(200));
    let hangs =
        service_fn(async |_: Request<Body>| pending::<Result<Response<Body>, Infallible>>().await);
    let inner = size_of_val(&hangs.clone().call(Request::default()));
    let outer = size_of_val(&layer.layer(hangs).call(Request::default()));
    assert!(outer <= inner + 32, "{outer} over {inner}");
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_given_for_its_time() {
    let minute = Duration::from_secs(60);
    let layer = FallbackLayer::last_good_http(minute, HttpKeys::new()).mark();
    let calls = Arc::new(AtomicU32::new(0));
    let down = Arc::new(AtomicU32::new(0));
    let service = layer.layer(service_fn({
        let (calls, down) = (Arc::clone(&calls), Arc::clone(&down));
        move |_: Request<Body>| {
            let (n, down) = (calls.fetch_add(1, Relaxed), down.load(Relaxed));
            async move {
                match down {
                    0 => Ok(Response::new(Body::from(n.to_string()))),
                    1 => Ok(status(503)),
                    _ => Err(refused(Kind::Unreachable)),
                }
            }
        }
    }));
    let ask = async |uri: &str, cookie: Option<&str>| {
        let mut request = Request::get(uri);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = service.clone().oneshot(request).await?;
        let marked = response.headers().contains_key("x-chassis-fallback");
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, BoxError>((code, body, marked))
    };
    // The second one is too soon to be kept; what has credentials is not.
    for expected in ["0", "1"] {
        assert_eq!(ask("/", None).await.unwrap(), (200, expected.into(), false));
    }
    ask("/me", Some("ann")).await.unwrap();
    for state in [1, 2] {
        down.store(state, Relaxed);
        assert_eq!(ask("/", None).await.unwrap(), (200, "0".into(), true));
    }
    assert!(ask("/me", Some("bob")).await.is_err());
    assert!(ask("/me", Some("ann")).await.is_err());
    assert!(ask("/other", None).await.is_err());
    tokio::time::advance(minute).await;
    assert!(ask("/", None).await.is_err());
    down.store(1, Relaxed);
    assert_eq!(ask("/", None).await.unwrap().0, 503);
    down.store(0, Relaxed);
    ask("/", None).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let newer = ask("/", None).await.unwrap().1;
    down.store(1, Relaxed);
    assert_eq!(ask("/", None).await.unwrap().1, newer);
    assert_eq!(
        (layer.handle().fallbacks(), layer.handle().failed()),
        (3, 5)
    );
}

/// What one service answered is no answer of another.
#[tokio::test(start_paused = true)]
async fn a_fresh_layer_has_last_good_answers_of_its_own() {
    let layer = FallbackLayer::last_good(Duration::from_secs(60), |id: &u32| Some(*id));
    let layer = layer
        .classify(tower_chassis_core::verdict::OkIsSuccess)
        .room(10, 1_000);
    let one = layer.layer(service_fn(async |_: u32| Ok::<_, BoxError>("of one")));
    let two = |layer: &FallbackLayer<_, _, _>| {
        let down = service_fn(async |_: u32| Err::<&str, BoxError>("down".into()));
        layer.layer(down).oneshot(1)
    };
    one.oneshot(1).await.unwrap();
    assert_eq!(two(&layer).await.unwrap(), "of one");
    assert!(two(&layer.fresh()).await.is_err());
}
