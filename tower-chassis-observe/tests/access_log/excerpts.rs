//! Pieces of headers and bodies in lines.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use crate::frames::Frames;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Body,
    testing::{Case, contract},
};
use tower_chassis_observe::access_log::{
    AccessLogConfig, AccessLogHandle, AccessLogLayer, Excerpt, ExcerptLayer, ExcerptService, Format,
};

#[derive(Clone)]
struct Log {
    layer: AccessLogLayer,
    handle: AccessLogHandle,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    fn new(format: Format, change: impl FnOnce(&mut AccessLogConfig)) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let layer = AccessLogLayer::new(format, move |line: &str| {
            sink.lock().unwrap().push(line.to_owned())
        });
        let handle = layer.handle();
        handle.update(change).unwrap();
        Self {
            layer,
            handle,
            lines,
        }
    }

    fn line(&self) -> String {
        let mut lines = self.lines.lock().unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// A service that reads the whole of its request and answers so.
    fn echo<F: Fn() -> Response<Body> + Clone>(
        &self,
        answer: F,
    ) -> impl Service<
        Request<Body>,
        Response = Response<impl http_body::Body<Data = bytes::Bytes, Error: std::fmt::Debug>>,
        Error = Infallible,
    > {
        ServiceBuilder::new()
            .layer(self.layer.clone())
            .layer(ExcerptLayer::new())
            .service(service_fn(move |request: Request<Body>| {
                let answer = answer.clone();
                async move {
                    let _ = request.into_body().collect().await;
                    Ok(answer())
                }
            }))
    }

    async fn call(&self, request: Request<Body>, answer: impl Fn() -> Response<Body> + Clone) {
        let response = self.echo(answer).oneshot(request).await.unwrap();
        let _ = response.into_body().collect().await;
    }
}

fn failures(config: &mut AccessLogConfig) {
    config.excerpts = Excerpt::Failures;
}

fn all(config: &mut AccessLogConfig) {
    config.excerpts = Excerpt::All;
}

fn request(kind: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method("POST").uri("/users/7");
    request.header("content-type", kind).body(body).unwrap()
}

fn response(status: u16, kind: &str, body: Body) -> Response<Body> {
    let response = Response::builder().status(status);
    response.header("content-type", kind).body(body).unwrap()
}

const JSON: &str = "application/json";

/// The secret is never whole in one frame.
#[tokio::test]
async fn each_format_that_has_a_place_shows_both_bodies_without_their_secrets() {
    let asked = br#"{"user":"ann","password":"hunter2"}"#;
    let answered = br#"{"error":"no","token":"hunter2"}"#;
    for size in 1..12 {
        for (format, members) in [
            (
                Format::Json,
                [
                    "/request_body",
                    "/response_body",
                    "/request_headers/content-type",
                ],
            ),
            (
                Format::Ecs,
                [
                    "/http.request.body.content",
                    "/http.response.body.content",
                    "/http.response.headers/content-type",
                ],
            ),
            (
                Format::Otel,
                [
                    "/attributes/http.request.body.content",
                    "/attributes/http.response.body.content",
                    "/attributes/http.request.header.content-type/0",
                ],
            ),
            (
                Format::Gcp,
                [
                    "/requestBody",
                    "/responseBody",
                    "/responseHeaders/content-type",
                ],
            ),
        ] {
            let log = Log::new(format, failures);
            let asked = Body::new(Frames::split(asked, size));
            log.call(request(JSON, asked), move || {
                response(500, JSON, Body::new(Frames::split(answered, size)))
            })
            .await;
            let line = log.json();
            let shown = members.map(|member| line.pointer(member).unwrap().as_str().unwrap());
            assert_eq!(
                shown,
                [
                    r#"{"user":"ann","password":"***"}"#,
                    r#"{"error":"no","token":"***"}"#,
                    JSON
                ]
            );
        }
    }
    let log = Log::new(Format::Text, failures);
    log.call(request(JSON, Body::from(&asked[..])), || {
        response(500, JSON, Body::from(&answered[..]))
    })
    .await;
    let line = log.line();
    assert!(
        line.ends_with(concat!(
            r#" user=- request_header.content-type=application/json "#,
            r#"request_body="{\"user\":\"ann\",\"password\":\"***\"}" response_header.content-type=application/json "#,
            r#"response_body="{\"error\":\"no\",\"token\":\"***\"}""#,
            "\n"
        )),
        "{line}"
    );
}

