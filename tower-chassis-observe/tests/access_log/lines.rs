//! Lines of the access log, exactly.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{Routes, get};
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Carrier, Live, trace::TraceContext};
use tower_chassis_observe::{
    ObserveLayer,
    access_log::{
        AccessLogConfig, AccessLogLayer, AccessLogPolicy, Excerpt, Format, Query, Template,
    },
    trace::TraceLayer,
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn layer(&self, format: impl Into<Live<Format>>) -> AccessLogLayer {
        let lines = self.clone();
        let sink = move |line: &str| lines.0.lock().unwrap().push(line.to_owned());
        AccessLogLayer::new(format, sink).clock(clock)
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).concat()
    }
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_709_210_096_789)
}

fn named(path: &str) -> Request<()> {
    let mut request = get(path);
    *request.method_mut() = Method::POST;
    request
        .headers_mut()
        .insert("user-agent", HeaderValue::from_static("curl/8.5 (x)"));
    request
        .headers_mut()
        .insert("content-length", HeaderValue::from_static("12"));
    let invocation = request.invocation_mut();
    invocation.set_client("203.0.113.9:4711".parse().unwrap());
    invocation.set_request_id("r-1".into());
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    invocation.set_trace(TraceContext::parse(header).unwrap(), None);
    request
}

