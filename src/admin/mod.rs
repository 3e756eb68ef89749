//! The admin service of a gateway: health, metrics, what is live, what happens.
//!
//! | path | answers |
//! |---|---|
//! | `/` | a page for people: endpoints and events, as they change |
//! | `/livez` | 200 while the process runs |
//! | `/startupz` | 200 once it has started |
//! | `/readyz` | 200, or 503 from the start of a drain and where a service that is `required` has no endpoint that can be called |
//! | `/grpc.health.v1.Health/…` | the same by gRPC |
//! | `/metrics` | Prometheus text |
//! | `/config` | what is live, from where, its version; secrets redacted; why a change was refused |
//! | `/endpoints` | each endpoint: weight, health, breaker, calls in flight, latency (JSON) |
//! | `/events` | what happens, as [server-sent events](tower_chassis_observe::events::Sse): `?kinds=breaker,ejected` |
//! | `/debug/pprof/profile` | a CPU profile, for whom a guard lets in; without one nothing |
//!
//! It has no authentication: keep its listener private, as the default (127.0.0.1) does.

use std::{fmt, sync::Arc};

use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use tower_chassis_core::{Body, Events, events::Event, server::Drain};
#[cfg(feature = "profile")]
use tower_chassis_observe::profile::{Guard, Profiler};
use tower_chassis_observe::{
    events::Sse,
    health::{Check, Health},
    prometheus::Prometheus,
};
use tower_chassis_router::{BuildErrors, RouteService, Router, any_service, get};

use crate::gateway::Gateway;

/// What the admin service reads.
#[derive(Clone)]
#[must_use]
pub struct Admin {
    gateway: Gateway,
    prometheus: Prometheus,
    health: Health,
    events: Option<Sse>,
    before: Arc<dyn Fn() + Send + Sync>,
    #[cfg(feature = "profile")]
    profiler: Option<Profiler>,
}

impl Admin {
    /// Reads these. `drain` is that of the gateway's listeners.
    pub fn new(gateway: Gateway, prometheus: Prometheus, drain: Drain) -> Self {
        let upstreams = gateway.clone();
        // Who may read this may read the endpoints as well.
        let health = Health::new()
            .drain(&drain)
            .details(true)
            .ready("upstreams", Check::now(move || upstreams.readiness()));
        Self {
            gateway,
            prometheus,
            health,
            events: None,
            before: Arc::new(|| {}),
            #[cfg(feature = "profile")]
            profiler: None,
        }
    }

    /// Shows what is reported to `events`, until `drain`, that of the admin listener, is announced.
    pub fn events(mut self, events: &Events, drain: &Drain) -> Self {
        self.health = self.health.events(events.clone());
        self.events = Some(Sse::new(events.clone()).drain(drain));
        self
    }

    /// Runs `read` before each page of metrics: for gauges that nobody reports.
    pub fn before_metrics(mut self, read: impl Fn() + Send + Sync + 'static) -> Self {
        self.before = Arc::new(read);
        self
    }

    /// Makes CPU profiles for whom `guard` lets in.
    #[cfg(feature = "profile")]
    #[cfg_attr(docsrs, doc(cfg(feature = "profile")))]
    pub fn profiler(mut self, guard: Guard) -> Self {
        self.profiler = Some(Profiler::new(guard));
        self
    }

    /// Adds checks of one's own to what health asks.
    pub fn checks(mut self, add: impl FnOnce(Health) -> Health) -> Self {
        self.health = add(self.health);
        self
    }

    /// The admin service.
    ///
    /// # Errors
    /// None: the paths are fixed.
    pub fn service(&self) -> Result<RouteService<Body>, BuildErrors> {
        let (config, endpoints) = (self.clone(), self.clone());
        let health = self.health.service();
        let before = Arc::clone(&self.before);
        let metrics = self.prometheus.service().before(move || before());
        let mut router = Router::new()
            .route_service("/livez", health.clone())
            .route_service("/startupz", health.clone())
            .route_service("/readyz", health)
            .route_service("/grpc.health.v1.Health/*", self.health.grpc())
            .route_service("/metrics", metrics)
            .route(
                "/config",
                get(move || {
                    let page = config.gateway.describe();
                    async move { page_of("text/plain; charset=utf-8", page) }
                }),
            )
            .route(
                "/endpoints",
                get(move || {
                    let page = endpoints.endpoints();
                    async move { page_of("application/json", format!("{page:#}\n")) }
                }),
            )
            .route("/", get(|| async { front() }))
            .route(
                "/admin.js",
                get(|| async { page_of("text/javascript; charset=utf-8", script()) }),
            );
        if let Some(events) = &self.events {
            router = router.route("/events", any_service(events.service()));
        }
        #[cfg(feature = "profile")]
        if let Some(profiler) = &self.profiler {
            router = router.route_service("/debug/pprof/*", profiler.service());
        }
        router.build()
    }

    fn endpoints(&self) -> Value {
        let services = self.gateway.services().into_iter().map(|(name, service)| {
            let endpoints: Vec<Value> = service
                .balance
                .endpoints()
                .into_iter()
                .map(|endpoint| {
                    let id = endpoint.endpoint.id();
                    let breaker = service.breaker(id).map(|breaker| {
                        let now = breaker.snapshot();
                        json!({
                            "state": now.state.as_str(),
                            "failures": now.failures,
                            "calls": now.total,
                            "opens_in_ms": now.remaining.map(|left| left.as_millis() as u64),
                        })
                    });
                    let tags: serde_json::Map<_, _> = endpoint
                        .endpoint
                        .tags()
                        .map(|(k, v)| (k.to_owned(), json!(v)))
                        .collect();
                    json!({
                        "id": **id,
                        "address": address(&endpoint.endpoint),
                        "weight": endpoint.endpoint.weight(),
                        "tags": tags,
                        "health": if endpoint.open { "up" } else { "shut" },
                        "breaker": breaker,
                        "in_flight": endpoint.pending,
                        "connections": service.connections(id),
                        "ewma_ms": endpoint.latency.map(|latency| latency.as_secs_f64() * 1e3),
                        "attempts": endpoint.attempts,
                        "failures": endpoint.failures,
                    })
                })
                .collect();
            (name.to_string(), json!({ "endpoints": endpoints }))
        });
        json!({ "services": services.collect::<serde_json::Map<_, _>>() })
    }
}

/// The address without its userinfo, which is a secret.
fn address(endpoint: &tower_chassis_core::Endpoint) -> String {
    format!(
        "{}://{}",
        endpoint.scheme(),
        endpoint.host().to_str().unwrap_or_default()
    )
}

fn page_of(kind: &'static str, page: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(page.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// The page for people. Names of endpoints are shown in it, so it runs nothing but its own script.
fn front() -> Response<Body> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut response = page_of("text/html; charset=utf-8", include_str!("page.html"));
    let policy = HeaderValue::from_static(POLICY);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn script() -> String {
    let kinds = Event::NAMES.map(|name| format!("{name:?}")).join(",");
    include_str!("page.js").replace("KINDS", &format!("[{kinds},\"missed\"]"))
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("gateway", &self.gateway)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}