#[tokio::test]
async fn which_calls_is_live() {
    let log = Log::new(Format::Json, |_| {});
    for (excerpts, success, failure) in [
        (Excerpt::Off, false, false),
        (Excerpt::Failures, false, true),
        (Excerpt::All, true, true),
    ] {
        log.handle
            .update(|config| config.excerpts = excerpts)
            .unwrap();
        for (status, shown) in [(200, success), (404, failure), (503, failure)] {
            log.call(request(JSON, Body::from("{}")), move || {
                response(status, JSON, Body::from("[]"))
            })
            .await;
            let line = log.json();
            assert_eq!(line.get("request_body").is_some(), shown, "{line}");
            assert_eq!(line.get("response_body").is_some(), shown, "{line}");
            assert_eq!(line.get("request_headers").is_some(), shown, "{line}");
        }
    }
}

/// The last frame has no bytes: of what was cut it says nothing.
fn with_an_empty_end(text: &str, size: usize) -> Frames {
    let mut frames = Frames::split(text.as_bytes(), size);
    let empty = http_body::Frame::data(bytes::Bytes::new());
    frames.frames.push_back(empty);
    frames
}

#[tokio::test]
async fn a_long_body_is_cut() {
    for (body, limit, shown) in [
        ("0123456789", 10, "0123456789"),
        ("0123456789", 9, "012345678... [trimmed]"),
        ("012345678ä", 10, "012345678... [trimmed]"),
        ("0123456789", 0, ""),
        ("", 10, ""),
    ] {
        for size in [1, 4, 10] {
            let log = Log::new(Format::Json, |config| {
                all(config);
                config.excerpt_bytes = limit;
            });
            log.call(request("text/plain", Body::empty()), move || {
                response(200, "text/plain", Body::new(with_an_empty_end(body, size)))
            })
            .await;
            let line = log.json();
            let found = line
                .get("response_body")
                .map_or("", |body| body.as_str().unwrap());
            assert_eq!(found, shown, "{body} {limit} {size}");
            assert_eq!(line["bytes"], body.len());
        }
    }
    let log = Log::new(Format::Json, all);
    for (field, change) in [
        (
            "excerpt_bytes",
            (|c| c.excerpt_bytes = 65_537) as fn(&mut AccessLogConfig),
        ),
        ("excerpt_headers", |c| {
            c.excerpt_headers = vec!["a b".into()]
        }),
        ("excerpt_types", |c| c.excerpt_types = vec!["png".into()]),
    ] {
        assert_eq!(log.handle.update(change).unwrap_err().field(), field);
    }
}

/// The secret that a cut leaves open.
#[tokio::test]
async fn a_secret_that_is_cut_off_is_masked() {
    let body = r#"{"user":"ann","password":"hunter2hunter2"}"#;
    for limit in 0..body.len() {
        let log = Log::new(Format::Json, |config| {
            all(config);
            config.excerpt_bytes = limit;
        });
        log.call(request(JSON, Body::from(body)), move || {
            response(200, JSON, Body::from(body))
        })
        .await;
        let line = log.line();
        assert!(!line.contains("hu"), "{limit}: {line}");
    }
}

#[tokio::test]
async fn other_types_are_named_and_not_shown() {
    for (kind, encoding, shown) in [
        ("image/png", "", "[body of image/png]"),
        ("text/html; charset=utf-8", "", "[body of text/html]"),
        (
            "multipart/form-data; boundary=x",
            "",
            "[body of multipart/form-data]",
        ),
        ("application/grpc", "", "[body of application/grpc]"),
        (
            "application/json; charset=utf-16",
            "",
            "[body of application/json]",
        ),
        (JSON, "gzip", "[body of application/json, gzip]"),
        (JSON, "identity", "password=***"),
        ("text/plain", "", "password=***"),
        ("application/x-www-form-urlencoded", "", "password=***"),
        ("a \"b\"", "", "[body of an odd type]"),
        ("", "", "[body of no type]"),
    ] {
        let log = Log::new(Format::Json, all);
        log.call(request("x/y", Body::empty()), move || {
            let mut response = response(200, kind, Body::from("password=hunter2"));
            if !encoding.is_empty() {
                let encoding = encoding.parse().unwrap();
                response.headers_mut().insert("content-encoding", encoding);
            }
            response
        })
        .await;
        assert_eq!(log.json()["response_body"], shown, "{kind}");
    }
    // A text that is none.
    let log = Log::new(Format::Json, all);
    log.call(request("text/plain", Body::from(&b"a\0b"[..])), || {
        Response::new(Body::empty())
    })
    .await;
    assert_eq!(log.json()["request_body"], "[body of text/plain]");
    // Those that were asked for.
    for types in ["text/html", "TEXT/*"] {
        let log = Log::new(Format::Json, |config| {
            all(config);
            config.excerpt_types = vec![types.into()];
        });
        log.call(request("text/html", Body::from("<p>hello")), || {
            Response::new(Body::empty())
        })
        .await;
        assert_eq!(log.json()["request_body"], "<p>hello");
    }
}

