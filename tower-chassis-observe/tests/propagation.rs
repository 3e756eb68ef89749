//! What goes with a call, and where its spans go.
#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "a test")]

mod support;

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use support::{Routes, get};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Body, BoxError, Carrier, Invocation};
use tower_chassis_observe::trace::{
    AlwaysOff, AlwaysOn, Attribute, Baggage, ClientTraceLayer, FinishedSpan, Propagation, Sampling,
    SpanKind, SpanSink, TraceContext, TraceId, TraceLayer, current, current_request_id,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Keeps the spans.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<FinishedSpan>>>);

impl SpanSink for Kept {
    fn ended(&self, span: FinishedSpan) {
        self.0.lock().unwrap().push(span);
    }
}

impl Kept {
    fn take(&self) -> Vec<FinishedSpan> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn attributes(span: &FinishedSpan) -> BTreeMap<&'static str, String> {
    let mut all = BTreeMap::new();
    span.attributes(&mut |name, value| {
        let value = match value {
            Attribute::Str(text) => text.to_owned(),
            Attribute::Int(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        all.insert(name, value);
    });
    all
}

async fn serve(layer: &TraceLayer, request: Request<()>) {
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let response = service.oneshot(request).await.unwrap();
    let _ = response.into_body().collect().await;
}

fn with(path: &str, pairs: &[(&str, &str)]) -> Request<()> {
    let mut request = get(path);
    for (name, value) in pairs {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_sink_gets_what_is_sampled_when_it_is_over() {
    let kept = Kept::default();
    let layer = TraceLayer::new().sink(kept.clone());
    let before = SystemTime::now();
    let headers = [
        ("traceparent", PARENT),
        ("tracestate", "vendor=1"),
        ("host", "shop:81"),
        ("user-agent", "curl"),
        ("cookie", "secret"),
    ];
    serve(&layer, with("/users/7?token=secret", &headers)).await;
    let span = kept.take().pop().unwrap();
    assert_eq!(span.name(), "GET /users/{id}");
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(span.context().trace_id().to_string(), TRACE);
    assert_eq!(span.parent().unwrap().to_string(), "b7ad6b7169203331");
    assert!(span.has_remote_parent() && !span.is_error());
    assert_eq!(span.state(), Some("vendor=1"));
    assert!(span.started() + Duration::from_millis(50) >= before);
    assert!(span.started() <= SystemTime::now() && span.took() < Duration::from_secs(5));
    let told = attributes(&span);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/users/{id}"),
        ("http.response.status_code", "200"),
        ("url.path", "/users/7"),
        ("server.address", "shop"),
        ("server.port", "81"),
        ("user_agent.original", "curl"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!format!("{span:?}{told:?}").contains("secret"));

    // One that is not sampled is not for it; a new trace is.
    serve(
        &layer,
        with(
            "/users/7",
            &[("traceparent", &PARENT.replace("-01", "-00"))],
        ),
    )
    .await;
    assert!(kept.take().is_empty());
    serve(&layer, get("/users/fail")).await;
    let span = kept.take().pop().unwrap();
    assert!(span.is_error() && span.parent().is_none() && !span.has_remote_parent());
    assert_eq!(attributes(&span)["error.type"], "500");
    assert_eq!((layer.handle().calls(), layer.handle().spans()), (3, 2));
    assert_eq!(layer.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_left_or_panics_has_a_span() {
    let kept = Kept::default();
    let layer = TraceLayer::new().sink(kept.clone());
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    {
        let mut call = pin!(service.clone().oneshot(get("/slow")));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(layer.handle().in_flight(), 1);
    }
    let span = kept.take().pop().unwrap();
    assert_eq!(attributes(&span)["error.type"], "cancelled");
    assert!(!span.is_error());
    assert_eq!(span.took(), Duration::from_millis(250));

    let panicked = tokio::spawn(service.oneshot(get("/users/panic"))).await;
    assert!(panicked.unwrap_err().is_panic());
    let span = kept.take().pop().unwrap();
    assert!(span.is_error());
    assert_eq!(attributes(&span)["error.type"], "_OTHER");
    assert_eq!(layer.handle().in_flight(), 0);
}

/// A sink with every fault that one may have.
#[derive(Clone, Default)]
struct Bad {
    within: u32,
    polls: Arc<AtomicU32>,
}

impl SpanSink for Bad {
    fn ended(&self, _: FinishedSpan) {
        panic!("planted: ended");
    }
    fn within(&self, at: &TraceContext, state: Option<&Arc<str>>, poll: &mut dyn FnMut()) {
        self.polls.fetch_add(1, Relaxed);
        assert_eq!(at.trace_id().to_string(), TRACE);
        assert_eq!(state.map(|state| &**state), Some("vendor=1"));
        match self.within {
            0 => {}
            1 => panic!("planted: before"),
            2 => {
                poll();
                panic!("planted: after");
            }
            _ => {
                poll();
                poll();
            }
        }
    }
}

#[tokio::test]
async fn a_sink_that_fails_does_not_hurt_the_call() {
    let headers = [("traceparent", PARENT), ("tracestate", "vendor=1")];
    for within in 0..4 {
        let bad = Bad {
            within,
            ..Bad::default()
        };
        let layer = TraceLayer::new().sink(bad.clone());
        let ran = AtomicU32::new(0);
        let service = layer.layer(service_fn(|request: Request<()>| {
            ran.fetch_add(1, Relaxed);
            async move {
                if request.uri() == "/panic" {
                    tokio::task::yield_now().await;
                    panic!("planted: the call");
                }
                Ok::<_, BoxError>(Response::new(Body::from("hello")))
            }
        }));
        let response = service.oneshot(with("/", &headers)).await.unwrap();
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "hello"
        );
        assert_eq!((ran.load(Relaxed), bad.polls.load(Relaxed) > 0), (1, true));

        let call = layer.layer(service_fn(
            async |_: Request<()>| -> Result<Response<Body>, BoxError> {
                tokio::task::yield_now().await;
                panic!("planted: the call")
            },
        ));
        let call = AssertUnwindSafe(call.oneshot(with("/", &headers)));
        let panic = futures_catch(call).await.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"planted: the call"));
        assert_eq!(layer.handle().in_flight(), 0);
        assert!(current().is_none());
    }
}

/// Runs a future on a task of this thread, and catches its panic.
async fn futures_catch<F: Future>(future: F) -> std::thread::Result<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// What a client's layer sends for a request.
async fn sent(client: ClientTraceLayer, request: Request<()>) -> HeaderMap {
    let service = client.layer(service_fn(async |request: Request<()>| {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = request.headers().clone();
        Ok::<_, BoxError>(response)
    }));
    let response = service.oneshot(request).await.unwrap();
    response.headers().clone()
}

/// A server that calls a client, with the invocation carried over, and what that sent.
async fn hop(server: TraceLayer, client: ClientTraceLayer, request: Request<()>) -> HeaderMap {
    let service = server.layer(service_fn(move |incoming: Request<()>| {
        let client = client.clone();
        async move {
            let mut request = get("http://next/");
            incoming.invocation().unwrap().carry(&mut request);
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = sent(client, request).await;
            Ok::<_, BoxError>(response)
        }
    }));
    service.oneshot(request).await.unwrap().headers().clone()
}

#[tokio::test]
async fn one_language_in_and_another_out() {
    let span = "b7ad6b7169203331";
    let single = format!("{TRACE}-{span}-1");
    let multi = [
        ("X-B3-TraceId", TRACE),
        ("X-B3-SpanId", span),
        ("X-B3-Sampled", "1"),
    ];
    let both = Propagation::w3c().and_b3();
    for headers in [
        &[("traceparent", PARENT)][..],
        &[("b3", &*single)],
        &multi[..],
    ] {
        let server = || TraceLayer::new().propagation(both);
        let client = |propagation| ClientTraceLayer::new().propagation(propagation);
        let out = hop(server(), client(Propagation::w3c()), with("/", headers)).await;
        assert!(out["traceparent"].to_str().unwrap().contains(TRACE));
        assert_eq!(out.len(), 1, "{out:?}");
        let out = hop(
            server(),
            client(Propagation::b3_single()),
            with("/", headers),
        )
        .await;
        let b3 = out["b3"].to_str().unwrap();
        assert!(b3.starts_with(TRACE) && b3.ends_with("-1") && !b3.contains(span));
        assert_eq!(out.len(), 1, "{out:?}");
        let out = hop(
            server(),
            client(Propagation::b3_multi().and_w3c()),
            with("/", headers),
        )
        .await;
        assert_eq!(
            (&out["x-b3-traceid"], &out["x-b3-sampled"]),
            (&TRACE.parse().unwrap(), &"1".parse().unwrap())
        );
        let parent = format!("00-{TRACE}-{}-01", out["x-b3-spanid"].to_str().unwrap());
        assert_eq!(out["traceparent"], parent);
        assert_eq!(out.len(), 4, "{out:?}");
        // Whoever does not speak it begins a trace.
        let deaf =
            TraceLayer::new().propagation(if headers.len() == 1 && headers[0].0 == "traceparent" {
                Propagation::b3_single()
            } else {
                Propagation::w3c()
            });
        let out = hop(deaf, client(Propagation::w3c()), with("/", headers)).await;
        assert!(!out["traceparent"].to_str().unwrap().contains(TRACE));
    }
}

#[tokio::test]
async fn a_decision_without_a_trace_is_obeyed_and_one_left_open_is_ours() {
    let kept = Kept::default();
    let layer = |sampling| {
        TraceLayer::new()
            .sampling(sampling)
            .propagation(Propagation::b3_single())
            .sink(kept.clone())
    };
    let open = format!("{TRACE}-b7ad6b7169203331");
    for (b3, ratio, recorded) in [
        ("0", 1.0, 0),
        ("1", 0.0, 1),
        ("d", 0.0, 1),
        (&open, 0.0, 0),
        (&open, 1.0, 1),
        (&format!("{open}-0"), 1.0, 0),
        (&format!("{open}-d"), 0.0, 1),
    ] {
        serve(
            &layer(Sampling::ratio(ratio)),
            with("/users/1", &[("b3", b3)]),
        )
        .await;
        let spans = kept.take();
        assert_eq!(spans.len(), recorded, "{b3} {ratio}");
        for span in spans {
            assert_eq!(span.context().trace_id().to_string() == TRACE, b3.len() > 1);
            assert_eq!(span.has_remote_parent(), b3.len() > 1);
        }
    }
}

#[tokio::test]
async fn a_sampler_has_the_last_word_and_tells_it_on() {
    let flag = |out: &HeaderMap| out["traceparent"].to_str().unwrap()[53..].to_owned();
    let no = PARENT.replace("-01", "-00");
    for parent in [PARENT, &no] {
        let request = || with("/", &[("traceparent", parent)]);
        let off = hop(
            TraceLayer::new().sampler(AlwaysOff),
            ClientTraceLayer::new(),
            request(),
        )
        .await;
        assert_eq!(flag(&off), "00");
        let on = hop(
            TraceLayer::new().sampler(AlwaysOn),
            ClientTraceLayer::new(),
            request(),
        )
        .await;
        assert_eq!(flag(&on), "01");
        assert!(on["traceparent"].to_str().unwrap().contains(TRACE));
    }
    // What it is asked.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&asked);
    let sampler = move |trace: TraceId, parent: Option<&TraceContext>, kind: SpanKind| {
        let parent = parent.map(|parent| parent.to_string());
        told.lock().unwrap().push((trace.to_string(), parent, kind));
        false
    };
    let layer = TraceLayer::new().sampler(sampler);
    serve(&layer, with("/", &[("traceparent", PARENT)])).await;
    serve(&layer, get("/")).await;
    let asked = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(
        asked[0],
        (TRACE.into(), Some(PARENT.into()), SpanKind::Server)
    );
    assert!(asked[1].0 != TRACE && asked[1].1.is_none());
}

#[tokio::test]
async fn services_with_one_ratio_agree() {
    // Each begins the trace anew with the same id, as where a proxy between them cuts the decision out.
    let kept = Kept::default();
    let layer = || {
        TraceLayer::new()
            .sampling(Sampling::ratio(0.3))
            .propagation(Propagation::b3_single())
            .sink(kept.clone())
    };
    let mut recorded = 0;
    for n in 0..500u32 {
        let id = format!(
            "{:032x}-00000000000000ff",
            u128::from(n) << 32
                | u128::from(n.wrapping_mul(0x9E37_79B9)) << 32
                | u128::from(n) << 100
        );
        let Some(()) = (n > 0).then_some(()) else {
            continue;
        };
        let id = [("b3", &*id)];
        serve(&layer(), with("/users/1", &id)).await;
        let one = kept.take().len();
        serve(&layer(), with("/users/1", &id)).await;
        assert_eq!(kept.take().len(), one);
        recorded += one;
    }
    assert!((100..200).contains(&recorded), "{recorded} of 500");
}

#[tokio::test]
async fn baggage_goes_where_the_call_carries_it() {
    let header = ("baggage", "tenant=blue%20whale, beta=1;p");
    let request = || with("/", &[header]);
    let out = hop(TraceLayer::new(), ClientTraceLayer::new(), request()).await;
    let baggage = Baggage::parse(out["baggage"].to_str().unwrap());
    assert_eq!(
        (baggage.get("tenant"), baggage.get("beta")),
        (Some("blue whale"), Some("1"))
    );
    // Either side can leave it.
    let out = hop(
        TraceLayer::new().baggage(false),
        ClientTraceLayer::new(),
        request(),
    )
    .await;
    assert!(!out.contains_key("baggage"));
    let out = hop(
        TraceLayer::new(),
        ClientTraceLayer::new().baggage(false),
        request(),
    )
    .await;
    assert!(!out.contains_key("baggage"));
    // A request that does not carry it has none, although it is made within the call.
    let server = TraceLayer::new().layer(service_fn(async |_: Request<()>| {
        let out = sent(ClientTraceLayer::new(), get("http://elsewhere/")).await;
        assert!(out.contains_key("traceparent") && !out.contains_key("baggage"));
        Ok::<_, BoxError>(Response::new(Body::empty()))
    }));
    server.oneshot(request()).await.unwrap();
}

#[tokio::test]
async fn the_request_id_is_there_where_it_was_named_before() {
    let server = TraceLayer::new().layer(service_fn(async |_: Request<()>| {
        tokio::task::yield_now().await;
        assert_eq!(current_request_id().as_deref(), Some("r-7"));
        // Also inside of a call that is made meanwhile, unless that has one of its own.
        let client = ClientTraceLayer::new().layer(service_fn(async |request: Request<()>| {
            let own = request
                .invocation()
                .and_then(Invocation::request_id)
                .cloned();
            assert_eq!(current_request_id(), own.or(Some("r-7".into())));
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }));
        client.clone().oneshot(get("/")).await?;
        let mut named = get("/");
        named.invocation_mut().set_request_id("r-8".into());
        client.oneshot(named).await?;
        Ok::<_, BoxError>(Response::new(Body::empty()))
    }));
    let mut request = get("/");
    request.invocation_mut().set_request_id("r-7".into());
    server.oneshot(request).await.unwrap();
    assert!(current_request_id().is_none());
}

#[tokio::test]
async fn what_nobody_takes_is_counted_where_it_is_expected() {
    let quiet = TraceLayer::new();
    let loud = TraceLayer::new().expects_export();
    let sunk = TraceLayer::new().expects_export().sink(Kept::default());
    for layer in [&quiet, &loud, &sunk] {
        serve(layer, with("/", &[("traceparent", PARENT)])).await;
        serve(
            layer,
            with("/", &[("traceparent", &PARENT.replace("-01", "-00"))]),
        )
        .await;
    }
    let lost = [quiet, loud, sunk].map(|layer| layer.handle().lost());
    assert_eq!(lost, [0, 1, 0]);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_names_a_span() {
    let kept = Kept::default();
    // `route_layer`s and layers of a router are behind axum's matching.
    let app = axum::Router::new()
        .route("/users/{id}", axum::routing::get(async || "hello"))
        .layer(TraceLayer::new().sink(kept.clone()));
    for (path, name) in [("/users/7", "GET /users/{id}"), ("/nothing", "GET")] {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let _ = response.into_body().collect().await;
        let span = kept.take().pop().unwrap();
        assert_eq!(span.name(), name);
        let template = attributes(&span).remove("http.route");
        assert_eq!(template, name.strip_prefix("GET ").map(str::to_owned));
    }
}

#[tokio::test]
async fn who_is_not_believed_has_no_say() {
    use tower_chassis_core::Live;
    use tower_chassis_observe::trace::TracePolicy;

    let live = Live::new(
        TracePolicy::default()
            .with(|config| config.ratio = Some(0.0))
            .unwrap(),
    );
    let kept = Kept::default();
    let seen = Arc::new(Mutex::new(None));
    let heard = Arc::clone(&seen);
    let layer = TraceLayer::new()
        .propagation(Propagation::w3c().and_b3())
        .policy(live.clone())
        .sink(kept.clone());
    let service = layer.layer(service_fn(move |mut request: Request<()>| {
        let invocation = request.invocation_mut();
        let said = (invocation.trace(), invocation.baggage().is_some());
        *heard.lock().unwrap() = Some((said, request.headers().clone()));
        std::future::ready(Ok::<_, BoxError>(Response::new(Body::empty())))
    }));
    let call = async || {
        let request = Request::builder()
            .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))
            .header("tracestate", "a=1")
            .header("baggage", "user=7")
            .header("b3", "0")
            .header("x-b3-flags", "1")
            .header("x-other", "stays")
            .body(())
            .unwrap();
        service.clone().oneshot(request).await.unwrap();
        seen.lock().unwrap().take().unwrap()
    };
    let ((trace, baggage), headers) = call().await;
    assert_eq!(trace.unwrap().trace_id().to_string(), TRACE);
    assert!(baggage && headers.len() == 6);
    assert_eq!(
        kept.0.lock().unwrap().len(),
        1,
        "its caller says that it is recorded"
    );

    live.update(|policy| *policy = policy.clone().with(|config| config.trust = false).unwrap())
        .unwrap();
    let ((trace, baggage), headers) = call().await;
    let trace = trace.unwrap();
    assert!(trace.trace_id().to_string() != TRACE && !trace.is_sampled() && !baggage);
    assert_eq!((headers.len(), headers.contains_key("x-other")), (1, true));
    assert_eq!(kept.0.lock().unwrap().len(), 1, "the ratio is what counts");
}
