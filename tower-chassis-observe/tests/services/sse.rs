//! The stream of events as a browser, `curl` and a slow client see it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tower_chassis_core::{Body, Class, Events, Kind, events::Event};
use tower_chassis_observe::events::Sse;

async fn open(sse: &Sse, request: http::request::Builder) -> Response<Body> {
    let request = request.body(()).unwrap();
    sse.service().oneshot(request).await.unwrap()
}

async fn next(body: &mut Body) -> Option<String> {
    let frame: Bytes = body.frame().await?.unwrap().into_data().unwrap();
    Some(String::from_utf8(frame.to_vec()).unwrap())
}

/// What is there already.
async fn ready(body: &mut Body) -> Option<String> {
    timeout(Duration::from_millis(1), next(body)).await.ok()?
}

#[tokio::test(start_paused = true)]
async fn events_are_lines_with_names_ids_and_json() {
    let events = Events::new();
    let sse = Sse::new(events.clone());
    assert!(
        !events.is_heard(),
        "nothing is built while nobody is connected"
    );
    let response = open(&sse, Request::get("/")).await;
    assert!(events.is_heard());
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut body = response.into_body();
    events.emit(|| {
        let name = "a\"\n\nevent: forged\ndata: {}";
        Event::breaker(name, "open", "failure-rate", Some(Duration::from_secs(5)))
    });
    let first = next(&mut body).await.unwrap();
    let (head, event) = first.split_once("\n\n").unwrap();
    assert_eq!(head, "retry: 3000");
    let lines: Vec<_> = event.lines().collect();
    assert_eq!(lines.len(), 4, "a name makes no lines: {event}");
    assert_eq!(&lines[..2], ["id: 1", "event: breaker"]);
    let json: serde_json::Value =
        serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(json["name"], "a\"\n\nevent: forged\ndata: {}");
    assert_eq!(
        (&json["to"], &json["open_for_ms"]),
        (&"open".into(), &5000.into())
    );
    for event in [
        Event::BudgetExhausted,
        Event::refused("rate_limit", Kind::RateLimited),
        Event::fallback("f", Class::Timeout),
        Event::config_applied(7),
    ] {
        events.emit(|| event);
    }
    assert_eq!(
        next(&mut body).await.unwrap(),
        "id: 2\nevent: budget-exhausted\ndata: {}\n\n\
         id: 3\nevent: refused\ndata: {\"layer\":\"rate_limit\",\"kind\":\"rate-limited\"}\n\n\
         id: 4\nevent: fallback\ndata: {\"name\":\"f\",\"failed\":\"timeout\"}\n\n\
         id: 5\nevent: config-applied\ndata: {\"version\":7}\n\n"
    );
    drop((events, sse));
    // The service's clone of the events lives with the stream.
    drop(body);
}