#[tokio::test]
async fn headers_are_those_that_were_named() {
    let log = Log::new(Format::Json, |config| {
        all(config);
        config.excerpt_headers = ["Set-Cookie", "location", "vary"].map(Into::into).into();
    });
    log.call(request(JSON, Body::empty()), || {
        let response = Response::builder()
            .header("set-cookie", "a=hunter2")
            .header("set-cookie", "b=hunter2")
            .header("location", "https://a.example/?code=hunter2")
            .header("vary", "accept")
            .header("vary", "origin");
        response.body(Body::empty()).unwrap()
    })
    .await;
    let line = log.json();
    assert_eq!(
        line["response_headers"],
        serde_json::json!({
            "set-cookie": "***, ***",
            "location": "https://a.example/",
            "vary": "accept, origin",
        })
    );
    assert_eq!(line.get("request_headers"), None);
}

#[tokio::test]
async fn bodies_pass_as_they_are() {
    let log = Log::new(Format::Json, all);
    let sizes = service_fn(async |request: Request<Body>| {
        let mut body = request.into_body();
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(5));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(
            (&*first, body.frame().await.is_none()),
            (&b"hello"[..], true)
        );
        let answer = Frames::split(b"abcdef", 2).trailers("x-end", "yes");
        Ok::<_, Infallible>(response(200, "text/plain", Body::new(answer)))
    });
    let service = log.layer.layer(ExcerptLayer::new().layer(sizes));
    let asked = request("text/plain", Body::from("hello"));
    let response = service.oneshot(asked).await.unwrap();
    let mut body = pin!(response.into_body());
    for piece in ["ab", "cd", "ef"] {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    let trailers = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(trailers["x-end"], "yes");
    assert_eq!(log.json()["response_body"], "abcdef");
}

#[tokio::test]
async fn while_no_log_asks_bodies_are_not_touched() {
    let service = ExcerptLayer::new().layer(service_fn(async |request: Request<Body>| {
        assert_eq!(format!("{:?}", request.body()), "Body(full)");
        Ok::<_, Infallible>(Response::new(request.into_body()))
    }));
    let response = service
        .oneshot(request(JSON, Body::from("{}")))
        .await
        .unwrap();
    assert_eq!(format!("{:?}", response.body()), "Body(full)");
}

#[tokio::test]
async fn what_breaks_or_is_left_shows_what_has_passed() {
    for (waits, class) in [(false, "failure"), (true, "cancelled")] {
        let log = Log::new(Format::Json, failures);
        let body = move || Frames {
            breaks: !waits,
            waits,
            ..Frames::split(br#"{"a":1,"pin":1234"#, 3)
        };
        let service = log.echo(move || response(200, JSON, Body::new(body())));
        let response = service
            .oneshot(request(JSON, Body::from("{}")))
            .await
            .unwrap();
        {
            let mut body = pin!(response.into_body());
            let mut cx = Context::from_waker(Waker::noop());
            while let std::task::Poll::Ready(Some(Ok(_))) = body.as_mut().poll_frame(&mut cx) {}
        }
        let line = log.json();
        assert_eq!(line["class"], class);
        assert_eq!(line["response_body"], r#"{"a":1,"pin":"***""#);
        assert_eq!(log.handle.in_flight(), 0);
    }
}

#[tokio::test]
async fn what_nobody_reads_is_not_there() {
    let log = Log::new(Format::Json, all);
    let service = log.layer.layer(ExcerptLayer::new().layer(service_fn(
        async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())),
    )));
    drop(
        service
            .oneshot(request(JSON, Body::from("{}")))
            .await
            .unwrap(),
    );
    let line = log.json();
    assert_eq!(
        (line.get("request_body"), line.get("response_body")),
        (None, None)
    );
    assert_eq!(line["request_headers"]["content-type"], JSON);
}

