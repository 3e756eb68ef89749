//! The same from the other side: how a call that is made ends, and what the layers of a client tell of it.

use std::{net::SocketAddr, time::Duration};

use http::{Request, header};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower::{Layer, ServiceExt};
use tower_chassis::{
    Body, ObserveLayer, Verdict,
    client::{Client, ClientConfig, ClientPolicy},
    metrics::ClientMetricsLayer,
    prometheus::Prometheus,
    timeout::{TimeoutLayer, TimeoutPolicy},
    trace::ClientTraceLayer,
};

use crate::{
    ends::{fields, labels},
    seen::{Seen, Spans, Told, durations, gauges, sizes, span},
    servers::{On, serve},
};

/// What is called.
#[derive(Clone, Copy)]
enum Server {
    /// Nobody listens.
    Nobody,
    /// It says this and closes.
    Says(&'static str),
    /// It says this, and nothing more.
    Stalls(&'static str),
    /// Our server and [`crate::app`], by gRPC.
    App(&'static str),
}

/// How long the caller waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    ToTheEnd,
    /// It drops the call when the server has heard it.
    NoHead,
    /// It drops the body after its first frame.
    Midway,
}

struct Row {
    name: &'static str,
    method: &'static str,
    server: Server,
    waits: Waits,
    status: Option<u16>,
    code: Option<&'static str>,
    error: Option<&'static str>,
    bytes: u64,
}

const fn row(
    name: &'static str,
    server: Server,
    status: Option<u16>,
    error: Option<&'static str>,
    bytes: u64,
) -> Row {
    let (method, waits, code) = ("GET", Waits::ToTheEnd, None);
    Row {
        name,
        method,
        server,
        waits,
        status,
        code,
        error,
        bytes,
    }
}

const fn rpc(end: &'static str, code: Option<&'static str>, error: Option<&'static str>) -> Row {
    let mut row = row(end, Server::App(end), Some(200), error, 4);
    row.method = "POST";
    row.code = code;
    row
}

impl Row {
    const fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    const fn waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    const fn without_body(mut self) -> Self {
        self.bytes = 0;
        self
    }
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const CHUNKS: &str =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n";
const CUT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const OTHER: Option<&str> = Some("_OTHER");
const CANCELLED: Option<&str> = Some("cancelled");
const UNREACHABLE: Option<&str> = Some("unreachable");

#[rustfmt::skip]
const ROWS: [Row; 19] = [
    row("success", Server::Says(HELLO), Some(200), None, 5),
    row("HEAD", Server::Says("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"), Some(200), None, 0).method("HEAD"),
    row("304", Server::Says("HTTP/1.1 304 Not Modified\r\n\r\n"), Some(304), None, 0),
    row("103 and then 200", Server::Says(HINTS), Some(200), None, 5),
    row("404", Server::Says("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"), Some(404), Some("404"), 2),
    row("503", Server::Says("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno"), Some(503), Some("503"), 2),
    row("a stream that ends", Server::Says(CHUNKS), Some(200), None, 4),
    row("the body breaks", Server::Says(CUT), Some(200), OTHER, 2),
    row("no answer", Server::Says(""), None, UNREACHABLE, 0),
    row("connect refused", Server::Nobody, None, UNREACHABLE, 0),
    row("a timeout inside", Server::Stalls(""), None, Some("timeout"), 0),
    row("dropped before the head", Server::Stalls(""), None, CANCELLED, 0).waits(Waits::NoHead),
    row("dropped in the middle", Server::Stalls(CUT), Some(200), CANCELLED, 2).waits(Waits::Midway),
    rpc("Ok", Some("OK"), None),
    rpc("NotFound", Some("NOT_FOUND"), Some("NOT_FOUND")),
    rpc("Unavailable", Some("UNAVAILABLE"), Some("UNAVAILABLE")),
    rpc("Refuses", Some("UNAVAILABLE"), Some("UNAVAILABLE")).without_body(),
    rpc("Silent", Some("UNKNOWN"), Some("UNKNOWN")),
    rpc("Stalls", None, CANCELLED).waits(Waits::Midway),
];

/// Says what it has to say to every connection; the first number is how many were heard.
async fn serve_raw(text: &'static str, stays: bool) -> (SocketAddr, watch::Receiver<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hear) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {}
            stream.write_all(text.as_bytes()).await.unwrap();
            heard.send_modify(|heard| *heard += 1);
            if stays {
                tokio::spawn(gone(stream));
            }
        }
    });
    (address, hear)
}

