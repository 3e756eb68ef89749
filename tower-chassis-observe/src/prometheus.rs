//! A registry that Prometheus scrapes.
//!
//! # Example
//! ```
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_chassis_observe::{metrics::ServerMetricsLayer, prometheus::Prometheus};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let prometheus = Prometheus::new();
//! // One of your own for this layer; `prometheus.install()` would make it the global one.
//! let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
//! // For the route `/metrics`:
//! let page = prometheus.service().oneshot(Request::new(())).await.unwrap();
//! assert_eq!(page.status(), 200);
//! # let _ = layer;
//! # }
//! ```
//! What is not counted as it happens is read [before](MetricsService::before) each page: bulkheads, connections and health by
//! [`events::sample`](crate::events::sample), [`runtime`](crate::runtime), [`process`](crate::process).
//!
//! Without the service: [`render`](Prometheus::render) gives the text, to be served as [`CONTENT_TYPE`].
//!
//! Names are Prometheus's: `http.server.request.duration` is `http_server_request_duration_seconds`, counters end in
//! `_total`. Every histogram is one and no summary. Buckets of your own, and how many series there may be, are said to a
//! [`Registry`]: `Prometheus::of(Arc::new(Registry::new().buckets(…)))`.
//!
//! # Errors
//! The service has none. `GET` and `HEAD` are answered; all others with 405.
//!
//! # Cost
//! That of the [registry](crate::registry). A page is made for every request; a registry that nobody scrapes does not grow.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tower_chassis_core::Body;
use tower_service::Service;

use crate::registry::{Registry, SECONDS, text};

/// The content type of [`Prometheus::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The buckets of durations, in seconds, as OpenTelemetry's conventions advise.
pub const BUCKETS: [f64; 14] = SECONDS;

/// A registry whose content Prometheus scrapes. Clones share it.
#[derive(Clone, Debug)]
pub struct Prometheus {
    registry: Arc<Registry>,
}

impl Prometheus {
    /// An empty registry, which knows the help texts of this crate's metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Arc::new(Registry::new()))
    }

    /// What this registry holds.
    #[must_use]
    pub const fn of(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The registry, for a layer's `.recorder(…)` or for `metrics::with_local_recorder`.
    #[must_use]
    pub fn recorder(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Makes it the global recorder, before the first call is measured.
    ///
    /// # Errors
    /// There is one already.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        metrics::set_global_recorder(self.recorder()).map_err(|_| AlreadyInstalled { _private: () })
    }

    /// Everything that was recorded, in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        text(&self.registry.snapshot())
    }

    /// Nothing: a registry needs none.
    #[doc(hidden)]
    pub const fn run_upkeep(&self) {}

    /// A service that answers every request with the page, whatever its path.
    #[must_use]
    pub fn service(&self) -> MetricsService {
        MetricsService {
            prometheus: self.clone(),
            before: None,
        }
    }
}

impl Default for Prometheus {
    fn default() -> Self {
        Self::new()
    }
}

/// The service of [`Prometheus::service`].
#[derive(Clone)]
pub struct MetricsService {
    prometheus: Prometheus,
    before: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl MetricsService {
    /// Runs `read` before each page: for gauges that nobody reports, as those which
    /// [`events::sample`](crate::events::sample) reads.
    ///
    /// ```
    /// use tower_chassis_core::Events;
    /// use tower_chassis_observe::{events, prometheus::Prometheus};
    ///
    /// let (prometheus, reports) = (Prometheus::new(), Events::new());
    /// let recorder = prometheus.recorder();
    /// let service = prometheus.service().before(move || events::sample(&reports, recorder.clone()));
    /// # let _ = service;
    /// ```
    #[must_use]
    pub fn before(self, read: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            before: Some(Arc::new(read)),
            ..self
        }
    }

    fn answer(&self, method: &Method) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allow);
            return response;
        }
        if let Some(read) = &self.before {
            read();
        }
        let page = self.prometheus.render();
        let length = HeaderValue::from(page.len());
        let head = *method == Method::HEAD;
        let mut response = Response::new(if head { Body::empty() } else { page.into() });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CONTENT_LENGTH, length);
        response
    }
}

impl<B> Service<Request<B>> for MetricsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method())))
    }
}

impl fmt::Debug for MetricsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsService").finish_non_exhaustive()
    }
}

/// There is a global recorder already.
#[derive(Clone, Copy, Debug)]
pub struct AlreadyInstalled {
    _private: (),
}

impl fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a global metrics recorder is already installed")
    }
}

impl std::error::Error for AlreadyInstalled {}
