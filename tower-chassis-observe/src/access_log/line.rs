//! The line.

use std::{
    fmt::Write as _,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use tower_chassis_core::{Verdict, trace::TraceId};

use super::{Query, civil::write_rfc3339, escape};
use crate::fault::class_name;

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) time: SystemTime,
    pub(super) client: Option<IpAddr>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) show: Query,
    pub(super) route: Option<&'a str>,
    pub(super) verdict: Verdict,
    pub(super) duration: Duration,
    pub(super) bytes: u64,
    pub(super) request_id: Option<&'a str>,
    pub(super) trace_id: Option<TraceId>,
    pub(super) user_agent: Option<&'a [u8]>,
}

// Writing into a `String` cannot fail.
impl Line<'_> {
    pub(super) fn text(&self, out: &mut String) {
        out.push_str("time=");
        _ = write_rfc3339(out, self.time);
        out.push_str(" client=");
        match self.client {
            Some(client) => _ = write!(out, "{client}"),
            None => out.push('-'),
        }
        pair(out, "method", Some(self.method.as_bytes()));
        match self.shown_query() {
            None => pair(out, "path", Some(self.path.as_bytes())),
            Some(path) => pair(out, "path", Some(path.as_bytes())),
        }
        pair(out, "route", self.route.map(str::as_bytes));
        out.push_str(" status=");
        match self.verdict.http_status() {
            Some(status) => _ = write!(out, "{status}"),
            None => out.push('-'),
        }
        if let Some(code) = self.verdict.grpc_code() {
            _ = write!(out, " grpc={code}");
        }
        _ = write!(
            out,
            " duration_ms={} bytes={}",
            Millis(self.duration),
            self.bytes
        );
        pair(out, "request_id", self.request_id.map(str::as_bytes));
        out.push_str(" trace_id=");
        match self.trace_id {
            Some(id) => _ = write!(out, "{id}"),
            None => out.push('-'),
        }
        pair(out, "user_agent", self.user_agent);
        out.push_str(" class=");
        out.push_str(class_name(self.verdict.class()));
    }

    pub(super) fn json(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        _ = write_rfc3339(out, self.time);
        out.push('"');
        if let Some(client) = self.client {
            _ = write!(out, ",\"client\":\"{client}\"");
        }
        member(out, "method", Some(self.method.as_bytes()));
        match self.shown_query() {
            None => member(out, "path", Some(self.path.as_bytes())),
            Some(path) => member(out, "path", Some(path.as_bytes())),
        }
        member(out, "route", self.route.map(str::as_bytes));
        if let Some(status) = self.verdict.http_status() {
            _ = write!(out, ",\"status\":{status}");
        }
        if let Some(code) = self.verdict.grpc_code() {
            _ = write!(out, ",\"grpc\":{code}");
        }
        _ = write!(
            out,
            ",\"duration_ms\":{},\"bytes\":{}",
            Millis(self.duration),
            self.bytes
        );
        member(out, "request_id", self.request_id.map(str::as_bytes));
        if let Some(id) = self.trace_id {
            _ = write!(out, ",\"trace_id\":\"{id}\"");
        }
        member(out, "user_agent", self.user_agent);
        _ = write!(out, ",\"class\":\"{}\"}}", class_name(self.verdict.class()));
    }

    /// The path with its query, where that is shown: who asks for it pays for the copy.
    fn shown_query(&self) -> Option<String> {
        let query = self.query.filter(|_| self.show != Query::Hidden)?;
        let mut path = String::with_capacity(self.path.len() + 1 + query.len());
        path.push_str(self.path);
        path.push('?');
        if self.show == Query::Full {
            path.push_str(query);
            return Some(path);
        }
        for (at, pair) in query.split('&').enumerate() {
            if at > 0 {
                path.push('&');
            }
            match pair.split_once('=') {
                Some((name, _)) => {
                    path.push_str(name);
                    path.push_str("=*");
                }
                // A value without a name may be the secret itself.
                None => path.push('*'),
            }
        }
        Some(path)
    }
}

fn pair(out: &mut String, name: &str, value: Option<&[u8]>) {
    out.push(' ');
    out.push_str(name);
    out.push('=');
    match value {
        Some(value) => escape::text(out, value),
        None => out.push('-'),
    }
}

fn member(out: &mut String, name: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        out.push_str(",\"");
        out.push_str(name);
        out.push_str("\":");
        escape::json(out, value);
    }
}

/// Milliseconds with three decimals, without floats.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}
