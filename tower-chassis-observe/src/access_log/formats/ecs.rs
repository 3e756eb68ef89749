//! Elastic Common Schema 8.11.

use tower_chassis_core::Class;

use super::super::line::{Line, Object};
use crate::fault::class_name;

pub(in super::super) fn ecs(line: &Line<'_>, out: &mut String) {
    let mut object = Object::new(out);
    object.time("@timestamp", line.time);
    object.plain("log.level", line.level.name());
    line.message(&mut object, "message");
    object.plain("ecs.version", "8.11.0");
    // Nanoseconds.
    let nanos = u64::try_from(line.duration.as_nanos()).unwrap_or(u64::MAX);
    object.number("event.duration", Some(nanos));
    object.plain(
        "event.outcome",
        match line.verdict.class() {
            Class::Success => "success",
            // Nobody knows how it would have ended.
            Class::Cancelled => "unknown",
            _ => "failure",
        },
    );
    object.address("client.ip", line.client);
    object.text("user.name", line.user);
    object.text("http.request.method", Some(line.method));
    object.text("url.path", line.shown_path());
    object.text("url.query", line.shown_query().as_deref());
    object.plain("http.version", line.version());
    let status = line.verdict.http_status();
    object.number("http.response.status_code", status.map(u64::from));
    object.number("http.response.body.bytes", Some(line.bytes));
    object.number("http.request.body.bytes", Some(line.request_bytes));
    object.text("http.request.id", line.request_id);
    object.bytes("user_agent.original", line.user_agent);
    object.trace_id("trace.id", line.trace);
    object.span_id("span.id", line.trace);
    if let Some(excerpts) = line.excerpts {
        let names = [
            ["http.request.headers", "http.request.body.content"],
            ["http.response.headers", "http.response.body.content"],
        ];
        excerpts.members(&mut object, names);
    }
    // Labels are texts, and have no points in their names.
    object.object("labels", |labels| {
        labels.text("http_route", line.route);
        labels.plain("class", class_name(line.verdict.class()));
        if let Some(code) = line.verdict.grpc_code() {
            labels.quoted("grpc_status_code", code.into());
        }
        if line.slow {
            labels.plain("slow", "true");
        }
    });
    object.end();
}
