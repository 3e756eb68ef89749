//! Cassettes: recorded against a real server, replayed without one.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_chassis_core::{
    Body, BoxError,
    client::{Client, ClientConfig, ClientPolicy},
    server::{Address, Drain, Server, ServerPolicy},
};
use tower_chassis_observe::vcr::{Cassette, Mode, Recorded, VcrError, VcrLayer};
use tower_chassis_resilience::retry::{RetryConfig, RetryLayer, RetryPolicy};

/// A file of its own that goes with the test.
struct Tape(PathBuf);

impl Tape {
    fn new(name: &str) -> Self {
        let name = format!("chassis-vcr-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn open(&self, mode: Mode) -> Cassette {
        Cassette::open(&self.0, mode).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

type Wire = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Answers each request with its number, and what was in it.
fn counting(count: Arc<AtomicU32>) -> Wire {
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await?.to_bytes();
            let text = format!("{number} {path} {}", body.len());
            let response = Response::builder().header("x-number", number);
            Ok(response.body(Body::from(text))?)
        }
    }))
}

fn nobody() -> Wire {
    BoxCloneSyncService::new(service_fn(async |_: Request<Body>| {
        panic!("nobody is called")
    }))
}

/// Status, headers, body and trailers.
type Heard = (u16, HeaderMap, Bytes, Option<HeaderMap>);

async fn ask(layer: &VcrLayer, wire: Wire, request: Request<Body>) -> Result<Heard, BoxError> {
    let service = ServiceBuilder::new().layer(layer.clone()).service(wire);
    // Without its type: the compiler cannot tell that what waits for it may be sent.
    let service = Wire::new(service);
    let (head, body) = service.oneshot(request).await?.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned();
    Ok((
        head.status.as_u16(),
        head.headers,
        whole.to_bytes(),
        trailers,
    ))
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).unwrap()
}

fn post(uri: &str, kind: &str, body: &'static str) -> Request<Body> {
    let request = Request::post(uri).header("content-type", kind);
    request.body(Body::from(body)).unwrap()
}

fn reason(error: &BoxError) -> &VcrError {
    error.downcast_ref().unwrap()
}

/// HTTP/1 and HTTP/2, behind retries; the server is gone when its answers are given again.
#[tokio::test]
async fn what_a_server_said_is_said_again_without_it() {
    for http2 in [false, true] {
        let tape = Tape::new(&format!("server-{http2}.json"));
        let count = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&count);
        let app = service_fn(move |request: Request<Body>| {
            let number = seen.fetch_add(1, Ordering::Relaxed);
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", body.len().into());
                let answer = Full::new(Bytes::from(vec![0xff, 0, body.len() as u8]));
                let answer = answer.with_trailers(async move { Some(Ok(trailers)) });
                // Every first attempt fails.
                let status = if number.is_multiple_of(2) { 503 } else { 200 };
                let response = Response::builder()
                    .status(status)
                    .header("trailer", "x-sum");
                Ok::<_, BoxError>(response.body(Body::new(answer))?)
            }
        });
        let app = ServiceBuilder::new()
            .layer(tower_chassis_core::RescueLayer::new())
            .service(app);
        let server = Server::new(ServerPolicy::default()).listen("127.0.0.1:0");
        let bound = server.bind().await.unwrap();
        let Address::Tcp(address) = bound.addresses()[0].clone() else {
            unreachable!()
        };
        let server = tokio::spawn(bound.serve(app, Drain::new()));
        let mut config = ClientConfig::default();
        config.http2 = http2;
        let client = Client::new(&ClientPolicy::try_from(config).unwrap());
        let policy = RetryPolicy::try_from(RetryConfig {
            backoff_base: Duration::from_millis(1),
            budget_min_per_second: 1_000.0,
            ..RetryConfig::default()
        });
        let retry = RetryLayer::new(policy.unwrap()).rewrap::<Body>();
        let through = async |cassette: &Cassette| {
            let service = ServiceBuilder::new()
                .layer(retry.clone())
                .layer(VcrLayer::new(cassette.clone()))
                .service(client.clone());
            let mut heard = Vec::new();
            for body in ["", "abc"] {
                let uri = format!("http://{address}/items");
                let request = Request::put(uri).body(Body::from(body)).unwrap();
                let answer = ServiceExt::<Request<Body>>::oneshot(service.clone(), request);
                let (head, body) = answer.await.unwrap().into_parts();
                let whole = body.collect().await.unwrap();
                let trailers = whole.trailers().cloned();
                heard.push((
                    head.status,
                    head.headers.get("date").cloned(),
                    trailers,
                    whole.to_bytes(),
                ));
            }
            heard
        };
        let first = through(&tape.open(Mode::Record)).await;
        assert_eq!(count.load(Ordering::Relaxed), 4, "each was tried twice");
        assert_eq!(first[1].3, [0xff, 0, 3].as_slice());
        server.abort();
        let _ = server.await;
        let cassette = tape.open(Mode::Auto);
        assert_eq!((cassette.mode(), cassette.len()), (Mode::Replay, 4));
        assert_eq!(through(&cassette).await, first);
        assert!(cassette.unused().is_empty());
        if http2 {
            assert_eq!(first[1].2.as_ref().unwrap()["x-sum"], "3");
        }
    }
}

