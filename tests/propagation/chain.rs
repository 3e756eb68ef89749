//! Five services in a row, each of which sends its spans itself: axum, our server, tonic, Python's grpcio, and our server
//! again, with attempts that fail in between. What arrives at the collector is one trace.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{self},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError, Invocation, RescueLayer,
    observe::otlp::{Otlp, OtlpConfig, OtlpPolicy},
    server::Drain,
    trace::{ClientTraceLayer, Propagation, TraceLayer},
};

use super::{
    client,
    collector::{Collector, Received},
    grpcio::{self, THEIRS},
    retry,
    services::{channel, serve_axum, serve_ours, serve_tonic},
    to,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const BAGGAGE: &str = "tenant=blue%20whale";

/// What a call of gRPC gets of the one that it is made for.
fn carried<T>(incoming: &Invocation, message: T) -> tonic::Request<T> {
    let mut carrier = Request::new(());
    incoming.carry(&mut carrier);
    let mut request = tonic::Request::new(message);
    *request.extensions_mut() = carrier.into_parts().0.extensions;
    request
}

/// Fails once, then asks the peer in Python to call `ledger`.
struct Prices {
    otlp: Otlp,
    python: SocketAddr,
    ledger: SocketAddr,
    failed: AtomicU32,
    /// What the peer says that it was given.
    given: Arc<Mutex<HeaderMap>>,
}

#[tonic::async_trait]
impl health_server::Health for Prices {
    type WatchStream = tonic::codegen::tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        if self.failed.fetch_add(1, SeqCst) == 0 {
            return Err(Status::unavailable("not yet"));
        }
        let trace = ClientTraceLayer::new().sink(self.otlp.spans());
        let mut call = grpcio::call("/peer.Peer/Call", self.ledger.to_string().as_bytes());
        let incoming = request.extensions().get::<Invocation>().unwrap();
        incoming.carry(&mut call);
        let given = grpcio::asked(trace.layer(channel(self.python)), call).await;
        *self.given.lock().unwrap() = given;
        Ok(tonic::Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again"))
    }
}

/// What the caller says of itself, and what of it must be at the other end.
struct Caller {
    headers: &'static [(&'static str, &'static str)],
    state: &'static str,
}

/// What arrived at the collector, at the peer in Python, and at the last service.
struct Seen {
    spans: Vec<Received>,
    python: HeaderMap,
    ledger: HeaderMap,
}

async fn through_all(python: SocketAddr, caller: &Caller) -> Seen {
    let collector = Collector::default();
    let address = collector.serve().await;
    let services = ["front", "stock", "prices", "ledger"].map(|name| {
        let config = OtlpConfig {
            endpoint: Some(format!("http://{address}")),
            service_name: Some(name.to_owned()),
            ..OtlpConfig::default()
        };
        let (otlp, worker) = Otlp::new(OtlpPolicy::try_from(config).unwrap());
        tokio::spawn(worker);
        otlp
    });
    let [front, stock, prices, ledger] = &services;
    let drain = Drain::new();

    let heard = Arc::default();
    let layer = TraceLayer::new().sink(ledger.spans());
    let at_ledger = grpcio::ours(layer, Arc::clone(&heard), drain.clone()).await;

    let given = Arc::default();
    let health = Prices {
        otlp: prices.clone(),
        python,
        ledger: at_ledger,
        failed: AtomicU32::new(0),
        given: Arc::clone(&given),
    };
    let at_prices = serve_tonic(TraceLayer::new().sink(prices.spans()), health).await;

    // Fails once, then asks for the price; that is tried again too.
    let failed = Arc::new(AtomicU32::new(0));
    let grpc = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(ClientTraceLayer::new().sink(stock.spans()))
        .layer(retry().rewrap_with(tonic::body::Body::new))
        .layer(ClientTraceLayer::new().sink(stock.spans()))
        .service(channel(at_prices));
    let served = service_fn(move |request: Request<Body>| {
        let (failed, grpc) = (failed.fetch_add(1, SeqCst) == 0, grpc.clone());
        async move {
            let mut response = Response::new(Body::from("served"));
            if failed {
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                return Ok::<_, BoxError>(response);
            }
            let incoming = request.extensions().get::<Invocation>().unwrap();
            let ask = carried(incoming, HealthCheckRequest::default());
            HealthClient::new(grpc).check(ask).await?;
            Ok(response)
        }
    });
    let layer = TraceLayer::new().sink(stock.spans());
    let at_stock = serve_ours(layer.layer(served), drain.clone()).await;

    let ask = ServiceBuilder::new()
        .layer(ClientTraceLayer::new().sink(front.spans()))
        .layer(retry())
        .layer(ClientTraceLayer::new().sink(front.spans()))
        .service(client(false));
    // Callers may speak either; who is called understands W3C.
    let layer = TraceLayer::new()
        .propagation(Propagation::w3c().and_b3())
        .sink(front.spans());
    let app = Router::new()
        .route(
            "/shop",
            get(move |incoming: axum::Extension<Invocation>| async move {
                let mut request = to(&format!("http://{at_stock}/stock"));
                incoming.carry(&mut request);
                let response = ask.oneshot(request).await.unwrap();
                response.into_body().collect().await.unwrap().to_bytes()
            }),
        )
        .layer(layer);
    let at_front = serve_axum(app).await;

    let mut request = to(&format!("http://{at_front}/shop"));
    for (name, value) in caller.headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let response = client(false).oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "served");

    // A server's span ends after its client has its answer.
    for (otlp, spans) in services.iter().zip([4, 5, 3, 1]) {
        for _ in 0..500 {
            let tally = otlp.span_tally();
            if tally.sent + tally.waiting as u64 >= spans {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        otlp.shutdown(Duration::from_secs(5)).await.unwrap();
        assert_eq!(otlp.span_tally().lost, 0);
    }
    drain.start();
    let (python, ledger) = (given.lock().unwrap().clone(), heard.lock().unwrap().clone());
    Seen {
        spans: collector.spans(),
        python,
        ledger,
    }
}

/// A line for each span under its parent: service, name, status, whether it failed, which attempt it is.
fn below(spans: &[Received], parent: &str, depth: usize, lines: &mut Vec<String>) {
    for span in spans.iter().filter(|span| span.parent == parent) {
        let told = |name: &str| span.attributes.get(name);
        let status = told("rpc.response.status_code").or(told("http.response.status_code"));
        let status = status.map_or("?", |status| status);
        let failed = if span.is_error { "error" } else { "-" };
        let side = if span.is_server { "serves" } else { "asks" };
        let resent = told("http.request.resend_count");
        let resent = resent.map_or_else(String::new, |count| format!(" resent {count}"));
        lines.push(format!(
            "{:depth$}{} {side} {} {status} {failed}{resent}",
            "", span.service, span.name
        ));
        if span.name == "peer.Peer/Call" {
            lines.push(format!("{:depth$} (python)", ""));
            below(spans, THEIRS, depth + 2, lines);
        } else {
            below(spans, &span.id, depth + 1, lines);
        }
    }
}

fn check(seen: &Seen, caller: &Caller) {
    let spans = &seen.spans;
    for span in spans {
        assert_eq!(span.trace, TRACE, "{span:?}");
        assert_eq!(span.state, caller.state, "{span:?}");
        assert_eq!(span.has_remote_parent, span.is_server, "{span:?}");
    }
    let mut tree = Vec::new();
    below(spans, CALLER, 0, &mut tree);
    let check = "grpc.health.v1.Health/Check";
    // axum's template is known with the feature alone.
    let route = if cfg!(feature = "axum") { " /shop" } else { "" };
    assert_eq!(
        tree,
        [
            format!("front serves GET{route} 200 -"),
            " front asks GET 200 -".to_owned(),
            "  front asks GET 503 error".to_owned(),
            "   stock serves GET 503 error".to_owned(),
            "  front asks GET 200 - resent 1".to_owned(),
            "   stock serves GET 200 -".to_owned(),
            format!("    stock asks {check} OK -"),
            format!("     stock asks {check} UNAVAILABLE error"),
            format!("      prices serves {check} UNAVAILABLE error"),
            format!("     stock asks {check} OK - resent 1"),
            format!("      prices serves {check} OK -"),
            "       prices asks peer.Peer/Call OK -".to_owned(),
            "        (python)".to_owned(),
            "         ledger serves peer.Back/Hello OK -".to_owned(),
        ]
    );
    // None is anywhere else.
    assert_eq!(spans.len(), tree.len() - 1);

    // What the peer in Python was given is what called it, and it has passed that on.
    let called = spans.iter().find(|span| span.name == "peer.Peer/Call");
    let parent = format!("00-{TRACE}-{}-01", called.unwrap().id);
    for (headers, parent) in [
        (&seen.python, parent),
        (&seen.ledger, format!("00-{TRACE}-{THEIRS}-01")),
    ] {
        assert_eq!(headers["traceparent"], parent);
        assert_eq!(headers["baggage"], BAGGAGE);
        let state = headers.get("tracestate");
        let state = state.map_or("", |state| state.to_str().unwrap());
        assert_eq!(state, caller.state);
        let b3 = headers.keys().find(|name| name.as_str().contains("b3"));
        assert_eq!(b3, None, "nobody here writes it");
    }
}

#[tokio::test]
async fn from_axum_to_python_and_back_it_is_one_trace() {
    let Some((_child, python)) = grpcio::peer().await else {
        return;
    };
    for caller in [
        Caller {
            headers: &[
                (
                    "traceparent",
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                ),
                ("tracestate", "vendor=1,other=2"),
                ("baggage", BAGGAGE),
            ],
            state: "vendor=1,other=2",
        },
        // B3 comes in, W3C goes out.
        Caller {
            headers: &[
                ("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"),
                ("baggage", BAGGAGE),
            ],
            state: "",
        },
        Caller {
            headers: &[
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", CALLER),
                ("x-b3-sampled", "1"),
                ("baggage", BAGGAGE),
            ],
            state: "",
        },
    ] {
        let seen = through_all(python, &caller).await;
        check(&seen, &caller);
    }
}
