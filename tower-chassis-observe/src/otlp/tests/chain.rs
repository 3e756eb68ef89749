//! Three services in a row, on sockets: what arrives at the collector is one trace.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use http::{Request, Response, StatusCode};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Endpoint,
    boxed::BoxService,
    client::{Client, ClientPolicy},
};
use tower_chassis_resilience::retry::{RetryConfig, RetryLayer, RetryPolicy};
use tracing::{Instrument, instrument::WithSubscriber};
use tracing_subscriber::layer::SubscriberExt;

use super::{super::Otlp, SECOND, attribute, collector::Collector, policy};
use crate::trace::{ClientTraceLayer, TraceLayer};

type Calls = BoxService<Request<Body>, Response<Body>>;

/// A service that sends its telemetry itself.
async fn serve(otlp: &Otlp, service: Calls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = ServiceBuilder::new()
        .layer(TraceLayer::new().sink(otlp.spans()))
        .map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new))
        .service(service);
    let subscriber = tracing::Dispatch::new(tracing_subscriber::registry().with(otlp.layer()));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            tokio::spawn(served.with_subscriber(subscriber.clone()));
        }
    });
    address
}

/// A client with a span for the call, and one for each attempt.
fn client(otlp: &Otlp, to: SocketAddr) -> Calls {
    let endpoint = Endpoint::new(&format!("http://{to}")).unwrap();
    let retry = RetryPolicy::try_from(RetryConfig {
        attempts: 3,
        ..RetryConfig::default()
    });
    let trace = || ClientTraceLayer::new().sink(otlp.spans());
    BoxService::new(
        ServiceBuilder::new()
            .map_request(|request: Request<Body>| request)
            .map_response(|response: Response<_>| response.map(Body::new))
            .layer(trace())
            .layer(RetryLayer::new(retry.unwrap()).rewrap::<Body>())
            .layer(trace())
            .service(Client::new(&ClientPolicy::default()).to(&endpoint)),
    )
}

async fn one_trace() {
    let collector = Collector::default();
    let address = collector.grpc().await;
    let service = |name: &str| {
        let name = name.to_owned();
        let (otlp, worker) = Otlp::new(policy(|config| {
            config.endpoint = Some(format!("http://{address}"));
            config.service_name = Some(name);
        }));
        tokio::spawn(worker);
        otlp
    };
    let [front, orders, stock] = ["front", "orders", "stock"].map(service);

    // It fails twice.
    let calls = Arc::new(AtomicU32::new(0));
    let last = BoxService::new(service_fn(move |_: Request<Body>| {
        let status = match calls.fetch_add(1, Relaxed) {
            0 | 1 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        let answer = async move {
            tokio::task::yield_now().await;
            let response = Response::builder().status(status);
            Ok::<_, BoxError>(response.body(Body::full("3 left"))?)
        };
        answer.instrument(tracing::info_span!("query"))
    }));
    let last = serve(&stock, last).await;
    let pass = |otlp: &Otlp, to: SocketAddr, path: &'static str| {
        let client = client(otlp, to);
        BoxService::new(service_fn(move |_: Request<Body>| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            client.clone().oneshot(request)
        }))
    };
    let middle = serve(&orders, pass(&orders, last, "/stock")).await;
    let first = serve(&front, pass(&front, middle, "/orders")).await;

    let caller = Client::new(&ClientPolicy::default());
    let request = Request::get(format!("http://{first}/"))
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body(Body::empty())
        .unwrap();
    let response = caller.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = http_body_util::BodyExt::collect(response).await.unwrap();
    assert_eq!(body.to_bytes(), "3 left");
    for otlp in [&front, &orders, &stock] {
        otlp.shutdown(5 * SECOND).await.unwrap();
        assert_eq!(otlp.span_tally().lost, 0);
    }
    collector.with(|got| check(&got.spans));
    let names = collector.with(|got| {
        let name = |resource| attribute(resource, "service.name").unwrap();
        let resources = got.resources.iter();
        resources
            .map(|resource| name(&resource.attributes))
            .collect::<Vec<_>>()
    });
    assert_eq!(names, ["front", "orders", "stock"]);
}

fn check(spans: &[Span]) {
    let id = |hex: &str| {
        let bytes = hex.as_bytes().chunks(2);
        bytes
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect::<Vec<_>>()
    };
    let trace = id("0af7651916cd43dd8448eb211c80319c");
    assert!(spans.iter().all(|span| span.trace_id == trace));
    let under = |parent: &[u8], kind: SpanKind| {
        let mut found: Vec<&Span> = spans
            .iter()
            .filter(|span| span.parent_span_id == parent && span.kind == kind as i32)
            .collect();
        found.sort_by_key(|span| span.start_time_unix_nano);
        found
    };
    let one = |parent: &[u8], kind| match under(parent, kind)[..] {
        [span] => span.span_id.clone(),
        ref other => panic!("{kind:?}: {other:?}"),
    };
    let call = |served: &[u8]| one(served, SpanKind::Client);
    let front = one(&id("b7ad6b7169203331"), SpanKind::Server);
    let orders = one(&one(&call(&front), SpanKind::Client), SpanKind::Server);
    // The attempts are parts of the call, one beside the other.
    let attempts = under(&call(&orders), SpanKind::Client);
    let said = attempts.iter().map(|span| {
        (
            attribute(&span.attributes, "http.request.resend_count"),
            attribute(&span.attributes, "http.response.status_code"),
            span.status.is_some(),
        )
    });
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            (None, text("503"), true),
            (text("1"), text("503"), true),
            (text("2"), text("200"), false)
        ]
    );
    for attempt in attempts {
        let served = one(&attempt.span_id, SpanKind::Server);
        // What the application did meanwhile.
        let query = under(&served, SpanKind::Internal);
        assert_eq!(query.len(), 1);
        assert_eq!(query[0].name, "query");
    }
    assert_eq!(spans.len(), 1 + 2 + 1 + 1 + 3 * 3);
}

#[tokio::test]
async fn three_services_are_one_trace() {
    one_trace().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_services_are_one_trace_on_two_threads() {
    one_trace().await;
}
