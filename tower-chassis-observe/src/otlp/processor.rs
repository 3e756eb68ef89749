//! The spans that an application makes itself, with `tracing` or OpenTelemetry's own interface.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
        TracerProvider,
    },
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{
        SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData,
        SpanProcessor,
    },
};
use tower_chassis_core::trace::TraceContext;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::{
    handle::{Commands, Otlp},
    message::Item,
    queue::Queue,
};

/// The name of the span with which `check` looks where spans go; it is never sent.
pub(super) const PROBE: &str = "tower_chassis_probe";

/// Spans of these are not the application's, and some of them come from sending.
const NOT_THEIRS: [&str; 8] = [
    "tower_chassis::trace",
    "tower_chassis::otlp",
    "opentelemetry",
    "h2",
    "hyper",
    "hyper_util",
    "tonic",
    "rustls",
];

/// Runs a poll under the span `at`.
pub(super) fn within(at: &TraceContext, state: Option<&str>, poll: &mut dyn FnMut()) {
    let context = SpanContext::new(
        TraceId::from_bytes(at.trace_id().to_bytes()),
        SpanId::from_bytes(at.span_id().to_bytes()),
        if at.is_sampled() {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        },
        false,
        state
            .and_then(|state| TraceState::from_str(state).ok())
            .unwrap_or_default(),
    );
    let _attached = Context::map_current(|cx| cx.with_remote_span_context(context)).attach();
    poll();
}

impl Otlp {
    /// A layer of `tracing-subscriber` that sends the spans of an application, of level `INFO` and above. Under a call
    /// that [`OtlpSpans`](super::OtlpSpans) sends they are parts of its span; under one that is not sampled they are not
    /// sent either.
    ///
    /// The spans of [`trace`](crate::trace) are left out, and those of what sends.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        self.layer_at(LevelFilter::INFO)
    }

    /// The same down to another level.
    pub fn layer_at<S>(&self, level: LevelFilter) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        self.0.probe.layered.store(true, Relaxed);
        let tracer = self.provider().tracer(env!("CARGO_PKG_NAME"));
        let theirs = filter_fn(move |metadata| *metadata.level() <= level && is_theirs(metadata));
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(theirs.with_max_level_hint(level))
    }

    /// The provider of tracers, for an application that uses OpenTelemetry's own interface. Its spans go the same way, in
    /// the same queue; its own `force_flush` and `shutdown` wait for nothing: [`Otlp::flush`] does.
    pub fn provider(&self) -> SdkTracerProvider {
        let make = || {
            SdkTracerProvider::builder()
                .with_sampler(AsTheCall(Arc::clone(&self.0.probe)))
                .with_span_processor(Processor {
                    queue: self.0.shared.queue.clone(),
                    _commands: Arc::clone(&self.0.commands),
                })
                .build()
        };
        self.0.provider.get_or_init(make).clone()
    }

    /// Makes [`provider`](Self::provider) the global one of `opentelemetry`, and W3C's headers (`traceparent`,
    /// `tracestate`, `baggage`) its propagator: for libraries that use these.
    pub fn install(&self) {
        opentelemetry::global::set_tracer_provider(self.provider());
        opentelemetry::global::set_text_map_propagator(
            opentelemetry::propagation::TextMapCompositePropagator::new(vec![
                Box::new(TraceContextPropagator::new()),
                Box::new(BaggagePropagator::new()),
            ]),
        );
        self.0.probe.installed.store(true, Relaxed);
    }
}

fn is_theirs(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    !NOT_THEIRS.iter().any(|not| {
        target
            .strip_prefix(not)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
    })
}

/// Which probes came, and what is expected of them.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// How many came to our sampler.
    pub(super) seen: AtomicU64,
    /// Whether the global provider is to be ours.
    pub(super) installed: AtomicBool,
    /// Whether a layer was made.
    pub(super) layered: AtomicBool,
}

/// What is under a call is sampled as the call is, and what is under none is.
#[derive(Clone, Debug)]
struct AsTheCall(Arc<Probe>);

impl ShouldSample for AsTheCall {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let span = parent.map(|parent| parent.span().span_context().clone());
        let span = span.filter(SpanContext::is_valid);
        let sampled = match &span {
            Some(span) => span.is_sampled(),
            // A sink is told only of sampled calls.
            None => crate::trace::current().is_none_or(|call| call.is_sampled()),
        };
        let probe = name == PROBE;
        if probe {
            self.0.seen.fetch_add(1, Relaxed);
        }
        SamplingResult {
            decision: if sampled && !probe {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            },
            attributes: Vec::new(),
            trace_state: span.map_or_else(TraceState::default, |span| span.trace_state().clone()),
        }
    }
}

/// Puts spans of the SDK into the queue.
struct Processor {
    queue: Option<Arc<Queue>>,
    /// The worker goes on as long as there is one.
    _commands: Commands,
}

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if let Some(queue) = &self.queue
            && span.span_context.is_sampled()
        {
            queue.put(Item::Theirs(Box::new(span)));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        if let Some(queue) = &self.queue {
            queue.bell.notify_one();
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.force_flush()
    }
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Processor")
    }
}
