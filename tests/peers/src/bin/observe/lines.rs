//! What a line for a request costs.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use http::HeaderValue;
use tower::Layer;
use tower_chassis::{Carrier, trace::TraceContext};
use tower_chassis_observe::access_log::{AccessLogLayer, Format};
use tower_chassis_peers::bench::Case;

use crate::world::{Answer, Around, FLOOR, Get, Matched, Read, TEXT};

/// Where all lines go.
static BYTES: AtomicU64 = AtomicU64::new(0);

struct Sink;

impl io::Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BYTES.fetch_add(line.len() as u64, Relaxed);
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const NAME: &str = "0198b7e2-5d1c-7c3a-9d43-7b2f3a9be101";

/// With a trace and a name, as behind the layers that give them.
fn get() -> impl FnMut() -> Get + Clone {
    let name: Arc<str> = NAME.into();
    move || {
        let mut request = crate::world::get();
        let invocation = request.invocation_mut();
        invocation.set_trace(trace(), None);
        invocation.set_request_id(Arc::clone(&name));
        request
    }
}

fn trace() -> TraceContext {
    TraceContext::new([0x4b; 16], [0x7a; 8], true).unwrap()
}

/// What our line says.
macro_rules! line {
    ($method:expr, $path:expr, $route:expr, $status:expr, $millis:expr, $bytes:expr, $name:expr, $trace:expr, $client:expr, $agent:expr) => {
        tracing::info!(
            client = %$client,
            method = $method,
            path = $path,
            route = $route,
            status = $status,
            duration_ms = $millis,
            bytes = $bytes,
            request_id = $name,
            trace_id = %$trace.trace_id(),
            user_agent = $agent,
            class = "success",
            span_id = %$trace.span_id(),
            request_bytes = 0,
            protocol = "HTTP/1.1",
        )
    };
}

fn event(_: &mut Get) -> fn(&Answer) {
    let (client, trace) = (std::net::IpAddr::from([127, 0, 0, 1]), trace());
    let (path, route, agent) = ("/users/7", "/users/{id}", "curl/8.5.0");
    line!(
        "GET", path, route, 200, 0.012, 13, NAME, trace, client, agent
    );
    |_| ()
}

/// As a layer has it, until the head alone.
fn service(request: &mut Get) -> impl FnOnce(&Answer) + Unpin + use<> {
    let start = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let agent = request.headers().get("user-agent").cloned();
    let invocation = request.invocation_mut();
    let (route, trace) = (invocation.route_slot(), invocation.trace().unwrap());
    let (name, client) = (
        invocation.request_id().cloned(),
        invocation.client().unwrap(),
    );
    move |answer: &Answer| {
        let millis = start.elapsed().as_secs_f64() * 1e3;
        let route = route.get().map_or("", |route| route.template());
        let agent = agent.as_ref().map(HeaderValue::to_str);
        let agent = agent.and_then(Result::ok);
        let (status, bytes) = (answer.status().as_u16(), TEXT.len());
        let (method, path, client) = (method.as_str(), uri.path(), client.ip());
        let name = name.as_deref();
        line!(
            method, path, route, status, millis, bytes, name, trace, client, agent
        );
    }
}

pub(crate) fn cases() -> Vec<Case> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(|| Sink)
        .init();
    let ours = |format| {
        let layer = AccessLogLayer::new(format, |line: &str| {
            BYTES.fetch_add(line.len() as u64, Relaxed);
        });
        Read(layer.layer(Matched::new()))
    };
    let theirs = "tracing: JSON, as a service";
    let event = Around(Matched::new(), event as fn(&mut Get) -> fn(&Answer));
    vec![
        Case::new(FLOOR, "", Read(Matched::new()), get()),
        Case::new("tracing: JSON event", "", Read(event), get()),
        Case::new(theirs, "", Read(Around(Matched::new(), service)), get()),
        Case::new("access log, JSON", theirs, ours(Format::Json), get()),
        Case::new(
            "access log, OpenTelemetry",
            theirs,
            ours(Format::Otel),
            get(),
        ),
        Case::new("access log, ECS", theirs, ours(Format::Ecs), get()),
        Case::new("access log, Google", theirs, ours(Format::Gcp), get()),
        Case::new("access log, text", theirs, ours(Format::Text), get()),
        Case::new(
            "access log, combined",
            theirs,
            ours(Format::Combined),
            get(),
        ),
    ]
}