#[tokio::test]
async fn equal_calls_are_answered_in_their_order_and_others_in_any() {
    let tape = Tape::new("order.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    let wire = counting(Arc::default());
    for path in ["/a", "/a", "/b"] {
        ask(&recorder, wire.clone(), get(&format!("http://x{path}")))
            .await
            .unwrap();
    }
    drop(recorder);

    let cassette = tape.open(Mode::Replay);
    let player = VcrLayer::new(cassette.clone());
    for (path, number) in [("/b", "2"), ("/a", "0")] {
        let answer = ask(&player, nobody(), get(&format!("http://x{path}")))
            .await
            .unwrap();
        assert_eq!(answer.1["x-number"], number);
    }
    let left = cassette.unused();
    assert_eq!((left.len(), left[0].url()), (1, "http://x/a"));
    let error = ask(&player, nobody(), post("http://x/a", "text/plain", "?"))
        .await
        .unwrap_err();
    assert!(reason(&error).is_unmatched());
    assert_eq!(
        error.to_string(),
        r#"no recorded call that is left matches POST http://x/a with "?"; the nearest, call 2 is GET http://x/a (another method, another body)"#
    );
    assert_eq!(
        ask(&player, nobody(), get("http://x/a")).await.unwrap().1["x-number"],
        "1"
    );
    let error = ask(&player, nobody(), get("http://x/a")).await.unwrap_err();
    assert!(error.to_string().ends_with("all 3 are used"), "{error}");

    let strict = VcrLayer::new(tape.open(Mode::Replay)).in_order();
    let error = ask(&strict, nobody(), get("http://x/b")).await.unwrap_err();
    assert!(reason(&error).is_unmatched(), "{error}");
    for path in ["/a", "/a", "/b"] {
        ask(&strict, nobody(), get(&format!("http://x{path}")))
            .await
            .unwrap();
    }
}

/// Whatever thread is first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_run_at_once_find_theirs() {
    let tape = Tape::new("threads.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    let wire = counting(Arc::default());
    for number in 0..100 {
        ask(
            &recorder,
            wire.clone(),
            get(&format!("http://x/{}", number % 50)),
        )
        .await
        .unwrap();
    }
    drop(recorder);
    let cassette = tape.open(Mode::Replay);
    let player = VcrLayer::new(cassette.clone());
    let calls = (0..100_u32).map(|number| {
        let player = player.clone();
        tokio::spawn(async move {
            let path = format!("/{}", number % 50);
            let answer = ask(&player, nobody(), get(&format!("http://x{path}")))
                .await
                .unwrap();
            let number = answer.1["x-number"].to_str().unwrap().to_owned();
            assert!(String::from_utf8_lossy(&answer.2).contains(&path));
            number
        })
    });
    let mut numbers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        numbers.push(call.await.unwrap());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100, "each recorded call was given once");
    assert!(cassette.unused().is_empty());
}

