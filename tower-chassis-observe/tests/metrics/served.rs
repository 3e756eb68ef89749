//! Metrics of what a server of ours serves, over sockets: what hyper does with a body is part of it.

use std::{convert::Infallible, time::Duration};

use crate::support::{find, one};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, service_fn};
use tower_chassis_core::{
    Body,
    server::{Drain, Server, ServerPolicy},
};
use tower_chassis_observe::{metrics::ServerMetricsLayer, prometheus::Prometheus};

async fn handle(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = match method {
        Method::POST if path == "/deaf" => return Ok(Response::new("who?".into())),
        _ => request.into_body().collect().await,
    };
    let Ok(body) = body else {
        return Ok(Response::builder().status(400).body(Body::empty()).unwrap());
    };
    let bytes = body.to_bytes();
    Ok(match &*path {
        "/none" => Response::builder().status(204).body(Body::empty()).unwrap(),
        "/same" => Response::builder().status(304).body(Body::empty()).unwrap(),
        _ => Response::new(format!("{} bytes", bytes.len()).into()),
    })
}

/// Serves, sends `text`, reads until the end, and gives the metrics once nothing is active.
async fn serve(text: &str) -> (String, String) {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let server = Server::new(ServerPolicy::default())
        .listen("127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let address = server.addresses()[0].to_string();
    let handle_of = layer.handle();
    let service = layer.layer(service_fn(handle));
    let served = tokio::spawn(server.serve(service, Drain::new()));
    let mut socket = TcpStream::connect(address.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    if text.contains("connection: close") {
        socket.read_to_end(&mut answer).await.unwrap();
    } else {
        // It leaves in the middle of what it has to say.
        while handle_of.in_flight() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(socket);
    }
    while handle_of.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    served.abort();
    let metrics = prometheus.render();
    let active = find(&metrics, "http_server_active_requests", &[]);
    assert!(active.iter().all(|(_, value)| *value == 0.0), "{active:?}");
    (String::from_utf8_lossy(&answer).into_owned(), metrics)
}

fn request_line(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

/// How many there are of a request's and a response's sizes with these labels, and their sums.
fn sizes(metrics: &str, labels: &[&str]) -> [(f64, f64); 2] {
    ["request", "response"].map(|of| {
        let value = |part: &str| {
            let name = format!("http_server_{of}_body_size_bytes_{part}");
            let found = find(metrics, &name, labels).into_iter();
            found.map(|(_, value)| value).sum()
        };
        (value("count"), value("sum"))
    })
}

#[tokio::test]
async fn bodies_are_counted_that_do_not_say_how_long_they_are() {
    let close = "connection: close\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let text = [
        request_line("POST /up", chunked),
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".into(),
        request_line("PUT /up", "content-length: 3\r\n"),
        "abc".into(),
        request_line("GET /up", close),
    ]
    .concat();
    let (answer, metrics) = serve(&text).await;
    assert!(
        answer.contains("11 bytes") && answer.contains("3 bytes"),
        "{answer}"
    );
    let of = |method: &str| sizes(&metrics, &[&format!("http_request_method=\"{method}\"")]);
    assert_eq!(of("POST"), [(1.0, 11.0), (1.0, 8.0)]);
    assert_eq!(of("PUT"), [(1.0, 3.0), (1.0, 7.0)]);
    assert_eq!(of("GET"), [(1.0, 0.0), (1.0, 7.0)]);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let text = [
        request_line("HEAD /up", ""),
        request_line("GET /none", ""),
        request_line("GET /same", ""),
        request_line("GET /up", "expect: 100-continue\r\nconnection: close\r\n"),
    ]
    .concat();
    let (answer, metrics) = serve(&text).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 4, "{answer}");
    let head = sizes(&metrics, &[r#"http_request_method="HEAD""#]);
    assert_eq!(head, [(1.0, 0.0), (1.0, 0.0)]);
    for (status, size) in [(204, 0.0), (304, 0.0)] {
        let label = format!("http_response_status_code=\"{status}\"");
        assert_eq!(sizes(&metrics, &[&label])[1], (1.0, size), "{status}");
    }
    let count = "http_server_request_duration_seconds_count";
    let all = find(&metrics, count, &[]);
    assert_eq!(all.iter().map(|(_, count)| count).sum::<f64>(), 4.0);
    // None of them failed, and what hyper says in between is nobody's answer.
    assert!(find(&metrics, count, &["error_type"]).is_empty(), "{all:?}");
    assert!(!metrics.contains(r#"http_response_status_code="100""#));
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_has_sent_so_much() {
    let text = [
        request_line("POST /up", "transfer-encoding: chunked\r\n"),
        "5\r\nhello\r\n".into(),
    ]
    .concat();
    let (_, metrics) = serve(&text).await;
    let [(requests, bytes), _] = sizes(&metrics, &[]);
    assert_eq!((requests, bytes), (1.0, 5.0));
    let count = "http_server_request_duration_seconds_count";
    assert_eq!(one(&metrics, count, &[]), 1.0);
}
