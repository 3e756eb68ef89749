//! Spans and metrics as OTLP has them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::Unit;
use opentelemetry::InstrumentationScope;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    common::v1::{AnyValue, InstrumentationScope as Scope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status as SpanStatus, span, status},
};
use opentelemetry_sdk::trace::SpanData;
use tonic::Status;

use super::{
    deliver::{Partial, Signal},
    envelope::{Envelope, Line, Whole},
};
use crate::{
    registry::{Distribution, Family, MetricKind, Series, Snapshot, Value},
    trace::{Attribute, FinishedSpan, SpanKind},
};

/// How many points are sent together: half a megabyte or so, where collectors take four.
const POINTS: usize = 2_000;

/// A span that waits to be sent.
#[allow(clippy::large_enum_variant, reason = "boxed, each call would allocate")]
pub(super) enum Item {
    /// Of a layer of ours.
    Ours(FinishedSpan),
    /// Of the application.
    Theirs(Box<SpanData>),
}

/// Sends spans.
#[derive(Clone)]
pub(super) struct Spans {
    client: TraceServiceClient<Envelope>,
    line: Arc<Line>,
    resource: Resource,
}

impl Spans {
    pub(super) fn new(envelope: Envelope, resource: Resource) -> Self {
        let line = Arc::clone(&envelope.line);
        let client = TraceServiceClient::new(envelope);
        Self {
            client,
            line,
            resource,
        }
    }
}

impl Signal for Spans {
    type Batch = [Item];
    const NAME: &'static str = "span";

    fn count(batch: &[Item]) -> u64 {
        batch.len() as u64
    }

    fn halves(batch: &[Item]) -> Option<(&[Item], &[Item])> {
        (batch.len() > 1).then(|| batch.split_at(batch.len() / 2))
    }

    fn renew(&mut self) {
        self.line.renew();
    }

    async fn attempt(&mut self, batch: &[Item]) -> Result<Partial, Status> {
        let request = asked(spans(batch, &self.resource), batch.len());
        let answer = self.client.export(request).await?.into_inner();
        let partial = answer.partial_success.unwrap_or_default();
        Ok(Partial {
            rejected: partial.rejected_spans,
            message: partial.error_message,
        })
    }
}

/// Sends metrics.
#[derive(Clone)]
pub(super) struct Points {
    client: MetricsServiceClient<Envelope>,
    line: Arc<Line>,
    resource: Resource,
}

impl Points {
    pub(super) fn new(envelope: Envelope, resource: Resource) -> Self {
        let line = Arc::clone(&envelope.line);
        let client = MetricsServiceClient::new(envelope);
        Self {
            client,
            line,
            resource,
        }
    }
}

impl Signal for Points {
    type Batch = [Metric];
    const NAME: &'static str = "metric";

    fn count(batch: &[Metric]) -> u64 {
        batch.iter().map(|metric| points(metric) as u64).sum()
    }

    fn halves(batch: &[Metric]) -> Option<(&[Metric], &[Metric])> {
        (batch.len() > 1).then(|| batch.split_at(batch.len() / 2))
    }

    fn renew(&mut self) {
        self.line.renew();
    }

    async fn attempt(&mut self, batch: &[Metric]) -> Result<Partial, Status> {
        let request = ExportMetricsServiceRequest {
            resource_metrics: match batch {
                [] => Vec::new(),
                batch => vec![ResourceMetrics {
                    resource: Some(self.resource.clone()),
                    scope_metrics: vec![ScopeMetrics {
                        scope: Some(scope()),
                        metrics: batch.to_vec(),
                        ..Default::default()
                    }],
                    ..Default::default()
                }],
            },
        };
        let request = asked(request, batch.len());
        let answer = self.client.export(request).await?.into_inner();
        let partial = answer.partial_success.unwrap_or_default();
        Ok(Partial {
            rejected: partial.rejected_data_points,
            message: partial.error_message,
        })
    }
}

