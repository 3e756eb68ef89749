//! Propagation and spans.
// A program of its own: whether a span is asked for is found out once, by who is first, and only one test at a time may be.
#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "a test")]

mod support;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use support::{Routes, get};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Body, BoxError, Carrier, Invocation, Live, trace::TraceContext};
use tower_chassis_observe::trace::{ClientTraceLayer, Sampling, TraceLayer, TracePolicy, current};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{layer::SubscriberExt, registry::LookupSpan};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// One test at a time. What a span's place in the code has cached, whether anybody listens, is of the process, and
/// with one listener alive `tracing` asks the thread that comes by first.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

type Fields = BTreeMap<&'static str, String>;

/// Keeps the fields of every span that was closed, and how often each was entered.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Fields>>>);

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        cx: tracing_subscriber::layer::Context<'_, S>,
    ) {
        assert_eq!(attributes.metadata().target(), "tower_chassis::trace");
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        cx.span(id).unwrap().extensions_mut().insert(fields);
    }
    fn on_record(
        &self,
        id: &span::Id,
        values: &span::Record<'_>,
        cx: tracing_subscriber::layer::Context<'_, S>,
    ) {
        values.record(&mut Reader(
            cx.span(id).unwrap().extensions_mut().get_mut().unwrap(),
        ));
    }
    fn on_close(&self, id: span::Id, cx: tracing_subscriber::layer::Context<'_, S>) {
        let fields = cx.span(&id).unwrap().extensions_mut().remove().unwrap();
        self.0.lock().unwrap().push(fields);
    }
}

impl Spans {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }
    fn take(&self) -> Vec<Fields> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn serve(layer: &TraceLayer, request: Request<()>) {
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

fn with_parent(path: &str, parent: &str) -> Request<()> {
    let mut request = get(path);
    request
        .headers_mut()
        .insert("traceparent", parent.parse().unwrap());
    request
}

#[tokio::test]
async fn a_span_says_how_a_call_went() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard = spans.listen();
    let layer = TraceLayer::new();
    serve(&layer, with_parent("/users/7?token=secret", PARENT)).await;
    let span = spans.take().pop().unwrap();
    for (field, value) in [
        ("otel.name", "GET /users/{id}"),
        ("otel.kind", "server"),
        ("trace_id", TRACE),
        ("parent_span_id", "b7ad6b7169203331"),
        ("http.request.method", "GET"),
        ("http.route", "/users/{id}"),
        ("url.path", "/users/7"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(span.get(field).map(String::as_str), Some(value), "{field}");
    }
    assert!(!span.contains_key("error.type") && !span.contains_key("otel.status_code"));

    for (path, name, status, error) in [
        ("/nothing", "GET", None, None),
        ("/users/fail", "GET /users/{id}", Some("ERROR"), Some("500")),
        (
            "/users/grpc",
            "GET /users/{id}",
            Some("ERROR"),
            Some("UNAVAILABLE"),
        ),
    ] {
        serve(&layer, get(path)).await;
        let span = spans.take().pop().unwrap();
        let field = |name: &str| span.get(name).map(String::as_str);
        assert_eq!(
            (
                field("otel.name"),
                field("otel.status_code"),
                field("error.type")
            ),
            (Some(name), status, error)
        );
        assert!(field("parent_span_id").is_none() && field("trace_id").unwrap() != TRACE);
    }
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_span() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard = spans.listen();
    let routes = Routes::default();
    let service = TraceLayer::new().layer(service_fn(move |request| routes.clone().call(request)));
    {
        let mut call = pin!(service.oneshot(get("/slow")));
        assert!(
            call.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert!(spans.take().is_empty() && current().is_none());
    }
    let span = spans.take().pop().unwrap();
    assert_eq!(
        (&*span["http.route"], &*span["error.type"]),
        ("/slow", "cancelled")
    );
    assert!(
        !span.contains_key("otel.status_code") && !span.contains_key("http.response.status_code")
    );
}

/// A server that calls a client, which hands out the headers that it would have sent.
async fn hop(request: Request<()>, server: TraceLayer) -> (Option<TraceContext>, http::HeaderMap) {
    let sent = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&sent);
    let client = ClientTraceLayer::new().layer(service_fn(move |request: Request<()>| {
        *seen.lock().unwrap() = Some(request.headers().clone());
        std::future::ready(Ok::<_, BoxError>(Response::new(Body::empty())))
    }));
    let inner = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&inner);
    let service = server.layer(service_fn(move |mut request: Request<()>| {
        let (client, noted) = (client.clone(), Arc::clone(&noted));
        async move {
            tokio::task::yield_now().await;
            assert_eq!(current(), request.invocation_mut().trace());
            *noted.lock().unwrap() = current();
            client.oneshot(get("http://next/")).await
        }
    }));
    let _ = service.oneshot(request).await.unwrap();
    let headers = sent.lock().unwrap().take().unwrap();
    (*inner.lock().unwrap(), headers)
}

