//! The shop: every layer of this project at its place, all of them reporting.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response, StatusCode, Uri, uri::PathAndQuery};
use http_body_util::BodyExt;
use tower::{
    ServiceBuilder, ServiceExt, layer::util::Identity, service_fn, util::BoxCloneSyncService,
};
use tower_chassis::{
    Body, BoxError, Endpoint, Events, ObserveLayer, RescueLayer,
    access_log::{AccessLogLayer, Format},
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    balance::{Balance, MakeEndpoint, OutlierPolicy, RoundRobin},
    breaker::{BreakerLayer, BreakerPolicy},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    cache::{CacheLayer, CachePolicy},
    coalesce::{CoalesceLayer, CoalescePolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    discover::{Discover, StaticDiscover},
    fallback::FallbackLayer,
    fault::{Abort, Arming, FaultLayer, FaultPolicy, FaultRule},
    hedge::{HedgeLayer, HedgePolicy},
    metrics::{ClientMetricsLayer, ServerMetricsLayer},
    mirror::{MirrorBody, MirrorLayer, MirrorPolicy},
    observe::{
        audit::{AuditHandle, AuditLayer, AuditPolicy, AuditRule},
        output::Output,
    },
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{RetryLayer, RetryPolicy},
    router::{Params, Router, get, get_service, post_service},
    share::HttpKeys,
    shed::{ShedLayer, ShedPolicy},
    stacks,
    timeout::{TimeoutLayer, TimeoutPolicy},
    trace::{ClientTraceLayer, TraceLayer},
};

use crate::{
    Weather,
    stock::{self, RESERVE},
    upstreams::upstream,
};

/// An upstream behind its layers.
pub(crate) type Upstream = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// The shop itself.
type Shop = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

pub(crate) fn service(
    weather: Weather,
    reports: &Events,
    prometheus: &Prometheus,
    log: &Output,
    limit: RateLimitPolicy,
) -> Result<(Shop, AuditHandle), BoxError> {
    let items = items(weather, reports, prometheus)?;
    let prices = prices(weather, reports)?;
    let reviews = reviews(weather, reports)?;
    let orders = orders(weather, reports)?;
    let stock = stock::stock(weather, reports, prometheus)?;
    let routes = Router::new()
        .route("/", get(async || "welcome\n"))
        .route("/orders", get_service(answered("orders", orders)))
        .route("/items/{id}", get_service(answered("items", items)))
        .route("/prices/{id}", get_service(answered("prices", prices)))
        .route("/reviews/{id}", get_service(answered("reviews", reviews)))
        .route(RESERVE, post_service(answered("stock", stock)))
        .route(
            "/pictures/{id}",
            get_service(service_fn(picture)).post_service(service_fn(keep_picture)),
        )
        .route(
            "/hello/{name}",
            get(async |params: Params| format!("{params:?}\n")),
        )
        .build()?;

    let policy = BulkheadPolicy::new(10)?.with(|config| config.queue = 10)?;
    let bound = BulkheadLayer::new(policy)
        .named("shop")
        .events(reports.clone());
    let shed = ShedLayer::new(ShedPolicy::default())
        .named("shop")
        .events(reports.clone())
        .watch(bound.handle());
    // Who has changed something.
    let rule = AuditRule {
        methods: vec!["POST".into()],
        ..AuditRule::default()
    };
    let audited = AuditPolicy::default().with(|config| config.rules = vec![rule])?;
    let audit = AuditLayer::new(audited, log.clone());
    let audited = audit.handle();
    let shop = ServiceBuilder::new()
        .layer(stacks::server(
            ObserveLayer::new((
                TraceLayer::new(),
                AccessLogLayer::new(Format::Json, log.sink()),
                audit,
                ServerMetricsLayer::new().recorder(prometheus.recorder()),
            )),
            DeadlineLayer::accept(DeadlinePolicy::default()).events(reports.clone()),
            shed,
            bound,
            RateLimitLayer::new(limit)
                .named("shop")
                .events(reports.clone()),
        ))
        .service(routes);
    let shop = BoxCloneSyncService::new(shop.map_response(|answer| answer.map(Body::new)));
    Ok((shop, audited))
}

/// Of some size.
async fn picture(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    let pixels = vec![0; fastrand::usize(1_000..200_000)];
    Ok(Response::new(Body::full(pixels)))
}

/// Hears it to its end.
async fn keep_picture(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let status = match request.into_body().collect().await {
        Ok(_) => StatusCode::CREATED,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    Ok(answer)
}

/// An error of it is an answer. The call has the name of who is called, as a request of one's own would.
fn answered(name: &'static str, upstream: Upstream) -> Shop {
    let service = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .map_request(move |mut request: Request<Body>| {
            let parts = std::mem::take(request.uri_mut()).into_parts();
            let called = Uri::builder().scheme("http").authority(name);
            let path = parts
                .path_and_query
                .unwrap_or(PathAndQuery::from_static("/"));
            *request.uri_mut() = called.path_and_query(path).build().unwrap_or_default();
            request
        })
        .service(upstream);
    BoxCloneSyncService::new(service.map_response(|answer| answer.map(Body::new)))
}

/// Three endpoints with faults: retries, breakers, a budget.
fn items(
    weather: Weather,
    reports: &Events,
    prometheus: &Prometheus,
) -> Result<Upstream, BoxError> {
    let discover = StaticDiscover::new();
    let endpoints = (1..=3).map(|n| Endpoint::new(&format!("http://10.0.0.{n}:8080")));
    discover.set("items", endpoints.collect::<Result<Vec<_>, _>>()?);
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::default()).events(reports.clone());
    let rule = FaultRule::new("items-fail").abort(
        if weather == Weather::Storm {
            300_000
        } else {
            10_000
        },
        Abort::Status(503),
    );
    let faults = FaultLayer::new(FaultPolicy::new([rule])?)
        .arming(Arming::new(true, Some("demo")))
        .events(reports.clone())
        .http();
    let breaker = BreakerPolicy::default().with(|config| {
        config.consecutive_failures = 10;
        config.open_base = Duration::from_secs(2);
        config.open_max = Duration::from_secs(4);
    })?;
    let at_endpoint = BulkheadPolicy::new(50)?;
    let (inner, events) = (deadline.clone(), reports.clone());
    let (balance, worker) = Balance::new(
        discover.watch("items"),
        move |made: &MakeEndpoint<'_>| {
            let address = made.endpoint().address().to_string();
            let breaker = BreakerLayer::new(breaker.clone())
                .named(address.as_str())
                .gate(made.gate().clone())
                .events(events.clone());
            let bound = BulkheadLayer::new(at_endpoint.clone())
                .named("items")
                .events(events.clone());
            ServiceBuilder::new()
                .layer(stacks::endpoint(breaker, bound, inner.clone()))
                .layer(faults.clone())
                .service(upstream(weather, Duration::from_millis(10), 50))
        },
        RoundRobin::default(),
    );
    // What the breakers do is enough here: outliers are only told of.
    let outliers =
        OutlierPolicy::default().with(|config| config.consecutive_failures_enforce = 0)?;
    let balance = balance
        .named("items")
        .events(reports.clone())
        .outlier(outliers);
    worker.spawn();
    let service = ServiceBuilder::new()
        .layer(stacks::client(
            ObserveLayer::new((
                ClientTraceLayer::new(),
                ClientMetricsLayer::new().recorder(prometheus.recorder()),
            )),
            deadline,
            Identity::new(),
            Identity::new(),
            RetryLayer::new(RetryPolicy::default())
                .events(reports.clone())
                .rewrap::<Body>(),
            TimeoutLayer::per_try(TimeoutPolicy::new(Duration::from_secs(1))?),
            Identity::new(),
        ))
        .service(balance);
    let service =
        ServiceExt::<Request<Body>>::map_response(service, |answer| answer.map(Body::new));
    Ok(BoxCloneSyncService::new(service))
}