#[tokio::test(start_paused = true)]
async fn silence_is_kept_alive() {
    let sse = Sse::new(Events::new());
    let mut body = open(&sse, Request::get("/")).await.into_body();
    let started = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), "retry: 3000\n\n");
    for times in 1..=3 {
        assert_eq!(next(&mut body).await.unwrap(), ": keep-alive\n\n");
        assert_eq!(started.elapsed().as_secs(), 15 * times);
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_are_chosen() {
    let events = Events::new();
    let sse = Sse::new(events.clone()).keep_alive(Duration::from_secs(60));
    let mut body = open(&sse, Request::get("/?x=1&kinds=ejected,limit"))
        .await
        .into_body();
    assert!(next(&mut body).await.is_some());
    events.emit(|| Event::BudgetExhausted);
    events.emit(|| Event::limit("a", 3, "grew"));
    let said = next(&mut body).await.unwrap();
    assert_eq!(
        said,
        "id: 1\nevent: limit\ndata: {\"name\":\"a\",\"limit\":3,\"reason\":\"grew\"}\n\n"
    );
    events.emit(|| Event::BudgetExhausted);
    assert_eq!(ready(&mut body).await, None);
    for query in ["?kinds=no", "?kinds=", "?kinds=limit,", "?kinds=<script>"] {
        let response = open(
            &sse,
            Request::get(format!(
                "/{}",
                query.replace('<', "%3C").replace('>', "%3E")
            )),
        )
        .await;
        assert_eq!(response.status(), 400, "{query}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("budget-exhausted"));
    }
    assert_eq!(sse.connected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_what_nobody_wants_pushes_out_nothing() {
    let events = Events::new();
    let sse = Sse::new(events.clone()).capacity(2);
    let mut body = open(&sse, Request::get("/?kinds=limit")).await.into_body();
    assert!(next(&mut body).await.is_some());
    events.emit(|| Event::limit("a", 3, "grew"));
    for _ in 0..10_000 {
        events.emit(|| Event::BudgetExhausted);
    }
    events.emit(|| Event::limit("b", 4, "grew"));
    assert_eq!(
        next(&mut body).await.unwrap(),
        "id: 1\nevent: limit\ndata: {\"name\":\"a\",\"limit\":3,\"reason\":\"grew\"}\n\n\
         id: 2\nevent: limit\ndata: {\"name\":\"b\",\"limit\":4,\"reason\":\"grew\"}\n\n"
    );
    // And does not keep a stream from being kept alive.
    let started = Instant::now();
    let flood = async {
        loop {
            events.emit(|| Event::BudgetExhausted);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        said = next(&mut body) => assert_eq!(said.unwrap(), ": keep-alive\n\n"),
        () = flood => {}
    }
    assert_eq!(started.elapsed().as_secs(), 15);
}

/// What a client may send and an owner may say.
#[tokio::test(start_paused = true)]
async fn what_is_said_of_ids_kinds_and_silence_may_be_anything() {
    let events = Events::new();
    let sse = Sse::new(events.clone()).keep_alive(Duration::MAX);
    let last = u64::MAX.to_string();
    // As `URLSearchParams` writes it.
    let request = Request::get("/?kinds=limit%2Cretry%2cejected").header("last-event-id", last);
    let response = open(&sse, request).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert!(next(&mut body).await.is_some());
    events.emit(|| Event::retry(2, Duration::ZERO));
    let said = next(&mut body).await.unwrap();
    assert!(said.ends_with("event: retry\ndata: {\"attempt\":2,\"backoff_ms\":0}\n\n"));
    assert_eq!(ready(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn there_are_so_many_places_and_who_leaves_frees_one() {
    let events = Events::new();
    let sse = Sse::new(events.clone()).streams(2);
    assert_eq!(open(&sse, Request::post("/")).await.status(), 405);
    let head = open(&sse, Request::head("/")).await;
    assert_eq!((head.status().as_u16(), sse.connected()), (200, 0));
    let mut streams = vec![
        open(&sse, Request::get("/")).await,
        open(&sse, Request::get("/")).await,
    ];
    for _ in 0..3 {
        let full = open(&sse, Request::get("/")).await;
        assert_eq!(full.status(), 503);
        assert_eq!(full.headers()["retry-after"], "5");
    }
    assert_eq!(sse.connected(), 2);
    // One that waits for its next frame, and one that was never read.
    let mut waiting = streams.pop().unwrap().into_body();
    assert!(next(&mut waiting).await.is_some());
    assert_eq!(ready(&mut waiting).await, None);
    drop(waiting);
    assert_eq!(sse.connected(), 1);
    assert_eq!(open(&sse, Request::get("/")).await.status(), 200);
    drop(streams);
    assert_eq!(sse.connected(), 0);
    assert!(!events.is_heard());
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_misses_and_is_told_so() {
    let events = Events::new();
    let sse = Sse::new(events.clone()).capacity(4);
    let mut body = open(&sse, Request::get("/").header("last-event-id", "41"))
        .await
        .into_body();
    for attempt in 0..1000 {
        events.emit(|| Event::retry(attempt, Duration::from_millis(1500)));
    }
    let said = next(&mut body).await.unwrap();
    let mut at = "retry: 3000\n\nevent: missed\ndata: {\"count\":null}\n\nevent: missed\ndata: {\"count\":996}\n\n".to_owned();
    for (id, attempt) in (42..).zip(996..1000) {
        at += &format!(
            "id: {id}\nevent: retry\ndata: {{\"attempt\":{attempt},\"backoff_ms\":1500}}\n\n"
        );
    }
    assert_eq!(said, at, "ids go on, and memory is bounded by the capacity");
    // One that is no number is from somewhere else.
    let mut body = open(&sse, Request::get("/").header("last-event-id", "x\u{e9}"))
        .await
        .into_body();
    assert_eq!(
        next(&mut body).await.unwrap(),
        "retry: 3000\n\nevent: missed\ndata: {\"count\":null}\n\n"
    );
}

#[cfg(feature = "server")]
#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_streams() {
    let drain = tower_chassis_core::server::Drain::new();
    let sse = Sse::new(Events::new()).drain(&drain);
    let mut body = open(&sse, Request::get("/")).await.into_body();
    assert!(next(&mut body).await.is_some());
    assert_eq!(ready(&mut body).await, None);
    drain.start();
    assert_eq!(next(&mut body).await, None);
    assert_eq!(next(&mut body).await, None);
}

/// Through a socket that nobody reads: the server holds what its own buffers hold and no more.
#[tokio::test]
async fn a_client_that_does_not_read_holds_no_memory_and_nobody_up() {
    use tokio::io::AsyncWriteExt;
    use tower_chassis_core::server::{Drain, Server, ServerPolicy};

    let events = Events::new();
    let sse = Sse::new(events.clone()).capacity(8);
    let server = Server::new(ServerPolicy::default())
        .listen("127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let address = server.addresses()[0].to_string();
    let (service, drain) = (sse.service(), Drain::new());
    let served = tokio::spawn(server.serve(service, drain.clone()));
    let mut socket = tokio::net::TcpStream::connect(address.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    while sse.connected() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let name: std::sync::Arc<str> = "n".repeat(1024).into();
    for _ in 0..200 {
        for _ in 0..100 {
            events.emit(|| Event::coalesced(std::sync::Arc::clone(&name)));
        }
        tokio::task::yield_now().await;
    }
    // Kept are at most those of the queue: the rest was written or is gone.
    assert!(std::sync::Arc::strong_count(&name) <= 1 + 8 + 1);
    drop(socket);
    while sse.connected() > 0 {
        events.emit(|| Event::BudgetExhausted);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drain.start();
    drain.hurry();
    let _ = served.await;
}
