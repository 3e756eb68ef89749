//! One verdict for a call: said once, innermost, and read the same by every layer outside.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError, Carrier, Class, JudgeLayer, Kind, ObserveLayer, Rejection, RescueLayer,
    Verdict,
    breaker::{BreakerLayer, BreakerPolicy, State},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    clock,
    deadline::{DeadlineLayer, DeadlinePolicy},
    metrics::ServerMetricsLayer,
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{RetryConfig, RetryLayer, RetryPolicy},
    settle::Observe,
    stacks,
    timeout::{TimeoutLayer, TimeoutPolicy},
    verdict::{Classify, ClassifyEnd, End, Outcome},
    wire::Start,
};

/// An observer that remembers what it was told.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<Verdict>>>);

impl<Req> Start<Req> for Log {
    type Ticket = Self;
    fn start(&self, _: &mut Req, _: Instant) -> Self {
        self.clone()
    }
}

impl Observe for Log {
    fn done(self, verdict: Verdict, _: Instant) {
        self.0.lock().unwrap().push(verdict);
    }
}

impl Log {
    fn take(&self) -> Vec<Verdict> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
    fn classes(&self) -> Vec<Class> {
        self.take().into_iter().map(Verdict::class).collect()
    }
}

/// A classifier of one's own, which counts how often it is asked.
#[derive(Clone, Default)]
struct Counting {
    heads: Arc<AtomicU32>,
    ends: Arc<AtomicU32>,
}

impl ClassifyEnd for Counting {
    fn end(&self, head: Verdict, _: End<'_>) -> Verdict {
        self.ends.fetch_add(1, Ordering::Relaxed);
        head
    }
}

impl<B> Classify<Response<B>, BoxError> for Counting {
    fn head(&self, response: &Response<B>) -> Verdict {
        self.heads.fetch_add(1, Ordering::Relaxed);
        // The service says in a header what its status does not.
        match response.headers().contains_key("x-error") {
            true => Verdict::FAILURE,
            false => Verdict::SUCCESS,
        }
    }
    fn error(&self, _: &BoxError) -> Verdict {
        self.heads.fetch_add(1, Ordering::Relaxed);
        Verdict::FAILURE
    }
}

/// A body of two frames.
fn two_frames() -> Body {
    let frames = ["a", "b"].map(|text| Ok(Frame::data(Bytes::from(text))));
    Body::new(Frames(frames.into(), false))
}

/// One frame after the other.
struct Frames(VecDeque<Result<Frame<Bytes>, BoxError>>, bool);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.pop_front() {
            // A peer that does not go on.
            None if self.1 => Poll::Pending,
            frame => Poll::Ready(frame),
        }
    }
}

fn breaker(failures: u32) -> BreakerLayer {
    let policy = BreakerPolicy::default().with(|config| {
        config.consecutive_failures = failures;
        config.failure_rate = 0.0;
    });
    BreakerLayer::new(policy.unwrap())
}

fn retry(attempts: u32) -> RetryPolicy {
    let config = RetryConfig {
        attempts,
        ..RetryConfig::default()
    };
    config.try_into().unwrap()
}

fn timeout() -> TimeoutPolicy {
    TimeoutPolicy::new(Duration::from_secs(10)).unwrap()
}

