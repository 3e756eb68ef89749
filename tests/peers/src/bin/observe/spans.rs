//! What a span costs: unheard, sampled out, sampled.

use std::{
    convert::Infallible,
    hint::black_box,
    task::{Context as Polled, Poll},
    time::Duration,
};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue, global,
    propagation::{Extractor, TextMapPropagator},
    trace::{FutureExt, Span as _, SpanKind, TraceContextExt, Tracer, TracerProvider, WithContext},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanProcessor},
};
use tower::{Layer, Service};
use tower_chassis::{Carrier, invocation::RouteSlot};
use tower_chassis_observe::trace::{AlwaysOff, FinishedSpan, Sampling, SpanSink, TraceLayer};
use tower_chassis_peers::bench::Case;
use tracing::{Instrument, Span, field, instrument::Instrumented, subscriber::NoSubscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::world::{Answer, Around, End, Ended, FLOOR, Get, Matched, Read, get};

/// Takes spans and lets them go.
#[derive(Debug)]
struct Nothing;

impl SpanProcessor for Nothing {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}
    fn on_end(&self, span: SpanData) {
        drop(black_box(span));
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl SpanSink for Nothing {
    fn surrounds(&self) -> bool {
        false
    }
    fn ended(&self, span: FinishedSpan) {
        drop(black_box(span));
    }
}

/// Looks at everything that a span tells before it lets it go: theirs has it in a list by then, ours tells it when it is asked.
pub(crate) struct Looks;

impl SpanSink for Looks {
    fn surrounds(&self) -> bool {
        false
    }
    fn ended(&self, span: FinishedSpan) {
        black_box(span.name());
        span.attributes(&mut |name, value| {
            black_box((name, value));
        });
    }
}

/// OpenTelemetry's own tracer.
fn sdk(sampler: Sampler) -> SdkTracer {
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_span_processor(Nothing)
        .build();
    provider.tracer("peers")
}

/// Whoever listens to `tracing`, but for our layers, is heard by the tracer.
pub(crate) fn heard() {
    let spans = tracing_opentelemetry::layer()
        .with_tracer(sdk(Sampler::AlwaysOn))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    let ours = Targets::new()
        .with_target("tower_chassis", tracing::level_filters::LevelFilter::OFF)
        .with_default(tracing::Level::INFO);
    tracing_subscriber::registry().with(ours).with(spans).init();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// What is known of a request when it comes.
fn attributes(request: &Get) -> [KeyValue; 4] {
    let path = request.uri().path().to_owned();
    [
        KeyValue::new("http.request.method", "GET"),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("url.path", path),
        KeyValue::new("user_agent.original", agent(request).to_owned()),
    ]
}

fn agent(request: &Get) -> &str {
    request.headers()["user-agent"].to_str().unwrap()
}

fn template(route: &RouteSlot) -> &str {
    route.get().map_or("", |route| route.template())
}

/// The tracer as it is, and no layer.
fn sdk_alone(tracer: SdkTracer) -> impl FnMut(&mut Get) -> fn(&Answer) + Clone {
    move |request| {
        let builder = tracer.span_builder("GET /users/{id}");
        let builder = builder.with_kind(SpanKind::Server);
        let mut span = builder.start_with_context(&tracer, &Context::new());
        if span.is_recording() {
            span.set_attributes(attributes(request));
            span.set_attribute(KeyValue::new("http.response.status_code", 200));
            span.set_attribute(KeyValue::new("http.route", "/users/{id}"));
        }
        span.end();
        |_| ()
    }
}

/// The tracer as a layer has it: reads the caller's trace, and makes the span the current one.
#[derive(Clone, Debug)]
struct Traced<S>(S, SdkTracer, TraceContextPropagator);

struct SpanEnds(Context, RouteSlot);

impl End for SpanEnds {
    fn end(self, answer: &Answer) {
        let span = self.0.span();
        if span.is_recording() {
            let status = i64::from(answer.status().as_u16());
            let route = template(&self.1);
            span.update_name(format!("GET {route}"));
            span.set_attribute(KeyValue::new("http.response.status_code", status));
            span.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
        span.end();
    }
}

impl<S> Service<Get> for Traced<S>
where
    S: Service<Get, Response = Answer, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Ended<WithContext<S::Future>, SpanEnds>;

    fn poll_ready(&mut self, context: &mut Polled<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }
    fn call(&mut self, mut request: Get) -> Self::Future {
        let parent = self.2.extract(&Headers(request.headers()));
        let builder = self.1.span_builder("GET").with_kind(SpanKind::Server);
        let mut span = builder.start_with_context(&self.1, &parent);
        if span.is_recording() {
            span.set_attributes(attributes(&request));
        }
        let context = parent.with_span(span);
        let route = request.invocation_mut().route_slot();
        let inner = {
            let _entered = context.clone().attach();
            self.0.call(request)
        };
        Ended {
            inner: inner.with_context(context.clone()),
            end: Some(SpanEnds(context, route)),
        }
    }
}

/// A span of `tracing`, with six attributes.
macro_rules! request_span {
    ($request:expr) => {
        tracing::info_span!(
            "request",
            otel.kind = "server",
            otel.name = field::Empty,
            http.request.method = "GET",
            http.response.status_code = field::Empty,
            http.route = field::Empty,
            url.scheme = "http",
            url.path = $request.uri().path(),
            user_agent.original = agent($request),
        )
    };
}

/// The same of `tracing`, for who exports it.
fn tracing_alone(request: &mut Get) -> fn(&Answer) {
    let span = request_span!(request);
    span.record("otel.name", "GET /users/{id}");
    span.record("http.route", "/users/{id}");
    span.record("http.response.status_code", 200);
    |_| ()
}

/// The same as a layer has it.
#[derive(Clone, Debug)]
struct Told<S>(S);

struct TellEnds(Span, RouteSlot);

impl End for TellEnds {
    fn end(self, answer: &Answer) {
        let route = template(&self.1);
        self.0.record("otel.name", format!("GET {route}"));
        self.0.record("http.route", route);
        self.0
            .record("http.response.status_code", answer.status().as_u16());
    }
}

impl<S> Service<Get> for Told<S>
where
    S: Service<Get, Response = Answer, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Ended<Instrumented<S::Future>, TellEnds>;

    fn poll_ready(&mut self, context: &mut Polled<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }
    fn call(&mut self, mut request: Get) -> Self::Future {
        let span = request_span!(&request);
        let parent = global::get_text_map_propagator(|propagator| {
            propagator.extract(&Headers(request.headers()))
        });
        let _ = span.set_parent(parent);
        let route = request.invocation_mut().route_slot();
        let inner = span.in_scope(|| self.0.call(request));
        Ended {
            inner: inner.instrument(span.clone()),
            end: Some(TellEnds(span, route)),
        }
    }
}

/// There is a subscriber that hears nothing. Without any `tracing` would, with its feature `log` that axum turns on, ask for
/// all fields of a span first, which takes theirs twice the time.
pub(crate) fn unheard() -> Vec<Case> {
    NoSubscriber::new().init();
    let theirs = tower_http::trace::TraceLayer::new_for_http();
    let theirs_name = "tower-http: trace";
    let ours = TraceLayer::new();
    vec![
        Case::new(FLOOR, "", Read(Matched::new()), get),
        Case::new(theirs_name, "", Read(theirs.layer(Matched::new())), get),
        Case::new("trace", theirs_name, Read(ours.layer(Matched::new())), get),
    ]
}

pub(crate) fn sampled_out() -> Vec<Case> {
    let theirs_name = "opentelemetry, as a service";
    let alone = Around(Matched::new(), sdk_alone(sdk(Sampler::AlwaysOff)));
    let parent_based = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let theirs = |sampler| {
        let propagator = TraceContextPropagator::new();
        Read(Traced(Matched::new(), sdk(sampler), propagator))
    };
    let ours = |layer: TraceLayer| Read(layer.sink(Nothing).layer(Matched::new()));
    let ratio = TraceLayer::new().sampling(Sampling::ratio(0.0));
    vec![
        Case::new(FLOOR, "", Read(Matched::new()), get),
        Case::new("opentelemetry: span", "", Read(alone), get),
        Case::new(theirs_name, "", theirs(Sampler::AlwaysOff), get),
        Case::new(
            "opentelemetry, by the parent",
            "",
            theirs(parent_based),
            get,
        ),
        Case::new(
            "trace",
            theirs_name,
            ours(TraceLayer::new().sampler(AlwaysOff)),
            get,
        ),
        Case::new("trace, ratio of 0", theirs_name, ours(ratio), get),
    ]
}

pub(crate) fn sampled() -> Vec<Case> {
    heard();
    let theirs_name = "tracing-opentelemetry, as a service";
    let alone = Around(Matched::new(), sdk_alone(sdk(Sampler::AlwaysOn)));
    let traced = Traced(
        Matched::new(),
        sdk(Sampler::AlwaysOn),
        TraceContextPropagator::new(),
    );
    let told_alone = Around(Matched::new(), tracing_alone as fn(&mut Get) -> fn(&Answer));
    let towers = tower_otel::trace::HttpLayer::server(tracing::Level::INFO);
    vec![
        Case::new(FLOOR, "", Read(Matched::new()), get),
        Case::new("opentelemetry: span", "", Read(alone), get),
        Case::new("opentelemetry, as a service", "", Read(traced), get),
        Case::new("tracing-opentelemetry: span", "", Read(told_alone), get),
        Case::new(theirs_name, "", Read(Told(Matched::new())), get),
        Case::new(
            "tower-otel: trace",
            "",
            Read(towers.layer(Matched::new())),
            get,
        ),
        Case::new(
            "trace",
            theirs_name,
            Read(TraceLayer::new().sink(Nothing).layer(Matched::new())),
            get,
        ),
        Case::new(
            "trace, read out",
            theirs_name,
            Read(TraceLayer::new().sink(Looks).layer(Matched::new())),
            get,
        ),
    ]
}
