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
//! [`Registry`](crate::registry::Registry) is a recorder that holds what is measured, and
//! [`Prometheus`](crate::prometheus::Prometheus) serves it; any other of the `metrics` facade will do.
//!
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
//! | `http.server.request.body.size`, `http.server.response.body.size` | `http_server_request_body_size_bytes`, … | histogram, bytes | those of `http.server.request.duration` |
//! | `http.client.request.body.size`, `http.client.response.body.size` | `http_client_request_body_size_bytes`, … | histogram, bytes | those of `http.client.request.duration` |
//! | `rpc.server.call.duration` | `rpc_server_call_duration_seconds` | histogram, s | `rpc_system_name`, `rpc_method`, `rpc_response_status_code`, `error_type` |
//! | `rpc.client.call.duration` | `rpc_client_call_duration_seconds` | histogram, s | the same, `server_address`, `server_port` |
//!
//! * The duration is that until the head of the response; it is recorded at the end of the body, when the
//!   labels are known: a gRPC call by its trailers, a body that broke as a failure. Requests are its count.
//! * `http_route` is the template (`/users/{id}`), `unmatched` where no route matched, never the path. An
//!   unknown method is `_OTHER`. So nobody can make series by sending requests.
//!   The template is that of our router, else, with the feature `axum`, axum's `MatchedPath`, which a layer sees under
//!   `Router::layer` or `route_layer`. Around the whole of an axum router, and in what `nest_service` mounts, axum has none to
//!   tell: `unmatched`. After a thousand templates of axum the next ones are `_OTHER`.
//! * `http_response_status_code` is left out where there was no response, `error_type` where there was no
//!   error. `error_type` is the status (`503`; for the client 4xx too), the gRPC status (`UNAVAILABLE`),
//!   `timeout`, `unreachable`, `refused` (by a layer of ours), `cancelled` (the caller left) or `_OTHER` (an
//!   error, a panic, a broken body).
//! * `server_address` is the service of the call where one is named, else the host of the URI; after
//!   [`MetricsConfig::names`] of them the next ones share `_OTHER`. A `timeout`, `unreachable` or `refused` call of a client has no status.
//!
//! * The size of a request is its `content-length`, else what a server of ours has received; under others, and at a client,
//!   one that does not say how long it is is not measured, unless its method or HTTP/1 says that there is no body. The size of
//!   a response is what passed until its end, or until it was left; where there was none, or it is judged
//!   [at the head](ServerMetricsLayer::until_head), nothing is measured.
//!
//! # Calls of gRPC
//! A `POST` whose content type is gRPC's is one call, measured as `rpc.*.call.duration` and not as a duration of HTTP, until the
//! end of its body, where its status is. What is active and how large bodies are is counted of both.
//!
//! * `rpc_method` is `package.Service/Method`, from the path. A method has series of its own once a call of it was served: one
//!   that ended as `UNIMPLEMENTED`, `UNAUTHENTICATED` or `PERMISSION_DENIED`, was refused or left does not tell that there is such a method,
//!   and is `_OTHER` until then; so are those after the first [`MetricsConfig::names`]. So nobody can make series by calling.
//! * `rpc_response_status_code` is the name (`OK`, `NOT_FOUND`), left out where the call ended without one. `error_type` is as above;
//!   for a server, what was the caller's fault is no error.
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
//! | `sizes` | true | the histograms of body sizes |
//! | `rpc` | true | calls of gRPC are measured as such |
//! | `names` | 256 | servers of a client, methods of gRPC, services and operations of a call that have series of their own |
//!
//! With `durations`, `active` and `sizes` off, a call costs one load.
//!
//! # Order
//! A server's outside `RescueLayer`, so that its answers are counted, and outside the router. A client's
//! outside retry for calls, inside it for attempts.
//!
//! # Cancellation
//! A call whose future or body is dropped is recorded as `cancelled`, with the route if it had matched, and
//! the gauge goes back. A panic is recorded as `_OTHER`.
//!
//! A recorder that panics costs what it was told, and never a call.
//!
//! # Cost
//! The first call of a series makes its handle; all others load it: no lock, no hash, no allocation (but that of
//! an operation that is made for the call, or of a method of gRPC that is not known). What a call of HTTP holds meanwhile is 80
//! bytes, with the feature `axum` 96. Two counts a call for the layer's own handle. The
//! handles of a route table are kept while it is one of the last sixteen that were seen.

mod call;
mod client;
mod describe;
mod known;
mod peers;
mod policy;
mod progress;
mod recorder;
mod routes;
mod rpc;
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
