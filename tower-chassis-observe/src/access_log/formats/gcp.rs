//! A structured log entry of Google Cloud.

use super::super::line::{Line, Object, key};
use crate::fault::class_name;

pub(in super::super) fn gcp(line: &Line<'_>, out: &mut String) {
    let mut object = Object::new(out);
    object.plain(key!("severity"), line.level.gcp());
    object.time(key!("time"), line.time);
    line.message(&mut object, key!("message"));
    object.object(key!("httpRequest"), |request| {
        request.text(key!("requestMethod"), Some(line.method));
        request.text(key!("requestUrl"), line.target().as_deref());
        request.quoted(key!("requestSize"), line.request_bytes);
        let status = line.verdict.http_status();
        request.number(key!("status"), status.map(u64::from));
        request.quoted(key!("responseSize"), line.bytes);
        request.bytes(key!("userAgent"), line.user_agent);
        request.address(key!("remoteIp"), line.client);
        request.seconds(key!("latency"), line.duration);
        request.plain(key!("protocol"), line.protocol());
    });
    if let Some(trace) = line.trace {
        match line.project {
            Some(project) => {
                object.trace_of(key!("logging.googleapis.com/trace"), project, trace);
            }
            None => object.trace_id(key!("logging.googleapis.com/trace"), line.trace),
        }
        object.span_id(key!("logging.googleapis.com/spanId"), line.trace);
        let sampled = if trace.is_sampled() { "true" } else { "false" };
        object.raw(key!("logging.googleapis.com/trace_sampled"), sampled);
    }
    // Labels are texts.
    object.object(key!("logging.googleapis.com/labels"), |labels| {
        labels.text(key!("route"), line.route);
        labels.text(key!("request_id"), line.request_id);
        labels.text(key!("user"), line.user);
        labels.plain(key!("class"), class_name(line.verdict.class()));
        if let Some(code) = line.verdict.grpc_code() {
            labels.quoted(key!("grpc"), code.into());
        }
        if line.slow {
            labels.plain(key!("slow"), "true");
        }
    });
    if let Some(excerpts) = line.excerpts {
        let names = [
            [key!("requestHeaders"), key!("requestBody")],
            [key!("responseHeaders"), key!("responseBody")],
        ];
        excerpts.members(&mut object, names);
    }
    object.end();
}
