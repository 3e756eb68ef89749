//! The recommended stacks, built and used.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tower::{
    Service, ServiceBuilder, ServiceExt, layer::util::Identity, service_fn,
    util::BoxCloneSyncService,
};
use tower_chassis::{
    Body, BoxError, Carrier, Endpoint, Invocation, ObserveLayer, RescueLayer,
    access_log::{AccessLogLayer, Format},
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    balance::{Balance, MakeEndpoint, RoundRobin},
    breaker::{BreakerLayer, BreakerPolicy, State},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    client::{Client, ClientPolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    discover::{Discover, StaticDiscover},
    metrics::{ClientMetricsLayer, ServerMetricsLayer},
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{CallerAttemptLayer, RetryConfig, RetryLayer, RetryPolicy},
    router::{Router, get},
    server::{Address, Drain, Server, ServerPolicy},
    shed::{Priority, PriorityClass, ShedLayer, ShedPolicy},
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
    let bound = limit(2);
    let in_flight = bound.handle();
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
            Identity::new(),
            bound,
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

/// One call at once, and four may wait: the first that comes, and then only those that matter most, if who says so is
/// trusted. A macro, because nobody writes the type of a stack.
macro_rules! what_matters_most_waits {
    ($limit:expr) => {{
        let limit = $limit;
        let (bound, policy) = (limit.handle(), ShedPolicy::default());
        let policy = policy.with(|config| config.full = 1.0).unwrap();
        let shed = ShedLayer::new(policy)
            .watch(limit.handle())
            .priority(|request: &Request<Body>| match request.uri().path() {
                "/pay" => Priority::VERY_HIGH,
                _ => Priority::NORMAL,
            })
            .trusted(|request: &Request<Body>| request.headers().contains_key("mesh"));
        let handle = shed.handle();
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/pay", get(async || "paid"));
        let server = ServiceBuilder::new()
            .layer(stacks::server(
                ObserveLayer::new(ServerMetricsLayer::new()),
                DeadlineLayer::accept(DeadlinePolicy::default()),
                shed,
                limit,
                rate(100),
            ))
            .service(router.build().unwrap());
        let send = |path: &str, headers: &[(&'static str, &'static str)]| {
            let mut request = Request::get(path).body(Body::empty()).unwrap();
            for (name, value) in headers {
                let value = http::HeaderValue::from_static(value);
                request.headers_mut().insert(*name, value);
            }
            tokio::spawn(server.clone().oneshot(request))
        };
        let first = send("/", &[]).await.unwrap().unwrap();
        assert_eq!((first.status(), bound.in_flight()), (StatusCode::OK, 1));
        let mut waiting = vec![send("/", &[])];
        tokio::task::yield_now().await;
        let high = ("x-chassis-priority", "very-high");
        for headers in [&[][..], &[high], &[("mesh", "yes")]] {
            let refused = send("/", headers).await.unwrap().unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.headers()["x-chassis-reject"], "overloaded");
        }
        waiting.push(send("/pay", &[]));
        waiting.push(send("/", &[high, ("mesh", "yes")]));
        tokio::task::yield_now().await;
        assert_eq!((bound.in_flight(), bound.queued()), (1, 3));
        assert_eq!(handle.refused(PriorityClass::Normal), 3);
        assert_eq!(handle.refused(PriorityClass::VeryHigh), 0);
        // To the end of the body.
        drop(first);
        for call in waiting {
            assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
        }
        assert_eq!((bound.in_flight(), bound.queued()), (0, 0));
    }};
}

#[tokio::test(start_paused = true)]
async fn in_a_server_what_matters_most_may_wait() {
    let wait = Duration::from_secs(1);
    let policy = BulkheadPolicy::throttle(1, 4, wait).unwrap();
    what_matters_most_waits!(BulkheadLayer::new(policy));
    let policy = AdaptivePolicy::default().with(|config| {
        (config.start, config.min, config.max) = (1, 1, 1);
        (config.queue, config.max_wait) = (4.0, wait);
    });
    what_matters_most_waits!(AdaptiveLayer::new(policy.unwrap()));
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
            Identity::new(),
            rate(1000),
            retry,
            TimeoutLayer::per_try(timeout(500)),
            Identity::new(),
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

/// A body of five frames, each of which is waited for. Holds `alive` until it is dropped.
struct Slow {
    left: u32,
    waited: bool,
    _alive: Arc<()>,
}

impl Slow {
    fn body(alive: &Arc<()>) -> Body {
        Body::new(Self {
            left: 5,
            waited: false,
            _alive: Arc::clone(alive),
        })
    }
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready((self.left > 0).then(|| {
            self.left -= 1;
            Ok(Frame::data(Bytes::from_static(b"frame")))
        }))
    }
}

/// A server that asks a service for each call, all layers of both stacks. Its client is gone after so many polls, while
/// it is read, queued, tried, answered or streamed: in that poll everything is let go.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_at_any_poll_leaves_nothing_behind() {
    let (prometheus, alive) = (Prometheus::new(), Arc::new(()));
    let discover = StaticDiscover::new();
    discover.set("shop", [Endpoint::new("http://10.0.0.1:1").unwrap()]);
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::default());
    let (inner, at_endpoint) = (deadline.clone(), limit(10));
    let (endpoint_limit, asked) = (at_endpoint.clone(), Arc::new(AtomicU32::new(0)));
    let (held, count) = (Arc::clone(&alive), Arc::clone(&asked));
    // Each client that leaves after the first try leaves its failure behind.
    let policy = BreakerPolicy::default().with(|config| {
        config.consecutive_failures = 1_000;
        config.failure_rate = 0.0;
    });
    let breaker = BreakerLayer::new(policy.unwrap());
    let circuit = breaker.handle();
    let retry = RetryPolicy::try_from(RetryConfig {
        budget_min_per_second: 1_000.0,
        ..RetryConfig::default()
    });
    let (balance, worker) = Balance::new(
        discover.watch("shop"),
        move |_: &MakeEndpoint<'_>| {
            let (held, count) = (Arc::clone(&held), Arc::clone(&count));
            let endpoint = stacks::endpoint(breaker.clone(), endpoint_limit.clone(), inner.clone());
            ServiceBuilder::new().layer(endpoint).service(service_fn(
                move |request: Request<Body>| {
                    let held = Arc::clone(&held);
                    // Each first try fails, each second one is answered.
                    let fails = count.fetch_add(1, Ordering::Relaxed) % 2 == 0;
                    async move {
                        let _sent = request.into_body();
                        tokio::task::yield_now().await;
                        let status = if fails { 503 } else { 200 };
                        let answer = Response::builder().status(status);
                        Ok::<_, BoxError>(answer.body(Slow::body(&held))?)
                    }
                },
            ))
        },
        RoundRobin::default(),
    );
    worker.spawn();
    let shop = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(stacks::client(
            ObserveLayer::new((
                ClientTraceLayer::new(),
                ClientMetricsLayer::new().recorder(prometheus.recorder()),
            )),
            deadline,
            Identity::new(),
            rate(1_000_000),
            RetryLayer::new(retry.unwrap()).rewrap::<Body>(),
            TimeoutLayer::per_try(timeout(500)),
            Identity::new(),
        ))
        .service(balance);
    let shop = ServiceExt::<Request<Body>>::map_response(shop, |answer| answer.map(Body::new));
    // Without its type: the compiler cannot tell that what waits for it may be sent.
    let shop = BoxCloneSyncService::new(shop);
    let (shed, at_route) = (limit(10), limit(10));
    let limits = [shed.handle(), at_route.handle(), at_endpoint.handle()];
    let router = Router::new().route(
        "/",
        get(move || {
            let shop = shop.clone();
            async move {
                tokio::task::yield_now().await;
                let request = Request::get("/").body(Body::empty()).unwrap();
                shop.oneshot(request).await.unwrap()
            }
        })
        .layer(stacks::route(TimeoutLayer::total(timeout(5_000)), at_route)),
    );
    let server = ServiceBuilder::new()
        .layer(stacks::server(
            ObserveLayer::new((
                TraceLayer::new(),
                AccessLogLayer::new(Format::Json, |_: &str| {}),
                ServerMetricsLayer::new().recorder(prometheus.recorder()),
            )),
            DeadlineLayer::accept(DeadlinePolicy::default()),
            ShedLayer::new(ShedPolicy::default()).watch(shed.handle()),
            shed,
            rate(1_000_000),
        ))
        .service(router.build().unwrap());
    // The balancer's worker sees to its endpoints.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let idle = Arc::strong_count(&alive);

    let mut most = [0; 3];
    for polls in 0.. {
        let request = Request::get("/").body(Slow::body(&alive)).unwrap();
        let server = server.clone();
        let mut call = Box::pin(async move {
            let answer = server.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        let mut cx = Context::from_waker(Waker::noop());
        let mut over = None;
        for _ in 0..polls {
            if let Poll::Ready(read) = call.as_mut().poll(&mut cx) {
                over = Some(read);
                break;
            }
            for (most, limit) in most.iter_mut().zip(&limits) {
                *most = limit.in_flight().max(*most);
            }
            // For the wait before the retry.
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        drop(call);
        assert_eq!(Arc::strong_count(&alive), idle, "after {polls} polls");
        for limit in &limits {
            assert_eq!(
                (limit.in_flight(), limit.queued()),
                (0, 0),
                "after {polls} polls"
            );
        }
        let metrics = prometheus.render();
        let active = metrics
            .lines()
            .filter(|line| line.contains("active_requests{"));
        assert!(
            active.clone().all(|line| line.ends_with(" 0")),
            "after {polls} polls: {metrics}"
        );
        if let Some(read) = over {
            assert_eq!(read, "frame".repeat(5));
            assert!(polls > 8 && active.count() == 2, "{polls}");
            break;
        }
        // The next one begins with the first try, too.
        asked.store(0, Ordering::Relaxed);
    }
    assert_eq!(most, [1, 1, 1], "each was in use");
    assert_eq!(circuit.state(), State::Closed);
}

async fn listen<S>(service: S) -> SocketAddr
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let server = Server::new(ServerPolicy::default()).listen("127.0.0.1:0");
    let bound = server.bind().await.unwrap();
    let Address::Tcp(address) = bound.addresses()[0].clone() else {
        unreachable!()
    };
    let service = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .service(service);
    tokio::spawn(bound.serve(service, Drain::new()));
    address
}

/// A service that asks the next one, up to three times, and believes its callers or not.
async fn hop(next: SocketAddr, believes: bool) -> SocketAddr {
    let config = RetryConfig {
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
        budget_min_per_second: 1_000.0,
        ..RetryConfig::default()
    };
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryPolicy::try_from(config).unwrap()).rewrap::<Body>())
        .service(Client::new(&ClientPolicy::default()));
    let uri = format!("http://{next}/");
    let asks = service_fn(move |incoming: Request<Body>| {
        let (client, uri) = (client.clone(), uri.clone());
        async move {
            let mut request = Request::get(uri).body(Body::empty())?;
            if let Some(invocation) = incoming.invocation() {
                invocation.carry(&mut request);
            }
            client.oneshot(request).await
        }
    });
    // By the address of the peer, not by what it says.
    let ours = move |request: &Request<Body>| {
        let client = request.invocation().and_then(Invocation::client);
        believes && client.is_some_and(|client| client.ip().is_loopback())
    };
    let layers = ServiceBuilder::new().layer(CallerAttemptLayer::trusting(ours));
    listen(layers.service(asks)).await
}

/// Three services one above another, and a fourth that fails.
#[tokio::test]
async fn over_sockets_retries_do_not_multiply_where_callers_are_believed() {
    for (believes, calls) in [(true, 1 + 2 * 3), (false, 27)] {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let leaf = listen(service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async {
                let down = Response::builder().status(503).body(Body::empty());
                down.map_err(BoxError::from)
            }
        }))
        .await;
        let mut next = leaf;
        for _ in 0..3 {
            next = hop(next, believes).await;
        }
        let request = Request::get(format!("http://{next}/"));
        let request = request.body(Body::empty()).unwrap();
        let client = Client::new(&ClientPolicy::default());
        let answer = client.oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(asked.load(Ordering::Relaxed), calls, "{believes}");
    }
}
