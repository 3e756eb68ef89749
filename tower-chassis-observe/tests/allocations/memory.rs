//! Whoever sends requests makes nothing grow: what is held after the hundred-thousandth is what was held before.

use std::{convert::Infallible, sync::Arc};

use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::Body;
use tower_chassis_observe::{
    ObserveLayer,
    access_log::{AccessLogLayer, Format},
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    registry::Registry,
    trace::{ClientTraceLayer, TraceLayer},
};
use tower_chassis_router::{Router, get};

use crate::{LIVE, support};

/// So many calls, ten times as many with `CHASSIS_LONG`; a fifth of them before what is held is read for the first time.
fn calls() -> usize {
    match std::env::var_os("CHASSIS_LONG") {
        Some(_) => 1_000_000,
        None => 100_000,
    }
}

/// A path, a host, a method and a method of gRPC that nobody has asked for before.
fn made_up(n: usize) -> Request<Body> {
    let uri = match n % 4 {
        0 => format!("/users/{n}"),
        1 => format!("/{n}.S/M{n}"),
        2 => format!("http://host-{n}.test:{}/{n}", n % 60_000 + 1),
        _ => format!("/a/{n}?q={n}"),
    };
    let method = match n % 3 {
        0 => "GET".to_owned(),
        1 => "POST".to_owned(),
        _ => format!("M{n}"),
    };
    let request = Request::builder()
        .method(&*method)
        .uri(uri)
        .header("host", format!("h{n}"))
        .header("user-agent", format!("agent {n}"));
    let kind = if n % 2 == 1 {
        "application/grpc"
    } else {
        "a/b"
    };
    request
        .header("content-type", kind)
        .body(Body::empty())
        .unwrap()
}

/// How many bytes are held more after all calls than after a fifth of them.
fn grown<S, B>(service: S) -> isize
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    B: http_body::Body,
{
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let (mut first, all) = (0, calls());
        for n in 0..all {
            if let Ok(response) = service.clone().oneshot(made_up(n)).await {
                let _ = response.into_body().collect().await;
            }
            if n + 1 == all / 5 {
                first = LIVE.get();
            }
        }
        LIVE.get() - first
    })
}

/// A buffer of a thread may have grown for a line that is a few digits longer.
const SLACK: isize = 4_096;

async fn serve(request: Request<Body>) -> Result<Response<support::TestBody>, Infallible> {
    Ok(match request.headers()["content-type"].as_bytes() {
        b"application/grpc" => support::grpc("12"),
        _ => support::answer(404, "no such thing"),
    })
}

#[test]
fn a_server_holds_no_more() {
    let router = Router::new()
        .route("/users/{id}", get(|| async { "hello" }))
        .build()
        .unwrap();
    let registry = Arc::new(Registry::new());
    let observe = ObserveLayer::new((
        TraceLayer::new(),
        AccessLogLayer::new(Format::Json, |_: &str| {}),
        ServerMetricsLayer::new().recorder(registry.clone()),
    ));
    let grown = grown(observe.layer(router));
    assert!(grown <= SLACK, "{grown} bytes");
    assert!(registry.series() < 1_500, "{}", registry.series());
}

#[test]
fn a_client_holds_no_more() {
    let registry = Arc::new(Registry::new());
    let observe = ObserveLayer::new((
        ClientTraceLayer::new(),
        ClientMetricsLayer::new().recorder(registry),
    ));
    let grown = grown(observe.layer(service_fn(serve)));
    assert!(grown <= SLACK, "{grown} bytes");
}

#[test]
fn calls_of_any_protocol_hold_no_more() {
    let layer = CallMetricsLayer::new().recorder(Arc::new(Registry::new()));
    let grown = grown(layer.layer(service_fn(serve)));
    assert!(grown <= SLACK, "{grown} bytes");
}