/// A message of so many parts.
fn asked<T>(message: T, parts: usize) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if parts <= 1 {
        request.extensions_mut().insert(Whole);
    }
    request
}

/// Who has made the spans and metrics of this crate.
fn scope() -> Scope {
    Scope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    }
}

fn spans(batch: &[Item], resource: &Resource) -> ExportTraceServiceRequest {
    let mut ours = Vec::new();
    let mut theirs: Vec<(&InstrumentationScope, Vec<Span>)> = Vec::new();
    for item in batch {
        match item {
            Item::Ours(span) => ours.push(ours_as(span)),
            Item::Theirs(data) => {
                let span = Span::from(SpanData::clone(data));
                let scope = &data.instrumentation_scope;
                match theirs.iter_mut().find(|(known, _)| *known == scope) {
                    Some((_, spans)) => spans.push(span),
                    None => theirs.push((scope, vec![span])),
                }
            }
        }
    }
    let mut scope_spans = Vec::with_capacity(1 + theirs.len());
    if !ours.is_empty() {
        scope_spans.push(ScopeSpans {
            scope: Some(scope()),
            spans: ours,
            ..Default::default()
        });
    }
    scope_spans.extend(theirs.into_iter().map(|(scope, spans)| ScopeSpans {
        scope: Some((scope, None).into()),
        spans,
        schema_url: scope.schema_url().unwrap_or_default().to_owned(),
    }));
    ExportTraceServiceRequest {
        resource_spans: match scope_spans.is_empty() {
            true => Vec::new(),
            false => vec![ResourceSpans {
                resource: Some(resource.clone()),
                scope_spans,
                ..Default::default()
            }],
        },
    }
}

