//! What a line says, and the two formats of ours.

use std::{
    borrow::Cow,
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, Version};
use tower_chassis_core::{Verdict, trace::TraceContext};

use super::{
    Level, PathShown, Query,
    civil::{padded, write_rfc3339},
    escape,
    excerpt::Shown,
    redact::Redact,
};
use crate::fault::class_name;

/// A key of an object, as it stands there.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(super) use key;

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) time: SystemTime,
    pub(super) client: Option<IpAddr>,
    pub(super) method: &'a str,
    pub(super) version: Version,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) show: Query,
    pub(super) shown: PathShown,
    pub(super) redact: &'a Redact,
    /// Whose traces they are, at Google's.
    pub(super) project: Option<&'a str>,
    pub(super) route: Option<&'a str>,
    pub(super) verdict: Verdict,
    pub(super) level: Level,
    pub(super) slow: bool,
    pub(super) duration: Duration,
    pub(super) bytes: u64,
    pub(super) request_bytes: u64,
    pub(super) request_id: Option<&'a str>,
    pub(super) trace: Option<TraceContext>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) referer: Option<&'a [u8]>,
    pub(super) user: Option<&'a str>,
    /// Those of the request that the template names.
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    pub(super) excerpts: Option<&'a Shown>,
}

// Writing into a `String` cannot fail.
impl Line<'_> {
    pub(super) fn text(&self, out: &mut String) {
        out.push_str("time=");
        write_rfc3339(out, self.time);
        out.push_str(" client=");
        address(out, self.client);
        pair(out, " method=", Some(self.method.as_bytes()));
        pair(out, " path=", self.target().as_deref().map(str::as_bytes));
        pair(out, " route=", self.route.map(str::as_bytes));
        out.push_str(" status=");
        match self.verdict.http_status() {
            Some(status) => padded(out, status.into(), 1),
            None => out.push('-'),
        }
        if let Some(code) = self.verdict.grpc_code() {
            out.push_str(" grpc=");
            padded(out, code.into(), 1);
        }
        out.push_str(" duration_ms=");
        decimal(out, self.duration.as_micros() as u64, 3);
        out.push_str(" bytes=");
        padded(out, self.bytes, 1);
        pair(out, " request_id=", self.request_id.map(str::as_bytes));
        out.push_str(" trace_id=");
        match self.trace {
            Some(trace) => hex(out, &trace.trace_id().to_bytes()),
            None => out.push('-'),
        }
        pair(out, " user_agent=", self.user_agent);
        out.push_str(" class=");
        out.push_str(class_name(self.verdict.class()));
        out.push_str(" span_id=");
        match self.trace {
            Some(trace) => hex(out, &trace.span_id().to_bytes()),
            None => out.push('-'),
        }
        out.push_str(" level=");
        out.push_str(self.level.name());
        out.push_str(" request_bytes=");
        padded(out, self.request_bytes, 1);
        out.push_str(" protocol=");
        out.push_str(self.protocol());
        pair(out, " user=", self.user.map(str::as_bytes));
        if self.slow {
            out.push_str(" slow=true");
        }
        if let Some(excerpts) = self.excerpts {
            excerpts.text(&mut |name, value| pair(out, &format!(" {name}="), Some(value)));
        }
    }

    pub(super) fn json(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        write_rfc3339(out, self.time);
        out.push('"');
        let mut object = Object::after(out);
        object.address(key!("client"), self.client);
        object.text(key!("method"), Some(self.method));
        object.text(key!("path"), self.target().as_deref());
        object.text(key!("route"), self.route);
        object.number(key!("status"), self.verdict.http_status().map(u64::from));
        object.number(key!("grpc"), self.verdict.grpc_code().map(u64::from));
        object.decimal(key!("duration_ms"), self.duration.as_micros() as u64, 3);
        object.number(key!("bytes"), Some(self.bytes));
        object.text(key!("request_id"), self.request_id);
        object.trace_id(key!("trace_id"), self.trace);
        object.bytes(key!("user_agent"), self.user_agent);
        object.plain(key!("class"), class_name(self.verdict.class()));
        object.span_id(key!("span_id"), self.trace);
        object.plain(key!("level"), self.level.name());
        object.number(key!("request_bytes"), Some(self.request_bytes));
        object.plain(key!("protocol"), self.protocol());
        object.text(key!("user"), self.user);
        if self.slow {
            object.raw(key!("slow"), "true");
        }
        if let Some(excerpts) = self.excerpts {
            let names = [
                [key!("request_headers"), key!("request_body")],
                [key!("response_headers"), key!("response_body")],
            ];
            excerpts.members(&mut object, names);
        }
        out.push('}');
    }

    /// `HTTP/1.1`, as servers have always written it.
    pub(super) fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }

    /// `1.1`, `2`: as OpenTelemetry and ECS write it.
    pub(super) fn version(&self) -> &'static str {
        match self.version {
            Version::HTTP_09 => "0.9",
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            Version::HTTP_3 => "3",
            _ => "1.1",
        }
    }

    /// The path as it may be shown, without its query.
    pub(super) fn shown_path(&self) -> Option<&str> {
        match self.shown {
            PathShown::AsIs => Some(self.path),
            PathShown::Template => self.route,
        }
    }

    /// The query as it may be shown: who asks for it pays for the copy.
    pub(super) fn shown_query(&self) -> Option<Cow<'_, str>> {
        let query = self.query?;
        match self.show {
            Query::Hidden => None,
            Query::Names => Some(Cow::Owned(names(query))),
            Query::Full => Some(Cow::Owned(self.redact.query(query))),
            Query::Raw => Some(Cow::Borrowed(query)),
        }
    }

    /// Path and query, as they may be shown.
    pub(super) fn target(&self) -> Option<Cow<'_, str>> {
        let path = self.shown_path();
        let Some(query) = self.shown_query() else {
            return path.map(Cow::Borrowed);
        };
        let path = path.unwrap_or("-");
        let mut target = String::with_capacity(path.len() + 1 + query.len());
        target.push_str(path);
        target.push('?');
        target.push_str(&query);
        Some(Cow::Owned(target))
    }

    /// A line for people: `GET /users/7 200`.
    pub(super) fn message(&self, out: &mut Object<'_>, key: &str) {
        let mut buffer = [0; 5];
        let status = match self.verdict.http_status() {
            Some(status) => {
                for (at, digit) in buffer.iter_mut().rev().enumerate() {
                    *digit = b'0' + (status / 10_u16.pow(at as u32) % 10) as u8;
                }
                // Five digits are enough for any; of HTTP they are three.
                let digits = std::str::from_utf8(&buffer).unwrap_or_default();
                digits.trim_start_matches('0')
            }
            None => class_name(self.verdict.class()),
        };
        let path = self.shown_path().unwrap_or("-");
        out.pieces(key, [self.method, " ", path, " ", status]);
    }
}

