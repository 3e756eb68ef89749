//! A log record of OpenTelemetry, its attributes under the names of the conventions.

use super::super::line::{Line, Object};
use crate::fault::{Fault, Outcome, class_name};

pub(in super::super) fn otel(line: &Line<'_>, out: &mut String) {
    let (text, number) = line.level.otel();
    let mut object = Object::new(out);
    object.time("timestamp", line.time);
    object.plain("severity_text", text);
    object.number("severity_number", Some(number));
    line.message(&mut object, "body");
    object.trace_id("trace_id", line.trace);
    object.span_id("span_id", line.trace);
    if let Some(trace) = line.trace {
        object.number("trace_flags", Some(trace.is_sampled().into()));
    }
    object.object("attributes", |attributes| attribute(line, attributes));
    object.end();
}

fn attribute(line: &Line<'_>, object: &mut Object<'_>) {
    object.text("http.request.method", Some(line.method));
    object.text("url.path", line.shown_path());
    object.text("url.query", line.shown_query().as_deref());
    object.text("http.route", line.route);
    let status = line.verdict.http_status();
    object.number("http.response.status_code", status.map(u64::from));
    let outcome = Outcome::server(line.verdict);
    match outcome.fault {
        Fault::None => {}
        Fault::Status => object.quoted("error.type", status.unwrap_or_default().into()),
        _ => object.text("error.type", outcome.error_type().as_deref()),
    }
    let code = line.verdict.grpc_code();
    object.number("rpc.grpc.status_code", code.map(u64::from));
    // Seconds.
    let micros = u64::try_from(line.duration.as_micros()).unwrap_or(u64::MAX);
    object.decimal("http.server.request.duration", micros, 6);
    object.number("http.response.body.size", Some(line.bytes));
    object.number("http.request.body.size", Some(line.request_bytes));
    object.plain("network.protocol.name", "http");
    object.plain("network.protocol.version", line.version());
    object.address("client.address", line.client);
    object.bytes("user_agent.original", line.user_agent);
    object.text("user.name", line.user);
    object.text("http.request.id", line.request_id);
    object.plain("class", class_name(line.verdict.class()));
    if line.slow {
        object.raw("slow", "true");
    }
    if let Some(excerpts) = line.excerpts {
        excerpts.attributes(object);
    }
}
