//! Connections that live long, in paused time: what is silent for hours, and what stalls.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{
    switching::{Held, Tickets, UPGRADE, head, speak, switch},
    *,
};
use crate::{
    server::{
        accept::serve_connection,
        slots::{Place, Slots},
    },
    settle::UntilEnd,
    verdict::{Auto, Class},
    wire::Observed,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Serves one end of a pipe that holds `buffer` bytes; here is the other.
fn serve<S, B>(service: S, buffer: usize) -> DuplexStream
where
    S: tower_service::Service<Request<Body>, Response = Response<B>, Error = BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (client, server) = tokio::io::duplex(buffer);
    let limits = Arc::new(ServerConfig::default());
    let place = Place::take(&Slots::new(Drain::new()), None, &limits).unwrap();
    tokio::spawn(serve_connection(server, None, service, limits, place));
    client
}

fn upgradable(tickets: &Tickets, buffer: usize) -> (DuplexStream, Held) {
    let (send, held) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Body>| switch(request, send.clone()));
    let service = Observed::new(service, tickets.clone(), UntilEnd::<Auto>::default());
    (serve(service, buffer), held)
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_may_be_silent() {
    let tickets = Tickets::default();
    let (mut client, mut held) = upgradable(&tickets, 4096);
    client.write_all(UPGRADE).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let mut io = held.recv().await.unwrap();
    for _ in 0..3 {
        sleep(24 * HOUR).await;
        speak(&mut client, &mut io).await;
        assert_eq!(tickets.ended(1), []);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_client_that_does_not_read_is_cut_off() {
    let tickets = Tickets::default();
    let (mut client, mut held) = upgradable(&tickets, 256);
    client.write_all(UPGRADE).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let (mut reader, mut writer) = tokio::io::split(held.recv().await.unwrap());
    let reads = tokio::spawn(async move { reader.read(&mut [0; 8]).await });
    let writes = tokio::spawn(async move { (writer.write_all(&[0; 1000]).await, writer) });
    // Slow is not stalled.
    let mut piece = [0; 100];
    for _ in 0..5 {
        sleep(Duration::from_secs(29)).await;
        let read = timeout(HOUR, client.read_exact(&mut piece)).await;
        read.expect("slow is not stalled").unwrap();
    }
    assert_eq!(tickets.ended(1), []);
    let (wrote, _writer) = timeout(HOUR, writes).await.unwrap().unwrap();
    assert_eq!(wrote.unwrap_err().kind(), ErrorKind::TimedOut);
    let read = timeout(HOUR, reads).await.unwrap().unwrap();
    assert_eq!(
        read.unwrap_err().kind(),
        ErrorKind::ConnectionAborted,
        "the other half hears of it"
    );
    assert_eq!(tickets.ended(0), [Class::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gave_up_a_write_is_not_cut_off_for_it() {
    let tickets = Tickets::default();
    let (mut client, mut held) = upgradable(&tickets, 256);
    client.write_all(UPGRADE).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    let mut io = held.recv().await.unwrap();
    let given_up = timeout(Duration::from_secs(1), io.write_all(&[0; 1000])).await;
    assert!(given_up.is_err());
    client.read_exact(&mut [0; 256]).await.unwrap();
    sleep(HOUR).await;
    speak(&mut client, &mut io).await;
    assert_eq!(tickets.ended(1), []);
}

#[tokio::test(start_paused = true)]
async fn a_switch_whose_head_is_not_read_ends_with_the_write_timeout() {
    let tickets = Tickets::default();
    let (mut client, mut held) = upgradable(&tickets, 16);
    client.write_all(UPGRADE).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(tickets.ended(1), []);
    assert_eq!(tickets.all_ended().await.len(), 1);
    assert!(held.recv().await.is_none(), "the head was not sent");
}

/// A body that goes on as the test says.
struct Frames(mpsc::Receiver<&'static str>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let frame = |frame| Ok(http_body::Frame::data(Bytes::from(frame)));
        self.0.poll_recv(cx).map(|next| next.map(frame))
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_may_take_its_time() {
    let (send, frames) = mpsc::channel(1);
    let frames = Arc::new(Mutex::new(Some(frames)));
    let tickets = Tickets::default();
    let service = service_fn(move |_: Request<Body>| {
        let frames = frames.lock().unwrap().take().unwrap();
        std::future::ready(Ok::<_, BoxError>(Response::new(Frames(frames))))
    });
    let service = Observed::new(service, tickets.clone(), UntilEnd::<Auto>::default());
    let mut client = serve(service, 4096);
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
    let mut chunk = [0; 13];
    for _ in 0..5 {
        sleep(HOUR).await;
        send.send("data: 1\n").await.unwrap();
        client.read_exact(&mut chunk).await.unwrap();
        assert_eq!(&chunk, b"8\r\ndata: 1\n\r\n");
        assert_eq!(tickets.ended(1), []);
    }
    drop(send);
    client.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(tickets.all_ended().await, [Class::Success]);
}

#[cfg(feature = "client")]
#[tokio::test(start_paused = true)]
async fn a_stream_both_ways_lives_while_either_way_goes_on() {
    let (answers, frames) = mpsc::channel(1);
    let frames = Arc::new(Mutex::new(Some(frames)));
    let (heard, mut hears) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Body>| {
        let (heard, mut body) = (heard.clone(), request.into_body());
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let frame = frame.map(|frame| frame.into_data().unwrap_or_default());
                let _ = heard.send(frame.map_err(|e| crate::Rejection::find(&*e).unwrap().kind()));
            }
        });
        let frames = frames.lock().unwrap().take().unwrap();
        std::future::ready(Ok::<_, BoxError>(Response::new(Frames(frames))))
    });
    let (mut connection, driver) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(serve(service, 4096)),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    let (asks, body) = mpsc::channel(1);
    let request = Request::post("http://a/chat").header("content-type", "application/grpc");
    let response = connection.send_request(request.body(Frames(body)).unwrap());
    let mut answer = response.await.unwrap().into_body();
    asks.send("hello").await.unwrap();
    assert_eq!(hears.recv().await.unwrap().unwrap(), "hello");

    // The limit is 30 s: the client says nothing for an hour, the server goes on.
    for _ in 0..144 {
        sleep(Duration::from_secs(25)).await;
        answers.send("tick").await.unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "tick");
    }
    asks.send("still here").await.unwrap();
    assert_eq!(hears.recv().await.unwrap().unwrap(), "still here");
    // Then neither does.
    let silent = Instant::now();
    let stalled = timeout(HOUR, hears.recv()).await.unwrap().unwrap();
    assert_eq!(stalled, Err(crate::Kind::BodyTimeout));
    assert_eq!(silent.elapsed().as_secs(), 30);
}

/// A connection of many calls ends none of them by its end.
#[cfg(feature = "client")]
#[tokio::test(start_paused = true)]
async fn a_switch_on_a_stream_of_http2_holds_nothing() {
    let tickets = Tickets::default();
    let (client, _held) = upgradable(&tickets, 4096);
    let (mut connection, driver) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    let request = Request::get("http://a/forget").body(Body::empty());
    let _ = timeout(HOUR, connection.send_request(request.unwrap())).await;
    assert_eq!(tickets.all_ended().await, [Class::Success]);
    let request = Request::get("http://a/").body(Body::empty());
    let response = connection.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
}

/// hyper would send on a stream whatever body the answer has.
#[cfg(feature = "client")]
#[tokio::test(start_paused = true)]
async fn an_answer_of_http2_has_no_content_where_there_must_be_none() {
    let service = service_fn(async |request: Request<Body>| {
        let status = request.uri().path()[1..].parse::<u16>()?;
        let answer = Response::builder().status(status);
        Ok::<_, BoxError>(answer.body(Body::from("hello"))?)
    });
    let (mut connection, driver) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(serve(service, 4096)),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    for (method, status, length, content) in [
        ("GET", 200, Some("5"), "hello"),
        ("HEAD", 200, Some("5"), ""),
        ("HEAD", 404, Some("5"), ""),
        // What it refuses by itself.
        ("HEAD", 1000, None, ""),
        ("GET", 204, None, ""),
        ("GET", 304, None, ""),
        ("HEAD", 304, None, ""),
    ] {
        let request = Request::builder().method(method);
        let request = request
            .uri(format!("http://a/{status}"))
            .body(Body::empty());
        let answer = connection.send_request(request.unwrap()).await.unwrap();
        if length.is_some() {
            let told = answer.headers().get("content-length");
            assert_eq!(
                told.and_then(|told| told.to_str().ok()),
                length,
                "{method} {status}"
            );
        }
        let body = timeout(HOUR, answer.into_body().collect()).await.unwrap();
        assert_eq!(body.unwrap().to_bytes(), content, "{method} {status}");
    }
}
