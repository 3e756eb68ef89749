mod application;
mod chain;
mod collector;
mod config;
mod hostile;
mod losses;
mod rotel;
mod sockets;
#[cfg(feature = "otlp-tls")]
mod tls;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use metrics::{Label, Unit};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};

use super::{Otlp, OtlpConfig, OtlpPolicy};
use crate::{
    registry::{Distribution, Family, MetricKind, Series, Snapshot, Value},
    trace::{FinishedSpan, SpanSink},
};

const SECOND: Duration = Duration::from_secs(1);
/// When everything here begins.
const START: Duration = Duration::from_secs(1_700_000_000);

/// The `n`th span of a trace.
fn span(n: u64) -> FinishedSpan {
    FinishedSpan::example(n, UNIX_EPOCH + START)
}

fn put(otlp: &Otlp, spans: std::ops::Range<u64>) {
    let sink = otlp.spans();
    for n in spans {
        sink.ended(span(n + 1));
    }
}

fn policy(change: impl FnOnce(&mut OtlpConfig)) -> OtlpPolicy {
    let mut config = OtlpConfig {
        service_name: Some("shop".to_owned()),
        ..OtlpConfig::default()
    };
    change(&mut config);
    OtlpPolicy::try_from(config).unwrap()
}

/// A counter, a gauge and a histogram.
fn snapshot() -> Snapshot {
    let family = |name: &str, unit, kind, labels: &[(&'static str, &'static str)], value| Family {
        name: name.into(),
        help: "What it says.".into(),
        unit,
        kind,
        series: vec![Series {
            labels: labels
                .iter()
                .map(|&(name, value)| Label::from_static_parts(name, value))
                .collect(),
            value,
        }],
    };
    Snapshot {
        started: UNIX_EPOCH + START,
        at: UNIX_EPOCH + START + SECOND,
        families: vec![
            family(
                "chassis_retry_attempts_total",
                None,
                MetricKind::Counter,
                &[],
                Value::Counter(3),
            ),
            family(
                "chassis_bulkhead_limit",
                Some(Unit::Count),
                MetricKind::Gauge,
                &[("name", "db")],
                Value::Gauge(20.5),
            ),
            family(
                "http.server.request.duration",
                Some(Unit::Seconds),
                MetricKind::Histogram,
                &[("http_route", "/a"), ("http_response_status_code", "200")],
                Value::Histogram(Distribution {
                    bounds: [0.1, 1.0].into(),
                    counts: vec![2, 1, 4],
                    sum: 9.5,
                }),
            ),
        ],
    }
}

/// Attributes as text.
fn told(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let value = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .iter()
        .map(|pair| (pair.key.clone(), value(pair)))
        .collect()
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let mut told = told(attributes).into_iter();
    told.find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

type Shared<T> = Arc<std::sync::Mutex<T>>;
