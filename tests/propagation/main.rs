//! One trace over sockets: axum, our server, tonic and a Python grpcio peer, with attempts that fail, are hedged and are
//! left; and what of it arrives at a collector (feature `otlp`).
//!
//! The Python peer needs `/usr/bin/python3` with `grpc` (Debian's `python3-grpcio`). Without it the test says that it was
//! skipped; with `CHASSIS_PEERS=required` it fails.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]
#![allow(clippy::print_stderr, reason = "a test that was skipped says so")]

#[cfg(feature = "otlp")]
mod chain;
#[cfg(feature = "otlp")]
mod collector;
mod grpcio;
mod services;
mod spans;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use http::{Request, Response};
use http_body_util::BodyExt;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError, Invocation, RescueLayer,
    client::{Client, ClientConfig, ClientPolicy},
    hedge::{HedgeLayer, HedgePolicy},
    retry::{RetryConfig, RetryLayer, RetryPolicy},
    server::Drain,
    trace::{ClientTraceLayer, TraceLayer},
};

use self::{
    services::{Health, channel, serve_axum, serve_ours, serve_tonic},
    spans::Kept,
};

fn retry() -> RetryLayer {
    let policy = RetryPolicy::try_from(RetryConfig {
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        // A check may be asked twice.
        methods: vec!["GET".into(), "POST".into()],
        ..RetryConfig::default()
    });
    RetryLayer::new(policy.unwrap())
}

fn client(http2: bool) -> Client {
    let mut config = ClientConfig::default();
    config.http2 = http2;
    let policy = ClientPolicy::try_from(config);
    Client::new(&policy.unwrap())
}

/// Asks over HTTP with a span for the call and one for each attempt.
fn asking(
    kept: Kept,
    http2: bool,
) -> impl Service<
    Request<Body>,
    Response = Response<impl http_body::Body<Data = bytes::Bytes, Error: std::fmt::Debug>>,
    Error = BoxError,
    Future: Send,
> + Clone
+ use<> {
    ServiceBuilder::new()
        .layer(ClientTraceLayer::new().sink(kept.of("call")))
        .layer(retry())
        .layer(ClientTraceLayer::new().sink(kept.of("try")))
        .service(client(http2))
}

fn to(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).unwrap()
}

/// axum, which asks our server twice, which asks tonic twice.
async fn three_services(http2: bool) {
    let kept = Kept::default();
    let health = Health::failing(1);
    let tonic = serve_tonic(TraceLayer::new().sink(kept.of("tonic")), health).await;

    // Our server fails once, then asks tonic.
    let failed = Arc::new(AtomicU32::new(0));
    let grpc = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(ClientTraceLayer::new().sink(kept.of("rpc")))
        .layer(retry().rewrap_with(tonic::body::Body::new))
        .layer(ClientTraceLayer::new().sink(kept.of("rpc try")))
        .service(channel(tonic));
    let ours =
        TraceLayer::new()
            .sink(kept.of("ours"))
            .layer(service_fn(move |_: Request<Body>| {
                let (failed, grpc) = (failed.fetch_add(1, SeqCst) == 0, grpc.clone());
                async move {
                    let mut response = Response::new(Body::from("served"));
                    if failed {
                        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                        return Ok::<_, BoxError>(response);
                    }
                    let ask = HealthCheckRequest::default();
                    HealthClient::new(grpc).check(ask).await?;
                    Ok(response)
                }
            }));
    let drain = Drain::new();
    let ours = serve_ours(ours, drain.clone()).await;

    let ask = asking(kept.clone(), http2);
    let app = Router::new()
        .route(
            "/shop",
            get(move |incoming: axum::Extension<Invocation>| async move {
                // Says itself which call it is made for, while that of the other service is the one that is polled.
                let mut request = to(&format!("http://{ours}/stock"));
                incoming.carry(&mut request);
                let response = ask.oneshot(request).await;
                let body = response.unwrap().into_body().collect().await.unwrap();
                body.to_bytes()
            }),
        )
        .layer(TraceLayer::new().sink(kept.of("axum")));
    let axum = serve_axum(app).await;

    let response = client(false)
        .oneshot(to(&format!("http://{axum}/shop")))
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "served");

    let spans = kept.wait(11).await;
    let trace = spans[0].1.context().trace_id();
    assert!(
        spans
            .iter()
            .all(|(_, span)| span.context().trace_id() == trace)
    );
    let check = "grpc.health.v1.Health/Check";
    // axum's template is known with the feature alone.
    let route = if cfg!(feature = "axum") { " /shop" } else { "" };
    assert_eq!(
        spans::tree(&spans),
        [
            format!("axum GET{route} 200 -"),
            " call GET 200 -".to_owned(),
            "  try GET 503 error".to_owned(),
            "   ours GET 503 error".to_owned(),
            "  try GET 200 - resent 1".to_owned(),
            "   ours GET 200 -".to_owned(),
            format!("    rpc {check} OK -"),
            format!("     rpc try {check} UNAVAILABLE error"),
            format!("      tonic {check} UNAVAILABLE error"),
            format!("     rpc try {check} OK - resent 1"),
            format!("      tonic {check} OK -"),
        ]
    );
    for (name, span) in &spans {
        // What came over the wire has a parent elsewhere.
        let over_the_wire = matches!(*name, "ours" | "tonic");
        assert_eq!(span.has_remote_parent(), over_the_wire, "{name}");
    }
    drain.start();
}

#[tokio::test]
async fn three_services_have_one_trace_over_http_1() {
    three_services(false).await;
}

#[tokio::test]
async fn three_services_have_one_trace_over_http_2() {
    three_services(true).await;
}

/// The first attempt hangs, the second answers: two siblings, of which one was left.
#[tokio::test]
async fn a_hedge_is_a_sibling_and_who_lost_was_cancelled() {
    let kept = Kept::default();
    let asked = Arc::new(AtomicU32::new(0));
    let ours =
        TraceLayer::new()
            .sink(kept.of("ours"))
            .layer(service_fn(move |_: Request<Body>| {
                let hangs = asked.fetch_add(1, SeqCst) == 0;
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, BoxError>(Response::new(Body::from("served")))
                }
            }));
    let drain = Drain::new();
    let ours = serve_ours(ours, drain.clone()).await;
    let hedge = HedgePolicy::default()
        .with(|config| {
            config.delay = Some(Duration::from_millis(20));
        })
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(ClientTraceLayer::new().sink(kept.of("call")))
        .layer(HedgeLayer::new(hedge))
        .layer(ClientTraceLayer::new().sink(kept.of("try")))
        .service(client(false));
    let response = service
        .oneshot(to(&format!("http://{ours}/")))
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "served");

    let spans = kept.wait(5).await;
    assert_eq!(
        spans::tree(&spans),
        [
            "call GET 200 -",
            " try GET cancelled -",
            "  ours GET cancelled -",
            " try GET 200 - resent 1",
            "  ours GET 200 -",
        ]
    );
    drain.start();
}