#[tokio::test]
async fn of_several_attempts_it_is_the_last() {
    let log = Log::new(Format::Json, all);
    let inner = ExcerptLayer::new().layer(service_fn(async |request: Request<Body>| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(response(500, "text/plain", Body::from(body)))
    }));
    let twice = service_fn(move |first: Request<Body>| {
        let inner = inner.clone();
        async move {
            let mut second = request("text/plain", Body::from("second"));
            *second.extensions_mut() = first.extensions().clone();
            let first = inner.clone().oneshot(first).await.unwrap();
            let second = inner.oneshot(second).await.unwrap();
            // What the first one still gives is not for here.
            let _ = first.into_body().collect().await;
            Ok::<_, Infallible>(second)
        }
    });
    let service = log.layer.layer(twice);
    let asked = request("text/plain", Body::from("first"));
    let response = service.oneshot(asked).await.unwrap();
    let _ = response.into_body().collect().await;
    let line = log.json();
    assert_eq!(
        (&line["request_body"], &line["response_body"]),
        (&"second".into(), &"second".into())
    );
}

#[tokio::test]
async fn two_logs_show_the_same() {
    let (outer, inner) = (Log::new(Format::Json, all), Log::new(Format::Ecs, all));
    let service = ServiceBuilder::new()
        .layer(outer.layer.clone())
        .layer(inner.layer.clone())
        .layer(ExcerptLayer::new())
        .service(service_fn(async |request: Request<Body>| {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(response(200, JSON, Body::from("[1]")))
        }));
    let response = service
        .oneshot(request(JSON, Body::from("{}")))
        .await
        .unwrap();
    let _ = response.into_body().collect().await;
    let (outer, inner) = (outer.json(), inner.json());
    assert_eq!(
        (&outer["request_body"], &outer["response_body"]),
        (&"{}".into(), &"[1]".into())
    );
    assert_eq!(inner["http.request.body.content"], "{}");
    assert_eq!(inner["http.response.body.content"], "[1]");
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_poll_has_its_line() {
    for polls in 0..4 {
        let log = Log::new(Format::Json, all);
        let service = log.layer.layer(ExcerptLayer::new().layer(service_fn(
            async |request: Request<Body>| {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, Infallible>(Response::new(request.into_body()))
            },
        )));
        {
            let mut call = pin!(service.oneshot(request(JSON, Body::from("{}"))));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                assert!(call.as_mut().poll(&mut cx).is_pending());
            }
        }
        assert_eq!(log.handle.in_flight(), 0);
        if polls > 0 {
            assert_eq!(log.json()["class"], "cancelled");
        }
    }
}

#[tokio::test]
async fn it_is_around_our_router_and_around_axum() {
    let ours = Log::new(Format::Json, all);
    let router = tower_chassis_router::Router::new()
        .route("/", tower_chassis_router::post(async || "ours"))
        .build()
        .unwrap();
    let service = ours.layer.layer(ExcerptLayer::new().layer(router));
    let mut asked = request("text/plain", Body::from("hello"));
    *asked.uri_mut() = "/".parse().unwrap();
    let response = service.oneshot(asked).await.unwrap();
    let _ = response.into_body().collect().await;
    let line = ours.json();
    assert_eq!(
        (&line["response_body"], &line["route"]),
        (&"ours".into(), &"/".into())
    );

    let axums = Log::new(Format::Json, all);
    let router: axum::Router = axum::Router::new().route(
        "/",
        axum::routing::post(async |body: String| body + " axum"),
    );
    let service = axums.layer.layer(ExcerptLayer::new().layer(router));
    let mut asked = request("text/plain", Body::from("hello"));
    *asked.uri_mut() = "/".parse().unwrap();
    let response = service.oneshot(asked).await.unwrap();
    let _ = response.into_body().collect().await;
    let line = axums.json();
    assert_eq!(
        (&line["request_body"], &line["response_body"]),
        (&"hello".into(), &"hello axum".into())
    );
}

#[test]
fn its_future_is_small() {
    type Inner = std::future::Ready<Result<Response<Body>, Infallible>>;
    fn outer<S: Service<Request<Body>>>(_: fn(&S)) -> usize {
        size_of::<S::Future>()
    }
    fn of<F: Fn(Request<Body>) -> Inner>(_: F) -> usize {
        outer::<ExcerptService<tower::util::ServiceFn<F>>>(|_| {})
    }
    let outer = of(|_| std::future::ready(Ok(Response::new(Body::empty()))));
    assert!(outer <= size_of::<Inner>() + 24, "{outer}");
}

#[test]
fn it_keeps_the_laws_of_layers() {
    contract(|| Case::new(ExcerptLayer::new()).calls_once()).assert();
    contract(|| {
        let log = Log::new(Format::Json, all);
        let handle = log.handle.clone();
        let layers = ServiceBuilder::new()
            .layer(log.layer)
            .layer(ExcerptLayer::new())
            .into_inner();
        Case::new(layers)
            .held(move || handle.in_flight())
            .calls_once()
    })
    .assert();
}
