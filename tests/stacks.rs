//! The recommended stacks, built and used.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError, Endpoint, ObserveLayer, RescueLayer,
    access_log::{AccessLogLayer, Format},
    balance::{Balance, MakeEndpoint, RoundRobin},
    breaker::{BreakerLayer, BreakerPolicy},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    discover::{Discover, StaticDiscover},
    metrics::{ClientMetricsLayer, ServerMetricsLayer},
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{RetryLayer, RetryPolicy},
    router::{Router, get},
    stacks,
    timeout::{TimeoutLayer, TimeoutPolicy},
    trace::{ClientTraceLayer, TraceLayer},
};

fn limit(at_once: u32) -> BulkheadLayer {
    BulkheadLayer::new(BulkheadPolicy::new(at_once).unwrap())
}

fn rate(burst: u32) -> RateLimitLayer {
    RateLimitLayer::new(RateLimitPolicy::new(1.0, burst).unwrap())
}

fn timeout(after: u64) -> TimeoutPolicy {
    TimeoutPolicy::new(Duration::from_millis(after)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_answers_sheds_limits_and_counts() {
    let prometheus = Prometheus::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&log);
    let shed = limit(2);
    let in_flight = shed.handle();
    let route = stacks::route(TimeoutLayer::total(timeout(50)), limit(1));
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route(
            "/slow",
            get(async || std::future::pending::<&'static str>().await).layer(route),
        )
        .route(
            "/panics",
            get(async || -> &'static str { panic!("planted") }),
        );
    let mut server = ServiceBuilder::new()
        .layer(stacks::server(
            ObserveLayer::new((
                TraceLayer::new(),
                AccessLogLayer::new(Format::Json, move |line: &str| {
                    lines.lock().unwrap().push(line.to_owned());
                }),
                ServerMetricsLayer::new().recorder(prometheus.recorder()),
            )),
            DeadlineLayer::accept(DeadlinePolicy::default()),
            shed,
            rate(7),
        ))
        .service(router.build().unwrap());
    let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();

    let hello = server
        .ready()
        .await
        .unwrap()
        .call(request("/"))
        .await
        .unwrap();
    assert_eq!((hello.status(), in_flight.in_flight()), (StatusCode::OK, 1));
    assert_eq!(
        hello.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    assert_eq!(in_flight.in_flight(), 0, "to the end of the body");

    // The route has its own limit and its own time.
    let slow = tokio::spawn(server.ready().await.unwrap().call(request("/slow")));
    tokio::task::yield_now().await;
    let refused = server.call(request("/slow")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["x-chassis-reject"], "overloaded");
    drop(refused);
    let late = slow.await.unwrap().unwrap();
    assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
    drop(late);

    // The whole server has one too, which those inside of it count for.
    let hold = [
        server.call(request("/")).await,
        server.call(request("/")).await,
    ];
    let shed = server
        .ready()
        .await
        .unwrap()
        .call(request("/"))
        .await
        .unwrap();
    assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop((hold, shed));

    let broken = server
        .ready()
        .await
        .unwrap()
        .call(request("/panics"))
        .await
        .unwrap();
    assert_eq!(broken.status(), StatusCode::INTERNAL_SERVER_ERROR);
    drop(broken);
    let mut expired = request("/");
    expired
        .headers_mut()
        .insert("x-request-timeout-ms", "0".parse().unwrap());
    let expired = server.ready().await.unwrap().call(expired).await.unwrap();
    assert_eq!(expired.status(), StatusCode::GATEWAY_TIMEOUT);
    drop(expired);
    // 7 were allowed: five calls and the one that panicked came so far.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = server
            .ready()
            .await
            .unwrap()
            .call(request("/"))
            .await
            .unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 429, 429]);
    assert_eq!(in_flight.in_flight(), 0);
    assert_eq!(log.lock().unwrap().len(), 11, "one line for each");
    let metrics = prometheus.render();
    assert!(metrics.contains(r#"http_route="/slow""#), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_client_goes_elsewhere_and_leaves_the_dead_alone() {
    let prometheus = Prometheus::new();
    let discover = StaticDiscover::new();
    let endpoints = ["http://10.0.0.1:1", "http://10.0.0.2:2"].map(|at| Endpoint::new(at).unwrap());
    discover.set("shop", endpoints);
    let asked = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::default());
    let (inner, count) = (deadline.clone(), Arc::clone(&asked));
    let (balance, worker) = Balance::new(
        discover.watch("shop"),
        move |made: &MakeEndpoint<'_>| {
            let dead = made.endpoint().address().port_u16() == Some(2);
            let count = Arc::clone(&count);
            let policy = BreakerPolicy::default()
                .with(|config| config.consecutive_failures = 3)
                .unwrap();
            let breaker = BreakerLayer::new(policy).gate(made.gate().clone());
            ServiceBuilder::new()
                .layer(stacks::endpoint(breaker, limit(10), inner.clone()))
                .service(service_fn(move |request: Request<Body>| {
                    count[usize::from(dead)].fetch_add(1, Ordering::Relaxed);
                    let told = request.headers().contains_key("x-request-timeout-ms");
                    async move {
                        assert!(told, "the endpoint knows the deadline");
                        let status = if dead { 503 } else { 200 };
                        Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
                    }
                }))
        },
        RoundRobin::default(),
    );
    worker.spawn();
    let retry = RetryLayer::new(RetryPolicy::default()).rewrap::<Body>();
    let retries = retry.handle();
    let mut shop = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(stacks::client(
            ObserveLayer::new((
                ClientTraceLayer::new(),
                ClientMetricsLayer::new().recorder(prometheus.recorder()),
            )),
            deadline,
            rate(1000),
            retry,
            TimeoutLayer::per_try(timeout(500)),
        ))
        .service(balance);
    for _ in 0..200 {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let shop = ServiceExt::<Request<Body>>::ready(&mut shop).await.unwrap();
        let answer = shop.call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(
        asked[1].load(Ordering::Relaxed),
        3,
        "then its circuit was open"
    );
    assert_eq!(retries.retries(), 3);
    assert_eq!(asked[0].load(Ordering::Relaxed), 200);
}
