//! What the outputs said.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tower_chassis::{
    Events, ObserveLayer, Verdict,
    access_log::{AccessLogHandle, AccessLogLayer, Format},
    metrics::{MetricsHandle, ServerMetricsLayer},
    observe::audit::{AuditHandle, AuditLayer, AuditPolicy, AuditRecord, AuditRule},
    prometheus::Prometheus,
    settle::Observe,
    trace::{Attribute, FinishedSpan, SpanKind, SpanSink, TraceHandle, TraceLayer},
    wire::Start,
};

use crate::{
    app::App,
    servers::{Observers, On},
};

/// An observer that comes last: when it was told, all have been.
#[derive(Clone)]
pub(crate) struct Told(Arc<watch::Sender<Vec<Verdict>>>);

impl Told {
    pub(crate) fn new(tell: watch::Sender<Vec<Verdict>>) -> Self {
        Self(Arc::new(tell))
    }
}

impl<Req> Start<Req> for Told {
    type Ticket = Self;
    fn start(&self, _: &mut Req, _: Instant) -> Self {
        self.clone()
    }
}

impl Observe for Told {
    fn done(self, verdict: Verdict, _: Instant) {
        self.0.send_modify(|told| told.push(verdict));
    }
}

type Kept<T> = Arc<Mutex<Vec<T>>>;

/// Keeps spans.
#[derive(Clone, Default)]
pub(crate) struct Spans(pub(crate) Kept<FinishedSpan>);

impl SpanSink for Spans {
    fn ended(&self, span: FinishedSpan) {
        self.0.lock().unwrap().push(span);
    }
}

/// The outputs of one server.
pub(crate) struct Seen {
    on: On,
    prometheus: Prometheus,
    spans: Spans,
    lines: Kept<String>,
    records: Kept<AuditRecord>,
    told: watch::Receiver<Vec<Verdict>>,
    calls: watch::Receiver<u32>,
    metrics: MetricsHandle,
    trace: TraceHandle,
    log: AccessLogHandle,
    audit: AuditHandle,
    pub(crate) events: Events,
}

/// What one call left behind, in words that can be compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// The series of durations, by name and sorted labels, with their counts.
    pub(crate) durations: Vec<String>,
    /// How many sizes of responses, and their sum.
    pub(crate) sizes: (u64, u64),
    pub(crate) spans: Vec<Fields>,
    pub(crate) lines: Vec<Fields>,
    pub(crate) records: Vec<Fields>,
    /// How often the call was settled.
    pub(crate) settled: usize,
    /// What is not over, by whoever counts it.
    pub(crate) open: Vec<String>,
}

pub(crate) type Fields = BTreeMap<String, String>;

impl Seen {
    /// An observer of every kind, and what it leaves.
    pub(crate) fn new(on: On) -> (Self, Observers, App) {
        let prometheus = Prometheus::new();
        let spans = Spans::default();
        let lines = Kept::<String>::default();
        let records = Kept::<AuditRecord>::default();
        let (tell, told) = watch::channel(Vec::new());
        let (call, calls) = watch::channel(0);
        let metrics = ServerMetricsLayer::new().recorder(prometheus.recorder());
        let trace = TraceLayer::new().sink(spans.clone()).expects_export();
        let log = {
            let lines = Arc::clone(&lines);
            AccessLogLayer::new(Format::Json, move |line: &str| {
                lines.lock().unwrap().push(line.to_owned());
            })
        };
        // All but what was got.
        let policy = AuditPolicy::default().with(|config| {
            let got = AuditRule {
                methods: vec!["GET".into()],
                classes: vec!["success".into()],
                record: false,
                ..AuditRule::default()
            };
            config.rules = vec![got, AuditRule::default()];
        });
        let audit = {
            let records = Arc::clone(&records);
            AuditLayer::new(policy.unwrap(), move |record: AuditRecord| {
                records.lock().unwrap().push(record);
                true
            })
        };
        let seen = Self {
            on,
            prometheus,
            spans,
            lines,
            records,
            told,
            calls,
            metrics: metrics.handle(),
            trace: trace.handle(),
            log: log.handle(),
            audit: audit.handle(),
            events: Events::new(),
        };
        let observers = ObserveLayer::new((trace, log, metrics, (audit, Told::new(tell))));
        (seen, observers, App(call))
    }

    /// A call has come to the handler.
    pub(crate) async fn entered(&self) {
        let mut calls = self.calls.clone();
        calls.wait_for(|calls| *calls > 0).await.unwrap();
    }

    /// A connection speaks another protocol now. Under our server the call goes on.
    pub(crate) fn switched(&self) {
        let ours = self.on == On::Ours;
        assert_eq!(self.metrics.in_flight(), u64::from(ours), "{:?}", self.on);
        assert_eq!(self.lines.lock().unwrap().len(), usize::from(!ours));
    }