/// While one call looks for its answer another takes it.
#[test]
fn an_answer_is_given_once() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let tape = Tape::new("race.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    let wire = counting(Arc::default());
    for _ in 0..2 {
        runtime()
            .block_on(ask(&recorder, wire.clone(), get("http://x/a")))
            .unwrap();
    }
    drop(recorder);
    for in_order in [false, true] {
        let cassette = tape.open(Mode::Replay);
        let (other, first) = (VcrLayer::new(cassette.clone()), AtomicU32::new(0));
        let player = VcrLayer::new(cassette.clone()).matcher(move |_: &Recorded, _: &Recorded| {
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                let other = other.clone();
                let call = move || runtime().block_on(ask(&other, nobody(), get("http://x/a")));
                let answer = std::thread::spawn(call).join().unwrap().unwrap();
                assert_eq!(answer.1["x-number"], "0");
            }
            true
        });
        let player = if in_order { player.in_order() } else { player };
        let answer = runtime()
            .block_on(ask(&player, nobody(), get("http://x/a")))
            .unwrap();
        assert_eq!(answer.1["x-number"], "1");
        assert!(cassette.unused().is_empty());
    }
}

#[tokio::test]
async fn no_secret_reaches_the_file() {
    let tape = Tape::new("secrets.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    let wire = BoxCloneSyncService::new(service_fn(async |request: Request<Body>| {
        let seen = request.headers()["authorization"].clone();
        assert_eq!(seen, "Bearer planted-1", "the service sees it");
        let body = request.into_body().collect().await?.to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("planted-2"));
        let trailers: HeaderMap = [("x-api-key".parse()?, "planted-8".parse()?)]
            .into_iter()
            .collect();
        let body = Full::<Bytes>::from(r#"{"id":7,"access_token":"planted-3"}"#);
        let body =
            body.with_trailers(async move { Some(Ok::<_, std::convert::Infallible>(trailers)) });
        let response = Response::builder()
            .header("set-cookie", "session=planted-4")
            .header("content-type", "application/json");
        Ok::<_, BoxError>(response.body(Body::new(body))?)
    }));
    let request = |secret: bool| {
        let mut request = post(
            "http://me:planted-5@x/login?token=planted-6&page=2",
            "application/x-www-form-urlencoded",
            "user=ann&password=planted-2",
        );
        let header = if secret {
            "Bearer planted-1"
        } else {
            "Bearer planted-7"
        };
        request
            .headers_mut()
            .insert("authorization", header.parse().unwrap());
        request
    };
    let heard = ask(&recorder, wire, request(true)).await.unwrap();
    assert!(
        String::from_utf8_lossy(&heard.2).contains("planted-3"),
        "the caller sees it"
    );
    drop(recorder);
    let text = tape.text();
    assert!(!text.contains("planted"), "{text}");
    assert!(
        text.contains("ann") && text.contains("page=2") && text.contains("\\\"id\\\":7"),
        "{text}"
    );

    // Another secret is the same call.
    let player = VcrLayer::new(tape.open(Mode::Replay));
    let heard = ask(&player, nobody(), request(false)).await.unwrap();
    assert_eq!(heard.2, r#"{"id":7,"access_token":"***"}"#);
    assert_eq!(heard.3.unwrap()["x-api-key"], "***");
}

