//! Spans and metrics to a collector, by the protocol of OpenTelemetry (OTLP 1.x), over gRPC or HTTP.
//!
//! # Example
//! ```
//! use std::{sync::Arc, time::Duration};
//! use tower_chassis_observe::{
//!     otlp::{Otlp, OtlpConfig, OtlpPolicy},
//!     registry::Registry,
//! };
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let mut config = OtlpConfig::default().read_env()?;
//! config.service_name.get_or_insert_with(|| "shop".to_owned());
//! # config.disabled = true;
//! let (otlp, worker) = Otlp::new(OtlpPolicy::try_from(config)?);
//! tokio::spawn(worker);
//!
//! // `TraceLayer` and `ClientTraceLayer` get `otlp.spans()`, the layers of metrics a registry:
//! let registry = Arc::new(Registry::new());
//! otlp.record(Arc::clone(&registry));
//! otlp.metrics(move || registry.snapshot());
//! // The spans of the application, under those of its calls.
//! let subscriber = tracing_subscriber::registry().with(otlp.layer());
//! # let _subscriber = tracing::subscriber::set_default(subscriber);
//! // Says what would be lost without a word.
//! for misfit in otlp.check().await {
//!     eprintln!("{misfit}");
//! }
//!
//! // … serve, until the servers have drained …
//! otlp.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # How it works
//! A span that is over goes into a bounded queue, which never blocks. The [`Worker`], a future on the runtime of the
//! application, makes messages of what is there and sends them, one after the other: when a batch is full, every 5 s, and
//! when [flushed](Otlp::flush). Metrics are read and sent every 60 s, and with each flush: they are sums from the start
//! on, so what is lost of one message is in the next.
//!
//! A message that is not taken is sent again if OTLP allows it for the status (`UNAVAILABLE`, 429, 502, 503, 504 …), at
//! random within a wait that doubles from 100 ms to 5 s, or after the time that the collector gives (`RetryInfo`,
//! `Retry-After`), until [`timeout`](OtlpConfig::timeout) is over. Then it is lost. After a message that nobody answered at all
//! the next one goes over another connection: the old one may lead nowhere without having been closed.
//!
//! A message has at most 4 MiB, which is what servers of gRPC take; more goes in parts, and so does what is too large for who
//! stands before a collector (413). One span that is larger alone is sent as it is.
//!
//! # Configuration
//! [`OtlpConfig`]; [`read_env`](OtlpConfig::read_env) takes what is set of these. A value that cannot be is an error which
//! names the variable, never a default.
//!
//! | field | default | variable |
//! |---|---|---|
//! | `disabled` | false | `OTEL_SDK_DISABLED` |
//! | `endpoint` | `http://localhost:4317`, over HTTP `http://localhost:4318` | `OTEL_EXPORTER_OTLP_ENDPOINT` |
//! | `protocol` | `grpc` | `OTEL_EXPORTER_OTLP_PROTOCOL`: `grpc`, `http/protobuf` |
//! | `headers` | none | `OTEL_EXPORTER_OTLP_HEADERS`: `a=1,b=two%20words` |
//! | `timeout` | 10 s | `OTEL_EXPORTER_OTLP_TIMEOUT`, ms |
//! | `compression` | `none` | `OTEL_EXPORTER_OTLP_COMPRESSION`: `none`, `gzip` (feature `compress`) |
//! | `traces.…`, `metrics.…` | as above | `OTEL_EXPORTER_OTLP_TRACES_…`, `OTEL_EXPORTER_OTLP_METRICS_…` |
//! | `traces.disabled`, `metrics.disabled` | false | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`: `otlp`, `none` |
//! | `service_name` | `unknown_service:` and the executable | `OTEL_SERVICE_NAME`, or in the next one |
//! | `service_version`, `resource` | none | `OTEL_RESOURCE_ATTRIBUTES`: `a=1,b=2` |
//! | `queue` | 2,048 spans | `OTEL_BSP_MAX_QUEUE_SIZE` |
//! | `batch` | 512 spans | `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` |
//! | `every` | 5 s | `OTEL_BSP_SCHEDULE_DELAY`, ms |
//! | `metrics_every` | 60 s | `OTEL_METRIC_EXPORT_INTERVAL`, ms |
//!
//! `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` and `…_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` may say what there is,
//! `cumulative` and `explicit_bucket_histogram`; another value is an error, since its metrics would be read wrongly.
//! `OTEL_BSP_EXPORT_TIMEOUT` and `OTEL_METRIC_EXPORT_TIMEOUT` make the timeout of their signal shorter. The sampler is that
//! of [`TraceLayer`](crate::trace::TraceLayer): [`TraceConfig::read_env`](crate::trace::TraceConfig::read_env) reads
//! `OTEL_TRACES_SAMPLER`. With everything goes the resource:
//! `service.name`, `service.version`, a random `service.instance.id`, `telemetry.sdk.*`, and what `resource` says. Nothing
//! is said of the host or the process by itself.
//!
//! `https` needs the feature `otlp-tls`, or a client of one's own by [`Otlp::with_client`]. It speaks TLS 1.3 and trusts
//! whom the platform trusts; elsewhere than on macOS and Windows `SSL_CERT_FILE` names others, a CA of one's own.
//! `OTEL_EXPORTER_OTLP_CERTIFICATE` and its like are not read.
//!
//! # Spans of the application
//! [`Otlp::layer`] takes those that are made with `tracing`, [`Otlp::provider`] those of OpenTelemetry's own interface;
//! [`Otlp::install`] makes it the global one. They are under the span of the call that is being polled, whatever the filter
//! of the subscriber says of that one, and as sampled as it. That needs one and the same version of `opentelemetry` (0.33)
//! and of `tracing-opentelemetry` (0.34) in an application: another one compiles and sends nothing. [`Otlp::check`] finds
//! that. A layer of traces that was told [`expects_export`](crate::trace::TraceLayer::expects_export) warns where nobody takes
//! its spans at all: `TraceLayer::new().expects_export()` in every service, and
//! `TraceLayer::new().sink(otlp.spans()).expects_export()` in those that send.
//!
//! # Events and metrics
//! [`Otlp::span_tally`] and [`Otlp::metric_tally`] count to the one what was sent and lost; [`Otlp::record`] puts the losses
//! into a recorder, as `chassis_telemetry_lost_total` with the label `signal` (`span`, `metric`). A loss is logged at most
//! once a minute, as a warning of the target `tower_chassis::otlp`.
//!
//! # Order
//! Drain the servers, then [`shutdown`](Otlp::shutdown), then exit: before, the last calls have not ended. Where our own
//! servers serve, `otlp.shutdown_after(&drain, Duration::from_secs(5))` (feature `server`) says it once, ahead.
//!
//! # Cancellation
//! A flush that is dropped is done nevertheless, and a shutdown too. Any number may shut down, at once or later: all of them
//! hear the same. A [`Worker`] that is dropped sends nothing more: what waits, and what was
//! under way, is counted as lost, also if the collector has it, and a warning says so: that is an application which exits
//! without a shutdown.
//!
//! # Cost
//! A span is moved into the queue, without a lock; it wakes the worker once per batch. Where an application has no layer
//! and no provider from here, a poll of a call costs nothing; else the context is attached, which is one allocation for
//! each poll of a sampled call.
//!
//! # What is not here
//! Logs, exemplars, `http/json`, exponential histograms, delta temporality. No exporter for Zipkin or Jaeger: both take OTLP,
//! as every collector does.

mod check;
mod config;
mod deliver;
mod env;
mod envelope;
mod handle;
mod message;
mod processor;
mod queue;
mod resource;
#[cfg(test)]
mod tests;
mod worker;

pub use self::{
    check::Misfit,
    config::{Compression, OtlpConfig, OtlpPolicy, Protocol, SignalConfig},
    handle::{FlushError, Otlp, OtlpSpans, Tally},
    worker::Worker,
};
