//! The admin service of a gateway: health, metrics, what is live.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 while the process runs |
//! | `/readyz` | 200, or 503 from the start of a drain |
//! | `/metrics` | Prometheus text |
//! | `/config` | what is live, from where, its version; secrets redacted; why a change was refused |
//! | `/endpoints` | each endpoint: weight, health, breaker, calls in flight, latency (JSON) |
//!
//! It has no authentication: keep its listener private, as the default (127.0.0.1) does.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use tower_chassis_core::{Body, server::Drain};
use tower_chassis_observe::prometheus::Prometheus;
use tower_chassis_router::{BuildErrors, RouteService, Router, get};

use crate::gateway::Gateway;

/// What the admin service reads.
#[derive(Clone, Debug)]
pub struct Admin {
    gateway: Gateway,
    prometheus: Arc<Prometheus>,
    drain: Drain,
}

impl Admin {
    /// Reads these.
    #[must_use]
    pub const fn new(gateway: Gateway, prometheus: Arc<Prometheus>, drain: Drain) -> Self {
        Self {
            gateway,
            prometheus,
            drain,
        }
    }

    /// The admin service.
    ///
    /// # Errors
    /// None: the paths are fixed.
    pub fn service(&self) -> Result<RouteService<Body>, BuildErrors> {
        let (ready, metrics, config, endpoints) =
            (self.clone(), self.clone(), self.clone(), self.clone());
        Router::new()
            .route(
                "/livez",
                get(|| async { text(StatusCode::OK, "ok\n".into()) }),
            )
            .route(
                "/readyz",
                get(move || {
                    let draining = ready.drain.is_draining();
                    async move {
                        if draining {
                            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into())
                        } else {
                            text(StatusCode::OK, "ok\n".into())
                        }
                    }
                }),
            )
            .route(
                "/metrics",
                get(move || {
                    let page = metrics.prometheus.render();
                    async move {
                        let mut response = text(StatusCode::OK, page);
                        let kind =
                            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                        response.headers_mut().insert(header::CONTENT_TYPE, kind);
                        response
                    }
                }),
            )
            .route(
                "/config",
                get(move || {
                    let page = config.gateway.describe();
                    async move { text(StatusCode::OK, page) }
                }),
            )
            .route(
                "/endpoints",
                get(move || {
                    let page = endpoints.endpoints();
                    async move {
                        let mut response = text(StatusCode::OK, format!("{page:#}\n"));
                        let kind = HeaderValue::from_static("application/json");
                        response.headers_mut().insert(header::CONTENT_TYPE, kind);
                        response
                    }
                }),
            )
            .build()
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

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
