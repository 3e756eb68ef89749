//! What is recorded of a call.

use std::{
    borrow::Cow,
    fmt::Write as _,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, Method};
use tower_chassis_core::{
    Verdict,
    trace::{SpanId, TraceId},
};

use crate::{
    access_log::{
        escape_json, kept_header,
        redact::{MASK, Redact},
        write_rfc3339,
    },
    fault::class_name,
};

/// A call that is over: who asked for what, and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditRecord {
    /// When it was over.
    pub time: SystemTime,
    /// How long it took, to the end of its body.
    pub duration: Duration,
    /// Who it came from, as an authentication found.
    pub principal: Option<Arc<str>>,
    /// The address of the client, as the layers outside established it.
    pub client: Option<IpAddr>,
    /// What was asked for.
    pub method: Method,
    /// The template of the route that matched.
    pub route: Option<Arc<str>>,
    /// The path, where the policy says so. Without the query, and without parameters (`;jsessionid=x`) that are secret.
    pub path: Option<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// How many bytes of the request's body were received, as far as that is known.
    pub received: u64,
    /// How many bytes of the response's body passed.
    pub sent: u64,
    /// The id of the request.
    pub request_id: Option<Arc<str>>,
    /// The trace that it was a part of, and its span.
    pub trace: Option<(TraceId, SpanId)>,
    /// The headers that the policy names, without what is secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl AuditRecord {
    /// A line of JSON, without its newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut line = String::with_capacity(256);
        self.write_json(&mut line);
        line
    }

    /// The same, behind what is there already.
    pub fn write_json(&self, out: &mut String) {
        // Writing into a `String` cannot fail.
        out.push_str("{\"time\":\"");
        write_rfc3339(out, self.time);
        out.push('"');
        let mut text = |name: &str, value: Option<&[u8]>| {
            if let Some(value) = value {
                _ = write!(out, ",\"{name}\":");
                escape_json(out, value);
            }
        };
        text(
            "principal",
            self.principal.as_ref().map(|name| name.as_bytes()),
        );
        let client = self.client.map(|client| client.to_string());
        text("client", client.as_ref().map(String::as_bytes));
        text("method", Some(self.method.as_str().as_bytes()));
        text("route", self.route.as_ref().map(|route| route.as_bytes()));
        text("path", self.path.as_ref().map(String::as_bytes));
        text("class", Some(class_name(self.verdict.class()).as_bytes()));
        text(
            "request_id",
            self.request_id.as_ref().map(|id| id.as_bytes()),
        );
        if let Some((trace, span)) = self.trace {
            _ = write!(out, ",\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"");
        }
        if let Some(status) = self.verdict.http_status() {
            _ = write!(out, ",\"status\":{status}");
        }
        if let Some(code) = self.verdict.grpc_code() {
            _ = write!(out, ",\"grpc\":{code}");
        }
        let micros = self.duration.as_micros();
        let (millis, micros) = (micros / 1_000, micros % 1_000);
        let Self { received, sent, .. } = self;
        _ = write!(
            out,
            ",\"duration_ms\":{millis}.{micros:03},\"received\":{received},\"sent\":{sent}"
        );
        self.write_headers(out);
        out.push('}');
    }

    fn write_headers(&self, out: &mut String) {
        if self.headers.is_empty() {
            return;
        }
        out.push_str(",\"headers\":{");
        for (nth, (name, _)) in self.headers.iter().enumerate() {
            // One member for all values of a name.
            if self.headers[..nth].iter().any(|(known, _)| known == name) {
                continue;
            }
            let of = self.headers.iter().filter(|(other, _)| other == name);
            let values: Vec<_> = of.map(|(_, value)| value.as_bytes()).collect();
            out.push_str(if nth == 0 { "\"" } else { ",\"" });
            out.push_str(name.as_str());
            out.push_str("\":");
            escape_json(out, &values.join(&b", "[..]));
        }
        out.push('}');
    }
}

/// A header as it may be shown.
pub(super) fn shown(redact: &Redact, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    // A record waits in memory.
    let value = &kept_header(value);
    match redact.value(name, value) {
        Cow::Borrowed(shown) if shown == value.as_bytes() => value.clone(),
        // What was put in its place is text.
        shown => HeaderValue::from_bytes(&shown).unwrap_or(HeaderValue::from_static(MASK)),
    }
}