    /// The call is over.
    pub(crate) async fn over(&self) {
        let mut told = self.told.clone();
        let over = told.wait_for(|told| !told.is_empty());
        let over = tokio::time::timeout(Duration::from_secs(20), over).await;
        over.expect("the call is never over").unwrap();
    }

    /// The client has gone, and its connection with it.
    pub(crate) async fn closed(&self) {
        let since = Instant::now();
        while self.connections() > 0.0 {
            assert!(since.elapsed() < Duration::from_secs(20), "it stays open");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn connections(&self) -> f64 {
        let mut open = 0.0;
        self.events.read(|metric, _, value| {
            if metric == "chassis_server_connections" {
                open += value;
            }
        });
        open
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let text = self.prometheus.render();
        let spans = self.spans.0.lock().unwrap();
        let lines = self.lines.lock().unwrap();
        let (told, records) = (self.told.borrow(), self.records.lock().unwrap());
        let mut open = gauges(&text);
        for (of, count) in [
            ("metrics", self.metrics.in_flight()),
            ("trace", self.trace.in_flight()),
            ("log", self.log.in_flight()),
            ("spans lost", self.trace.lost()),
            ("lines lost", self.log.dropped() + self.log.skipped()),
            ("records lost", self.audit.lost()),
        ] {
            if count > 0 {
                open.push(format!("{of}: {count}"));
            }
        }
        for (of, count) in [
            ("metrics", self.metrics.calls()),
            ("trace", self.trace.calls()),
            ("log", self.log.written()),
            ("audit", self.audit.recorded() + self.audit.skipped()),
        ] {
            if count != 1 {
                open.push(format!("{count} calls of {of}"));
            }
        }
        let same = lines.iter().zip(spans.iter()).all(|(line, span)| {
            let context = span.context();
            line.contains(&format!("\"trace_id\":\"{}\"", context.trace_id()))
                && line.contains(&format!("\"span_id\":\"{}\"", context.span_id()))
        });
        if !same {
            open.push("the line is of another span".into());
        }
        Outcome {
            durations: durations(&text),
            sizes: sizes(&text, "http_server_response_body_size_bytes"),
            spans: spans.iter().map(span).collect(),
            lines: lines.iter().map(|line| fields(line)).collect(),
            records: records.iter().map(|r| fields(&r.to_json())).collect(),
            settled: told.len(),
            open,
        }
    }
}

/// The gauges that are not at 0.
pub(crate) fn gauges(text: &str) -> Vec<String> {
    let active = text
        .lines()
        .filter(|line| line.contains("_active_requests{") && !line.ends_with(" 0"));
    active.map(str::to_owned).collect()
}

/// The counts of the series of durations.
pub(crate) fn durations(text: &str) -> Vec<String> {
    let counts = text
        .lines()
        .filter(|line| line.contains("_duration_seconds_count{"));
    let counts = counts.map(|line| {
        let (name, rest) = line.split_once('{').unwrap();
        let (labels, count) = rest.rsplit_once("} ").unwrap();
        let mut labels: Vec<_> = labels.split(',').collect();
        labels.sort_unstable();
        let name = name.trim_end_matches("_duration_seconds_count");
        format!("{name} {} {count}", labels.join(" ").replace('"', ""))
    });
    counts.collect()
}

/// How many there are of a histogram, and their sum.
pub(crate) fn sizes(text: &str, name: &str) -> (u64, u64) {
    let all = |part: &str| {
        let name = format!("{name}_{part}{{");
        let lines = text.lines().filter(|line| line.starts_with(&name));
        let values = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
        values.sum::<f64>() as u64
    };
    (all("count"), all("sum"))
}

/// What a span says, without addresses.
pub(crate) fn span(span: &FinishedSpan) -> Fields {
    let mut fields = Fields::new();
    span.attributes(&mut |name, value| {
        let value = match value {
            Attribute::Str(text) => text.to_owned(),
            Attribute::Int(number) => number.to_string(),
            _ => unreachable!("there are no others"),
        };
        fields.insert(name.to_owned(), value);
    });
    let about = ["server.address", "server.port", "client.address"];
    fields.retain(|name, _| !about.contains(&&**name));
    let kind = match span.kind() {
        SpanKind::Server => "server",
        SpanKind::Client => "client",
    };
    fields.insert("kind".into(), kind.into());
    fields.insert("name".into(), span.name());
    fields.insert("failed".into(), span.is_error().to_string());
    fields
}

/// What a line of JSON says, without times, addresses and ids.
fn fields(line: &str) -> Fields {
    let Value::Object(line) = serde_json::from_str(line).unwrap() else {
        panic!("no object: {line}")
    };
    let text = |value: &Value| {
        let mut text = String::new();
        match value.as_str() {
            Some(value) => text.push_str(value),
            None => write!(text, "{value}").unwrap(),
        }
        text
    };
    let about = ["time", "duration_ms", "client", "trace_id", "span_id"];
    let told = line.iter().filter(|(name, _)| !about.contains(&&***name));
    told.map(|(name, value)| (name.clone(), text(value)))
        .collect()
}
