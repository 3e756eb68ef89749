//! Metrics as Prometheus sees them.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use crate::support::{Routes, TestBody, endless, find, get, one};
use http::{Method, Request, Response, Version, uri::Scheme};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Carrier, Kind, Rejection};
use tower_chassis_observe::{
    ObserveLayer,
    metrics::{ClientMetricsLayer, ServerMetricsLayer},
    prometheus::{BUCKETS, Prometheus},
    trace::TraceLayer,
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
            _ => Ok::<_, BoxError>(crate::support::answer(404, "")),
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

/// The sums of the histograms of sizes.
fn sizes(text: &str, side: &str, labels: &[&str]) -> (Vec<f64>, Vec<f64>) {
    let sums = |of: &str| {
        let name = format!("http_{side}_{of}_body_size_bytes_sum");
        let found = find(text, &name, labels).into_iter();
        found.map(|(_, sum)| sum).collect()
    };
    (sums("request"), sums("response"))
}

#[tokio::test]
async fn bodies_have_sizes() {
    let (prometheus, service) = server();
    let mut post = get("/users/1");
    *post.method_mut() = Method::POST;
    post.headers_mut().insert("content-length", 700.into());
    let response = service.clone().oneshot(post).await.unwrap();
    let _ = response.into_body().collect().await;
    let posts = [
        r#"http_request_method="POST""#,
        r#"http_route="/users/{id}""#,
    ];
    let text = prometheus.render();
    assert_eq!(sizes(&text, "server", &posts), (vec![700.0], vec![5.0]));
    let bucket = "http_server_request_body_size_bytes_bucket";
    assert_eq!(one(&text, bucket, &[r#"le="512""#]), 0.0);
    assert_eq!(one(&text, bucket, &[r#"le="1024""#]), 1.0);

    // HTTP/2 need not say how long a body is, and a server that is not ours does not count.
    let mut unsaid = get("/users/1");
    *unsaid.method_mut() = Method::PUT;
    *unsaid.version_mut() = Version::HTTP_2;
    let response = service.clone().oneshot(unsaid).await.unwrap();
    let _ = response.into_body().collect().await;
    let puts = [r#"http_request_method="PUT""#];
    let text = prometheus.render();
    assert_eq!(sizes(&text, "server", &puts), (vec![], vec![5.0]));
    // Ours does.
    let mut counted = get("/users/1");
    *counted.method_mut() = Method::PATCH;
    *counted.version_mut() = Version::HTTP_2;
    counted.invocation_mut().upload().add_received(3_000);
    let _ = service.clone().oneshot(counted).await.unwrap();
    let patches = [r#"http_request_method="PATCH""#];
    let text = prometheus.render();
    assert_eq!(sizes(&text, "server", &patches), (vec![3_000.0], vec![0.0]));

    // A call that panicked had no response, nor one that was left.
    let panics = service.clone().oneshot(get("/users/panic"));
    assert!(tokio::spawn(panics).await.is_err());
    {
        let mut left = pin!(service.oneshot(get("/slow")));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(left.as_mut().poll(&mut cx).is_pending());
    }
    let text = prometheus.render();
    for error in [r#"error_type="_OTHER""#, r#"error_type="cancelled""#] {
        assert_eq!(sizes(&text, "server", &[error]), (vec![0.0], vec![]));
    }
}

#[tokio::test]
async fn a_body_that_is_left_midway_has_the_size_that_it_had_by_then() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let (mut sender, response) = endless();
    let response = Arc::new(std::sync::Mutex::new(Some(response)));
    let service = layer.layer(service_fn(move |_: Request<()>| {
        let response = response.lock().unwrap().take().unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    }));
    let mut body = service.oneshot(get("/x")).await.unwrap().into_body();
    sender.send_data("part".into()).await.unwrap();
    assert!(body.frame().await.is_some());
    drop(body);
    let left = [r#"error_type="cancelled""#];
    let text = prometheus.render();
    assert_eq!(sizes(&text, "server", &left), (vec![0.0], vec![4.0]));
}

#[tokio::test]
async fn a_client_has_sizes_too_and_both_can_do_without() {
    let prometheus = Prometheus::new();
    let layer = ClientMetricsLayer::new().recorder(prometheus.recorder());
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |request: Request<()>| {
        match request.uri().path() {
            "/none" => Err(BoxError::from(Rejection::new(Kind::Unreachable, "client"))),
            _ => Ok::<_, BoxError>(crate::support::answer(200, "hello")),
        }
    }));
    let call = async |path: &str, length: Option<u64>| {
        let mut request = get(&format!("http://a.test{path}"));
        *request.method_mut() = Method::POST;
        if let Some(length) = length {
            request
                .headers_mut()
                .insert("content-length", length.into());
        }
        if let Ok(response) = service.clone().oneshot(request).await {
            let _ = response.into_body().collect().await;
        }
    };
    call("/x", Some(7)).await;
    call("/none", None).await;
    let ok = [r#"http_response_status_code="200""#];
    let text = prometheus.render();
    assert_eq!(sizes(&text, "client", &ok), (vec![7.0], vec![5.0]));
    // It did not say how much it would send, and got nothing.
    assert_eq!(sizes(&text, "client", &[]), (vec![7.0], vec![5.0]));
    handle.update(|config| config.sizes = false).unwrap();
    call("/x", Some(7)).await;
    assert_eq!(
        sizes(&prometheus.render(), "client", &ok),
        (vec![7.0], vec![5.0])
    );
}

/// Under `until_head` nobody knows the size of a body that is yet to come, also where there are several observers.
#[tokio::test]
async fn until_the_head_no_response_has_a_size() {
    let prometheus = Prometheus::new();
    let layer = || ServerMetricsLayer::new().recorder(prometheus.recorder());
    let routes = Routes::default();
    let routes = service_fn(move |request| routes.clone().call(request));
    let alone = layer().until_head().layer(routes.clone());
    let both = ObserveLayer::new((layer(), TraceLayer::new())).until_head();
    let both = both.layer(routes);
    let _ = alone.oneshot(get("/users/1")).await.unwrap();
    let _ = both.oneshot(get("/users/1")).await.unwrap();
    let text = prometheus.render();
    assert_eq!(one(&text, COUNT, &[]), 2.0);
    assert_eq!(sizes(&text, "server", &[]), (vec![0.0], vec![]));
}

fn grpc_call(path: &str) -> Request<()> {
    let mut request = get(path);
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let kind = "application/grpc+proto".parse().unwrap();
    request.headers_mut().insert("content-type", kind);
    request
}

/// A service whose methods answer by their names.
async fn methods(request: Request<()>) -> Result<Response<TestBody>, BoxError> {
    match request.uri().path() {
        "/shop.Orders/Place" => Ok(crate::support::grpc("0")),
        "/shop.Orders/Find" => Ok(crate::support::grpc("5")),
        "/shop.Orders/Break" => Ok(crate::support::grpc("14")),
        "/shop.Orders/Slow" => std::future::pending().await,
        _ => Ok(crate::support::grpc("12")),
    }
}

const PATHS: [&str; 6] = [
    "/shop.Orders/Place",
    "/shop.Orders/Find",
    "/shop.Orders/Break",
    "/shop.Orders/Nothing",
    "/else",
    "/shop.Orders/Slow",
];

#[tokio::test(start_paused = true)]
async fn a_call_of_grpc_is_one_and_none_of_http() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let (handle, service) = (layer.handle(), layer.layer(service_fn(methods)));
    let make = async |path: &str| {
        let call = service.clone().oneshot(grpc_call(path));
        let call = tokio::time::timeout(Duration::from_secs(3), call).await;
        if let Ok(response) = call {
            let body = response.unwrap().into_body();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = body.collect().await;
        }
    };
    for path in PATHS {
        make(path).await;
    }
    let text = prometheus.render();
    let count = "rpc_server_call_duration_seconds_count";
    let method = |name: &str| {
        let labels = format!(r#"rpc_method="{name}""#);
        let mut found = find(&text, count, &[r#"rpc_system_name="grpc""#, &labels]);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let found = found.into_iter();
        found
            .map(|(series, count)| {
                let label = |name: &str| {
                    let at = series.split_once(&format!("{name}=\""))?.1;
                    Some(at.split_once('"')?.0.to_owned())
                };
                (
                    label("rpc_response_status_code"),
                    label("error_type"),
                    count,
                )
            })
            .collect::<Vec<_>>()
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(method("shop.Orders/Place"), [(said("OK"), None, 1.0)]);
    assert_eq!(method("shop.Orders/Find"), [(said("NOT_FOUND"), None, 1.0)]);
    let down = said("UNAVAILABLE");
    assert_eq!(method("shop.Orders/Break"), [(down.clone(), down, 1.0)]);
    // Nobody knows whether there are such methods.
    let not = said("UNIMPLEMENTED");
    let others = [(None, said("cancelled"), 1.0), (not, None, 2.0)];
    assert_eq!(method("_OTHER"), others);
    assert!(find(&text, COUNT, &[]).is_empty());
    assert!(!text.contains("Nothing") && !text.contains("else"));
    // To the end of the body, not to the head.
    let sum = "rpc_server_call_duration_seconds_sum";
    assert_eq!(one(&text, sum, &[r#"rpc_method="shop.Orders/Place""#]), 1.0);
    // Both are requests.
    let active = find(&text, ACTIVE, &[]);
    assert!(active.iter().all(|(_, value)| *value == 0.0) && !active.is_empty());
    let (_, answered) = sizes(&text, "server", &[r#"http_response_status_code="200""#]);
    assert!(answered.iter().sum::<f64>() >= 7.0);

    handle.update(|config| config.rpc = false).unwrap();
    make("/shop.Orders/Place").await;
    let text = prometheus.render();
    assert_eq!(one(&text, COUNT, &[]), 1.0);
    assert_eq!(
        find(&text, count, &[r#"rpc_method="shop.Orders/Place""#])[0].1,
        1.0
    );
}

#[tokio::test]
async fn a_client_s_calls_of_grpc_name_their_server() {
    let prometheus = Prometheus::new();
    let layer = ClientMetricsLayer::new().recorder(prometheus.recorder());
    let service = layer.layer(service_fn(methods));
    for path in &PATHS[..5] {
        let request = grpc_call(&format!("http://a.test:50051{path}"));
        let response = service.clone().oneshot(request).await.unwrap();
        let _ = response.into_body().collect().await;
    }
    let text = prometheus.render();
    let count = "rpc_client_call_duration_seconds_count";
    let server = [r#"server_address="a.test""#, r#"server_port="50051""#];
    assert_eq!(find(&text, count, &server).len(), 4);
    let find_call = [
        r#"rpc_method="shop.Orders/Find""#,
        r#"error_type="NOT_FOUND""#,
    ];
    assert_eq!(one(&text, count, &find_call), 1.0);
    let other = [
        r#"rpc_method="_OTHER""#,
        r#"rpc_response_status_code="UNIMPLEMENTED""#,
    ];
    assert_eq!(one(&text, count, &other), 2.0);
    assert!(find(&text, "http_client_request_duration_seconds_count", &[]).is_empty());
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

/// axum's templates, where a layer can see them.
#[cfg(feature = "axum")]
mod axum {
    use ::axum::{Router, body::Body as AxumBody, routing};
    use http::StatusCode;

    use super::*;

    async fn call<S>(service: S, path: &str) -> StatusCode
    where
        S: Service<Request<AxumBody>, Error = Infallible>,
        S::Response: Into<Response<AxumBody>>,
    {
        let request = Request::builder().uri(path).body(AxumBody::empty());
        let response: Response<AxumBody> = service.oneshot(request.unwrap()).await.unwrap().into();
        let status = response.status();
        let _ = response.into_body().collect().await;
        status
    }

    fn routes() -> Router {
        let ok = || routing::get(|| async { "ok" });
        let inner = Router::new().route("/items/{item}", ok());
        Router::new()
            .route("/users/{id}", ok())
            .nest("/shop", inner.clone())
            .nest_service("/blind", inner)
    }

    fn of(text: &str) -> Vec<String> {
        let mut routes: Vec<_> = find(text, COUNT, &[])
            .into_iter()
            .map(|(series, _)| {
                let (_, route) = series.split_once("http_route=\"").unwrap();
                route.split_once('"').unwrap().0.to_owned()
            })
            .collect();
        routes.sort();
        routes.dedup();
        routes
    }

    #[tokio::test]
    async fn the_template_is_that_of_axum() {
        let prometheus = Prometheus::new();
        let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
        let app = routes().layer(layer.until_head());
        for path in ["/users/1", "/users/2", "/shop/items/3", "/nothing"] {
            call(app.clone(), path).await;
        }
        let text = prometheus.render();
        assert_eq!(
            of(&text),
            ["/shop/items/{item}", "/users/{id}", "unmatched"]
        );
        let users = [r#"http_route="/users/{id}""#];
        assert_eq!(one(&text, COUNT, &users), 2.0);
    }

    #[tokio::test]
    async fn what_axum_hides_is_unmatched() {
        let prometheus = Prometheus::new();
        let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
        // Around the whole router: axum has not matched yet.
        let app = layer.clone().until_head().layer(routes());
        assert_eq!(call(app, "/users/1").await, 200);
        assert_eq!(of(&prometheus.render()), ["unmatched"]);
        // A service that is mounted: axum knows a prefix and a rest that is no template.
        let prometheus = Prometheus::new();
        let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
        let app = routes().layer(layer.until_head());
        assert_eq!(call(app, "/blind/items/1").await, 200);
        assert_eq!(of(&prometheus.render()), ["unmatched"]);
    }

    #[tokio::test]
    async fn our_router_s_word_counts_before_axum_s() {
        let prometheus = Prometheus::new();
        let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
        let ours = Routes::default();
        let ours = service_fn(move |request: Request<AxumBody>| {
            let ours = ours.clone();
            async move { Ok::<_, Infallible>(ours.call(request).await.unwrap().map(AxumBody::new)) }
        });
        let app = Router::new().route_service("/users/{name}", ours);
        call(app.layer(layer.until_head()), "/users/1").await;
        assert_eq!(of(&prometheus.render()), ["/users/{id}"]);
    }
}
