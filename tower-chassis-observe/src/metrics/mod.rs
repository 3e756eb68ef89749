//! HTTP metrics under OpenTelemetry's names, through the `metrics` facade.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_observe::metrics::ServerMetricsLayer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(ServerMetricsLayer::new())
//!     .service(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Body::empty()))));
//! service.oneshot(Request::new(())).await.unwrap();
//! # }
//! ```
//! The global recorder must be there before the first call: what was made for none stays for none. A test
//! gives its layer a recorder of its own with `.recorder(…)`.
//!
//! # Telemetry
//! | metric | in Prometheus | kind | labels |
//! |---|---|---|---|
//! | `http.server.request.duration` | `http_server_request_duration_seconds` | histogram, s | `http_request_method`, `url_scheme`, `network_protocol_version`, `http_route`, `http_response_status_code`, `error_type` |
//! | `http.server.active_requests` | `http_server_active_requests` | gauge | `http_request_method`, `url_scheme` |
//! | `http.client.request.duration` | `http_client_request_duration_seconds` | histogram, s | `http_request_method`, `server_address`, `server_port`, `http_response_status_code`, `error_type` |
//! | `http.client.active_requests` | `http_client_active_requests` | gauge | `http_request_method`, `server_address`, `server_port` |
//!
//! * The duration is that until the head of the response; it is recorded at the end of the body, when the
//!   labels are known: a gRPC call by its trailers, a body that broke as a failure. Requests are its count.
//! * `http_route` is the template (`/users/{id}`), `unmatched` where no route matched, never the path. An
//!   unknown method is `_OTHER`. So nobody can make series by sending requests.
//! * `http_response_status_code` is left out where there was no response, `error_type` where there was no
//!   error. `error_type` is the status (`503`; for the client 4xx too), the gRPC status (`UNAVAILABLE`),
//!   `timeout`, `unreachable`, `refused` (by a layer of ours), `cancelled` (the caller left) or `_OTHER` (an
//!   error, a panic, a broken body).
//! * `server_address` is the service of the call where one is named, else the host of the URI; after 256 of
//!   them the next ones share `_OTHER`. A `timeout`, `unreachable` or `refused` call of a client has no status.
//!
//! # Order
//! A server's outside `RescueLayer`, so that its answers are counted, and outside the router. A client's
//! outside retry for calls, inside it for attempts.
//!
//! # Cancellation
//! A call whose future or body is dropped is recorded as `cancelled`, with the route if it had matched, and
//! the gauge goes back. A panic is recorded as `_OTHER`.
//!
//! # Cost
//! The first call of a series makes its handle; all others load it: no lock, no hash, no allocation. The
//! handles of a route table are kept while it is one of the last sixteen that were seen.

mod client;
mod describe;
mod peers;
mod recorder;
mod routes;
mod series;
mod server;

pub(crate) use self::{client::server_of, describe::names};
pub use self::{
    client::{ClientMetrics, ClientMetricsLayer, ClientMetricsService, ClientTicket},
    describe::describe,
    recorder::RecorderHandle,
    server::{ServerMetrics, ServerMetricsLayer, ServerMetricsService, ServerTicket},
};
