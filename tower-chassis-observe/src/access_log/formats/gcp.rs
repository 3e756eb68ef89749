//! A structured log entry of Google Cloud.

use super::super::line::{Line, Object};
use crate::fault::class_name;

pub(in super::super) fn gcp(line: &Line<'_>, out: &mut String) {
    let mut object = Object::new(out);
    object.plain("severity", line.level.gcp());
    object.time("time", line.time);
    line.message(&mut object, "message");
    object.object("httpRequest", |request| {
        request.text("requestMethod", Some(line.method));
        request.text("requestUrl", line.target().as_deref());
        request.quoted("requestSize", line.request_bytes);
        let status = line.verdict.http_status();
        request.number("status", status.map(u64::from));
        request.quoted("responseSize", line.bytes);
        request.bytes("userAgent", line.user_agent);
        request.address("remoteIp", line.client);
        request.seconds("latency", line.duration);
        request.plain("protocol", line.protocol());
    });
    if let Some(trace) = line.trace {
        match line.project {
            Some(project) => {
                object.trace_of("logging.googleapis.com/trace", project, trace);
            }
            None => object.trace_id("logging.googleapis.com/trace", line.trace),
        }
        object.span_id("logging.googleapis.com/spanId", line.trace);
        let sampled = if trace.is_sampled() { "true" } else { "false" };
        object.raw("logging.googleapis.com/trace_sampled", sampled);
    }
    // Labels are texts.
    object.object("logging.googleapis.com/labels", |labels| {
        labels.text("route", line.route);
        labels.text("request_id", line.request_id);
        labels.text("user", line.user);
        labels.plain("class", class_name(line.verdict.class()));
        if let Some(code) = line.verdict.grpc_code() {
            labels.quoted("grpc", code.into());
        }
        if line.slow {
            labels.plain("slow", "true");
        }
    });
    if let Some(excerpts) = line.excerpts {
        let names = [
            ["requestHeaders", "requestBody"],
            ["responseHeaders", "responseBody"],
        ];
        excerpts.members(&mut object, names);
    }
    object.end();
}
