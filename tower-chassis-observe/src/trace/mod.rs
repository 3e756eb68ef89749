//! Request spans, and the trace that goes with a call from service to service.
//!
//! A server reads `traceparent` and `tracestate` (W3C), a client writes them: the trace id stays, every hop
//! has a span id of its own. That works without a subscriber and whatever its filters say; the spans, of
//! `tracing`, are for those who listen.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_observe::trace::{ClientTraceLayer, TraceLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let client = ServiceBuilder::new().layer(ClientTraceLayer::new()).service(service_fn(
//!     async |request: Request<()>| {
//!         let header = request.headers()["traceparent"].to_str().unwrap();
//!         assert!(header.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
//!         Ok::<_, BoxError>(Response::new(Body::empty()))
//!     },
//! ));
//! let server = ServiceBuilder::new()
//!     .layer(TraceLayer::new())
//!     .service(service_fn(move |_: Request<()>| client.clone().oneshot(Request::new(()))));
//!
//! let request = Request::builder()
//!     .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
//!     .body(())
//!     .unwrap();
//! server.oneshot(request).await.unwrap();
//! # }
//! ```
//!
//! # Where the trace of a client's call comes from
//! From the `Invocation` of its request where there is one with a trace, else from the server's call that is
//! being polled ([`current`]), else from a `traceparent` that the request already has, else it is a new one. A
//! task of its own (`tokio::spawn`) has no current trace: put what [`current`] says, read before, into the
//! request with `request.invocation_mut().set_trace(…)`.
//!
//! # Telemetry
//! Target `tower_chassis::trace`, level `INFO`, span `request`; the fields are there when they are known:
//!
//! | field | |
//! |---|---|
//! | `otel.name` | `GET /users/{id}`; a client's and an unmatched one's `GET` |
//! | `otel.kind` | `server`, `client` |
//! | `trace_id`, `span_id`, `parent_span_id` | as they go over the wire |
//! | `http.request.method`, `url.path` | no query: it holds secrets |
//! | `http.route` | the template, at the end |
//! | `server.address`, `server.port`, `http.request.resend_count` | of a client's |
//! | `http.response.status_code`, `error.type` | as in [`metrics`](crate::metrics#telemetry) |
//! | `otel.status_code` | `ERROR` where it failed: 5xx of a server, 4xx too of a client; not where the caller left |
//!
//! # Configuration
//! [`TraceConfig`], live:
//!
//! | field | default | |
//! |---|---|---|
//! | `enabled` | true | off, the layer is not there: no span, no header read or written |
//! | `ratio` | none | the part of new traces that is sampled; without it every call has a span |
//!
//! ```
//! use tower_chassis_observe::trace::{Sampling, TraceLayer};
//!
//! let layer = TraceLayer::new().sampling(Sampling::ratio(0.01));
//! let handle = layer.handle();
//! handle.update(|config| config.ratio = None).unwrap(); // all of them, for the time of a search
//! assert_eq!((handle.calls(), handle.spans(), handle.in_flight()), (0, 0, 0));
//! ```
//!
//! # Events and metrics
//! None of its own; [`TraceLayer::handle`] counts calls and spans.
//!
//! # Order
//! A server's outside everything but what names the request and its client; a client's outermost for one span
//! per call, inside retry for one per attempt, or both.
//!
//! # Cancellation
//! The span ends with the body, or where the call is dropped, with `error.type = cancelled`.
//!
//! # Cost
//! Where nobody listens, a server's call costs the `Invocation` and no allocation (a `tracestate` one); a
//! client's the header's value, and both a count. With [`Sampling::ratio`] that holds for every trace that is not sampled.

#[macro_use]
mod tracer;
mod about;
mod b3;
mod baggage;
mod client;
mod current;
mod policy;
mod propagation;
mod sampler;
mod sampling;
mod server;
mod sink;
mod span;
mod w3c;
mod wall;

pub use self::{
    baggage::Baggage,
    client::{ClientTrace, ClientTraceLayer, ClientTraceService},
    current::{current, current_request_id},
    policy::{TraceConfig, TraceHandle, TracePolicy},
    propagation::Propagation,
    sampler::{AlwaysOff, AlwaysOn, Sampler},
    sampling::Sampling,
    server::{Trace, TraceLayer, TraceService},
    sink::{Attribute, FinishedSpan, SpanKind, SpanSink},
    span::TraceTicket,
};
pub use tower_chassis_core::trace::{SpanId, TraceContext, TraceId};