#[tokio::test]
async fn the_trace_goes_from_server_to_client() {
    let _alone = ALONE.lock().await;
    // With and without a listener, sampled or not: propagation does not depend on it.
    for listen in [false, true] {
        let spans = Spans::default();
        let _guard = listen.then(|| spans.listen());
        for (parent, flags) in [
            (PARENT.to_owned(), "01"),
            (PARENT.replace("-01", "-00"), "00"),
        ] {
            for layer in [
                TraceLayer::new(),
                TraceLayer::new().sampling(Sampling::ratio(0.0)),
            ] {
                let mut request = with_parent("/x", &parent);
                request
                    .headers_mut()
                    .insert("tracestate", "vendor=1".parse().unwrap());
                let (inner, headers) = hop(request, layer).await;
                let sent = headers["traceparent"].to_str().unwrap();
                let (inner, outer) = (inner.unwrap(), TraceContext::parse(sent).unwrap());
                assert_eq!(outer.trace_id().to_string(), TRACE);
                assert_eq!(inner.trace_id(), outer.trace_id());
                assert!(
                    inner.span_id() != outer.span_id()
                        && !parent.contains(&inner.span_id().to_string())
                );
                assert!(sent.ends_with(flags));
                assert_eq!(headers["tracestate"], "vendor=1");
            }
        }
        let spans = spans.take();
        // Two calls of two spans each, with the default sampling; one of them with the ratio; and the client's.
        let servers = spans
            .iter()
            .filter(|span| span["otel.kind"] == "server")
            .count();
        assert_eq!(servers, if listen { 3 } else { 0 });
        for client in spans.iter().filter(|span| span["otel.kind"] == "client") {
            assert_eq!(
                (&*client["server.address"], &*client["trace_id"]),
                ("next", TRACE)
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_parent_begins_a_new_trace() {
    let _alone = ALONE.lock().await;
    for parent in [
        "",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        &PARENT.to_uppercase(),
    ] {
        let mut request = with_parent("/x", parent);
        request
            .headers_mut()
            .insert("tracestate", "vendor=1".parse().unwrap());
        let (_, headers) = hop(request, TraceLayer::new()).await;
        let sent = TraceContext::parse(headers["traceparent"].to_str().unwrap()).unwrap();
        assert!(sent.trace_id().to_string() != TRACE && sent.is_sampled());
        assert!(
            !headers.contains_key("tracestate"),
            "that of a trace which was not taken over"
        );
    }
}

#[tokio::test]
async fn every_attempt_is_a_child_of_the_call() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard = spans.listen();
    let service = ClientTraceLayer::new().layer(ClientTraceLayer::new().layer(service_fn(
        async |_: Request<()>| Ok::<_, BoxError>(support::answer(404, "")),
    )));
    for with_invocation in [true, false] {
        let mut request = get("http://next:81/a?b");
        if with_invocation {
            request.invocation_mut().set_attempt(2);
        }
        let _ = service.clone().oneshot(request).await.unwrap();
        let [attempt, call] = &spans.take()[..] else {
            panic!("two spans")
        };
        assert_eq!(
            (&attempt["trace_id"], &attempt["parent_span_id"]),
            (&call["trace_id"], &call["span_id"])
        );
        assert_eq!(
            (
                &*attempt["url.path"],
                &*attempt["server.port"],
                &*attempt["error.type"]
            ),
            ("/a", "81", "404")
        );
        assert_eq!(
            attempt.get("http.request.resend_count").is_some(),
            with_invocation
        );
    }
}

#[tokio::test]
async fn off_it_is_not_there() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard = spans.listen();
    let policy = TracePolicy::default().with(|config| config.enabled = false);
    let live = Live::new(policy.unwrap());
    let server = TraceLayer::new().policy(live.clone());
    let handle = server.handle();
    let outer = TraceLayer::new();
    let client = ClientTraceLayer::new().policy(live.clone());
    let sent = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&sent);
    let client = client.layer(service_fn(move |request: Request<()>| {
        *seen.lock().unwrap() = request.headers().get("traceparent").cloned();
        std::future::ready(Ok::<_, BoxError>(Response::new(Body::empty())))
    }));
    // The trace of another layer around it is still there, and the header goes on as it came.
    let answer = Arc::new(Mutex::new(None));
    let told = Arc::clone(&answer);
    let service = outer.layer(server.layer(service_fn(move |request: Request<()>| {
        let traces = (request.invocation().and_then(Invocation::trace), current());
        *told.lock().unwrap() = Some(traces);
        client.clone().oneshot(request)
    })));
    let _ = service.clone().oneshot(with_parent("/x", PARENT)).await;
    let (trace, here) = answer.lock().unwrap().take().unwrap();
    assert_eq!(trace, here);
    assert_eq!(here.unwrap().trace_id().to_string(), TRACE);
    assert_eq!(sent.lock().unwrap().take().unwrap(), PARENT);
    assert_eq!(spans.take().len(), 1, "the outer one's");
    assert_eq!(handle.calls(), 0);

    handle.update(|config| config.enabled = true).unwrap();
    let _ = service.oneshot(with_parent("/x", PARENT)).await;
    assert_ne!(sent.lock().unwrap().take().unwrap(), PARENT);
    assert_eq!((handle.calls(), spans.take().len()), (1, 3));
}

#[tokio::test]
async fn a_handle_counts_calls_and_spans_and_fresh_its_own() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard = spans.listen();
    let layer = TraceLayer::new().sampling(Sampling::ratio(0.0));
    let (clone, fresh, handle) = (layer.clone(), layer.fresh(), layer.handle());
    serve(&layer, get("/users/7")).await;
    handle.update(|config| config.ratio = None).unwrap();
    serve(&clone, get("/users/7")).await;
    assert_eq!(
        (handle.calls(), handle.spans(), handle.in_flight()),
        (2, 1, 0)
    );
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    {
        let mut call = pin!(service.oneshot(get("/slow")));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!((handle.spans(), handle.in_flight()), (2, 1));
    }
    assert_eq!(handle.in_flight(), 0);
    assert_eq!(fresh.handle().calls(), 0);
    handle.update(|config| config.ratio = Some(0.0)).unwrap();
    serve(&fresh, get("/users/7")).await;
    assert_eq!((fresh.handle().calls(), fresh.handle().spans()), (1, 0));
    assert!(handle.update(|config| config.ratio = Some(1.5)).is_err());
}

