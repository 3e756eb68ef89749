//! Where the spans of all services are kept, and how they hang together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_chassis::trace::{Attribute, FinishedSpan, SpanId, SpanSink};

type Named = (&'static str, FinishedSpan);

/// The spans of all services of a test.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Named>>>);

/// The sink of one service.
pub(crate) struct Sink(&'static str, Kept);

impl SpanSink for Sink {
    fn ended(&self, span: FinishedSpan) {
        (self.1).0.lock().unwrap().push((self.0, span));
    }
}

impl Kept {
    pub(crate) fn of(&self, service: &'static str) -> Sink {
        Sink(service, self.clone())
    }

    /// Waits until there are so many: a server's span ends after its client has its answer.
    pub(crate) async fn wait(&self, many: usize) -> Vec<Named> {
        for _ in 0..500 {
            if self.0.lock().unwrap().len() >= many {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let spans = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(spans.len(), many, "{:#?}", tree(&spans));
        spans
    }
}

pub(crate) fn attributes(span: &FinishedSpan) -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::new();
    span.attributes(&mut |name, value| {
        let value = match value {
            Attribute::Str(text) => text.to_owned(),
            Attribute::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        all.insert(name, value);
    });
    all
}

/// A line for each span, under its parent: service, name, status, whether it failed, which attempt it is.
pub(crate) fn tree(spans: &[Named]) -> Vec<String> {
    let mut lines = Vec::new();
    let known: Vec<_> = spans
        .iter()
        .map(|(_, span)| span.context().span_id())
        .collect();
    for (_, root) in spans {
        if root.parent().is_none_or(|parent| !known.contains(&parent)) {
            below(spans, root.context().span_id(), 0, &mut lines);
        }
    }
    lines
}

fn below(spans: &[Named], id: SpanId, depth: usize, lines: &mut Vec<String>) {
    let found = spans
        .iter()
        .find(|(_, span)| span.context().span_id() == id);
    let Some((service, span)) = found else {
        return;
    };
    let told = attributes(span);
    let status = [
        "rpc.response.status_code",
        "http.response.status_code",
        "error.type",
    ]
    .iter()
    .find_map(|name| told.get(name));
    let status = status.map_or("?", |status| status);
    let failed = if span.is_error() { "error" } else { "-" };
    let mut line = format!("{:depth$}{service} {} {status} {failed}", "", span.name());
    if let Some(resent) = told.get("http.request.resend_count") {
        line.push_str(" resent ");
        line.push_str(resent);
    }
    lines.push(line);
    let mut children: Vec<_> = spans
        .iter()
        .filter(|(_, span)| span.parent() == Some(id))
        .collect();
    children.sort_by_key(|(_, span)| span.started());
    for (_, child) in children {
        below(spans, child.context().span_id(), depth + 1, lines);
    }
}