/// Kept for a moment, asked for once by all who ask at once, and asked again where it is late.
fn prices(weather: Weather, reports: &Events) -> Result<Upstream, BoxError> {
    let cache =
        CachePolicy::new(Duration::from_millis(200))?.with(|config| config.max_entries = 16)?;
    let hedge = HedgePolicy::after(Duration::from_millis(30))?;
    // In a storm every call is late, and wants more hedges than there may be.
    let took = Duration::from_millis(if weather == Weather::Storm { 50 } else { 20 });
    let service = ServiceBuilder::new()
        .layer(
            CacheLayer::http(cache, HttpKeys::new())
                .named("prices")
                .events(reports.clone()),
        )
        .layer(
            CoalesceLayer::http(CoalescePolicy::default(), HttpKeys::new())
                .named("prices")
                .events(reports.clone()),
        )
        .layer(
            HedgeLayer::new(hedge)
                .named("prices")
                .events(reports.clone())
                .rewrap::<Body>(),
        )
        .service(upstream(weather, took, 10));
    let service =
        ServiceExt::<Request<Body>>::map_response(service, |answer| answer.map(Body::new));
    Ok(BoxCloneSyncService::new(service))
}

/// Not needed for a sale: a fallback answers where it fails, as many at once as it can bear, a copy for its successor.
fn reviews(weather: Weather, reports: &Events) -> Result<Upstream, BoxError> {
    let adaptive = AdaptivePolicy::default().with(|config| (config.min, config.max) = (15, 50))?;
    let took = Duration::from_millis(if weather == Weather::Storm { 400 } else { 15 });
    let next = upstream(weather, Duration::from_millis(5), 0);
    let service = ServiceBuilder::new()
        .layer(
            FallbackLayer::with(|_| Response::new(Body::from("no reviews\n")))
                .named("reviews")
                .events(reports.clone()),
        )
        .layer(
            AdaptiveLayer::new(adaptive)
                .named("reviews")
                .events(reports.clone()),
        )
        .layer(MirrorLayer::new(MirrorPolicy::new(500_000)?, next).events(reports.clone()))
        .map_request(|request: Request<MirrorBody<Body>>| request.map(Body::new))
        .service(upstream(weather, took, 40));
    let service =
        ServiceExt::<Request<Body>>::map_response(service, |answer| answer.map(Body::new));
    Ok(BoxCloneSyncService::new(service))
}

/// One endpoint, and in a storm none at all.
fn orders(weather: Weather, reports: &Events) -> Result<Upstream, BoxError> {
    let discover = StaticDiscover::new();
    let endpoints = match weather {
        Weather::Calm => vec![Endpoint::new("http://10.0.1.1:8080")?],
        Weather::Storm => Vec::new(),
    };
    discover.set("orders", endpoints);
    let (balance, worker) = Balance::new(
        discover.watch("orders"),
        move |_: &MakeEndpoint<'_>| upstream(weather, Duration::from_millis(5), 0),
        RoundRobin::default(),
    );
    let balance = balance.named("orders").events(reports.clone());
    worker.spawn();
    let service =
        ServiceExt::<Request<Body>>::map_response(balance, |answer| answer.map(Body::new));
    Ok(BoxCloneSyncService::new(service))
}