#[tokio::test]
async fn what_failed_fails_again() {
    let tape = Tape::new("failed.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record)).body_limit(4);
    let broken: Wire = BoxCloneSyncService::new(service_fn(async |_: Request<Body>| {
        Err::<Response<Body>, BoxError>("no route; password=planted".into())
    }));
    let error = ask(&recorder, broken, get("http://x/a")).await.unwrap_err();
    assert!(error.to_string().contains("planted"));
    let long =
        service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("12345"))));
    let error = ask(&recorder, BoxCloneSyncService::new(long), get("http://x/b"))
        .await
        .unwrap_err();
    assert!(reason(&error).is_too_large(), "{error}");
    let error = ask(
        &recorder,
        nobody(),
        post("http://x/c", "text/plain", "12345"),
    )
    .await
    .unwrap_err();
    assert!(reason(&error).is_too_large(), "{error}");
    drop(recorder);

    let player = VcrLayer::new(tape.open(Mode::Replay));
    for (path, text) in [("/a", "no route"), ("/b", "longer than 4")] {
        let error = ask(&player, nobody(), get(&format!("http://x{path}")))
            .await
            .unwrap_err();
        assert!(reason(&error).is_recorded_failure());
        assert!(
            error.to_string().contains(text) && !error.to_string().contains("planted"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn another_port_and_another_matcher() {
    let tape = Tape::new("origin.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record)).any_origin();
    let wire = counting(Arc::default());
    ask(&recorder, wire, get("http://127.0.0.1:1234/items?at=17"))
        .await
        .unwrap();
    drop(recorder);
    let player = VcrLayer::new(tape.open(Mode::Replay)).any_origin();
    ask(&player, nobody(), get("http://127.0.0.1:4321/items?at=17"))
        .await
        .unwrap();

    let path = |one: &Recorded| one.url().split('?').next().unwrap().to_owned();
    let player = VcrLayer::new(tape.open(Mode::Replay))
        .any_origin()
        .matcher(move |recorded: &Recorded, asked: &Recorded| path(recorded) == path(asked));
    let answer = ask(&player, nobody(), get("https://other/items?at=18"))
        .await
        .unwrap();
    assert_eq!(answer.2, "0 /items 0");
}

#[tokio::test]
async fn the_file_is_whole_at_any_time() {
    let tape = Tape::new("whole.json");
    let missing = Cassette::open(&tape.0, Mode::Replay).unwrap_err();
    assert!(missing.is_io(), "{missing}");

    let cassette = tape.open(Mode::Record);
    let recorder = VcrLayer::new(cassette.clone());
    let wire = counting(Arc::default());
    ask(&recorder, wire.clone(), get("http://x/1"))
        .await
        .unwrap();
    cassette.save().unwrap();
    let first = tape.text();
    // What would be written beside it cannot be: the old one stays, and what was recorded is not lost.
    let beside = PathBuf::from(format!("{}.{}.tmp", tape.0.display(), std::process::id()));
    fs::create_dir(&beside).unwrap();
    ask(&recorder, wire.clone(), get("http://x/2"))
        .await
        .unwrap();
    assert!(cassette.save().unwrap_err().is_io());
    assert_eq!(tape.text(), first);
    fs::remove_dir(&beside).unwrap();
    drop((cassette, recorder));
    assert_eq!(
        tape.open(Mode::Replay).len(),
        2,
        "saved when the last of them went"
    );

    for (text, says) in [
        (&first[..first.len() / 2], "is no cassette"),
        (r#"{"version": 9, "episodes": []}"#, "version 9"),
        (
            r#"{"version": 1, "episodes": [{"request": {"method": "GET", "url": "/", "boddy": ""}}]}"#,
            "is no cassette",
        ),
    ] {
        fs::write(&tape.0, text).unwrap();
        let error = Cassette::open(&tape.0, Mode::Replay).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }

    // Nothing is touched.
    let pass = VcrLayer::new(tape.open(Mode::Pass));
    ask(&pass, wire, get("http://x/3")).await.unwrap();
    drop(pass);
    assert!(tape.text().contains("boddy"));
}

#[cfg(feature = "compress")]
#[tokio::test]
async fn a_compressed_cassette() {
    let tape = Tape::new("packed.json.gz");
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    ask(&recorder, counting(Arc::default()), get("http://x/1"))
        .await
        .unwrap();
    drop(recorder);
    assert_eq!(fs::read(&tape.0).unwrap()[..2], [0x1f, 0x8b]);
    let player = VcrLayer::new(tape.open(Mode::Replay));
    assert_eq!(
        ask(&player, nobody(), get("http://x/1")).await.unwrap().2,
        "0 /1 0"
    );
}

/// A call that is dropped while it is made leaves nothing in the file.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_not_recorded() {
    let tape = Tape::new("dropped.json");
    let cassette = tape.open(Mode::Record);
    let slow = service_fn(async |_: Request<Body>| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let mut service = ServiceBuilder::new()
        .layer(VcrLayer::new(cassette.clone()))
        .service(slow);
    let call = ServiceExt::<Request<Body>>::ready(&mut service)
        .await
        .unwrap()
        .call(get("http://x/1"));
    assert!(
        tokio::time::timeout(Duration::from_millis(10), call)
            .await
            .is_err()
    );
    assert!(cassette.is_empty());
}

/// A wire whose answers come after as many milliseconds as the path says.
fn in_its_time() -> Wire {
    BoxCloneSyncService::new(service_fn(async |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let wait = path[1..].parse().unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        Ok(Response::new(Body::from(path)))
    }))
}

/// The order is that in which calls were made, not that in which they were answered.
#[tokio::test(start_paused = true)]
async fn calls_that_overtake_each_other_are_kept_in_their_order() {
    let tape = Tape::new("overtaking.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record)).in_order();
    let both = async |layer: &VcrLayer, wire: fn() -> Wire| {
        let (slow, fast) = tokio::join!(
            ask(layer, wire(), get("http://x/50")),
            ask(layer, wire(), get("http://x/1"))
        );
        (slow.unwrap().2, fast.unwrap().2)
    };
    let recorded = both(&recorder, in_its_time).await;
    drop(recorder);
    let player = VcrLayer::new(tape.open(Mode::Replay)).in_order();
    assert_eq!(both(&player, nobody).await, recorded);
}

/// Half a cassette would be replayed for ever.
#[tokio::test]
async fn a_test_that_panics_leaves_no_half_a_cassette() {
    let tape = Tape::new("panicked.json");
    let recorder = VcrLayer::new(tape.open(Mode::Auto));
    let test = tokio::spawn(async move {
        ask(&recorder, counting(Arc::default()), get("http://x/1"))
            .await
            .unwrap();
        panic!("planted");
    });
    assert!(test.await.unwrap_err().is_panic());
    assert!(!tape.0.exists());
}

#[tokio::test]
async fn what_is_no_answer_is_no_cassette() {
    let tape = Tape::new("odd.json");
    for response in [
        r#"{"status": 99}"#,
        r#"{"status": 1000}"#,
        r#"{"status": 200, "headers": [["a b", "c"]]}"#,
        r#"{"status": 200, "headers": [["a", "c\n"]]}"#,
    ] {
        let request = r#"{"method": "GET", "url": "/"}"#;
        let text = format!(
            r#"{{"version": 1, "episodes": [{{"request": {request}, "response": {response}}}]}}"#
        );
        fs::write(&tape.0, text).unwrap();
        let error = Cassette::open(&tape.0, Mode::Replay).unwrap_err();
        assert!(error.to_string().contains("is no cassette"), "{error}");
    }
}

/// Where the type is not told, or is told wrongly, or is not the only secret.
#[tokio::test]
async fn a_secret_has_many_places() {
    let tape = Tape::new("places.json");
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    let bodies: [(Option<&str>, &[u8]); 5] = [
        (None, br#"{"password":"planted"}"#),
        (
            Some("application/json"),
            b"{\"password\":\"planted\",\"a\":\"caf\xe9\"}",
        ),
        (
            Some("application/x-ndjson"),
            b"{\"token\":\"planted\"}\n{\"token\":\"planted\"}\n",
        ),
        (Some("text/json"), br#"{"password":"planted"}"#),
        (Some("application/json"), b"\xff\xfe no text"),
    ];
    for (kind, body) in bodies {
        let mut request = Request::post("http://x/a;jsessionid=planted/b");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let mut marked = http::HeaderValue::from_static("planted");
        marked.set_sensitive(true);
        request = request.header("x-own", marked);
        let request = request.body(Body::from(body)).unwrap();
        let wire = service_fn(async |_: Request<Body>| Ok(Response::new(Body::from("ok"))));
        ask(&recorder, BoxCloneSyncService::new(wire), request)
            .await
            .unwrap();
    }
    drop(recorder);
    let text = tape.text();
    assert!(!text.contains("planted"), "{text}");
    assert!(
        text.contains("base64"),
        "what has no secret is as it was: {text}"
    );
}

/// A call that passes is made as if there were no cassette.
#[tokio::test]
async fn a_call_that_passes_is_as_small_as_it_was() {
    type Inner = std::future::Ready<Result<Response<Body>, BoxError>>;
    fn outer<S: Service<Request<Body>>>(_: &S) -> usize {
        size_of::<S::Future>()
    }
    let tape = Tape::new("passes.json");
    let wire = |_: Request<Body>| -> Inner { std::future::ready(Ok(Response::default())) };
    let service = ServiceBuilder::new()
        .layer(VcrLayer::new(tape.open(Mode::Pass)))
        .service(service_fn(wire));
    assert!(
        outer(&service) <= size_of::<Inner>() + 8,
        "{}",
        outer(&service)
    );
    service.oneshot(get("http://x/1")).await.unwrap();
    assert!(!tape.0.exists());
}

/// Dropped at any poll, recorded or replayed.
#[tokio::test]
async fn a_call_that_is_dropped_at_any_poll_leaves_the_cassette_whole() {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };
    let slow = || {
        BoxCloneSyncService::new(service_fn(async |request: Request<Body>| {
            tokio::task::yield_now().await;
            request.into_body().collect().await?;
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(Response::new(Body::from("answer")))
        }))
    };
    let tape = Tape::new("any-poll.json");
    let cassette = tape.open(Mode::Record);
    let recorder = VcrLayer::new(cassette.clone());
    for polls in 0..3 {
        let mut call = pin!(ask(&recorder, slow(), get("http://x/1")));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            assert!(call.as_mut().poll(&mut cx).is_pending());
        }
    }
    assert!(cassette.is_empty());
    ask(&recorder, slow(), get("http://x/1")).await.unwrap();
    assert_eq!(cassette.len(), 1);
    cassette.save().unwrap();
    let player = VcrLayer::new(tape.open(Mode::Replay));
    drop(ask(&player, nobody(), get("http://x/1")));
    let answer = ask(&player, nobody(), get("http://x/1")).await.unwrap();
    assert_eq!(answer.2, "answer");
}

/// A client that goes where it is sent comes to the same place again.
#[tokio::test]
async fn where_an_answer_points_to_is_where_it_pointed_to() {
    let tape = Tape::new("pages.json");
    let wire = || {
        BoxCloneSyncService::new(service_fn(async |_: Request<Body>| {
            let response = Response::builder()
                .header(
                    "location",
                    "http://me:planted@x/a;sid=planted?page=2&token=planted#planted",
                )
                .header("link", "<http://x/a?page=3>; rel=\"next\"");
            Ok::<_, BoxError>(response.body(Body::empty())?)
        }))
    };
    let recorder = VcrLayer::new(tape.open(Mode::Record));
    ask(&recorder, wire(), get("http://x/a?page=1"))
        .await
        .unwrap();
    drop(recorder);
    assert!(!tape.text().contains("planted"), "{}", tape.text());
    let player = VcrLayer::new(tape.open(Mode::Replay));
    let answer = ask(&player, nobody(), get("http://x/a?page=1"))
        .await
        .unwrap();
    assert_eq!(answer.1["location"], "http://x/a;sid=***?page=2&token=***");
    assert_eq!(answer.1["link"], "<http://x/a?page=3>; rel=\"next\"");
}