fn rate() -> RateLimitPolicy {
    RateLimitPolicy::new(1000.0, 1000).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_classifier_is_asked_once_per_attempt_and_six_layers_act_on_it() {
    let (judge, outer, inner) = (Counting::default(), Log::default(), Log::default());
    let prometheus = Prometheus::new();
    let breaker = breaker(2);
    let circuit = breaker.handle();
    let retry = RetryLayer::new(retry(3)).clone_body();
    let retries = retry.handle();
    let calls = Arc::new(AtomicU32::new(0));
    let served = Arc::clone(&calls);
    // The first two calls, and all from the sixth on, fail by the header alone.
    let service = service_fn(move |_: Request<http_body_util::Empty<Bytes>>| {
        let call = served.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut response = Response::new(two_frames());
            if !(2..5).contains(&call) {
                response
                    .headers_mut()
                    .insert("x-error", "1".parse().unwrap());
            }
            Ok::<_, BoxError>(response)
        }
    });
    let mut service = ServiceBuilder::new()
        .layer(ObserveLayer::new((
            ServerMetricsLayer::new().recorder(prometheus.recorder()),
            outer.clone(),
        )))
        .layer(RescueLayer::new())
        // What axum does between layers, and what tonic does.
        .map_response(|response: Response<_>| response.map(axum::body::Body::new))
        .layer(breaker.until_end())
        .layer(RateLimitLayer::new(rate()))
        .map_response(|response: Response<_>| response.map(tonic::body::Body::new))
        .layer(retry)
        .layer(TimeoutLayer::per_try(timeout()))
        .layer(ObserveLayer::new(inner.clone()))
        .layer(JudgeLayer::new(judge.clone()))
        .service(service);
    let mut call = async || {
        let request = Request::get("/")
            .body(http_body_util::Empty::new())
            .unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    };

    assert_eq!(call().await, (200, Bytes::from("ab")));
    assert_eq!(retries.retries(), 2, "retry acted on the verdict");
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(judge.heads.load(Ordering::Relaxed), 3, "once per attempt");
    assert_eq!(judge.ends.load(Ordering::Relaxed), 3, "once per body");
    assert_eq!(outer.classes(), [Class::Success]);
    assert_eq!(
        inner.classes(),
        [Class::Failure, Class::Failure, Class::Success]
    );
    assert_eq!(circuit.state(), State::Closed);

    call().await;
    call().await;
    inner.take();
    outer.take();
    // All attempts fail now; the answer is a 200 all the same.
    for _ in 0..2 {
        assert_eq!(call().await.0, 200);
    }
    assert_eq!(inner.take().len(), 6);
    assert_eq!(outer.classes(), [Class::Failure, Class::Failure]);
    assert_eq!(circuit.state(), State::Open, "the breaker acted on it");
    assert_eq!(judge.heads.load(Ordering::Relaxed), 11);
    let metrics = prometheus.render();
    let failed = metrics.lines().find(|line| {
        line.starts_with("http_server_request_duration_seconds_count")
            && line.contains("error_type=")
    });
    assert!(failed.is_some_and(|line| line.ends_with(" 2")), "{metrics}");

    // Refused by us: an answer of ours, no failure of the service.
    assert_eq!(call().await.0, 503);
    assert_eq!(outer.classes(), [Class::Refused]);
    assert_eq!(judge.heads.load(Ordering::Relaxed), 11);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_judged_once_as_well_and_keeps_its_cause() {
    let (judge, log) = (Counting::default(), Log::default());
    let breaker = breaker(1);
    let circuit = breaker.handle();
    let service = ServiceBuilder::new()
        .layer(breaker)
        .layer(ObserveLayer::new(log.clone()))
        .layer(JudgeLayer::new(judge.clone()))
        .service(service_fn(async |_: Request<()>| {
            Err::<Response<Body>, BoxError>(std::io::Error::other("broken wire").into())
        }));
    let error = service.oneshot(Request::new(())).await.unwrap_err();
    assert!(error.to_string().contains("broken wire"));
    let mut cause = Some(&*error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause.filter(|error| !error.is::<std::io::Error>()) {
        cause = error.source();
    }
    assert!(cause.is_some(), "the error of the service is in the chain");
    assert_eq!(judge.heads.load(Ordering::Relaxed), 1);
    assert_eq!(log.classes(), [Class::Failure]);
    assert_eq!(circuit.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_we_refused_is_no_failure_outside() {
    for kind in [
        Kind::CircuitOpen,
        Kind::RateLimited,
        Kind::Overloaded,
        Kind::NoEndpoint,
    ] {
        for grpc in [false, true] {
            let log = Log::default();
            let breaker = breaker(1);
            let circuit = breaker.handle();
            let service = ServiceBuilder::new()
                .layer(ObserveLayer::new(log.clone()))
                .layer(breaker)
                .layer(RescueLayer::new())
                .service(service_fn(move |_: Request<()>| async move {
                    Err::<Response<Body>, BoxError>(Rejection::new(kind, "x").into())
                }));
            let mut request = Request::new(());
            if grpc {
                let value = "application/grpc".parse().unwrap();
                request.headers_mut().insert("content-type", value);
            }
            let answer = service.oneshot(request).await.unwrap();
            drop(answer);
            assert_eq!(log.classes(), [Class::Refused], "{kind:?} grpc: {grpc}");
            assert_eq!(circuit.state(), State::Closed, "{kind:?} grpc: {grpc}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_once_on_the_way_in_and_once_per_position_on_the_way_out() {
    let service = |parts: bool| {
        let (a, b, c) = (Log::default(), Log::default(), Log::default());
        let inner = ServiceBuilder::new()
            .layer(breaker(5))
            .layer(RateLimitLayer::new(rate()))
            .layer(TimeoutLayer::total(timeout()))
            .service(service_fn(async |_: Request<()>| {
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }));
        if parts {
            let inner = ObserveLayer::new(c).until_head().layer(inner);
            let inner = ObserveLayer::new(b).until_head().layer(inner);
            tower::util::Either::Left(ObserveLayer::new(a).until_head().layer(inner))
        } else {
            tower::util::Either::Right(ObserveLayer::new((a, b, c)).until_head().layer(inner))
        }
    };
    for (parts, positions) in [(true, 3), (false, 1)] {
        let mut service = service(parts);
        let service = service.ready().await.unwrap();
        let before = clock::readings();
        let call = service.call(Request::new(()));
        assert_eq!(clock::readings() - before, 1, "on the way in");
        call.await.unwrap();
        // The observers alone. A permit of the rate limit needs no time when it ends, nor does the breaker for a success
        // in the first poll.
        assert_eq!(clock::readings() - before, 1 + positions, "on the way out");
    }
}

#[tokio::test]
async fn verdicts_of_http_and_grpc() {
    enum How {
        Read,
        DropUnread,
        DropAfterOne,
    }
    use How::{DropAfterOne, DropUnread, Read};
    let data = || Ok(Frame::data(Bytes::from("x")));
    let trailers = |code: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        Ok(Frame::trailers(trailers))
    };
    let grpc = |code: Option<&str>| {
        let response = Response::builder().header("content-type", "application/grpc");
        match code {
            Some(code) => response.header("grpc-status", code),
            None => response,
        }
    };
    let http = |status: u16| Response::builder().status(status);
    let reset = || Err::<Frame<Bytes>, BoxError>("stream reset".into());
    type Case = (
        &'static str,
        http::response::Builder,
        Vec<Result<Frame<Bytes>, BoxError>>,
        How,
        (Class, Option<u16>),
    );
    let cases: Vec<Case> = vec![
        ("200", http(200), vec![data()], Read, (Class::Success, None)),
        (
            "404",
            http(404),
            vec![data()],
            Read,
            (Class::ClientFault, None),
        ),
        (
            "503, not read",
            http(503),
            vec![data()],
            DropUnread,
            (Class::Failure, None),
        ),
        (
            "broken body",
            http(200),
            vec![data(), reset()],
            Read,
            (Class::Failure, None),
        ),
        (
            "left midway",
            http(200),
            vec![data(), data()],
            DropAfterOne,
            (Class::Cancelled, None),
        ),
        (
            "HEAD: never read",
            http(200),
            vec![data()],
            DropUnread,
            (Class::Success, None),
        ),
        (
            "grpc ok",
            grpc(None),
            vec![data(), trailers("0")],
            Read,
            (Class::Success, Some(0)),
        ),
        (
            "grpc not found",
            grpc(None),
            vec![trailers("5")],
            Read,
            (Class::ClientFault, Some(5)),
        ),
        (
            "grpc unavailable",
            grpc(None),
            vec![data(), trailers("14")],
            Read,
            (Class::Failure, Some(14)),
        ),
        (
            "grpc exhausted",
            grpc(None),
            vec![trailers("8")],
            Read,
            (Class::RateLimited, Some(8)),
        ),
        (
            "grpc late",
            grpc(None),
            vec![trailers("4")],
            Read,
            (Class::Timeout, Some(4)),
        ),
        (
            "grpc cancelled",
            grpc(None),
            vec![trailers("1")],
            Read,
            (Class::Cancelled, Some(1)),
        ),
        (
            "trailers only",
            grpc(Some("13")),
            vec![],
            Read,
            (Class::Failure, Some(13)),
        ),
        (
            "trailers only, ok",
            grpc(Some("0")),
            vec![],
            DropUnread,
            (Class::Success, Some(0)),
        ),
        (
            "grpc without a status",
            grpc(None),
            vec![data()],
            Read,
            (Class::Failure, Some(2)),
        ),
        (
            "grpc reset",
            grpc(None),
            vec![data(), reset()],
            Read,
            (Class::Failure, None),
        ),
        (
            "grpc stream left",
            grpc(None),
            vec![data(), data()],
            DropAfterOne,
            (Class::Cancelled, None),
        ),
        (
            "grpc never read",
            grpc(None),
            vec![data()],
            DropUnread,
            (Class::Cancelled, None),
        ),
    ];
    for (name, response, frames, how, expected) in cases {
        let log = Log::default();
        let response = response.body(Frames(frames.into(), false)).unwrap();
        let answer = Mutex::new(Some(response));
        let service = ObserveLayer::new(log.clone()).layer(service_fn(|_: Request<()>| {
            let answer = answer.lock().unwrap().take().unwrap();
            async { Ok::<_, BoxError>(answer) }
        }));
        let mut body = service.oneshot(Request::new(())).await.unwrap().into_body();
        match how {
            Read => while let Some(Ok(_)) = body.frame().await {},
            DropUnread => {}
            DropAfterOne => drop(body.frame().await),
        }
        drop(body);
        let verdicts = log.take();
        let [verdict] = verdicts[..] else {
            panic!("{name}: told {} times", verdicts.len());
        };
        assert_eq!((verdict.class(), verdict.grpc_code()), expected, "{name}");
    }
}

#[tokio::test]
async fn closures_and_types_of_ones_own_say_how_a_call_went() {
    #[derive(Debug)]
    enum Reply {
        Value,
        Overloaded,
    }
    impl Outcome for Reply {
        fn verdict(&self) -> Verdict {
            match self {
                Self::Value => Verdict::SUCCESS,
                Self::Overloaded => Verdict::new(Class::RateLimited),
            }
        }
    }
    for (reply, class) in [
        (Reply::Value, Class::Success),
        (Reply::Overloaded, Class::RateLimited),
    ] {
        assert_eq!(reply.verdict().class(), class);
    }
    let breaker = breaker(1).classify_fn(|result: Result<&u32, &BoxError>| match result {
        Ok(0) | Err(_) => Verdict::FAILURE,
        Ok(_) => Verdict::SUCCESS,
    });
    let circuit = breaker.handle();
    let mut service = breaker.layer(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
    service.ready().await.unwrap().call(1).await.unwrap();
    assert_eq!(circuit.state(), State::Closed);
    service.ready().await.unwrap().call(0).await.unwrap();
    assert_eq!(circuit.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn metrics_outside_of_the_router_name_the_route_whatever_becomes_of_the_call() {
    use tower_chassis::router::{Router, get};
    let prometheus = Prometheus::new();
    let router = Router::new()
        .route("/items/{id}", get(async || "item"))
        .route(
            "/panics/{id}",
            get(async || -> &'static str { panic!("planted") }),
        )
        .route(
            "/slow/{id}",
            get(async || std::future::pending::<&'static str>().await),
        )
        .build()
        .unwrap();
    let mut service = ServiceBuilder::new()
        .layer(ServerMetricsLayer::new().recorder(prometheus.recorder()))
        .layer(RescueLayer::new())
        .service(router);
    let mut call = |path: &str| {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.invocation_mut();
        service.call(request)
    };
    for path in ["/items/1", "/items/2", "/nowhere", "/panics/7"] {
        drop(call(path).await.unwrap());
    }
    let mut left = Box::pin(call("/slow/3"));
    assert!(futures_poll(left.as_mut()).is_pending());
    drop(left);
    let metrics = prometheus.render();
    let count = |labels: &[&str]| -> u32 {
        metrics
            .lines()
            .filter(|line| line.starts_with("http_server_request_duration_seconds_count"))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
            .sum()
    };
    assert_eq!(
        count(&[r#"http_route="/items/{id}""#, r#"status_code="200""#]),
        2
    );
    assert_eq!(
        count(&[r#"http_route="unmatched""#, r#"status_code="404""#]),
        1
    );
    assert_eq!(
        count(&[r#"http_route="/panics/{id}""#, r#"status_code="500""#]),
        1
    );
    assert_eq!(count(&[r#"http_route="/slow/{id}""#]), 1, "{metrics}");
}

fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(std::task::Waker::noop()))
}

/// Whether a task panics. Not a `Send` one: what is boxed inside would have to be proved so.
async fn panics<F: Future + 'static>(task: F) -> bool {
    let local = tokio::task::LocalSet::new();
    let run = async { tokio::task::spawn_local(async move { drop(task.await) }).await };
    local.run_until(run).await.is_err()
}

/// A service that takes a second.
async fn slow(_: Request<Body>) -> Result<Response<Body>, BoxError> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Response::new(Body::empty()))
}

#[tokio::test(start_paused = true)]
async fn a_panic_beside_a_call_is_no_failure_of_what_it_called() {
    let breaker = breaker(1);
    let circuit = breaker.handle();
    let upstream = breaker.layer(service_fn(slow));
    let server = RescueLayer::new().layer(service_fn(move |_: Request<()>| {
        let asks = upstream.clone().oneshot(Request::new(Body::empty()));
        async move {
            let own = async {
                tokio::task::yield_now().await;
                assert!(Instant::now().elapsed() > Duration::MAX, "planted");
            };
            tokio::join!(asks, own).0
        }
    }));
    let answer = server.oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_who_reads_a_body_is_no_failure_of_who_sent_it() {
    let breaker = breaker(1).until_end();
    let circuit = breaker.handle();
    let upstream = breaker.layer(service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(Response::new(two_frames()))
    }));
    let reader = async move {
        let mut body = upstream
            .oneshot(Request::new(()))
            .await
            .unwrap()
            .into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert!(frame.is_trailers(), "planted");
    };
    assert!(panics(reader).await);
    assert_eq!(circuit.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_callers_lack_of_time_is_not_held_against_an_endpoint() {
    let breaker = breaker(1);
    let circuit = breaker.handle();
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::default());
    let bulkhead = BulkheadLayer::new(BulkheadPolicy::new(9).unwrap());
    let endpoint = stacks::endpoint(breaker, bulkhead, deadline.clone()).layer(service_fn(slow));
    let service = deadline.layer(endpoint.clone());
    for service in [
        tower::util::Either::Left(service),
        tower::util::Either::Right(endpoint),
    ] {
        let outer = matches!(service, tower::util::Either::Left(_));
        let request = Request::builder().header("x-request-timeout-ms", "20");
        let request = request.body(Body::empty()).unwrap();
        let result = service.oneshot(request).await;
        let late = result
            .err()
            .is_some_and(|error| Rejection::find(&*error).is_some_and(Rejection::is_timeout));
        assert_eq!(late, outer, "the outer one ends it");
        assert_eq!(circuit.state(), State::Closed);
    }
}

#[tokio::test]
async fn a_ticket_is_told_whatever_panics() {
    #[derive(Clone)]
    struct Bad(bool);
    impl Observe for Bad {
        fn done(self, _: Verdict, _: Instant) {
            panic!("planted")
        }
    }
    impl<Req> Start<Req> for Bad {
        type Ticket = Self;
        fn start(&self, _: &mut Req, _: Instant) -> Self {
            assert!(self.0, "planted");
            self.clone()
        }
    }
    let serve = service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Body::empty())));
    let log = Log::default();
    let judge = ObserveLayer::new(log.clone())
        .classify_fn(|_: Result<&Response<Body>, &BoxError>| -> Verdict { panic!("planted") });
    assert!(panics(judge.layer(serve).oneshot(Request::new(()))).await);
    assert_eq!(log.take().len(), 1, "a classifier");
    let start = ObserveLayer::new((log.clone(), Bad(false))).layer(serve);
    assert!(panics(start.oneshot(Request::new(()))).await);
    assert_eq!(log.take().len(), 1, "one that starts later");
    let done = ObserveLayer::new((Bad(true), log.clone())).layer(serve);
    assert!(panics(done.oneshot(Request::new(()))).await);
    assert_eq!(log.take().len(), 1, "one that is told earlier");
}
