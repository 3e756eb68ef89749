//! Whoever sends requests cannot make series: what is made up, paths, methods, hosts, names of gRPC, ends in labels that
//! stand for all of its kind.

use std::convert::Infallible;

use crate::support::{Routes, TestBody, answer};
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_observe::{
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    prometheus::Prometheus,
    registry::Registry,
};
use tower_chassis_router::{Router, get};

/// So many requests, ten times as many with `CHASSIS_LONG`.
fn all() -> usize {
    match std::env::var_os("CHASSIS_LONG") {
        Some(_) => 1_000_000,
        None => 100_000,
    }
}

/// And so many before the series are counted for the first time.
const FIRST: usize = 20_000;

fn word(random: &mut fastrand::Rng) -> String {
    (0..random.usize(1..9))
        .map(|_| random.alphanumeric())
        .collect()
}

/// A request that nobody has sent before.
fn made_up(random: &mut fastrand::Rng) -> Request<()> {
    let path = match random.u8(..6) {
        0 => format!("/users/{}", word(random)),
        1 => format!("/{}.{}/{}", word(random), word(random), word(random)),
        2 => format!("/{}?{}={}", word(random), word(random), word(random)),
        3 => format!("/users/{}/{}/{}", word(random), word(random), word(random)),
        4 => "/shop.Orders/Place".to_owned(),
        _ => format!("/%{:02x}/{}", random.u8(..), word(random)),
    };
    let host = if random.bool() {
        word(random)
    } else {
        "shop".into()
    };
    let path = if random.bool() {
        format!("http://{host}:{}{path}", random.u16(1..))
    } else {
        path
    };
    let method = match random.u8(..4) {
        0 => Method::GET,
        1 => Method::POST,
        2 => Method::from_bytes(word(random).as_bytes()).unwrap(),
        _ => Method::from_bytes(word(random).to_uppercase().as_bytes()).unwrap(),
    };
    let versions = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2];
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .version(*random.choice(&versions).unwrap())
        .header("host", word(random))
        .header("user-agent", word(random));
    if random.bool() {
        request = request.header("content-type", "application/grpc");
    }
    if random.bool() {
        request = request.header("content-length", random.u32(..));
    }
    request.body(()).unwrap()
}

/// How many series there are after some of the calls, and after all.
async fn series<S, B>(registry: &Registry, service: S) -> (usize, usize)
where
    S: Service<Request<()>, Response = Response<B>> + Clone,
    B: http_body::Body,
{
    let mut random = fastrand::Rng::with_seed(7);
    let mut first = 0;
    for n in 0..all() {
        let call = service.clone().oneshot(made_up(&mut random));
        if let Ok(response) = call.await {
            let _ = response.into_body().collect().await;
        }
        if n + 1 == FIRST {
            first = registry.series();
        }
    }
    (first, registry.series())
}

/// As a server does that has one method of gRPC.
async fn serve(request: Request<()>) -> Result<Response<TestBody>, Infallible> {
    let grpc = request.headers().contains_key("content-type");
    Ok(match request.uri().path() {
        "/shop.Orders/Place" if grpc => crate::support::grpc("0"),
        _ if grpc => crate::support::grpc("12"),
        path if path.contains('7') => answer(404, "no such thing"),
        _ => answer(200, "hello"),
    })
}

/// Methods, schemes, versions and the codes that are answered are few.
const FEW: usize = 1_500;

#[tokio::test]
async fn a_server_without_a_router() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let (first, all) = series(&prometheus.recorder(), layer.layer(service_fn(serve))).await;
    assert_eq!(first, all);
    assert!(all < FEW, "{all}");
}

#[tokio::test]
async fn a_server_with_our_router() {
    let router = Router::<()>::new()
        .route("/users/{id}", get(|| async { "hello" }))
        .route("/{*rest}", get(|| async { "rest" }))
        .build()
        .unwrap();
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let (first, all) = series(&prometheus.recorder(), layer.layer(router)).await;
    assert_eq!(first, all);
    assert!(all < FEW, "{all}");
    let text = prometheus.render();
    assert!(text.contains(r#"http_route="/users/{id}""#) && text.contains("unmatched"));
}

#[tokio::test]
async fn a_client_and_calls_of_any_protocol() {
    let prometheus = Prometheus::new();
    let recorder = prometheus.recorder();
    let client = ClientMetricsLayer::new().recorder(prometheus.recorder());
    client.handle().update(|config| config.names = 1).unwrap();
    let client = client.layer(service_fn(serve));
    // The one that has a name: of a request that names no host.
    let _ = client
        .clone()
        .oneshot(crate::support::get("/"))
        .await
        .unwrap();
    let (first, all) = series(&recorder, client).await;
    assert_eq!(first, all);
    assert!(all < FEW, "{all}");

    let prometheus = Prometheus::new();
    let calls = CallMetricsLayer::new().recorder(prometheus.recorder());
    let handle = calls.handle();
    handle.update(|config| config.names = 1).unwrap();
    let calls = calls.layer(service_fn(serve));
    let _ = calls
        .clone()
        .oneshot(crate::support::get("/"))
        .await
        .unwrap();
    let (first, all) = series(&prometheus.recorder(), calls).await;
    assert_eq!(first, all);
    assert!(all < FEW, "{all}");

    // With room for the first 256 it is bounded by them.
    let prometheus = Prometheus::new();
    let calls = CallMetricsLayer::new().recorder(prometheus.recorder());
    let calls = calls.layer(service_fn(serve));
    let (_, all) = series(&prometheus.recorder(), calls).await;
    assert!(all < FEW, "{all}");
}

/// A router that makes a table for each call would hold as many as there are calls.
#[tokio::test]
async fn tables_that_come_and_go_share_series_by_template() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let service = layer.layer(service_fn(|request| Routes::default().call(request)));
    for n in 0..1_000 {
        let path = format!("/users/{n}");
        let _ = service
            .clone()
            .oneshot(crate::support::get(&path))
            .await
            .unwrap();
    }
    // A duration, two sizes, and how many are active.
    assert_eq!(prometheus.recorder().series(), 4);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn a_server_of_axum() {
    use ::axum::{Router, body::Body, routing};

    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let app = Router::new()
        .route("/users/{id}", routing::get(|| async { "hello" }))
        .route("/{a}/{b}", routing::post(|| async { "two" }))
        .layer(layer.until_head());
    let app = service_fn(move |request: Request<()>| {
        app.clone().oneshot(request.map(|()| Body::empty()))
    });
    let (first, all) = series(&prometheus.recorder(), app).await;
    assert_eq!(first, all);
    assert!(all < FEW, "{all}");
    assert!(prometheus.render().contains(r#"http_route="/{a}/{b}""#));
}
