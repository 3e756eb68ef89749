//! Request spans, and the trace that goes with a call from service to service.
//!
//! A server reads the trace of its callers from the headers, a client writes it: the trace id stays, every hop has a
//! span id of its own. That works without a subscriber and whatever its filters say. The spans themselves go to
//! `tracing`, for those who listen, and to a [`SpanSink`], with the very ids that went over the wire.
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
//! # Headers
//! By default those of the W3C alone, `traceparent` and `tracestate`; [`Propagation`] says others:
//!
//! | | read | written |
//! |---|---|---|
//! | [`Propagation::w3c`] | `traceparent`, `tracestate` | the same |
//! | [`b3_single`](Propagation::b3_single) | `b3`; `x-b3-traceid`, `-spanid`, `-sampled`, `-flags` | `b3` |
//! | [`b3_multi`](Propagation::b3_multi) | the same | `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` |
//! | [`and_w3c`](Propagation::and_w3c), [`and_b3`](Propagation::and_b3), [`and_b3_multi`](Propagation::and_b3_multi) | both | both |
//!
//! What breaks the rules is as if it were not there: a wrong `traceparent` begins a new trace. Trace ids of 64 bits are
//! filled up with zeros. B3 may leave the decision whether to record to who is called (there is no flag), or tell it
//! without a trace (`b3: 0`); its debug flag is taken as sampled. What a request has in other formats stays in it: a
//! proxy that must not pass them on takes them away.
//!
//! `baggage` is read into the [`Invocation`](tower_chassis_core::Invocation::baggage), at most 64 members and 8,192 bytes
//! of it, and written where a call carries it: [`Invocation::carry`](tower_chassis_core::Invocation::carry) takes it
//! along, the current trace does not, so that it does not go to strangers. [`Baggage`] reads and changes it;
//! `.baggage(false)` leaves it alone, on either side. It is in no span and no log.
//!
//! # Sampling
//! [`Sampling`] decides for traces that begin here, by their id, so that services with one ratio agree; for the others
//! who began them has decided. A [`Sampler`] of your own is asked for every call.
//!
//! # Spans
//! A [`SpanSink`] gets a [`FinishedSpan`] for every call of a sampled trace, when its body has ended, it was left, or it
//! panicked. A sink that panics does not hurt the call. Attributes are those of OpenTelemetry's conventions:
//!
//! | attribute | |
//! |---|---|
//! | `http.request.method`, `http.request.method_original` | an unknown one is `_OTHER`, and as it was |
//! | `http.route` | the template, of a server's: our router's, or axum's (feature `axum`) |
//! | `http.response.status_code` | |
//! | `http.request.resend_count` | of a client's further attempts: 1, 2 … |
//! | `url.scheme`, `url.path`, `url.full` (a client's) | no query, no password, no parameter of the path (`;jsessionid=x`) that is [secret](crate::access_log::redact#what-is-secret) |
//! | `server.address`, `server.port` | from the URI, else `Host`; a client without either: its service |
//! | `client.address` | of a server's: the peer, or what a layer that trusts its proxies found |
//! | `user_agent.original`, `network.protocol.version` | the version of a client's only where its request asks for another than 1.1: the connection decides |
//! | `rpc.system.name`, `rpc.method`, `rpc.response.status_code` | a gRPC call has these instead of `http.…` and `url.…` |
//! | `error.type` | as in [`metrics`](crate::metrics#telemetry) |
//!
//! The name is `GET /users/{id}`, `GET` where no route matched and of a client's, `HTTP` of an unknown method, and
//! `package.Service/Method` of gRPC's: of a served one only if the method was found (a route has it, or it answered with
//! another status than `UNIMPLEMENTED`, `PERMISSION_DENIED` and `UNAUTHENTICATED`, which are said of any), else `grpc`, because
//! anybody can call any path. A server's 5xx is an error, a client's 4xx too; a caller that left is nobody's failure.
//!
//! # Silent loss
//! The classic fault is that everything is set up and no span arrives. A layer that was told
//! [`expects_export`](TraceLayer::expects_export) warns, once, when a sampled trace has neither a sink nor a listener,
//! and counts such calls in [`TraceHandle::lost`].
//!
//! # Telemetry
//! For who listens to `tracing`: target `tower_chassis::trace`, level `INFO`, span `request`, with the attributes above
//! (but for `url.full`) as fields, and
//!
//! | field | |
//! |---|---|
//! | `otel.name`, `otel.kind` | the name; `server`, `client` |
//! | `otel.status_code` | `ERROR` where it failed |
//! | `trace_id`, `span_id`, `parent_span_id` | as they go over the wire |
//!
//! # Configuration
//! [`TraceConfig`], live:
//!
//! | field | default | |
//! |---|---|---|
//! | `enabled` | true | off, the layer is not there: no span, no header read or written |
//! | `ratio` | none | the part of new traces that is sampled; without it every call has a span |
//! | `trust` | true | off, a server begins a trace of its own and takes away what its caller says of one, baggage too: where anybody may call |
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
//! What says how a service is built is said to the layer: `sink`, `sampler`, `propagation`, `baggage`, `scheme`,
//! `expects_export`.
//!
//! # Events and metrics
//! None of its own; [`TraceLayer::handle`] counts calls, spans, and what was lost.
//!
//! # Order
//! A server's outside everything but what names the request and its client; a client's outermost for one span
//! per call, inside retry for one per attempt, or both.
//!
//! # Cancellation
//! The span ends with the body, or where the call is dropped, with `error.type = cancelled`.
//!
//! # Cost
//! Where nobody listens, a server's call costs the `Invocation` and no allocation (`tracestate` and `baggage` one each); a
//! client's the header's value, and both a count, and no reading of the clock. With [`Sampling::ratio`] that holds for
//! every trace that is not sampled. What is held meanwhile are 24 bytes, and what they point at, in places that are used
//! again. So is a span that somebody takes: it allocates nothing either, unless path, host and user agent are longer than 200 bytes together: what a span tells is copied, because a slice would keep the buffer that the request
//! was read into for as long as the span waits to be sent.

#[macro_use]
mod tracer;
mod about;
mod b3;
mod baggage;
mod client;
mod current;
mod env;
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
