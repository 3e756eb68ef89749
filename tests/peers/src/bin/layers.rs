//! Every layer on its success path, one call after the other: nanoseconds and allocations that it adds to the
//! service below, beside what is nearest to it in tower, tower-http and axum.
//!
//! All cases of a group run in turn, round after round, on one core. A time is the median over rounds, less the
//! group's floor; a ratio is the median over rounds of case over base. What makes a request is not measured: like
//! those of our server, each has its `Invocation`.

use std::{
    convert::Infallible,
    env,
    future::{Ready, ready},
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tower::{
    Layer, Service,
    balance::p2c,
    discover::ServiceList,
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load::{CompleteOnResponse, PeakEwma, PendingRequests},
    load_shed::LoadShed,
    retry::{Policy, Retry},
    timeout::Timeout,
    util::MapRequest,
};
use tower_chassis::{
    Body, BoxError, Carrier, Endpoint, Invocation, ObserveLayer, RescueLayer,
    access_log::{AccessLogLayer, Format},
    balance::{Algorithm, Balance, BalanceConfig, BalancePolicy, Picker},
    breaker::{BreakerConfig, BreakerLayer, BreakerPolicy},
    discover::{Discover, StaticDiscover},
    invocation::{MatchedRoute, RouteTable},
    metrics::ServerMetricsLayer,
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{RetryLayer, RetryPolicy},
    router::{Params, Router, get},
    timeout::{TimeoutLayer, TimeoutPolicy},
    trace::TraceLayer,
};
use tower_chassis_peers::{
    bench::{self, Case},
    counting::Counting,
    option,
    process::pin_self,
    table,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HELP: &str = "layers [--rounds 15] [--millis 6]";
const HEADS: [&str; 5] = ["case", "ns", "allocations", "ratio", "to"];
const NEVER: Duration = Duration::from_secs(60);

/// Answers at once and allocates nothing.
#[derive(Clone, Copy, Debug)]
struct Noop;

impl<B> Service<Request<B>> for Noop {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

/// Does as a router: says which route matched.
#[derive(Clone, Debug)]
struct Matched(Arc<RouteTable>);

impl Service<Request<Body>> for Matched {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request
            .invocation_mut()
            .set_route(MatchedRoute::new(Arc::clone(&self.0), 0));
        ready(Ok(Response::new(Body::empty())))
    }
}

/// A request as our server hands it in, from one client.
fn request() -> Request<Body> {
    from(SocketAddr::from(([127, 0, 0, 1], 9)))
}

fn from(client: SocketAddr) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let mut invocation = Invocation::new(Instant::now());
    invocation.set_client(client);
    request.extensions_mut().insert(invocation);
    request
}

/// Requests from a thousand clients in turn.
fn clients() -> impl FnMut() -> Request<Body> + 'static {
    let mut next = 0_u16;
    move || {
        next = (next + 1) % 1_000;
        let [high, low] = next.to_be_bytes();
        from(SocketAddr::from(([10, 0, high, low], 9)))
    }
}

/// Tries nothing again, and copies the head in case it would.
#[derive(Clone, Copy, Debug)]
struct OnFailure;

impl<E> Policy<Request<Body>, Response<Body>, E> for OnFailure {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<Body>, E>,
    ) -> Option<Ready<()>> {
        result.is_err().then(|| ready(()))
    }
    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(Body::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }
}

fn timeout() -> TimeoutPolicy {
    TimeoutPolicy::new(NEVER).unwrap()
}

fn unlimited() -> RateLimitPolicy {
    RateLimitPolicy::new(1e8, 1_000_000).unwrap()
}

/// As tower's has it: one bucket that is never empty.
fn rate<S>(inner: S) -> RateLimit<S> {
    RateLimit::new(inner, Rate::new(u64::MAX, NEVER))
}