/// Reads until the client is gone.
async fn gone(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn check(row: &Row) -> Vec<String> {
    let prometheus = Prometheus::new();
    let spans = Spans::default();
    let (tell, told) = watch::channel(Vec::<Verdict>::new());
    let trace = ClientTraceLayer::new().sink(spans.clone());
    let metrics = ClientMetricsLayer::new().recorder(prometheus.recorder());
    let handles = (trace.handle(), metrics.handle());
    let mut config = ClientConfig::default();
    config.http2 = matches!(row.server, Server::App(_));
    let client = Client::new(&ClientPolicy::try_from(config).unwrap());
    let connections = client.connection_count();
    // Only who waits for the end is in a hurry.
    let patience = match row.waits {
        Waits::ToTheEnd => Duration::from_millis(200),
        _ => Duration::from_secs(20),
    };
    let timeout = TimeoutLayer::per_try(TimeoutPolicy::new(patience).unwrap());
    let observers = ObserveLayer::new((trace, metrics, Told::new(tell)));
    let service = observers.layer(timeout.layer(client));

    let (seen, server, app) = Seen::new(On::Ours);
    let mut kept = None;
    let (address, mut heard) = match row.server {
        Server::Says(text) => serve_raw(text, false).await,
        Server::Stalls(text) => serve_raw(text, true).await,
        Server::Nobody => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            (listener.local_addr().unwrap(), watch::channel(0).1)
        }
        Server::App(_) => {
            let (address, serving) = serve(On::Ours, server, app, &seen.events).await;
            kept = Some(serving);
            (address, watch::channel(0).1)
        }
    };
    let path = match row.server {
        Server::App(end) => format!("/ends.Ends/{end}"),
        _ => "/x".to_owned(),
    };
    let mut request = Request::builder()
        .method(row.method)
        .uri(format!("http://{address}{path}"));
    if let Server::App(_) = row.server {
        request = request.header(header::CONTENT_TYPE, "application/grpc");
    }
    let call = service.oneshot(request.body(Body::empty()).unwrap());
    match row.waits {
        Waits::ToTheEnd => {
            if let Ok(answer) = call.await {
                let _ = answer.into_body().collect().await;
            }
        }
        Waits::NoHead => tokio::select! {
            _ = call => panic!("an answer"),
            heard = heard.wait_for(|heard| *heard > 0) => assert!(heard.is_ok()),
        },
        Waits::Midway => {
            let mut body = call.await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            if row.bytes > 2 {
                body.frame().await.unwrap().unwrap();
            }
        }
    }
    // Nothing is left to do: a caller tells its layers before it has the end.
    let rpc = matches!(row.server, Server::App(_));
    let (host, port) = (Some("127.0.0.1"), address.port().to_string());
    let status = row.status.map(|status| status.to_string());
    let known = ["OK", "NOT_FOUND", "UNAVAILABLE", "UNKNOWN"];
    let operation = path.strip_prefix('/').unwrap();
    let served = row.code.is_some_and(|code| known.contains(&code));
    let series = match rpc {
        true => labels(
            "rpc_client_call",
            &[
                ("error_type", row.error),
                (
                    "rpc_method",
                    Some(if served { operation } else { "_OTHER" }),
                ),
                ("rpc_response_status_code", row.code),
                ("rpc_system_name", Some("grpc")),
                ("server_address", host),
                ("server_port", Some(&port)),
            ],
        ),
        false => labels(
            "http_client_request",
            &[
                ("error_type", row.error),
                ("http_request_method", Some(row.method)),
                ("http_response_status_code", status.as_deref()),
                ("server_address", host),
                ("server_port", Some(&port)),
            ],
        ),
    };
    let failed = row
        .error
        .is_some_and(|error| error != "cancelled")
        .to_string();
    let full = format!("http://{address}{path}");
    let mut expected = vec![
        ("kind", Some("client")),
        ("failed", Some(&*failed)),
        ("error.type", row.error),
    ];
    match rpc {
        true => expected.extend([
            ("name", Some(operation)),
            ("rpc.system.name", Some("grpc")),
            ("rpc.method", Some(operation)),
            ("rpc.response.status_code", row.code),
        ]),
        false => expected.extend([
            ("name", Some(row.method)),
            ("http.request.method", Some(row.method)),
            ("http.response.status_code", status.as_deref()),
            ("url.scheme", Some("http")),
            ("url.path", Some("/x")),
            ("url.full", Some(&full)),
        ]),
    }
    let text = prometheus.render();
    let told = told.borrow().len();
    let spans: Vec<_> = spans.0.lock().unwrap().iter().map(span).collect();
    let mut wrong = Vec::new();
    let mut differs = |what: &str, got: String, expected: String| {
        if got != expected {
            wrong.push(format!(
                "{}: {what}\n   got {got}\n  want {expected}",
                row.name
            ));
        }
    };
    let show = |value: &dyn std::fmt::Debug| format!("{value:?}");
    differs("durations", show(&durations(&text)), show(&[series]));
    let size = sizes(&text, "http_client_response_body_size_bytes");
    differs(
        "sizes",
        show(&size),
        show(&(u64::from(row.status.is_some()), row.bytes)),
    );
    differs("spans", show(&spans), show(&[fields(&expected)]));
    differs("settled", told.to_string(), "1".to_owned());
    differs("gauges", show(&gauges(&text)), "[]".to_owned());
    let open = (
        handles.0.in_flight(),
        handles.1.in_flight(),
        handles.1.calls(),
    );
    differs("open", show(&open), show(&(0, 0, 1)));
    // An idle connection goes with its pool, and that with its server or its client.
    drop(kept);
    for _ in 0..20_000 {
        if connections.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            return wrong;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    wrong.push(format!("{}: a connection stays open", row.name));
    wrong
}

#[tokio::test]
async fn a_client_tells_how_its_calls_end() {
    let mut wrong = Vec::new();
    for row in &ROWS {
        wrong.extend(check(row).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
