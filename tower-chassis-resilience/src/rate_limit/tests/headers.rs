//! What HTTP clients are told.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use tokio::time;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, RescueLayer};
use tower_layer::Layer;

use super::super::*;

async fn hello(_: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::default()))
}

fn limit() -> RateLimitLayer {
    RateLimitLayer::new(RateLimitPolicy::new(10.0, 3).unwrap()).named("api")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

async fn get<S, B, E>(service: &mut S) -> Response<()>
where
    S: Service<Request<()>, Response = Response<B>, Error = E>,
    E: std::fmt::Debug,
{
    let service = service.ready().await.unwrap();
    let response = service.call(Request::new(())).await.unwrap();
    response.map(drop)
}

#[tokio::test(start_paused = true)]
async fn every_answer_says_what_is_left() {
    let rescued = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(limit().headers().legacy_headers())
        .service(service_fn(hello));
    let responding = limit().headers().legacy_headers().respond();
    let mut services = (rescued, responding.layer(service_fn(hello)));
    for left in [2, 1, 0] {
        for response in [get(&mut services.0).await, get(&mut services.1).await] {
            let headers = response.headers();
            assert_eq!(response.status(), 200);
            assert_eq!(text(headers, "ratelimit-policy"), Some(r#""api";q=3;w=1"#));
            let standing = format!(r#""api";r={left};t=1"#);
            assert_eq!(text(headers, "ratelimit"), Some(&*standing));
            assert_eq!(text(headers, "x-ratelimit-limit"), Some("3"));
            assert_eq!(
                text(headers, "x-ratelimit-remaining"),
                Some(&*left.to_string())
            );
            assert_eq!(text(headers, "retry-after"), None);
        }
    }
    for response in [get(&mut services.0).await, get(&mut services.1).await] {
        let headers = response.headers();
        assert_eq!(response.status(), 429);
        assert_eq!(text(headers, "retry-after"), Some("1"));
        assert_eq!(text(headers, "ratelimit"), Some(r#""api";r=0;t=1"#));
        assert_eq!(text(headers, "x-ratelimit-remaining"), Some("0"));
        let reset: u64 = text(headers, "x-ratelimit-reset").unwrap().parse().unwrap();
        assert!(reset > 1_700_000_000);
    }
}

#[tokio::test(start_paused = true)]
async fn without_being_told_it_says_when_to_come_again_and_no_more() {
    let mut service = limit().respond().layer(service_fn(hello));
    for _ in 0..3 {
        let response = get(&mut service).await;
        assert!(response.headers().is_empty());
    }
    let response = get(&mut service).await;
    assert_eq!(text(response.headers(), "retry-after"), Some("1"));
    assert_eq!(text(response.headers(), "ratelimit"), None);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_whole_seconds_rounded_up() {
    // One in 2.5 seconds.
    let policy = RateLimitPolicy::new(0.4, 1).unwrap();
    let mut service = RateLimitLayer::new(policy)
        .respond()
        .layer(service_fn(hello));
    get(&mut service).await;
    for (advance, wait) in [(0, "3"), (499, "3"), (1, "2"), (1_900, "1")] {
        time::advance(Duration::from_millis(advance)).await;
        let response = get(&mut service).await;
        assert_eq!(text(response.headers(), "retry-after"), Some(wait));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_costs_too_much_is_told_so_and_of_no_time() {
    let layer = limit().cost(|request: &Request<()>| match request.uri().path() {
        "/free" => 0,
        "/two" => 2,
        "/four" => 4,
        _ => 1,
    });
    let handle = layer.handle();
    let mut errors = layer.clone().layer(service_fn(hello));
    let mut answers = layer.headers().respond().layer(service_fn(hello));
    let request = |path: &str| Request::get(path).body(()).unwrap();
    let error: BoxError = errors
        .ready()
        .await
        .unwrap()
        .call(request("/four"))
        .await
        .unwrap_err();
    let costly = TooCostly::find(&*error).unwrap();
    assert_eq!((costly.cost(), costly.most()), (4, 3));
    let response = answers
        .ready()
        .await
        .unwrap()
        .call(request("/four"))
        .await
        .unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            text(response.headers(), "retry-after")
        ),
        (429, None)
    );
    assert_eq!(
        text(response.headers(), "ratelimit"),
        Some(r#""api";r=3;t=0"#)
    );

    errors
        .ready()
        .await
        .unwrap()
        .call(request("/two"))
        .await
        .unwrap();
    assert_eq!(handle.remaining(), 1);
    let error = errors
        .ready()
        .await
        .unwrap()
        .call(request("/two"))
        .await
        .unwrap_err();
    assert!(TooCostly::find(&*error).is_none());
    errors
        .ready()
        .await
        .unwrap()
        .call(request("/one"))
        .await
        .unwrap();
    for _ in 0..10 {
        errors
            .ready()
            .await
            .unwrap()
            .call(request("/free"))
            .await
            .unwrap();
    }
}
