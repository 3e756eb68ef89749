//! A peer that is none of ours: grpcio, in Python.

use std::{net::SocketAddr, path::Path, process::Stdio};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError,
    server::Drain,
    trace::{ClientTraceLayer, Propagation, TraceContext, TraceLayer},
};

use super::{
    services::{channel, serve_ours},
    spans::{Kept, attributes},
};

/// Debian's; the one on the path may be another.
const PYTHON: &str = "/usr/bin/python3";

/// The span that the peer puts between.
pub(crate) const THEIRS: &str = "00f067aa0ba902b7";

/// Starts the peer; none where there is no Python with grpcio.
pub(crate) async fn peer() -> Option<(Child, SocketAddr)> {
    let has_it = std::process::Command::new(PYTHON)
        .args(["-c", "import grpc"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_it {
        assert!(
            std::env::var("CHASSIS_PEERS").as_deref() != Ok("required"),
            "CHASSIS_PEERS=required, and {PYTHON} has no grpc (python3-grpcio)"
        );
        eprintln!("SKIPPED: {PYTHON} has no grpc (python3-grpcio)");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/propagation/peer.py");
    let mut child = Command::new(PYTHON)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port: u16 = lines.next_line().await.unwrap().unwrap().parse().unwrap();
    Some((child, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

pub(crate) fn call(path: &str, message: &[u8]) -> Request<tonic::body::Body> {
    Request::post(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Full::new(framed(message))))
        .unwrap()
}

/// The metadata that the peer says it was given.
pub(crate) async fn asked<S, B>(service: S, request: Request<tonic::body::Body>) -> HeaderMap
where
    S: Service<Request<tonic::body::Body>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    let message = body.to_bytes().slice(5..);
    let mut headers = HeaderMap::new();
    for line in str::from_utf8(&message).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

/// Answers any call of gRPC with an empty message, and keeps the metadata.
pub(crate) async fn ours(
    layer: TraceLayer,
    heard: std::sync::Arc<std::sync::Mutex<HeaderMap>>,
    drain: Drain,
) -> SocketAddr {
    let service = layer.layer(service_fn(move |request: Request<Body>| {
        *heard.lock().unwrap() = request.headers().clone();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let body = Full::new(framed(b"")).with_trailers(std::future::ready(Some(Ok(trailers))));
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .body(body);
        std::future::ready(Ok::<_, BoxError>(response.unwrap()))
    }));
    serve_ours(service, drain).await
}

#[tokio::test]
async fn a_trace_goes_to_python_and_comes_back() {
    let Some((_child, python)) = peer().await else {
        return;
    };
    for propagation in [
        Propagation::w3c(),
        Propagation::b3_single(),
        Propagation::b3_multi(),
        Propagation::w3c().and_b3_multi(),
    ] {
        let kept = Kept::default();
        let drain = Drain::new();
        let heard = std::sync::Arc::default();
        let server = TraceLayer::new()
            .propagation(propagation)
            .sink(kept.of("ours"));
        let back = ours(server, std::sync::Arc::clone(&heard), drain.clone()).await;
        let client = ClientTraceLayer::new()
            .propagation(propagation)
            .sink(kept.of("call"));
        let client = client.layer(channel(python));

        // There: what the peer was given is what our span says.
        let mut request = call("/peer.Peer/Echo", b"");
        let mut invocation = tower_chassis::Invocation::new(tokio::time::Instant::now());
        invocation.set_baggage(Some("tenant=blue%20whale".into()));
        request.extensions_mut().insert(invocation);
        let given = asked(client.clone(), request).await;
        let spans = kept.wait(1).await;
        let context = spans[0].1.context();
        assert_eq!(spans[0].1.name(), "peer.Peer/Echo");
        assert_eq!(given["baggage"], "tenant=blue%20whale");
        let parent = context.to_string();
        let (trace, span) = (
            context.trace_id().to_string(),
            context.span_id().to_string(),
        );
        for (name, value) in [
            ("traceparent", &*parent),
            ("b3", &*format!("{trace}-{span}-1")),
            ("x-b3-traceid", &trace),
            ("x-b3-spanid", &span),
            ("x-b3-sampled", "1"),
        ] {
            let spoken = match name {
                "traceparent" => {
                    [Propagation::w3c(), Propagation::w3c().and_b3_multi()].contains(&propagation)
                }
                "b3" => propagation == Propagation::b3_single(),
                _ => [Propagation::b3_multi(), Propagation::w3c().and_b3_multi()]
                    .contains(&propagation),
            };
            let given = given.get(name).map(|given| given.to_str().unwrap());
            assert_eq!(given, spoken.then_some(value), "{propagation:?}: {name}");
        }

        // And back: the peer calls us within its span.
        let request = call("/peer.Peer/Call", back.to_string().as_bytes());
        asked(client, request).await;
        let spans = kept.wait(2).await;
        let served = spans.iter().find(|(name, _)| *name == "ours").unwrap();
        let called = spans.iter().find(|(name, _)| *name == "call").unwrap();
        assert_eq!(served.1.context().trace_id(), called.1.context().trace_id());
        assert_eq!(served.1.parent().unwrap().to_string(), THEIRS);
        assert!(served.1.has_remote_parent() && served.1.context().is_sampled());
        assert_eq!(served.1.name(), "peer.Back/Hello");
        let told = attributes(&served.1);
        assert_eq!(told["rpc.response.status_code"], "OK");
        assert!(
            told["user_agent.original"].contains("grpc-python"),
            "{told:?}"
        );
        let heard = heard.lock().unwrap().clone();
        let parent = heard
            .get("traceparent")
            .map(|parent| parent.to_str().unwrap());
        if let Some(parent) = parent {
            assert_eq!(
                TraceContext::parse(parent).unwrap().span_id().to_string(),
                THEIRS
            );
        }
        drain.start();
    }
}
