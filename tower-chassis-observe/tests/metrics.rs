//! Metrics through a real exporter, as Prometheus sees them.
#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "a test")]

mod support;

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use http::{Method, Request, Response, Version, uri::Scheme};
use http_body_util::BodyExt;
use support::{Routes, TestBody, endless, find, get, one};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Carrier, Kind, Rejection};
use tower_chassis_observe::{
    metrics::{ClientMetricsLayer, ServerMetricsLayer},
    prometheus::{BUCKETS, Prometheus},
};

const COUNT: &str = "http_server_request_duration_seconds_count";
const ACTIVE: &str = "http_server_active_requests";

fn server() -> (
    Prometheus,
    impl Service<
        Request<()>,
        Response = Response<impl http_body::Body<Data = bytes::Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone,
) {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let routes = Routes::default();
    (
        prometheus,
        layer.layer(service_fn(move |request| routes.clone().call(request))),
    )
}

#[tokio::test]
async fn the_route_is_the_template_or_unmatched() {
    let (prometheus, service) = server();
    for path in [
        "/users/1",
        "/users/2?token=x",
        "/.env",
        "/wp-login.php",
        "/users/fail",
    ] {
        let response = service.clone().oneshot(get(path)).await.unwrap();
        let _ = response.into_body().collect().await;
    }
    let text = prometheus.render();
    let ok = [
        r#"http_route="/users/{id}""#,
        r#"http_response_status_code="200""#,
        r#"url_scheme="http""#,
        r#"network_protocol_version="1.1""#,
        r#"http_request_method="GET""#,
    ];
    assert_eq!(one(&text, COUNT, &ok), 2.0);
    assert_eq!(
        one(
            &text,
            COUNT,
            &[
                r#"http_route="unmatched""#,
                r#"http_response_status_code="404""#
            ]
        ),
        2.0
    );
    let failed = [r#"http_response_status_code="500""#, r#"error_type="500""#];
    assert_eq!(one(&text, COUNT, &failed), 1.0);
    assert_eq!(find(&text, COUNT, &[]).len(), 3);
    assert_eq!(find(&text, COUNT, &["error_type"]).len(), 1);
    for leaked in ["token", ".env", "wp-login", "/users/1"] {
        assert!(!text.contains(leaked), "{leaked}");
    }
    let bucket = "http_server_request_duration_seconds_bucket";
    assert_eq!(find(&text, bucket, &["unmatched"]).len(), BUCKETS.len() + 1);
}

#[tokio::test]
async fn the_line_of_the_request_is_a_label() {
    let (prometheus, service) = server();
    let mut request = get("https://host/users/1");
    *request.method_mut() = Method::from_bytes(b"BREW").unwrap();
    *request.version_mut() = Version::HTTP_2;
    let _ = service.oneshot(request).await.unwrap();
    let layer = ServerMetricsLayer::new()
        .recorder(prometheus.recorder())
        .scheme(&Scheme::HTTPS);
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let _ = service.oneshot(get("/users/1")).await.unwrap();
    let text = prometheus.render();
    let other = [
        r#"http_request_method="_OTHER""#,
        r#"url_scheme="https""#,
        r#"network_protocol_version="2""#,
    ];
    assert_eq!(one(&text, COUNT, &other), 1.0);
    let get = [
        r#"http_request_method="GET""#,
        r#"url_scheme="https""#,
        r#"network_protocol_version="1.1""#,
    ];
    assert_eq!(one(&text, COUNT, &get), 1.0);
}

#[tokio::test]
async fn a_panic_has_its_route_and_gives_the_gauge_back() {
    let (prometheus, service) = server();
    let joined =
        tokio::spawn(async move { service.oneshot(get("/users/panic")).await.map(drop) }).await;
    assert!(joined.unwrap_err().is_panic());
    let text = prometheus.render();
    assert_eq!(
        one(
            &text,
            COUNT,
            &[r#"http_route="/users/{id}""#, r#"error_type="_OTHER""#]
        ),
        1.0
    );
    assert!(find(&text, COUNT, &["status_code"]).is_empty());
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_has_its_route_and_no_status() {
    let (prometheus, service) = server();
    {
        let mut call = pin!(service.oneshot(get("/slow")));
        assert!(
            call.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(
            one(
                &prometheus.render(),
                ACTIVE,
                &[r#"http_request_method="GET""#]
            ),
            1.0
        );
        tokio::time::advance(Duration::from_secs(3)).await;
    }
    let text = prometheus.render();
    let left = [r#"http_route="/slow""#, r#"error_type="cancelled""#];
    assert_eq!(one(&text, COUNT, &left), 1.0);
    assert_eq!(
        one(&text, "http_server_request_duration_seconds_sum", &left),
        3.0
    );
    assert!(find(&text, COUNT, &["status_code"]).is_empty());
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
}

#[tokio::test]
async fn a_grpc_call_is_judged_by_its_trailers() {
    let (prometheus, service) = server();
    let response = service.oneshot(get("/users/grpc")).await.unwrap();
    assert_eq!(one(&prometheus.render(), ACTIVE, &[]), 1.0);
    let _ = response.into_body().collect().await;
    let text = prometheus.render();
    let failed = [
        r#"http_response_status_code="200""#,
        r#"error_type="UNAVAILABLE""#,
    ];
    assert_eq!(one(&text, COUNT, &failed), 1.0);
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn latency_is_that_of_the_head_and_a_body_dropped_midway_is_cancelled() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let (mut sender, response) = endless();
    let response = Arc::new(std::sync::Mutex::new(Some(response)));
    let service = layer.layer(service_fn(move |_: Request<()>| {
        let response = response.lock().unwrap().take().unwrap();
        async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<Response<TestBody>, Infallible>(response)
        }
    }));
    let mut body = service.oneshot(get("/x")).await.unwrap().into_body();
    sender.send_data("part".into()).await.unwrap();
    assert!(body.frame().await.is_some());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(find(&prometheus.render(), COUNT, &[]).is_empty());
    drop(body);
    let text = prometheus.render();
    let cancelled = [
        r#"http_response_status_code="200""#,
        r#"error_type="cancelled""#,
    ];
    assert_eq!(
        one(
            &text,
            "http_server_request_duration_seconds_sum",
            &cancelled
        ),
        2.0
    );
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
}

#[tokio::test]
async fn a_client_names_the_server_and_why_there_was_no_answer() {
    let prometheus = Prometheus::new();
    let layer = ClientMetricsLayer::new().recorder(prometheus.recorder());
    let service = layer.layer(service_fn(async |request: Request<()>| {
        match request.uri().path() {
            "/none" => Err(BoxError::from(Rejection::new(Kind::Unreachable, "client"))),
            "/open" => Err(Rejection::new(Kind::CircuitOpen, "breaker").into()),
            _ => Ok::<_, BoxError>(support::answer(404, "")),
        }
    }));
    for uri in [
        "http://a.test/x",
        "http://a.test:8080/none",
        "http://a.test:8080/open",
    ] {
        let _ = service.clone().oneshot(get(uri)).await;
    }
    let mut request = get("http://10.0.0.1:1/x");
    request.invocation_mut().set_service("orders".into());
    let _ = service.oneshot(request).await;
    let text = prometheus.render();
    let name = "http_client_request_duration_seconds_count";
    let answered = [
        r#"server_address="a.test""#,
        r#"server_port="80""#,
        r#"http_response_status_code="404""#,
        r#"error_type="404""#,
    ];
    assert_eq!(one(&text, name, &answered), 1.0);
    for error in [r#"error_type="unreachable""#, r#"error_type="refused""#] {
        let found = find(&text, name, &[error, r#"server_port="8080""#]);
        assert!(
            found.len() == 1 && !found[0].0.contains("status_code"),
            "{text}"
        );
    }
    let named = find(&text, name, &[r#"server_address="orders""#]);
    assert!(
        named.len() == 1 && !named[0].0.contains("server_port"),
        "{text}"
    );
    let active = find(&text, "http_client_active_requests", &[]);
    assert!(
        active.len() == 3 && active.iter().all(|(_, value)| *value == 0.0),
        "{text}"
    );
}

#[tokio::test]
async fn until_the_head_the_response_stays_as_it_is() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new()
        .recorder(prometheus.recorder())
        .until_head();
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let response: Response<TestBody> = service.oneshot(get("/users/grpc")).await.unwrap();
    let text = prometheus.render();
    assert_eq!(
        one(&text, COUNT, &[r#"http_response_status_code="200""#]),
        1.0
    );
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
    assert!(find(&text, COUNT, &["error_type"]).is_empty());
    drop(response);
}
