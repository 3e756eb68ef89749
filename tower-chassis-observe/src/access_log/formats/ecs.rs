//! Elastic Common Schema 8.11.

use tower_chassis_core::Class;

use super::super::line::{Line, Object, key};
use crate::fault::class_name;

pub(in super::super) fn ecs(line: &Line<'_>, out: &mut String) {
    let mut object = Object::new(out);
    object.time(key!("@timestamp"), line.time);
    object.plain(key!("log.level"), line.level.name());
    line.message(&mut object, key!("message"));
    object.plain(key!("ecs.version"), "8.11.0");
    // Nanoseconds.
    let nanos = u64::try_from(line.duration.as_nanos()).unwrap_or(u64::MAX);
    object.number(key!("event.duration"), Some(nanos));
    object.plain(
        key!("event.outcome"),
        match line.verdict.class() {
            Class::Success => "success",
            // Nobody knows how it would have ended.
            Class::Cancelled => "unknown",
            _ => "failure",
        },
    );
    object.address(key!("client.ip"), line.client);
    object.text(key!("user.name"), line.user);
    object.text(key!("http.request.method"), Some(line.method));
    object.text(key!("url.path"), line.shown_path());
    object.text(key!("url.query"), line.shown_query().as_deref());
    object.plain(key!("http.version"), line.version());
    let status = line.verdict.http_status();
    object.number(key!("http.response.status_code"), status.map(u64::from));
    object.number(key!("http.response.body.bytes"), Some(line.bytes));
    object.number(key!("http.request.body.bytes"), Some(line.request_bytes));
    object.text(key!("http.request.id"), line.request_id);
    object.bytes(key!("user_agent.original"), line.user_agent);
    object.trace_id(key!("trace.id"), line.trace);
    object.span_id(key!("span.id"), line.trace);
    if let Some(excerpts) = line.excerpts {
        let names = [
            [
                key!("http.request.headers"),
                key!("http.request.body.content"),
            ],
            [
                key!("http.response.headers"),
                key!("http.response.body.content"),
            ],
        ];
        excerpts.members(&mut object, names);
    }
    // Labels are texts, and have no points in their names.
    object.object(key!("labels"), |labels| {
        labels.text(key!("http_route"), line.route);
        labels.plain(key!("class"), class_name(line.verdict.class()));
        if let Some(code) = line.verdict.grpc_code() {
            labels.quoted(key!("grpc_status_code"), code.into());
        }
        if line.slow {
            labels.plain(key!("slow"), "true");
        }
    });
    object.end();
}