/// A balancer over `count` endpoints of what `make` makes.
fn balance<S>(
    count: u16,
    algorithm: Algorithm,
    mut make: impl FnMut() -> S + Send + 'static,
) -> Balance<S>
where
    S: Clone + Send + Sync + 'static,
{
    let discover = StaticDiscover::new();
    discover.set(
        "shop",
        (1..=count).map(|port| Endpoint::new(&format!("http://127.0.0.1:{port}")).unwrap()),
    );
    let picker = Picker::new(BalancePolicy::try_from(BalanceConfig { algorithm }).unwrap());
    // The set stays as it is: nobody needs the worker.
    Balance::new(discover.watch("shop"), move |_| make(), picker).0
}

fn towers_ewma(count: usize) -> impl Service<Request<Body>, Error = BoxError> + 'static {
    let one = || {
        PeakEwma::new(
            Noop,
            Duration::from_millis(1),
            1e10,
            CompleteOnResponse::default(),
        )
    };
    let list = ServiceList::new::<Request<Body>>((0..count).map(|_| one()).collect::<Vec<_>>());
    p2c::Balance::new(list)
}

fn towers_pending(count: usize) -> impl Service<Request<Body>, Error = BoxError> + 'static {
    let one = || PendingRequests::new(Noop, CompleteOnResponse::default());
    let list = ServiceList::new::<Request<Body>>((0..count).map(|_| one()).collect::<Vec<_>>());
    p2c::Balance::new(list)
}

fn resilience() -> Vec<Case> {
    let consecutive = BreakerConfig {
        failure_rate: 0.0,
        ..BreakerConfig::default()
    };
    let by_client = || {
        RateLimitLayer::new(unlimited())
            .keyed(|request: &Request<Body>| Some(request.invocation()?.client()?.ip()))
    };
    let breaker = BreakerLayer::new(BreakerPolicy::default());
    let six = {
        let breaker = breaker.fresh();
        let attempt =
            TimeoutLayer::per_try(timeout()).layer(balance(3, Algorithm::PeakEwma, move || {
                breaker.fresh().layer(Noop)
            }));
        let call = RetryLayer::new(RetryPolicy::default()).layer(attempt);
        RateLimitLayer::new(unlimited()).layer(TimeoutLayer::total(timeout()).layer(call))
    };
    let towers_six = LoadShed::new(ConcurrencyLimit::new(
        rate(Retry::new(
            OnFailure,
            Timeout::new(
                MapRequest::new(Noop, |request: Request<Body>| request),
                NEVER,
            ),
        )),
        1_000_000,
    ));
    let none = "";
    vec![
        Case::new("no-op", none, Noop, request),
        Case::new("tower: timeout", none, Timeout::new(Noop, NEVER), request),
        Case::new(
            "timeout",
            "tower: timeout",
            TimeoutLayer::per_try(timeout()).layer(Noop),
            request,
        ),
        Case::new("tower: retry", none, Retry::new(OnFailure, Noop), request),
        Case::new(
            "retry",
            "tower: retry",
            RetryLayer::new(RetryPolicy::default()).layer(Noop),
            request,
        ),
        Case::new(
            "tower: shed, concurrency",
            none,
            LoadShed::new(ConcurrencyLimit::new(Noop, 1_000_000)),
            request,
        ),
        Case::new(
            "breaker, rate and row",
            "tower: shed, concurrency",
            breaker.layer(Noop),
            request,
        ),
        Case::new(
            "breaker, row alone",
            "tower: shed, concurrency",
            BreakerLayer::new(BreakerPolicy::try_from(consecutive).unwrap()).layer(Noop),
            request,
        ),
        Case::new(
            "breaker, until the end",
            "tower: shed, concurrency",
            breaker.fresh().until_end().layer(Noop),
            request,
        ),
        Case::new("tower: rate limit", none, rate(Noop), request),
        Case::new(
            "rate limit",
            "tower: rate limit",
            RateLimitLayer::new(unlimited()).layer(Noop),
            request,
        ),
        Case::new(
            "rate limit, 1,000 clients",
            "tower: rate limit",
            by_client().layer(Noop),
            clients(),
        ),
        Case::new("tower: p2c, ewma, of 3", none, towers_ewma(3), request),
        Case::new(
            "tower: p2c, pending, of 3",
            none,
            towers_pending(3),
            request,
        ),
        Case::new(
            "tower: p2c, pending, of 1,000",
            none,
            towers_pending(1_000),
            request,
        ),
        Case::new(
            "balance, ewma, of 3",
            "tower: p2c, ewma, of 3",
            balance(3, Algorithm::PeakEwma, || Noop),
            request,
        ),
        Case::new(
            "balance, round robin, of 3",
            "tower: p2c, pending, of 3",
            balance(3, Algorithm::RoundRobin, || Noop),
            request,
        ),
        Case::new(
            "balance, ewma, of 1,000",
            "balance, ewma, of 3",
            balance(1_000, Algorithm::PeakEwma, || Noop),
            request,
        ),
        Case::new("rescue", none, RescueLayer::new().layer(Noop), request),
        Case::new("tower: six", none, towers_six, request),
        Case::new(
            "six: limit, total, retry, try, balance, breaker",
            "tower: six",
            six,
            request,
        ),
    ]
}

