//! A websocket, an event stream and a gRPC stream under our server, behind the recommended stack.
//!
//! Time stands still but where a test moves it, so nothing here depends on how fast the machine is. The server ends
//! tickets before it closes the socket, so a client that sees the end may look at them.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, mpsc::Sender},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        WebSocketUpgrade,
        ws::{Message::Close, WebSocket},
    },
    response::{IntoResponse, Sse, sse::Event},
    routing::get,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::advance,
};
use tokio_tungstenite::{client_async, tungstenite::Message};
use tonic::{service::Routes, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{Service, ServiceBuilder};
use tower_chassis::{
    Body, BoxError, ObserveLayer, RescueLayer,
    access_log::{AccessLogLayer, Format},
    breaker::{BreakerHandle, BreakerLayer, BreakerPolicy},
    bulkhead::{BulkheadHandle, BulkheadLayer, BulkheadPolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    metrics::ServerMetricsLayer,
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    server::{Address, Drain, Drained, Server, ServerConfig, ServerPolicy},
    shed::{ShedLayer, ShedPolicy},
    stacks,
    trace::TraceLayer,
};

/// Keeps a paused clock from running ahead while bytes are on their way.
struct Still(#[allow(dead_code, reason = "held")] Sender<()>);

impl Still {
    fn new() -> Self {
        let (held, wait) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || wait.recv());
        Self(held)
    }
}

#[derive(Clone)]
struct Seen {
    prometheus: Prometheus,
    lines: Arc<Mutex<Vec<String>>>,
    breaker: BreakerHandle,
    shed: BulkheadHandle,
}

impl Seen {
    fn active(&self) -> String {
        let text = self.prometheus.render();
        let gauge = "http_server_active_requests{";
        let line = text.lines().find(|line| line.starts_with(gauge)).unwrap();
        let active = line.rsplit(' ').next().unwrap().to_owned();
        assert_eq!(self.shed.in_flight().to_string(), active, "as many permits");
        active
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// The recommended stack and a breaker, as a macro: its type is nobody's business.
macro_rules! stack {
    () => {{
        let prometheus = Prometheus::new();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let lines = Arc::clone(&lines);
            move |line: &str| lines.lock().unwrap().push(line.to_owned())
        };
        let breaker = BreakerLayer::new(BreakerPolicy::default());
        let limit = BulkheadLayer::new(BulkheadPolicy::new(10).unwrap());
        let shed = ShedLayer::new(ShedPolicy::default()).watch(limit.handle());
        let seen = Seen {
            prometheus: prometheus.clone(),
            lines,
            breaker: breaker.handle(),
            shed: limit.handle(),
        };
        let layers = ServiceBuilder::new()
            .layer(stacks::server(
                ObserveLayer::new((
                    TraceLayer::new(),
                    AccessLogLayer::new(Format::Text, sink),
                    ServerMetricsLayer::new().recorder(prometheus.recorder()),
                )),
                DeadlineLayer::accept(DeadlinePolicy::default()),
                shed,
                limit,
                RateLimitLayer::new(RateLimitPolicy::default()),
            ))
            // Its errors are rescued too.
            .layer(RescueLayer::new())
            .layer(breaker.until_end());
        (layers, seen)
    }};
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        // A close is answered by asking for what comes next.
        if !matches!(message, Close(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// `/ws` echoes; `/events` says the number it is told, and ends at 0.
fn app(events: watch::Receiver<u32>) -> Router {
    let sse = move || {
        let events = stream::unfold(events.clone(), |mut events| async {
            events.changed().await.ok()?;
            let number = *events.borrow_and_update();
            let event = Ok::<_, Infallible>(Event::default().data(number.to_string()));
            (number > 0).then_some((event, events))
        });
        async { Sse::new(events).into_response() }
    };
    let ws = |upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) };
    Router::new()
        .route("/ws", get(ws))
        .route("/events", get(sse))
}

type Serving = tokio::task::JoinHandle<Drained>;

async fn serve<S, B>(service: S) -> (String, Drain, Serving)
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut config = ServerConfig::default();
    config.drain_delay = Duration::ZERO;
    let server = Server::new(ServerPolicy::try_from(config).unwrap()).listen("127.0.0.1:0");
    let bound = server.bind().await.unwrap();
    let Address::Tcp(address) = bound.addresses()[0].clone() else {
        unreachable!()
    };
    let drain = Drain::new();
    let serving = tokio::spawn(bound.serve(service, drain.clone()));
    (address.to_string(), drain, serving)
}

/// The limits of the server and the deadline go by, one after the other.
async fn an_hour() {
    for _ in 0..360 {
        advance(Duration::from_secs(10)).await;
    }
}

async fn a_websocket_is_a_call_until_it_closes(address: &str, seen: &Seen) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, response) = client_async("ws://a/ws", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one", "two", "three"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text(text),
            "messages go both ways"
        );
        assert_eq!(seen.active(), "1");
        assert_eq!(seen.lines(), [""; 0], "it is not over");
        an_hour().await;
    }
    socket.close(None).await.unwrap();
    while let Some(message) = socket.next().await {
        assert!(message.unwrap().is_close());
    }
    assert_eq!(seen.active(), "0");
    let lines = seen.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("status=101"), "{lines:?}");
    assert_eq!(seen.breaker.state().as_str(), "closed");
}