fn ours_as(span: &FinishedSpan) -> Span {
    let context = span.context();
    let mut flags = u32::from(context.is_sampled()) | SpanFlags::ContextHasIsRemoteMask as u32;
    if span.has_remote_parent() {
        flags |= SpanFlags::ContextIsRemoteMask as u32;
    }
    let mut attributes = Vec::with_capacity(12);
    span.attributes(&mut |name, value| attributes.push(attribute(name, value)));
    let kind = match span.kind() {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
    };
    let start = nanos(span.started());
    let took = u64::try_from(span.took().as_nanos()).unwrap_or(u64::MAX);
    Span {
        trace_id: context.trace_id().to_bytes().into(),
        span_id: context.span_id().to_bytes().into(),
        trace_state: span.state().unwrap_or_default().to_owned(),
        parent_span_id: span
            .parent()
            .map_or_else(Vec::new, |id| id.to_bytes().into()),
        flags,
        name: span.name(),
        kind: kind as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(took),
        attributes,
        status: span.is_error().then(|| SpanStatus {
            code: status::StatusCode::Error as i32,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn attribute(name: &str, value: Attribute<'_>) -> KeyValue {
    let value = match value {
        Attribute::Str(text) => any_value::Value::StringValue(text.to_owned()),
        Attribute::Int(number) => any_value::Value::IntValue(number),
    };
    with_value(name, value)
}

pub(super) fn pair(name: &str, text: &str) -> KeyValue {
    with_value(name, any_value::Value::StringValue(text.to_owned()))
}

fn with_value(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}

/// A reading in batches, each of at most some thousand points.
pub(super) fn batches(snapshot: &Snapshot) -> Vec<Vec<Metric>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut room = POINTS;
    for family in &snapshot.families {
        let mut series = &family.series[..];
        while !series.is_empty() {
            let (now, later) = series.split_at(series.len().min(room));
            batch.push(family_as(family, now, snapshot));
            room -= now.len();
            series = later;
            if room == 0 {
                batches.push(std::mem::take(&mut batch));
                room = POINTS;
            }
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(metric::Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(metric::Data::Sum(sum)) => sum.data_points.len(),
        Some(metric::Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    }
}

fn family_as(family: &Family, series: &[Series], snapshot: &Snapshot) -> Metric {
    let (start, now) = (nanos(snapshot.started), nanos(snapshot.at));
    let cumulative = AggregationTemporality::Cumulative as i32;
    let number = |series: &Series| {
        let value = match &series.value {
            &Value::Counter(count) => {
                number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX))
            }
            &Value::Gauge(value) => number_data_point::Value::AsDouble(value),
            Value::Histogram(_) => return None,
        };
        Some(NumberDataPoint {
            attributes: labels(series),
            start_time_unix_nano: start,
            time_unix_nano: now,
            value: Some(value),
            ..Default::default()
        })
    };
    let data = match family.kind {
        MetricKind::Counter => metric::Data::Sum(Sum {
            data_points: series.iter().filter_map(number).collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricKind::Gauge => metric::Data::Gauge(Gauge {
            data_points: series.iter().filter_map(number).collect(),
        }),
        MetricKind::Histogram => metric::Data::Histogram(Histogram {
            data_points: series
                .iter()
                .filter_map(|series| match &series.value {
                    Value::Histogram(values) => Some(distribution(series, values, start, now)),
                    _ => None,
                })
                .collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: family.name.to_string(),
        description: family.help.to_string(),
        unit: family.unit.map_or("", unit).to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

fn distribution(
    series: &Series,
    values: &Distribution,
    start_time_unix_nano: u64,
    time_unix_nano: u64,
) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: labels(series),
        start_time_unix_nano,
        time_unix_nano,
        count: values.count(),
        sum: Some(values.sum),
        bucket_counts: values.counts.clone(),
        explicit_bounds: values.bounds.to_vec(),
        ..Default::default()
    }
}

/// The labels of OpenTelemetry's own metrics under their names there; Prometheus has no points in names.
fn labels(series: &Series) -> Vec<KeyValue> {
    let label = |label: &metrics::Label| {
        let (name, number) = match label.key() {
            "http_request_method" => ("http.request.method", false),
            "http_route" => ("http.route", false),
            "http_response_status_code" => ("http.response.status_code", true),
            "network_protocol_version" => ("network.protocol.version", false),
            "url_scheme" => ("url.scheme", false),
            "error_type" => ("error.type", false),
            "server_address" => ("server.address", false),
            "server_port" => ("server.port", true),
            "rpc_system_name" => ("rpc.system.name", false),
            "rpc_method" => ("rpc.method", false),
            "rpc_response_status_code" => ("rpc.response.status_code", false),
            other => (other, false),
        };
        match label.value().parse() {
            Ok(value) if number => with_value(name, any_value::Value::IntValue(value)),
            _ => pair(name, label.value()),
        }
    };
    let mut all: Vec<KeyValue> = Vec::with_capacity(series.labels.len());
    for new in series.labels.iter().map(label) {
        // Each name once, also where two have become one: the last word counts.
        match all.iter_mut().find(|known| known.key == new.key) {
            Some(known) => *known = new,
            None => all.push(new),
        }
    }
    all
}

/// A unit as UCUM has it.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "1",
        Unit::Percent => "%",
        Unit::Seconds => "s",
        Unit::Milliseconds => "ms",
        Unit::Microseconds => "us",
        Unit::Nanoseconds => "ns",
        Unit::Tebibytes => "TiBy",
        Unit::Gibibytes => "GiBy",
        Unit::Mebibytes => "MiBy",
        Unit::Kibibytes => "KiBy",
        Unit::Bytes => "By",
        Unit::TerabitsPerSecond => "Tbit/s",
        Unit::GigabitsPerSecond => "Gbit/s",
        Unit::MegabitsPerSecond => "Mbit/s",
        Unit::KilobitsPerSecond => "kbit/s",
        Unit::BitsPerSecond => "bit/s",
        Unit::CountPerSecond => "1/s",
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