/// Counts events, whatever they say.
struct Warnings(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        assert_eq!(event.metadata().target(), "tower_chassis::trace");
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        self.0
            .lock()
            .unwrap()
            .push(fields.remove("message").unwrap());
    }
}

#[tokio::test]
async fn silent_loss_is_warned_of_once() {
    let _alone = ALONE.lock().await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry()
        .with(Warnings(Arc::clone(&said)))
        .with(tracing_subscriber::filter::LevelFilter::WARN);
    let _guard = tracing::subscriber::set_default(subscriber);
    serve(&TraceLayer::new(), with_parent("/x", PARENT)).await;
    let layer = TraceLayer::new().expects_export();
    for _ in 0..3 {
        serve(&layer, with_parent("/x", PARENT)).await;
        serve(&layer, with_parent("/x", &PARENT.replace("-01", "-00"))).await;
    }
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("no span sink") && said[0].contains("no subscriber"));
    assert_eq!(layer.handle().lost(), 3);
}

#[tokio::test]
async fn a_span_of_grpc_is_one_of_rpc() {
    let _alone = ALONE.lock().await;
    let spans = Spans::default();
    let _guard = spans.listen();
    let request = |path| {
        let mut request = get(path);
        let grpc = "application/grpc".parse().unwrap();
        request.headers_mut().insert("content-type", grpc);
        request
    };
    for (path, name, method, code) in [
        (
            "/users/grpc",
            "users/grpc",
            "users/grpc",
            Some("UNAVAILABLE"),
        ),
        ("/pkg.Svc/Method", "grpc", "_OTHER", None),
    ] {
        serve(&TraceLayer::new(), request(path)).await;
        let span = spans.take().pop().unwrap();
        let field = |name: &str| span.get(name).map(String::as_str);
        assert_eq!(
            (
                field("otel.name"),
                field("rpc.method"),
                field("rpc.response.status_code")
            ),
            (Some(name), Some(method), code)
        );
        assert_eq!(field("rpc.system.name"), Some("grpc"));
        assert!(
            field("http.request.method").is_none() && field("http.response.status_code").is_none()
        );
    }
}