fn observers() -> Vec<Case> {
    let matched = Matched(Arc::new(RouteTable::new(["/users/{id}".into()])));
    let prometheus = Prometheus::new();
    let metrics = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let log = AccessLogLayer::new(Format::Json, |line: &str| {
        std::hint::black_box(line.len());
    });
    let three = ObserveLayer::new((TraceLayer::new(), log.clone(), metrics.clone()));
    let towers = tower_http::trace::TraceLayer::new_for_http();
    vec![
        Case::new("matched route", "", matched.clone(), request),
        Case::new(
            "tower-http: trace",
            "",
            towers.layer(matched.clone()),
            request,
        ),
        Case::new(
            "trace",
            "tower-http: trace",
            TraceLayer::new().layer(matched.clone()),
            request,
        ),
        Case::new(
            "metrics",
            "tower-http: trace",
            metrics.layer(matched.clone()),
            request,
        ),
        Case::new(
            "access log, JSON",
            "tower-http: trace",
            log.layer(matched.clone()),
            request,
        ),
        Case::new(
            "all three as one layer",
            "tower-http: trace",
            three.layer(matched),
            request,
        ),
    ]
}

fn routers() -> Vec<Case> {
    let at = |path: &'static str| {
        move || {
            let mut request = request();
            *request.uri_mut() = http::Uri::from_static(path);
            request
        }
    };
    let axums = |path: &'static str| {
        move || {
            axum::http::Request::get(path)
                .body(axum::body::Body::empty())
                .unwrap()
        }
    };
    let user = |params: Params| async move {
        params
            .get("id")
            .map(|id| id.len().to_string())
            .unwrap_or_default()
    };
    let ours = Router::new()
        .route("/", get(|| async { "Hello, World!" }))
        .route("/users/{id}", get(user))
        .build()
        .unwrap();
    let theirs = axum::Router::<()>::new()
        .route("/", axum::routing::get(|| async { "Hello, World!" }))
        .route(
            "/users/{id}",
            axum::routing::get(
                |axum::extract::Path(id): axum::extract::Path<String>| async move {
                    id.len().to_string()
                },
            ),
        );
    vec![
        Case::new("no-op", "", Noop, request),
        Case::new("axum: hello", "", theirs.clone(), axums("/")),
        Case::new("router: hello", "axum: hello", ours.clone(), at("/")),
        Case::new("axum: a parameter", "", theirs, axums("/users/7")),
        Case::new(
            "router: a parameter",
            "axum: a parameter",
            ours,
            at("/users/7"),
        ),
    ]
}

fn main() {
    if env::args().any(|arg| arg == "--help") {
        return println!("{HELP}");
    }
    let (rounds, time) = (
        option("--rounds", 15),
        Duration::from_millis(option("--millis", 6)),
    );
    if let Err(error) = pin_self(0) {
        println!("not pinned to a core: {error}");
    }
    // Timers must know a runtime; nothing is ever spawned on it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    for (title, floor, mut cases) in [
        ("resilience: added to a no-op", "no-op", resilience()),
        (
            "observers: added to a service that says which route matched",
            "matched route",
            observers(),
        ),
        ("routers: added to a no-op", "no-op", routers()),
    ] {
        let rows = bench::run(&mut cases, floor, rounds, time);
        table::print(title, &HEADS, &rows);
    }
}