#[tokio::test(start_paused = true)]
async fn a_websocket_behind_the_stack() {
    let _still = Still::new();
    let (layers, seen) = stack!();
    let (_events, numbers) = watch::channel(0);
    let (address, drain, serving) = serve(layers.service(app(numbers))).await;
    a_websocket_is_a_call_until_it_closes(&address, &seen).await;
    drain.start();
    assert_eq!(serving.await.unwrap(), Drained::Clean);
}

#[tokio::test(start_paused = true)]
async fn a_websocket_on_a_router_that_has_the_stack_on_its_routes() {
    let _still = Still::new();
    let (layers, seen) = stack!();
    let (_events, numbers) = watch::channel(0);
    let (address, ..) = serve(app(numbers).layer(layers)).await;
    a_websocket_is_a_call_until_it_closes(&address, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_that_the_drain_cuts_is_over() {
    let _still = Still::new();
    let (layers, seen) = stack!();
    let (_events, numbers) = watch::channel(0);
    let (address, drain, serving) = serve(layers.service(app(numbers))).await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut socket, _) = client_async("ws://a/ws", stream).await.unwrap();
    drain.start();
    drain.hurry();
    for _ in 0..2 {
        socket.send(Message::text("still")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().len(), 5);
        advance(Duration::from_secs(10)).await;
    }
    assert!(!serving.is_finished());
    assert_eq!(seen.active(), "1");
    advance(Duration::from_secs(10)).await;
    assert_eq!(serving.await.unwrap(), Drained::CutShort);
    assert!(socket.next().await.unwrap().is_err());
    assert_eq!(seen.active(), "0");
    let lines = seen.lines();
    assert!(lines[0].contains("class=cancelled"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_outlives_the_deadline() {
    let _still = Still::new();
    let (layers, seen) = stack!();
    let (events, numbers) = watch::channel(0);
    let (address, ..) = serve(layers.service(app(numbers))).await;
    let mut client = TcpStream::connect(&address).await.unwrap();
    let request = b"GET /events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    read_until(&mut client, &mut answer, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    for number in 1..4 {
        an_hour().await;
        events.send_replace(number);
        read_until(&mut client, &mut answer, &format!("data: {number}\n")).await;
        assert_eq!(seen.active(), "1");
    }
    events.send_replace(0);
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("0\r\n\r\n"), "{answer:?}");
    assert_eq!(seen.active(), "0");
    assert_eq!(seen.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_outlives_the_deadline_and_is_judged_by_its_trailers() {
    let _still = Still::new();
    let (layers, seen) = stack!();
    let (mut reporter, health) = tonic_health::server::health_reporter();
    let app = Routes::new(health).prepare().into_axum_router();
    let (address, ..) = serve(layers.service(app)).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let ask = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let mut stream = client.watch(ask("")).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    for status in [
        tonic_health::ServingStatus::NotServing,
        tonic_health::ServingStatus::Serving,
    ] {
        an_hour().await;
        reporter.set_service_status("", status).await;
        let heard = stream.message().await.unwrap().unwrap();
        assert_eq!(heard.status() as i32, status as i32);
        assert_eq!(seen.active(), "1");
    }
    // Ends with a status: the service is gone.
    reporter.clear_service_status("").await;
    while let Ok(Some(_)) = stream.message().await {}
    drop(stream);
    let unknown = client.check(ask("nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(seen.active(), "0");
    let lines = seen.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(seen.breaker.state().as_str(), "closed");
}

async fn read_until(client: &mut TcpStream, answer: &mut String, end: &str) {
    while !answer.contains(end) {
        let mut piece = [0; 256];
        let n = client.read(&mut piece).await.unwrap();
        assert!(n > 0, "{answer:?} and then the end");
        answer.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
}
