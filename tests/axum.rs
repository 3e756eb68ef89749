//! The layers on an axum `Router` with five routes: axum applies them once per route and clones them for each
//! request, and their state is shared all the same. What they refuse arrives as a response.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body as AxumBody, http::StatusCode, routing::get};
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_chassis::{
    ObserveLayer, RescueLayer,
    access_log::{AccessLogLayer, Format},
    breaker::{BreakerConfig, BreakerLayer, BreakerPolicy},
    metrics::ServerMetricsLayer,
    prometheus::Prometheus,
    rate_limit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy},
    retry::{RetryConfig, RetryLayer, RetryPolicy},
    timeout::{TimeoutConfig, TimeoutLayer, TimeoutPolicy},
    trace::TraceLayer,
};

fn app() -> Router {
    Router::new()
        .route("/a", get(|| async { "a" }))
        .route("/b", get(|| async { "b" }))
        .route("/c/{id}", get(|| async { "c" }))
        .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route(
            "/slow",
            get(|| async { tokio::time::sleep(Duration::from_secs(60)).await }),
        )
}

async fn call(app: &Router, path: &str) -> Response<AxumBody> {
    let request = Request::get(path).body(AxumBody::empty()).unwrap();
    app.clone()
        .as_service()
        .ready()
        .await
        .unwrap()
        .call(request)
        .await
        .unwrap()
}

async fn status(app: &Router, path: &str) -> u16 {
    call(app, path).await.status().as_u16()
}

fn timeout(after: Duration) -> TimeoutPolicy {
    TimeoutConfig { after }.try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_breaker_is_one_for_all_routes() {
    let policy = BreakerConfig {
        consecutive_failures: 5,
        ..Default::default()
    };
    let breaker = BreakerLayer::new(BreakerPolicy::try_from(policy).unwrap());
    let handle = breaker.handle();
    let app = app().layer(
        ServiceBuilder::new()
            .layer(RescueLayer::new())
            .layer(breaker),
    );
    for _ in 0..5 {
        assert_eq!(status(&app, "/a").await, 200);
    }
    for _ in 0..5 {
        assert_eq!(status(&app, "/fail").await, 500);
    }
    assert_eq!(handle.state().as_str(), "open");
    for path in ["/a", "/b", "/c/1", "/fail"] {
        let response = call(&app, path).await;
        assert_eq!(response.status(), 503, "{path}");
        assert_eq!(response.headers()["x-chassis-reject"], "circuit-open");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert!(response.headers().contains_key("retry-after"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_one_for_all_routes() {
    let policy = RateLimitConfig {
        rate: 1.0,
        burst: 6,
        ..Default::default()
    };
    let limit = RateLimitLayer::new(RateLimitPolicy::try_from(policy).unwrap());
    let app = app().layer(ServiceBuilder::new().layer(RescueLayer::new()).layer(limit));
    let mut statuses = Vec::new();
    for path in ["/a", "/b", "/c/1"].iter().cycle().take(9) {
        statuses.push(status(&app, path).await);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429, 429]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(status(&app, "/b").await, 200);
    assert_eq!(status(&app, "/a").await, 429);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_answers_504_and_the_breaker_below_hears_of_it() {
    let policy = BreakerConfig {
        consecutive_failures: 2,
        ..Default::default()
    };
    let breaker = BreakerLayer::new(BreakerPolicy::try_from(policy).unwrap());
    let handle = breaker.handle();
    let stack = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(TimeoutLayer::per_try(timeout(Duration::from_secs(1))))
        .layer(breaker);
    let app = app().layer(stack);
    assert_eq!(status(&app, "/slow").await, 504);
    assert_eq!(handle.state().as_str(), "closed");
    assert_eq!(status(&app, "/slow").await, 504);
    assert_eq!(handle.state().as_str(), "open");
    assert_eq!(status(&app, "/a").await, 503);
}

#[tokio::test(start_paused = true)]
async fn retry_with_rewrap_tries_again_and_sends_the_body_again() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let attempts = Arc::new(AtomicU32::new(0));
    let app = Router::new().route(
        "/put",
        axum::routing::put({
            let (seen, attempts) = (Arc::clone(&seen), Arc::clone(&attempts));
            move |body: String| async move {
                seen.lock().unwrap().push(body);
                if attempts.fetch_add(1, Ordering::Relaxed) < 2 {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::OK
                }
            }
        }),
    );
    let policy = RetryPolicy::try_from(RetryConfig {
        attempts: 3,
        ..Default::default()
    })
    .unwrap();
    let retry = RetryLayer::new(policy).rewrap::<tower_chassis::Body>();
    let stack = ServiceBuilder::new().layer(RescueLayer::new()).layer(retry);
    // `layer` puts it on each route; axum's bodies pass through ours and back.
    let app = app.layer(stack);
    let request = Request::put("/put").body(AxumBody::from("again")).unwrap();
    let response = app
        .clone()
        .as_service()
        .ready()
        .await
        .unwrap()
        .call(request)
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(*seen.lock().unwrap(), ["again"; 3]);
}

#[tokio::test]
async fn observers_see_every_route_and_what_was_refused() {
    let prometheus = Prometheus::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let lines = Arc::clone(&lines);
        move |line: &str| lines.lock().unwrap().push(line.to_owned())
    };
    let observe = ObserveLayer::new((
        TraceLayer::new(),
        AccessLogLayer::new(Format::Text, sink),
        ServerMetricsLayer::new().recorder(prometheus.recorder()),
    ));
    let policy = RateLimitConfig {
        rate: 1.0,
        burst: 3,
        ..Default::default()
    };
    let limit = RateLimitLayer::new(RateLimitPolicy::try_from(policy).unwrap());
    let stack = ServiceBuilder::new()
        .layer(observe)
        .layer(RescueLayer::new())
        .layer(limit)
        .layer(TimeoutLayer::total(timeout(Duration::from_millis(50))));
    let app = app().layer(stack);
    for (path, status) in [("/a", 200), ("/fail", 500), ("/slow", 504), ("/b", 429)] {
        let response = call(&app, path).await;
        assert_eq!(response.status(), status, "{path}");
        response.into_body().collect().await.unwrap();
    }
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[3].contains("status=429") && lines[3].contains("class=refused"),
        "{}",
        lines[3]
    );
    let text = prometheus.render();
    for status in [200, 500, 504, 429] {
        let label = format!("http_response_status_code=\"{status}\"");
        assert!(text.contains(&label), "{label} is missing in\n{text}");
    }
    assert!(text.contains(
        "http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 0"
    ));
}
