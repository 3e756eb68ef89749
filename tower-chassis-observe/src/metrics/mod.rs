//! HTTP metrics under OpenTelemetry's names, and metrics of calls of any protocol, through the `metrics` facade.
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
//! No event is reported.
//!
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
//! * `server_address` is the service of the call where one is named, else the host of the URI; after
//!   [`MetricsConfig::names`] of them the next ones share `_OTHER`. A `timeout`, `unreachable` or `refused` call of a client has no status.
//!
//! # Calls that are not HTTP
//! [`CallMetricsLayer`] measures any call whose request is a [`Carrier`](tower_chassis_core::Carrier) and whose
//! response has an [`Outcome`](tower_chassis_core::verdict::Outcome), at a client or a server:
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `chassis_call_duration_seconds` | histogram, s | `service`, `operation`, `outcome` |
//! | `chassis_calls_active` | gauge | `service` |
//!
//! * `service` is what [`CallMetricsLayer::service`] says, else the service that the call's `Invocation` names,
//!   else `unknown`. `operation` is [`Carrier::operation`](tower_chassis_core::Carrier::operation), `unknown` if
//!   it is empty. Beyond [`MetricsConfig::names`] services, and operations of each, the next ones share `_OTHER`.
//! * `outcome` is the class of the verdict: `success`, `client-fault`, `failure`, `timeout`, `unreachable`,
//!   `rate-limited`, `cancelled`, `refused`.
//! * It judges at the head, because the response may be anything; `.until_end()` is for HTTP.
//!
//! ```
//! use std::borrow::Cow;
//!
//! use http::Extensions;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{BoxError, Carrier, verdict::Outcome};
//! use tower_chassis_observe::metrics::CallMetricsLayer;
//!
//! struct Ask { word: String, extensions: Extensions }
//! struct Answer(String);
//!
//! impl Carrier for Ask {
//!     fn extensions(&self) -> &Extensions { &self.extensions }
//!     fn extensions_mut(&mut self) -> &mut Extensions { &mut self.extensions }
//!     fn operation(&self) -> Cow<'_, str> { "define".into() }
//! }
//! impl Outcome for Answer {}
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let metrics = CallMetricsLayer::new().service("dictionary");
//! let handle = metrics.handle();
//! let service = ServiceBuilder::new()
//!     .layer(metrics)
//!     .service(service_fn(async |ask: Ask| Ok::<_, BoxError>(Answer(ask.word))));
//! let ask = Ask { word: "tower".into(), extensions: Extensions::new() };
//! assert_eq!(service.oneshot(ask).await?.0, "tower");
//! assert_eq!((handle.calls(), handle.in_flight()), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//! [`MetricsConfig`], live, the same for the three layers. A change reaches calls that begin after it.
//!
//! | field | default | |
//! |---|---|---|
//! | `durations` | true | the histograms |
//! | `active` | true | the gauges |
//! | `names` | 256 | servers of a client, services and operations of a call that have series of their own |
//!
//! With `durations` and `active` off, a call costs one load.
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
//! The first call of a series makes its handle; all others load it: no lock, no hash, no allocation (but that of
//! an operation that is made for the call). Two counts a call for the layer's own handle. The
//! handles of a route table are kept while it is one of the last sixteen that were seen.

mod call;
mod client;
mod describe;
mod known;
mod peers;
mod policy;
mod recorder;
mod routes;
mod series;
mod server;

pub(crate) use self::{
    client::server_of,
    describe::{describe_to, names},
};
/// The label of all names beyond a bound.
const OTHER: &str = "_OTHER";

pub use self::{
    call::{CallMetrics, CallMetricsLayer, CallMetricsService, CallTicket},
    client::{ClientMetrics, ClientMetricsLayer, ClientMetricsService, ClientTicket},
    describe::describe,
    policy::{MetricsConfig, MetricsHandle, MetricsPolicy},
    recorder::RecorderHandle,
    server::{ServerMetrics, ServerMetricsLayer, ServerMetricsService, ServerTicket},
};
