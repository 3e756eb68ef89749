//! Metrics, traces and access logs as tower layers.
//!
//! Every observer is a [`Layer`](tower_layer::Layer) of its own; [`ObserveLayer`] makes one layer of several.
//! All of them are told once how a call ended, at the end of its body, also when its caller left or its
//! handler panicked; and all of them name the route by its template, which the router leaves in the
//! [`Invocation`](tower_chassis_core::Invocation).
//!
//! | module | layers | writes |
//! |---|---|---|
//! | [`metrics`](mod@metrics) | [`ServerMetricsLayer`](metrics::ServerMetricsLayer), [`ClientMetricsLayer`](metrics::ClientMetricsLayer) | OpenTelemetry's metrics of HTTP and gRPC, to the `metrics` facade |
//! | | [`CallMetricsLayer`](metrics::CallMetricsLayer) | metrics of calls of any protocol |
//! | [`trace`] | [`TraceLayer`](trace::TraceLayer), [`ClientTraceLayer`](trace::ClientTraceLayer) | spans, to `tracing` and to a sink; `traceparent`, B3, `baggage` |
//! | [`access_log`] | [`AccessLogLayer`](access_log::AccessLogLayer) | one line per request |
//! | | [`ExcerptLayer`](access_log::ExcerptLayer) | pieces of headers and bodies, for that line |
//! | [`health`] | [`HeartbeatLayer`](health::HeartbeatLayer) | liveness, readiness, start-up; gRPC's health protocol |
//! | [`events`] | – | what breakers, retries and limits report; [`Sse`](events::Sse), the same as a stream |
//! | [`audit`] | [`AuditLayer`](audit::AuditLayer), [`LosslessAuditLayer`](audit::LosslessAuditLayer) | a record of who asked for what |
//! | [`registry`] | – | holds what was measured, for whoever reads it |
//! | [`prometheus`] | – | the text that Prometheus scrapes |
//! | `otlp` (feature) | – | spans and metrics to a collector of OpenTelemetry |
//! | [`output`] | – | lines to a file that rolls, a terminal or a writer, without anybody waiting |
//! | `log` (feature) | – | what the application logs with `tracing` |
//! | [`runtime`], [`process`] | – | what tokio's runtime, the allocator and the process do |
//! | `profile` (feature) | – | CPU profiles in pprof's format |
//! | `vcr` (feature) | `VcrLayer` | the calls of a client, to be given again in tests |
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_observe::{
//!     ObserveLayer,
//!     access_log::{self, AccessLogLayer, Format},
//!     metrics::ServerMetricsLayer,
//!     trace::TraceLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let observe = ObserveLayer::new((
//!     TraceLayer::new(),
//!     AccessLogLayer::new(Format::Json, access_log::stdout()),
//!     ServerMetricsLayer::new(),
//! ));
//! let service = ServiceBuilder::new()
//!     .layer(observe)
//!     .service(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Body::empty()))));
//! let response = service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), 200);
//! # }
//! ```
//!
//! # Order
//! Outside `RescueLayer` and everything that can refuse, so that what they answer is counted; inside the
//! layers that name the request and its client. In the tuple: trace first, because the log reads its id.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod observe;
mod fault;
mod method;
mod route;
mod streaming;
mod tally;

pub mod access_log;
pub mod audit;
pub mod events;
pub mod health;
#[cfg(feature = "log")]
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod output;
pub mod process;
#[cfg(feature = "profile")]
#[cfg_attr(docsrs, doc(cfg(feature = "profile")))]
pub mod profile;
pub mod prometheus;
pub mod registry;
pub mod runtime;
pub mod trace;
#[cfg(feature = "vcr")]
#[cfg_attr(docsrs, doc(cfg(feature = "vcr")))]
pub mod vcr;

pub use observe::ObserveLayer;