/// The names of a query, with `*` for the values.
fn names(query: &str) -> String {
    let mut out = String::with_capacity(query.len());
    for (at, pair) in query.split('&').enumerate() {
        if at > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((name, _)) => {
                out.push_str(name);
                out.push_str("=*");
            }
            // A value without a name may be the secret itself.
            None => out.push('*'),
        }
    }
    out
}

pub(super) fn address(out: &mut String, address: Option<IpAddr>) {
    match address {
        Some(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            for (number, then) in [(a, "."), (b, "."), (c, "."), (d, "")] {
                padded(out, number.into(), 1);
                out.push_str(then);
            }
        }
        Some(address) => _ = write!(out, "{address}"),
        None => out.push('-'),
    }
}

/// The digits of an id.
pub(super) fn hex(out: &mut String, id: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 32];
    for (byte, pair) in id.iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    let digits = digits.get(..2 * id.len()).unwrap_or_default();
    // Only digits were written.
    out.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

/// `number` with its last `digits` behind a point, without floats.
pub(super) fn decimal(out: &mut String, number: u64, digits: u32) {
    let unit = 10_u64.pow(digits);
    padded(out, number / unit, 1);
    out.push('.');
    padded(out, number % unit, digits as usize);
}

fn pair(out: &mut String, name: &str, value: Option<&[u8]>) {
    out.push_str(name);
    match value {
        Some(value) => escape::text(out, value),
        None => out.push('-'),
    }
}

