//! A log record of OpenTelemetry, its attributes under the names of the conventions.

use super::super::line::{Line, Object, key};
use crate::fault::{Fault, Outcome, class_name};

pub(in super::super) fn otel(line: &Line<'_>, out: &mut String) {
    let (text, number) = line.level.otel();
    let mut object = Object::new(out);
    object.time(key!("timestamp"), line.time);
    object.plain(key!("severity_text"), text);
    object.number(key!("severity_number"), Some(number));
    line.message(&mut object, key!("body"));
    object.trace_id(key!("trace_id"), line.trace);
    object.span_id(key!("span_id"), line.trace);
    if let Some(trace) = line.trace {
        object.number(key!("trace_flags"), Some(trace.is_sampled().into()));
    }
    object.object(key!("attributes"), |attributes| attribute(line, attributes));
    object.end();
}

fn attribute(line: &Line<'_>, object: &mut Object<'_>) {
    object.text(key!("http.request.method"), Some(line.method));
    object.text(key!("url.path"), line.shown_path());
    object.text(key!("url.query"), line.shown_query().as_deref());
    object.text(key!("http.route"), line.route);
    let status = line.verdict.http_status();
    object.number(key!("http.response.status_code"), status.map(u64::from));
    let outcome = Outcome::server(line.verdict);
    match outcome.fault {
        Fault::None => {}
        Fault::Status => object.quoted(key!("error.type"), status.unwrap_or_default().into()),
        _ => object.text(key!("error.type"), outcome.error_type().as_deref()),
    }
    let code = line.verdict.grpc_code();
    object.number(key!("rpc.grpc.status_code"), code.map(u64::from));
    // Seconds.
    let micros = u64::try_from(line.duration.as_micros()).unwrap_or(u64::MAX);
    object.decimal(key!("http.server.request.duration"), micros, 6);
    object.number(key!("http.response.body.size"), Some(line.bytes));
    object.number(key!("http.request.body.size"), Some(line.request_bytes));
    object.plain(key!("network.protocol.name"), "http");
    object.plain(key!("network.protocol.version"), line.version());
    object.address(key!("client.address"), line.client);
    object.bytes(key!("user_agent.original"), line.user_agent);
    object.text(key!("user.name"), line.user);
    object.text(key!("http.request.id"), line.request_id);
    object.plain(key!("class"), class_name(line.verdict.class()));
    if line.slow {
        object.raw(key!("slow"), "true");
    }
    if let Some(excerpts) = line.excerpts {
        excerpts.attributes(object);
    }
}