async fn run(layer: &AccessLogLayer, request: Request<()>) {
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let _ = service
        .oneshot(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await;
}

#[tokio::test(start_paused = true)]
async fn lines() {
    let lines = Lines::default();
    let text = lines.layer(Format::Text);
    run(&text, named("/users/7?token=secret")).await;
    assert_eq!(
        lines.take(),
        "time=2024-02-29T12:34:56.789Z client=203.0.113.9 method=POST path=/users/7 route=/users/{id} status=200 \
         duration_ms=0.000 bytes=5 request_id=r-1 trace_id=0af7651916cd43dd8448eb211c80319c \
         user_agent=\"curl/8.5 (x)\" class=success span_id=b7ad6b7169203331 level=info request_bytes=12 \
         protocol=HTTP/1.1 user=-\n"
    );
    run(&text, get("/nothing")).await;
    assert_eq!(
        lines.take(),
        "time=2024-02-29T12:34:56.789Z client=- method=GET path=/nothing route=- status=404 duration_ms=0.000 \
         bytes=13 request_id=- trace_id=- user_agent=- class=client-fault span_id=- level=warn request_bytes=0 \
         protocol=HTTP/1.1 user=-\n"
    );
    let json = lines.layer(Format::Json);
    run(&json, named("/users/grpc")).await;
    assert_eq!(
        lines.take(),
        r#"{"time":"2024-02-29T12:34:56.789Z","client":"203.0.113.9","method":"POST","path":"/users/grpc","route":"/users/{id}","status":200,"grpc":14,"duration_ms":0.000,"bytes":7,"request_id":"r-1","trace_id":"0af7651916cd43dd8448eb211c80319c","user_agent":"curl/8.5 (x)","class":"failure","span_id":"b7ad6b7169203331","level":"error","request_bytes":12,"protocol":"HTTP/1.1"}"#
            .to_owned() + "\n"
    );
    run(&json, get("/nothing")).await;
    assert_eq!(
        lines.take(),
        r#"{"time":"2024-02-29T12:34:56.789Z","method":"GET","path":"/nothing","status":404,"duration_ms":0.000,"bytes":13,"class":"client-fault","level":"warn","request_bytes":0,"protocol":"HTTP/1.1"}"#
            .to_owned() + "\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_has_a_line() {
    let lines = Lines::default();
    let routes = Routes::default();
    let service = lines
        .layer(Format::Text)
        .layer(service_fn(move |request| routes.clone().call(request)));
    {
        let mut call = pin!(service.oneshot(get("/slow")));
        assert!(
            call.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        tokio::time::advance(Duration::from_micros(1_234_567)).await;
    }
    let line = lines.take();
    assert!(
        line.contains(" route=/slow status=- duration_ms=1234."),
        "{line}"
    );
    assert!(
        line.contains(" class=cancelled ") && line.contains(" level=info "),
        "{line}"
    );
}

#[tokio::test]
async fn what_a_client_sends_cannot_make_a_line() {
    let lines = Lines::default();
    let format = Live::new(Format::Text);
    let layer = lines.layer(format.clone()).query(Query::Full);
    let agents: [&[u8]; 4] = [
        b"x\" class=success time=2024",
        b"\x80\xff\t\xc2\x9b31m",
        b"\xe2\x80\xae{\"a\":1}",
        b"a\\\",\"class\":\"success",
    ];
    for agent in agents {
        for text in [true, false] {
            format
                .set(if text { Format::Text } else { Format::Json })
                .unwrap();
            let mut request = named("/users/\"7\"?a=%0a%22&b=x");
            request
                .headers_mut()
                .insert("user-agent", HeaderValue::from_bytes(agent).unwrap());
            request
                .invocation_mut()
                .set_request_id("r\r\n\u{1b}[31m".into());
            run(&layer, request).await;
            let line = lines.take();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(
                !line.trim_end().chars().any(char::is_control) && !line.contains('\u{202e}'),
                "{line:?}"
            );
            if text {
                assert!(line.contains(r#"request_id="r\r\n\u{1b}[31m""#), "{line}");
                assert!(
                    line.contains(r#"path="/users/\"7\"?a=%0a%22&b=x""#),
                    "{line}"
                );
            } else {
                let read: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(read["user_agent"], *String::from_utf8_lossy(agent));
                assert_eq!(read["request_id"], "r\r\n\u{1b}[31m");
                assert_eq!(
                    (&read["class"], &read["status"]),
                    (&"success".into(), &200.into())
                );
            }
        }
    }
}

#[tokio::test]
async fn a_query_is_shown_as_it_was_asked_for() {
    for (query, path) in [
        (Query::Hidden, "path=/users/7 "),
        (Query::Names, r#"path="/users/7?a=*&*&b=*" "#),
        (Query::Full, r#"path="/users/7?a=1&secret&b=2" "#),
        (Query::Raw, r#"path="/users/7?a=1&secret&b=2" "#),
    ] {
        let lines = Lines::default();
        run(
            &lines.layer(Format::Text).query(query),
            named("/users/7?a=1&secret&b=2"),
        )
        .await;
        let line = lines.take();
        assert!(line.contains(path), "{line}");
    }
}

#[tokio::test]
async fn the_format_is_live() {
    let lines = Lines::default();
    let layer = lines.layer(Format::Off);
    run(&layer, get("/users/7")).await;
    assert_eq!(lines.take(), "");
    layer.handle().format().set(Format::Json).unwrap();
    run(&layer, get("/users/7")).await;
    assert!(lines.take().starts_with('{'));
    layer.handle().format().set(Format::Text).unwrap();
    run(&layer, get("/users/7")).await;
    assert!(lines.take().starts_with("time="));
}

#[tokio::test]
async fn in_a_tuple_it_reads_the_trace() {
    let lines = Lines::default();
    let layer = ObserveLayer::new((TraceLayer::new(), lines.layer(Format::Text)));
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let mut request = get("/users/7");
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        .parse()
        .unwrap();
    request.headers_mut().insert("traceparent", header);
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(lines.take(), "");
    let _ = response.into_body().collect().await;
    let line = lines.take();
    assert!(
        line.contains(" trace_id=0af7651916cd43dd8448eb211c80319c "),
        "{line}"
    );
}

/// A policy with a share of successes and a time that is slow.
fn policy(successes: f64, slow: Duration) -> AccessLogPolicy {
    AccessLogPolicy::default()
        .with(|config| (config.successes, config.slow) = (successes, slow))
        .unwrap()
}

#[tokio::test]
async fn what_went_wrong_has_a_line_whatever_the_share_of_successes() {
    let lines = Lines::default();
    let layer = lines
        .layer(Format::Text)
        .policy(policy(0.0, Duration::ZERO));
    for _ in 0..100 {
        run(&layer, get("/users/7")).await;
    }
    assert_eq!(lines.take(), "");
    for (path, class) in [
        ("/users/fail", "failure"),
        ("/users/grpc", "failure"),
        ("/nothing", "client-fault"),
    ] {
        run(&layer, get(path)).await;
        assert!(lines.take().contains(&format!(" class={class} ")));
    }
    let handle = layer.handle();
    assert_eq!((handle.written(), handle.skipped()), (3, 100));
}

#[tokio::test]
async fn a_share_of_successes_has_a_line_and_the_share_is_live() {
    let lines = Lines::default();
    let live = Live::new(policy(0.25, Duration::ZERO));
    let layer = lines.layer(Format::Text).policy(live.clone());
    let many = async || {
        for _ in 0..2_000 {
            run(&layer, get("/users/7")).await;
        }
        lines.take().lines().count()
    };
    // Ten standard deviations.
    assert!((300..700).contains(&many().await));
    live.set(policy(1.0, Duration::ZERO)).unwrap();
    assert_eq!(many().await, 2_000);
    let handle = layer.handle();
    assert_eq!(handle.written() + handle.skipped(), 4_000);
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert!(handle.update(|config| config.successes = wrong).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_success_has_a_line() {
    let lines = Lines::default();
    let second = Duration::from_secs(1);
    let layer = lines.layer(Format::Text).policy(policy(0.0, second));
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let wait = if request.uri().path() == "/slow" {
            1_000
        } else {
            999
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        Ok::<_, std::convert::Infallible>(crate::support::answer(200, ""))
    }));
    for path in ["/fast", "/slow"] {
        let response = service.clone().oneshot(get(path)).await.unwrap();
        let _ = response.into_body().collect().await;
    }
    let line = lines.take();
    assert!(
        line.contains("path=/slow") && line.lines().count() == 1,
        "{line}"
    );
}

#[tokio::test]
async fn a_full_sink_is_counted_and_does_not_fail_the_call() {
    let (sender, lines) = std::sync::mpsc::sync_channel::<String>(2);
    let layer = AccessLogLayer::new(Format::Text, move |line: &str| {
        sender.try_send(line.into()).is_ok()
    });
    for _ in 0..5 {
        run(&layer, get("/users/7")).await;
    }
    let handle = layer.handle();
    assert_eq!((handle.written(), handle.dropped()), (2, 3));
    assert_eq!(lines.try_iter().count(), 2);
}

#[tokio::test]
async fn calls_in_flight_are_those_whose_line_is_to_come() {
    let lines = Lines::default();
    let layer = lines.layer(Format::Text);
    let handle = layer.handle();
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let response = service.clone().oneshot(get("/users/7")).await.unwrap();
    {
        let mut call = pin!(service.oneshot(get("/slow")));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(handle.in_flight(), 2);
        handle.format().set(Format::Off).unwrap();
    }
    assert_eq!((handle.in_flight(), handle.skipped()), (1, 1));
    drop(response);
    assert_eq!((handle.in_flight(), handle.skipped()), (0, 2));
    assert_eq!(lines.take(), "", "it was turned off before they ended");
}

#[tokio::test]
async fn fresh_is_the_same_settings_and_sink_and_counts_of_its_own() {
    let lines = Lines::default();
    let layer = lines.layer(Format::Text).query(Query::Names);
    let (clone, fresh) = (layer.clone(), layer.fresh());
    for layer in [&layer, &clone, &fresh] {
        run(layer, get("/users/7?a=b")).await;
        assert!(lines.take().contains("/users/7?a=*"));
    }
    assert_eq!((clone.handle().written(), fresh.handle().written()), (2, 1));
    layer
        .handle()
        .update(|config| config.successes = 0.0)
        .unwrap();
    layer.handle().format().set(Format::Json).unwrap();
    for path in ["/users/7", "/nothing"] {
        run(&fresh, get(path)).await;
    }
    let line = lines.take();
    assert!(line.starts_with('{') && line.lines().count() == 1, "{line}");
}

/// In a call that panics a second panic would end the process.
#[tokio::test]
async fn a_sink_that_panics_loses_its_line_and_no_call() {
    let layer = AccessLogLayer::new(Format::Text, |_: &str| -> bool { panic!("planted") });
    run(&layer, get("/users/7")).await;
    let handle = layer.handle();
    assert_eq!((handle.dropped(), handle.in_flight()), (1, 0));
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let call = tokio::spawn(async { drop(service.oneshot(get("/users/panic")).await) });
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!((handle.dropped(), handle.in_flight()), (2, 0));
}

/// What somebody outside has marked as sensitive is no secret by its name only.
#[tokio::test]
async fn what_is_marked_as_sensitive_is_not_shown() {
    let lines = Lines::default();
    for format in [
        Format::Text,
        Format::Json,
        Format::Combined,
        Format::Ecs,
        Format::Template,
    ] {
        let template = Template::parse("{header:x-tenant} {header:referer} {user_agent}").unwrap();
        let layer = lines.layer(format).template(template);
        let excerpts = |config: &mut AccessLogConfig| {
            config.excerpts = Excerpt::All;
            config.excerpt_headers = vec!["x-tenant".to_owned()];
        };
        layer.handle().update(excerpts).unwrap();
        let mut request = get("/users/7");
        for name in ["x-tenant", "user-agent", "referer"] {
            let mut value = HeaderValue::from_static("PLANTED");
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        run(&layer, request).await;
        let line = lines.take();
        assert!(line.contains("***"), "{format:?}: {line}");
        assert!(!line.contains("PLANTED"), "{format:?}: {line}");
    }
}

/// Nobody fills the log, or what it is written through, with one call.
#[tokio::test]
async fn what_is_long_is_cut() {
    let lines = Lines::default();
    for format in [Format::Text, Format::Json, Format::Combined, Format::Gcp] {
        let layer = lines.layer(format).query(Query::Full);
        let long = "\u{e9}".repeat(30_000);
        let mut request = named(&format!(
            "/users/{}?q={}",
            "a".repeat(30_000),
            "b".repeat(30_000)
        ));
        for name in ["user-agent", "referer"] {
            let value = HeaderValue::from_bytes(long.as_bytes()).unwrap();
            request.headers_mut().insert(name, value);
        }
        run(&layer, request).await;
        let line = lines.take();
        assert!(line.contains("/users/aaaa"), "{format:?}");
        // Two values of 8 KiB, twice that for a letter that is escaped as two.
        assert!(line.len() < 100_000, "{format:?}: {}", line.len());
    }
}