/// The members of a JSON object. What is not known is left out.
pub(super) struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    /// A new one, behind its brace.
    pub(super) fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    /// One that has members.
    fn after(out: &'a mut String) -> Self {
        Self { out, first: false }
    }

    /// `,"name":`, of which the first one loses its comma.
    fn key(&mut self, key: &str) {
        let comma = usize::from(std::mem::take(&mut self.first));
        self.out.push_str(key.get(comma..).unwrap_or_default());
    }

    /// A text under a name that is no literal.
    pub(super) fn named(&mut self, name: &str, value: &[u8]) {
        self.out.push_str(if self.first { "\"" } else { ",\"" });
        self.first = false;
        escape::json_inside(self.out, name.as_bytes());
        self.out.push_str("\":");
        escape::json(self.out, value);
    }

    pub(super) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    /// A text that is known to need no escape.
    pub(super) fn plain(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push('"');
        self.out.push_str(value);
        self.out.push('"');
    }

    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key);
            escape::json_str(self.out, value);
        }
    }

    pub(super) fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.key(key);
            escape::json(self.out, value);
        }
    }

    /// A text of several pieces.
    pub(super) fn pieces<const N: usize>(&mut self, key: &str, pieces: [&str; N]) {
        self.key(key);
        self.out.push('"');
        for piece in pieces {
            escape::json_str_inside(self.out, piece);
        }
        self.out.push('"');
    }

    pub(super) fn number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(key);
            padded(self.out, value, 1);
        }
    }

    /// A number as a text: 64 bits are more than what JSON's readers take.
    pub(super) fn quoted(&mut self, key: &str, value: u64) {
        self.key(key);
        self.out.push('"');
        padded(self.out, value, 1);
        self.out.push('"');
    }

    pub(super) fn decimal(&mut self, key: &str, value: u64, digits: u32) {
        self.key(key);
        decimal(self.out, value, digits);
    }

    /// `0.500000s`
    pub(super) fn seconds(&mut self, key: &str, value: Duration) {
        self.key(key);
        self.out.push('"');
        decimal(self.out, value.as_micros() as u64, 6);
        self.out.push_str("s\"");
    }

    pub(super) fn time(&mut self, key: &str, time: SystemTime) {
        self.key(key);
        self.out.push('"');
        write_rfc3339(self.out, time);
        self.out.push('"');
    }

    pub(super) fn address(&mut self, key: &str, value: Option<IpAddr>) {
        if value.is_some() {
            self.key(key);
            self.out.push('"');
            address(self.out, value);
            self.out.push('"');
        }
    }

    pub(super) fn trace_id(&mut self, key: &str, trace: Option<TraceContext>) {
        if let Some(trace) = trace {
            self.key(key);
            self.id(&trace.trace_id().to_bytes());
        }
    }

    pub(super) fn span_id(&mut self, key: &str, trace: Option<TraceContext>) {
        if let Some(trace) = trace {
            self.key(key);
            self.id(&trace.span_id().to_bytes());
        }
    }

    /// A trace by the name that Google gives it.
    pub(super) fn trace_of(&mut self, key: &str, project: &str, trace: TraceContext) {
        self.key(key);
        self.out.push_str("\"projects/");
        escape::json_inside(self.out, project.as_bytes());
        self.out.push_str("/traces/");
        hex(self.out, &trace.trace_id().to_bytes());
        self.out.push('"');
    }

    fn id(&mut self, id: &[u8]) {
        self.out.push('"');
        hex(self.out, id);
        self.out.push('"');
    }

    /// A list of one text under a name that is no literal.
    pub(super) fn list(&mut self, name: &str, value: &[u8]) {
        self.out.push_str(if self.first { "\"" } else { ",\"" });
        self.first = false;
        self.out.push_str(name);
        self.out.push_str("\":[");
        escape::json(self.out, value);
        self.out.push(']');
    }

    /// An object in it.
    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut inner = Object::new(self.out);
        fill(&mut inner);
        inner.end();
    }

    pub(super) fn end(self) {
        self.out.push('}');
    }
}
