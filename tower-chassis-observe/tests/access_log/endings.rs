//! However a call ends, it has one line, and every format says how.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use crate::frames::Frames;
use http::{Request, Response};
use serde_json::Value;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{Body, BoxError, Kind, Rejection};
use tower_chassis_observe::access_log::{AccessLogLayer, Format, Level};

const FORMATS: [Format; 8] = [
    Format::Text,
    Format::Json,
    Format::Common,
    Format::Combined,
    Format::Ecs,
    Format::Otel,
    Format::Gcp,
    Format::Template,
];

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

/// How a call goes, and what is told of it: the status, the class, the level, and how many bytes.
struct Row {
    name: &'static str,
    method: &'static str,
    serve: fn() -> Answer,
    /// So many frames are read at most, then the body is dropped.
    frames: usize,
    told: (Option<u16>, &'static str, Level, u64),
}

fn ok(status: u16, body: impl FnOnce() -> Body + Send + 'static) -> Answer {
    Box::pin(async move { Ok(Response::builder().status(status).body(body())?) })
}

fn refused(kind: Kind) -> Answer {
    Box::pin(async move { Err(Rejection::new(kind, "test").into()) })
}

fn ten_bytes() -> Frames {
    Frames::split(b"0123456789", 3)
}

const ALL: usize = usize::MAX;

const ROWS: [Row; 15] = [
    Row {
        name: "answered",
        method: "GET",
        serve: || ok(200, || Body::from("hello")),
        frames: ALL,
        told: (Some(200), "success", Level::Info, 5),
    },
    Row {
        name: "cancelled before the head",
        method: "GET",
        serve: || Box::pin(std::future::pending()),
        frames: ALL,
        told: (None, "cancelled", Level::Info, 0),
    },
    Row {
        name: "panicked",
        method: "GET",
        serve: || Box::pin(async { panic!("planted") }),
        frames: ALL,
        told: (None, "failure", Level::Error, 0),
    },
    Row {
        name: "failed without an answer",
        method: "GET",
        serve: || Box::pin(async { Err("planted".into()) }),
        frames: ALL,
        told: (None, "failure", Level::Error, 0),
    },
    Row {
        name: "the body breaks",
        method: "GET",
        serve: || {
            ok(200, || {
                Body::new(Frames {
                    breaks: true,
                    ..ten_bytes()
                })
            })
        },
        frames: ALL,
        told: (Some(200), "failure", Level::Error, 10),
    },
    Row {
        name: "the client leaves in the middle",
        method: "GET",
        serve: || ok(200, || Body::new(ten_bytes())),
        frames: 2,
        told: (Some(200), "cancelled", Level::Info, 6),
    },
    Row {
        name: "the client leaves while nothing comes",
        method: "GET",
        serve: || {
            ok(200, || {
                Body::new(Frames {
                    waits: true,
                    ..ten_bytes()
                })
            })
        },
        frames: ALL,
        told: (Some(200), "cancelled", Level::Info, 10),
    },
    Row {
        name: "streamed",
        method: "GET",
        serve: || ok(200, || Body::new(ten_bytes())),
        frames: ALL,
        told: (Some(200), "success", Level::Info, 10),
    },
    Row {
        name: "switched protocols",
        method: "GET",
        serve: || ok(101, Body::empty),
        frames: ALL,
        told: (Some(101), "success", Level::Info, 0),
    },
    Row {
        name: "HEAD, whose body nobody reads",
        method: "HEAD",
        serve: || ok(200, || Body::from("hello")),
        frames: 0,
        told: (Some(200), "success", Level::Info, 0),
    },
    Row {
        name: "not modified",
        method: "GET",
        serve: || ok(304, Body::empty),
        frames: ALL,
        told: (Some(304), "success", Level::Info, 0),
    },
    Row {
        name: "asked what is possible",
        method: "OPTIONS",
        serve: || ok(204, Body::empty),
        frames: ALL,
        told: (Some(204), "success", Level::Debug, 0),
    },
    Row {
        name: "refused",
        method: "GET",
        serve: || refused(Kind::Overloaded),
        frames: ALL,
        told: (Some(503), "refused", Level::Warn, 0),
    },
    Row {
        name: "too often",
        method: "GET",
        serve: || refused(Kind::RateLimited),
        frames: ALL,
        told: (Some(429), "refused", Level::Info, 0),
    },
    Row {
        name: "too late",
        method: "GET",
        serve: || refused(Kind::Timeout),
        frames: ALL,
        told: (Some(504), "timeout", Level::Error, 0),
    },
];

fn run(row: &Row, format: Format) -> (String, Level) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let layer = AccessLogLayer::leveled(format, move |line: &str, level| {
        sink.lock().unwrap().push((line.to_owned(), level));
    });
    let handle = layer.handle();
    let serve = row.serve;
    let service = layer.layer(service_fn(move |_: Request<()>| serve()));
    let request = Request::builder().method(row.method).uri("/a");
    let request = request.body(()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    // What it panics with is not for here.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let mut call = pin!(service.oneshot(request));
        let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
            return;
        };
        let mut body = pin!(response.into_body());
        for _ in 0..row.frames {
            match http_body::Body::poll_frame(body.as_mut(), &mut cx) {
                Poll::Ready(Some(Ok(_))) => {}
                _ => return,
            }
        }
    }));
    assert_eq!(
        (handle.in_flight(), handle.written()),
        (0, 1),
        "{}",
        row.name
    );
    let mut lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{}", row.name);
    lines.remove(0)
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_in_every_format() {
    for row in &ROWS {
        let (status, class, level, bytes) = row.told;
        for format in FORMATS {
            let (line, told) = run(row, format);
            assert_eq!(told, level, "{}: {line}", row.name);
            let member = |path: &str| {
                let line: Value = serde_json::from_str(&line).unwrap();
                line.pointer(path).cloned().unwrap_or_default()
            };
            let number = |path: &str| member(path).as_u64();
            let found = match format {
                Format::Json => (
                    number("/status"),
                    member("/class"),
                    member("/level"),
                    number("/bytes"),
                ),
                Format::Ecs => (
                    number("/http.response.status_code"),
                    member("/labels/class"),
                    member("/log.level"),
                    number("/http.response.body.bytes"),
                ),
                Format::Otel => (
                    number("/attributes/http.response.status_code"),
                    member("/attributes/class"),
                    member("/severity_text")
                        .as_str()
                        .unwrap()
                        .to_lowercase()
                        .into(),
                    number("/attributes/http.response.body.size"),
                ),
                Format::Gcp => (
                    number("/httpRequest/status"),
                    member("/logging.googleapis.com~1labels/class"),
                    match member("/severity").as_str().unwrap() {
                        "WARNING" => "warn".into(),
                        severity => severity.to_lowercase().into(),
                    },
                    member("/httpRequest/responseSize")
                        .as_str()
                        .unwrap()
                        .parse()
                        .ok(),
                ),
                _ => {
                    let status = status.map_or("-".to_owned(), |status| status.to_string());
                    let parts = match format {
                        Format::Text => vec![
                            format!(" status={status} "),
                            format!(" class={class} "),
                            format!(" level={} ", level.name()),
                            format!(" bytes={bytes} "),
                        ],
                        _ => vec![format!("\"{} /a HTTP/1.1\" {status} {bytes}", row.method)],
                    };
                    for part in parts {
                        assert!(line.contains(&part), "{}: {part} in {line}", row.name);
                    }
                    continue;
                }
            };
            let expected = (
                status.map(u64::from),
                class.into(),
                level.name().into(),
                Some(bytes),
            );
            assert_eq!(found, expected, "{}: {line}", row.name);
        }
    }
}

/// A panic before there is a future.
#[tokio::test]
async fn a_service_that_panics_in_its_call_has_a_line() {
    #[derive(Clone)]
    struct Panics;
    impl Service<Request<()>> for Panics {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Body>, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            panic!("planted")
        }
    }
    let layer = AccessLogLayer::new(Format::Json, |line: &str| {
        assert!(line.contains(r#""class":"failure""#), "{line}");
    });
    let mut service = layer.layer(Panics);
    let call = || drop(service.call(Request::new(())));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(layer.handle().written(), 1);
}
