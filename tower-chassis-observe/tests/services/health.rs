//! Health as probes, load balancers and gRPC clients see it.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Body, Events};
use tower_chassis_observe::health::{Check, Health, HeartbeatLayer, Kind, Status};

type Answer = (u16, String);

async fn ask(health: &Health, path: &str) -> Answer {
    send(health, Request::get(path)).await
}

async fn send(health: &Health, request: http::request::Builder) -> Answer {
    let request = request.body(()).unwrap();
    let response = health.service().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    read(response).await
}

async fn read(response: Response<Body>) -> Answer {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn said(status: u16, text: &str) -> Answer {
    (status, text.to_owned())
}

/// A check that counts its runs and does as the flag says.
fn flag(up: &Arc<AtomicBool>, runs: &Arc<AtomicUsize>) -> Check {
    let (up, runs) = (Arc::clone(up), Arc::clone(runs));
    Check::new(move || {
        runs.fetch_add(1, SeqCst);
        let up = up.load(SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if up { Ok(()) } else { Err("planted-secret") }
        }
    })
}

fn state(up: bool) -> (Arc<AtomicBool>, Arc<AtomicUsize>) {
    (Arc::new(AtomicBool::new(up)), Arc::default())
}

#[tokio::test]
async fn without_checks_it_is_well() {
    let health = Health::new();
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(ask(&health, path).await, said(200, "ok\n"));
    }
    assert_eq!(ask(&health, "/").await.0, 404);
    assert_eq!(ask(&health, "/readyz/").await.0, 404);
    let head = Request::head("/readyz");
    assert_eq!(send(&health, head).await, said(200, ""));
    let post = Request::post("/readyz").body(()).unwrap();
    let response = health.service().oneshot(post).await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, HEAD");

    let moved = Health::new().path(Kind::Ready, "/health");
    assert_eq!(ask(&moved, "/health").await.0, 200);
    assert_eq!(ask(&moved, "/readyz").await.0, 404);
    let only = moved.service().only(Kind::Live);
    let anywhere = Request::get("/any").body(()).unwrap();
    assert_eq!(only.oneshot(anywhere).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_down_is_named_and_what_is_optional_is_degraded() {
    let (up, runs) = state(false);
    let health = Health::new()
        .ready("cache", flag(&up, &runs).optional())
        .ready("queue", Check::now(|| Status::degraded("slow")));
    assert_eq!(
        ask(&health, "/readyz").await,
        said(200, "degraded: cache\n")
    );
    let health = health.ready("db", flag(&up, &runs));
    assert_eq!(
        ask(&health, "/readyz").await,
        said(503, "not ready: db\n"),
        "what is down is said before what is degraded"
    );
    assert_eq!(ask(&health, "/livez").await, said(200, "ok\n"));

    for request in [
        Request::get("/readyz?verbose"),
        Request::get("/readyz?a&verbose=1"),
        Request::get("/readyz").header("accept", "text/html, application/json;q=0.9"),
    ] {
        let (status, text) = send(&health, request).await;
        assert_eq!(status, 503);
        assert!(!text.contains("planted-secret"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["status"], "down");
        assert_eq!(json["because"], "db");
        let seen: Vec<_> = json["checks"].as_array().unwrap().iter().collect();
        let of = |at: usize| {
            (
                &seen[at]["name"],
                &seen[at]["status"],
                &seen[at]["optional"],
            )
        };
        assert_eq!(of(0), (&"cache".into(), &"degraded".into(), &true.into()));
        assert_eq!(of(1), (&"queue".into(), &"degraded".into(), &false.into()));
        assert_eq!(of(2), (&"db".into(), &"down".into(), &false.into()));
        let took = seen[2]["took_ms"].as_u64().unwrap();
        assert!((10..=12).contains(&took), "{took}");
    }
    let told = ask(&health.details(true), "/readyz?verbose").await.1;
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["checks"][2]["error"], "planted-secret");
    assert_eq!(json["checks"][1]["error"], "slow");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_probes_run_a_check_once_and_who_leaves_stops_it_for_nobody() {
    let (up, runs) = state(true);
    let health = Health::new().ready("db", flag(&up, &runs));
    // The first, which begins the run, leaves.
    let first = tokio::spawn({
        let health = health.clone();
        async move { ask(&health, "/readyz").await }
    });
    tokio::task::yield_now().await;
    let probes: Vec<_> = (0..1000)
        .map(|_| {
            let health = health.clone();
            tokio::spawn(async move { ask(&health, "/readyz").await })
        })
        .collect();
    first.abort();
    for probe in probes {
        assert_eq!(probe.await.unwrap(), said(200, "ok\n"));
    }
    assert_eq!(runs.load(SeqCst), 1);
    // It holds for a second.
    up.store(false, SeqCst);
    advance(Duration::from_millis(980)).await;
    assert_eq!(ask(&health, "/readyz").await.0, 200);
    advance(Duration::from_millis(20)).await;
    assert_eq!(ask(&health, "/readyz").await.0, 503);
    assert_eq!(runs.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_down_in_time_and_is_dropped_and_what_panics_is_down() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let gone = Arc::new(AtomicUsize::new(0));
    let hangs = Arc::clone(&gone);
    let health = Health::new()
        .ready(
            "hangs",
            Check::new(move || {
                let held = Dropped(Arc::clone(&hangs));
                async move {
                    let _held = held;
                    pending::<Status>().await
                }
            })
            .timeout(Duration::from_millis(300)),
        )
        .ready(
            "hangs too",
            Check::new(pending::<Status>).timeout(Duration::from_millis(300)),
        )
        .ready("late", Check::new(|| panics(true)).optional())
        .ready(
            "early",
            Check::new(|| -> std::future::Ready<Status> { panic!("planted") }),
        );
    let started = Instant::now();
    let report = health.ask(Kind::Ready).await;
    let took = started.elapsed();
    assert!(
        took < Duration::from_millis(310),
        "at the same time: {took:?}"
    );
    let said: Vec<_> = report
        .checks()
        .iter()
        .map(|check| check.status.clone())
        .collect();
    assert_eq!(
        said,
        [
            Status::down("timed out"),
            Status::down("timed out"),
            Status::degraded("panicked"),
            Status::down("panicked")
        ]
    );
    tokio::task::yield_now().await;
    assert_eq!(gone.load(SeqCst), 1);
    // And again: a run that failed is over.
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        ask(&health, "/readyz").await,
        (503, "not ready: hangs\n".into())
    );
    tokio::task::yield_now().await;
    assert_eq!(gone.load(SeqCst), 2);
}

/// A check that blocks its thread, as a client without async does.
#[test]
fn what_blocks_takes_one_thread_and_no_more() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let (runs, (free, blocked)) = (Arc::new(AtomicUsize::new(0)), std::sync::mpsc::channel());
    let (ran, blocked) = (Arc::clone(&runs), Arc::new(std::sync::Mutex::new(blocked)));
    let check = Check::new(move || {
        ran.fetch_add(1, SeqCst);
        let blocked = Arc::clone(&blocked);
        async move { blocked.lock().unwrap().recv() }
    });
    let millisecond = Duration::from_millis(1);
    let check = check.timeout(50 * millisecond).cache(Duration::ZERO);
    let health = Health::new().ready("db", check).details(true);
    let (asked, answers) = std::sync::mpsc::channel();
    let asking = health.clone();
    runtime.spawn(async move {
        for _ in 0..6 {
            let _ = asked.send(ask(&asking, "/readyz").await);
        }
    });
    for _ in 0..6 {
        let answer = answers.recv_timeout(Duration::from_secs(20));
        assert_eq!(answer, Ok(said(503, "not ready: db\n")));
    }
    assert_eq!(runs.load(SeqCst), 1);
    // Over: the next question is asked again.
    for _ in 0..100 {
        free.send(()).unwrap();
    }
    let well = runtime.block_on(async {
        loop {
            let answer = ask(&health, "/readyz").await;
            if answer.0 == 200 {
                return answer;
            }
            tokio::time::sleep(millisecond).await;
        }
    });
    assert_eq!((well, runs.load(SeqCst)), (said(200, "ok\n"), 2));
}

#[tokio::test(start_paused = true)]
async fn readiness_may_be_that_of_an_upstream() {
    use tower_chassis_core::{
        Endpoint,
        discover::{Discover, StaticDiscover},
    };
    use tower_chassis_resilience::balance::{Balance, Picker};
    let discover = StaticDiscover::new();
    let gates = Arc::new(std::sync::Mutex::new(Vec::new()));
    let made = Arc::clone(&gates);
    let (balance, worker) = Balance::new(
        discover.watch("shop"),
        move |make| {
            made.lock().unwrap().push(make.gate().clone());
            service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())))
        },
        Picker::default(),
    );
    worker.spawn();
    let shop = balance.handle();
    let health = Health::new()
        .ready("shop", Check::upstream(move || shop.available()))
        .details(true);
    let not_ready = said(503, "not ready: shop\n");
    assert_eq!(ask(&health, "/readyz").await, not_ready);
    let endpoints = ["http://10.0.0.1:80", "http://10.0.0.2:80"];
    discover.set("shop", endpoints.map(|at| Endpoint::new(at).unwrap()));
    tokio::task::yield_now().await;
    assert_eq!(ask(&health, "/readyz").await, said(200, "ok\n"));
    for gate in &*gates.lock().unwrap() {
        gate.shut_until(Instant::now() + Duration::from_secs(5));
    }
    assert_eq!(ask(&health, "/readyz").await, not_ready);
    advance(Duration::from_secs(6)).await;
    assert_eq!(ask(&health, "/readyz").await, said(200, "ok\n"));
    drop(balance);
    assert_eq!(ask(&health, "/readyz").await, not_ready);
}

/// What can happen around a check, in seconds.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody asks and waits for it.
    Ask,
    /// Somebody asks and leaves after so long.
    Leave(u64),
    Wait(u64),
    /// From now on it comes out like this, after so long.
    Become(bool, u64),
}

/// What is known of a check by the simplest means. A run takes some milliseconds more than its seconds, its timeout and
/// the cache some other ones, so that no two things happen at the same time.
struct Model {
    now: u64,
    up: bool,
    takes: u64,
    timeout: u64,
    cache: u64,
    runs: usize,
    /// When it is over, and how it comes out.
    flight: Option<(u64, bool)>,
    last: Option<(u64, bool)>,
}

impl Model {
    fn go_to(&mut self, now: u64) {
        self.now = now;
        if let Some((over, _)) = self.flight
            && over <= now
        {
            self.last = self.flight.take();
        }
    }

    /// When somebody who asks now has an answer.
    fn ask(&mut self) -> u64 {
        if let Some((over, _)) = self.flight {
            return over;
        }
        if let Some((at, _)) = self.last
            && self.now - at < self.cache
        {
            return self.now;
        }
        self.runs += 1;
        let over = self.now + self.takes.min(self.timeout);
        self.flight = Some((over, self.up && self.takes < self.timeout));
        over
    }
}

fn a_step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        Just(Step::Ask),
        (0..4_u64).prop_map(Step::Leave),
        (0..6_u64).prop_map(Step::Wait),
        (any::<bool>(), 0..5_u64).prop_map(|(up, takes)| Step::Become(up, takes)),
    ]
}

fn cases() -> proptest::test_runner::Config {
    let long = std::env::var("CHASSIS_LONG").is_ok_and(|long| long == "1");
    proptest::test_runner::Config::with_cases(if long { 20_000 } else { 256 })
}

proptest::proptest! {
    #![proptest_config(cases())]
    #[test]
    fn a_check_is_run_as_often_and_known_as_long_as_the_model_says(
        timeout in 1..4_u64,
        cache in 0..5_u64,
        steps in proptest::collection::vec(a_step(), 1..30),
    ) {
        let mut model = Model {
            now: 0,
            up: true,
            takes: 13,
            timeout: timeout * 1000 + 170,
            cache: cache * 1000 + 390,
            runs: 0,
            flight: None,
            last: None,
        };
        let (up, runs) = state(true);
        let takes = Arc::new(AtomicUsize::new(13));
        let check = {
            let (up, runs, takes) = (Arc::clone(&up), Arc::clone(&runs), Arc::clone(&takes));
            Check::new(move || {
                runs.fetch_add(1, SeqCst);
                let up = up.load(SeqCst);
                let takes = Duration::from_millis(takes.load(SeqCst) as u64);
                async move {
                    tokio::time::sleep(takes).await;
                    up
                }
            })
        };
        let check = check
            .timeout(Duration::from_millis(model.timeout))
            .cache(Duration::from_millis(model.cache));
        let health = Health::new().ready("db", check);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let started = Instant::now();
            for step in steps {
                match step {
                    Step::Ask => {
                        let over = model.ask();
                        model.go_to(over);
                        let report = health.ask(Kind::Ready).await;
                        let said = report.checks()[0].status == Status::Up;
                        assert_eq!(Some(said), model.last.map(|(_, up)| up), "{step:?} at {over}");
                    }
                    Step::Leave(seconds) => {
                        let leaves = model.now + seconds * 1000;
                        let over = model.ask().min(leaves);
                        model.go_to(over);
                        let after = Duration::from_millis(seconds * 1000);
                        let _ = tokio::time::timeout(after, health.ask(Kind::Ready)).await;
                    }
                    Step::Wait(seconds) => {
                        model.go_to(model.now + seconds * 1000);
                        tokio::time::sleep(Duration::from_millis(seconds * 1000)).await;
                    }
                    Step::Become(now, seconds) => {
                        (model.up, model.takes) = (now, seconds * 1000 + 13);
                        up.store(now, SeqCst);
                        takes.store(model.takes as usize, SeqCst);
                    }
                }
                // A run that was begun has been begun.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                assert_eq!(runs.load(SeqCst), model.runs, "{step:?}");
                assert_eq!(started.elapsed().as_millis() as u64, model.now, "{step:?}");
            }
        });
    }
}

async fn panics(yes: bool) -> Status {
    tokio::task::yield_now().await;
    assert!(!yes, "planted");
    Status::Up
}

#[tokio::test(start_paused = true)]
async fn until_it_has_started_it_is_not_ready_and_then_never_asked_again() {
    let (up, runs) = state(false);
    let health = Health::new()
        .startup("migrations", flag(&up, &runs))
        .live("loop", Check::now(|| true));
    assert_eq!(
        ask(&health, "/startupz").await,
        said(503, "not started: migrations\n")
    );
    assert_eq!(
        ask(&health, "/readyz").await,
        said(503, "not ready: startup\n")
    );
    assert_eq!(ask(&health, "/livez").await.0, 200);
    up.store(true, SeqCst);
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        ask(&health, "/readyz").await.0,
        200,
        "whoever asks finds it out"
    );
    up.store(false, SeqCst);
    let before = runs.load(SeqCst);
    advance(Duration::from_secs(100)).await;
    assert_eq!(ask(&health, "/startupz").await, said(200, "ok\n"));
    assert_eq!(ask(&health, "/readyz").await.0, 200);
    assert_eq!(runs.load(SeqCst), before);
}

#[test]
fn outside_of_a_runtime_what_is_not_known_is_down() {
    let health = Health::new().ready("db", Check::new(|| async { true }));
    for _ in 0..2 {
        let report = poll_once(health.ask(Kind::Ready)).expect("nothing to wait for");
        assert_eq!(report.checks()[0].status, Status::down("stopped"));
    }
}

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(out) => Some(out),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_runtime_that_ends_takes_its_run_along_and_not_the_next() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let hang = Arc::new(AtomicBool::new(true));
    let hangs = Arc::clone(&hang);
    let health = Health::new().ready(
        "db",
        Check::new(move || {
            let hang = hangs.load(SeqCst);
            async move {
                if hang {
                    pending::<()>().await;
                }
                true
            }
        })
        .cache(Duration::ZERO),
    );
    let first = runtime();
    first.block_on(async {
        let soon = Duration::from_millis(5);
        let asked = tokio::time::timeout(soon, health.ask(Kind::Ready));
        assert!(asked.await.is_err());
    });
    drop(first);
    hang.store(false, SeqCst);
    runtime().block_on(async {
        assert_eq!(ask(&health, "/readyz").await, said(200, "ok\n"));
    });
}

#[tokio::test(start_paused = true)]
async fn the_last_results_are_gauges() {
    let events = Events::new();
    let (up, runs) = state(true);
    let health = Health::new()
        .ready("db", flag(&up, &runs))
        .events(events.clone())
        .live("loop", Check::now(|| false))
        .ready("cache", Check::now(|| false).optional());
    let read = || {
        let mut all = Vec::new();
        events.read_labelled(|metric, name, label, value| {
            assert_eq!((metric, label.0), ("chassis_health", "kind"));
            all.push((name.to_string(), label.1, value));
        });
        all
    };
    assert!(
        read().iter().all(|(_, _, value)| value.is_nan()),
        "nobody asked"
    );
    for kind in [Kind::Live, Kind::Ready] {
        let _ = health.ask(kind).await;
    }
    let gauge = |name: &str, kind, value| (name.to_owned(), kind, value);
    assert_eq!(
        read(),
        [
            gauge("cache", "ready", 0.5),
            gauge("db", "ready", 1.0),
            gauge("loop", "live", 0.0)
        ]
    );
}

#[tokio::test]
async fn a_heartbeat_answers_for_what_is_inside_and_nothing_else() {
    let inner = service_fn(async |request: Request<()>| {
        let path = request.uri().path().to_owned();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(path))))
    });
    let service = HeartbeatLayer::new("/ping").layer(inner);
    for (method, path, expected) in [
        (Method::GET, "/ping", "."),
        (Method::GET, "/PinG?x", "."),
        (Method::HEAD, "/ping", ""),
        (Method::POST, "/ping", "/ping"),
        (Method::GET, "/ping/", "/ping/"),
        (Method::GET, "/", "/"),
    ] {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .body(())
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let kind = response.headers().get("content-type").cloned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, expected, "{method} {path}");
        assert_eq!(kind.is_some(), !expected.starts_with('/'));
    }
    let plain = |_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    };
    let (bare, wrapped) = (
        service_fn(plain),
        HeartbeatLayer::new("/ping").layer(service_fn(plain)),
    );
    let (bare, wrapped) = (
        bare.oneshot(Request::new(())),
        wrapped.oneshot(Request::new(())),
    );
    let more = size_of_val(&wrapped) - size_of_val(&bare);
    assert!(more <= 40, "{more} bytes: the path's handle and a word");
    let _ = (bare.await, wrapped.await);
}

/// As a route of ours and of axum, and under a layer that everything goes through.
#[tokio::test]
async fn routers_take_it_as_a_service() {
    use tower_chassis_router::Router;

    let health = Health::new().ready("db", Check::now(|| false));
    let watch = || {
        Request::post("/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .body(Body::from("\0\0\0\0\0"))
            .unwrap()
    };
    let probe = || Request::get("/readyz").body(Body::empty()).unwrap();
    let ours = Router::new()
        .route_service("/readyz", health.service())
        .mount_grpc("/grpc.health.v1.Health", health.grpc())
        .build()
        .unwrap();
    let ours = HeartbeatLayer::new("/ping").layer(ours);
    let response = ours.clone().oneshot(probe()).await.unwrap();
    assert_eq!(response.status(), 503);
    let response = ours.clone().oneshot(watch()).await.unwrap();
    let message = response.into_body().collect().await.unwrap();
    assert_eq!(message.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(message.to_bytes(), &[0, 0, 0, 0, 2, 8, 2][..]);
    let ping = Request::get("/ping").body(Body::empty()).unwrap();
    assert_eq!(ours.oneshot(ping).await.unwrap().status(), 200);

    let axums = axum::Router::new()
        .route_service("/readyz", health.service())
        .route_service("/grpc.health.v1.Health/{method}", health.grpc())
        .layer(HeartbeatLayer::new("/ping"));
    let probe = probe().map(axum::body::Body::new);
    let response = axums.clone().oneshot(probe).await.unwrap();
    assert_eq!(response.status(), 503);
    let response = axums
        .oneshot(watch().map(axum::body::Body::new))
        .await
        .unwrap();
    let message = response.into_body().collect().await.unwrap();
    assert_eq!(message.trailers().unwrap()["grpc-status"], "0");
}

#[test]
fn a_heartbeat_keeps_the_laws_of_layers() {
    use tower_chassis_core::testing::{Case, contract};
    contract(|| Case::new(HeartbeatLayer::new("/ping")).calls_once()).assert();
}

mod grpc {
    use tonic::{
        Code,
        transport::{Channel, Endpoint},
    };
    use tonic_health::pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
        health_client::HealthClient,
    };
    use tower_chassis_core::server::{Drain, Server, ServerPolicy};

    use super::*;

    async fn serve(
        health: &Health,
        drain: Drain,
    ) -> (HealthClient<Channel>, tokio::task::JoinHandle<()>) {
        let server = Server::new(ServerPolicy::default())
            .listen("127.0.0.1:0")
            .bind()
            .await
            .unwrap();
        let address = server.addresses()[0].to_string();
        let service = health.grpc();
        let served = tokio::spawn(async move {
            let _ = server.serve(service, drain).await;
        });
        let channel = Endpoint::try_from(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        (HealthClient::new(channel), served)
    }

    fn of(service: &str) -> HealthCheckRequest {
        HealthCheckRequest {
            service: service.to_owned(),
        }
    }

    fn now(response: &HealthCheckResponse) -> ServingStatus {
        ServingStatus::try_from(response.status).unwrap()
    }

    #[tokio::test]
    async fn check_and_watch_as_tonics_client_sees_them() {
        let (up, runs) = state(true);
        let (cache, _) = state(true);
        let check = |up, runs| flag(up, runs).cache(Duration::ZERO);
        let health = Health::new()
            .ready("db", check(&up, &runs))
            .ready("cache", check(&cache, &runs))
            .grpc_service("shop.Cart", ["cache"])
            .grpc_service("shop.All", [])
            .grpc_service("shop.Wrong", ["no-such-check"]);
        let (mut client, served) = serve(&health, Drain::new()).await;
        for (service, status) in [
            ("", ServingStatus::Serving),
            ("shop.Cart", ServingStatus::Serving),
            ("shop.All", ServingStatus::Serving),
            ("shop.Wrong", ServingStatus::NotServing),
        ] {
            let response = client.check(of(service)).await.unwrap();
            assert_eq!(now(response.get_ref()), status, "{service}");
        }
        let unknown = client.check(of("shop.None")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        let long = client.check(of(&"x".repeat(5000))).await.unwrap_err();
        assert_eq!(long.code(), Code::InvalidArgument);

        let mut watch = client.watch(of("")).await.unwrap().into_inner();
        let mut cart = client.watch(of("shop.Cart")).await.unwrap().into_inner();
        let mut none = client.watch(of("shop.None")).await.unwrap().into_inner();
        let next = async |watch: &mut tonic::Streaming<HealthCheckResponse>| {
            now(&watch.message().await.unwrap().expect("it stays"))
        };
        assert_eq!(next(&mut watch).await, ServingStatus::Serving);
        assert_eq!(next(&mut cart).await, ServingStatus::Serving);
        assert_eq!(next(&mut none).await, ServingStatus::ServiceUnknown);
        up.store(false, SeqCst);
        assert_eq!(next(&mut watch).await, ServingStatus::NotServing);
        let response = client.check(of("")).await.unwrap();
        assert_eq!(now(response.get_ref()), ServingStatus::NotServing);
        let response = client.check(of("shop.Cart")).await.unwrap();
        assert_eq!(
            now(response.get_ref()),
            ServingStatus::Serving,
            "it needs the cache alone"
        );
        up.store(true, SeqCst);
        assert_eq!(next(&mut watch).await, ServingStatus::Serving);
        let quiet = Duration::from_millis(100);
        assert!(tokio::time::timeout(quiet, cart.message()).await.is_err());
        assert!(tokio::time::timeout(quiet, none.message()).await.is_err());
        served.abort();
    }

    #[cfg(feature = "server")]
    #[tokio::test]
    async fn a_drain_is_told_before_it_ends_and_a_watch_does_not_hold_it_up() {
        let drain = Drain::new();
        let (up, runs) = state(true);
        let health = Health::new().ready("db", flag(&up, &runs)).drain(&drain);
        let (mut client, served) = serve(&health, drain.clone()).await;
        let mut watch = client.watch(of("")).await.unwrap().into_inner();
        let mut next = async || {
            watch
                .message()
                .await
                .map(|said| said.map(|said| now(&said)))
        };
        assert_eq!(next().await.unwrap(), Some(ServingStatus::Serving));
        assert_eq!(ask(&health, "/readyz").await, said(200, "ok\n"));
        let before = Instant::now();
        drain.start();
        assert_eq!(
            ask(&health, "/readyz").await,
            said(503, "not ready: draining\n")
        );
        assert_eq!(
            ask(&health, "/livez").await.0,
            200,
            "a drain is no reason to be killed"
        );
        assert_eq!(next().await.unwrap(), Some(ServingStatus::NotServing));
        assert!(
            before.elapsed() < Duration::from_millis(900),
            "without waiting for the next look"
        );
        assert_eq!(next().await.unwrap_err().code(), Code::Unavailable);
        drain.hurry();
        served.await.unwrap();
    }

    #[cfg(feature = "server")]
    #[tokio::test(start_paused = true)]
    async fn what_was_told_before_a_drain_is_not_told_again() {
        for up in [true, false] {
            let drain = Drain::new();
            let (up, runs) = state(up);
            let check = flag(&up, &runs).cache(Duration::ZERO);
            let health = Health::new().ready("db", check).drain(&drain);
            let watch = Request::post("/grpc.health.v1.Health/Watch")
                .header("content-type", "application/grpc")
                .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
                .unwrap();
            let mut body = health.grpc().oneshot(watch).await.unwrap().into_body();
            let mut next = async || {
                let frame = body.frame().await?.unwrap();
                Some(match frame.into_data() {
                    Ok(message) => message[6].to_string(),
                    Err(frame) => format!("{:?}", frame.trailers_ref().unwrap()["grpc-status"]),
                })
            };
            let told = if up.load(SeqCst) { "1" } else { "2" };
            assert_eq!(next().await.unwrap(), told);
            // While the second look is under way.
            let announced = tokio::spawn({
                let drain = drain.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(1005)).await;
                    drain.start();
                }
            });
            if up.load(SeqCst) {
                assert_eq!(next().await.unwrap(), "2");
            }
            assert_eq!(next().await.unwrap(), "\"14\"");
            assert_eq!(next().await, None);
            announced.await.unwrap();
        }
    }

    /// A client that shares no code with ours.
    #[cfg(feature = "server")]
    #[tokio::test]
    async fn check_and_watch_as_grpcio_sees_them() {
        use tokio::io::{AsyncBufReadExt, BufReader};

        // Debian's, which has `python3-grpcio`; another in the path may not.
        const PYTHON: &str = "/usr/bin/python3";
        let has = std::process::Command::new(PYTHON)
            .args(["-c", "import grpc"])
            .stderr(std::process::Stdio::null())
            .status();
        if !has.is_ok_and(|status| status.success()) {
            let required = std::env::var("CHASSIS_PEERS").is_ok_and(|peers| peers == "required");
            assert!(!required, "no grpcio");
            println!("SKIPPED: no grpcio");
            return;
        }
        let drain = Drain::new();
        let (up, runs) = state(true);
        let health = Health::new()
            .ready("db", flag(&up, &runs).cache(Duration::ZERO))
            .grpc_service("shop.Cart", ["db"])
            .drain(&drain);
        let server = Server::new(ServerPolicy::default())
            .listen("127.0.0.1:0")
            .bind()
            .await
            .unwrap();
        let address = server.addresses()[0].to_string();
        let served = tokio::spawn(server.serve(health.grpc(), drain.clone()));
        let mut peer = tokio::process::Command::new(PYTHON)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/peers/health.py"
            ))
            .arg(address.strip_prefix("http://").unwrap())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(peer.stdout.take().unwrap()).lines();
        let mut next = async || {
            let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
            line.expect("in time").unwrap().unwrap_or_default()
        };
        for said in [
            "check 1",
            "named 1",
            "error NOT_FOUND",
            "error UNIMPLEMENTED",
            "watch 1",
        ] {
            assert_eq!(next().await, said);
        }
        up.store(false, SeqCst);
        assert_eq!(next().await, "watch 2");
        up.store(true, SeqCst);
        assert_eq!(next().await, "watch 1");
        drain.start();
        assert_eq!(next().await, "watch 2");
        assert_eq!(next().await, "end UNAVAILABLE");
        drain.hurry();
        let _ = served.await.unwrap();
    }

    async fn raw(path: &str, kind: &str, body: &'static [u8]) -> Response<Body> {
        let request = Request::post(path)
            .header("content-type", kind)
            .body(Full::new(Bytes::from_static(body)))
            .unwrap();
        let health = Health::new().ready("db", Check::now(|| true));
        health.grpc().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_in_the_terms_of_grpc() {
        const CHECK: &str = "/grpc.health.v1.Health/Check";
        for (path, body, status) in [
            (CHECK, &b"\0\0\0\0\0"[..], None),
            (CHECK, b"\0\0\0\0\x02\x10\x01rest is not read", None),
            (CHECK, b"", Some("3")),
            (CHECK, b"\0\0\0\0\x04\x0a", Some("3")),
            (CHECK, b"\0\0\0\0\x01\x0a", Some("3")),
            (CHECK, b"\0\xff\xff\xff\xff", Some("3")),
            (CHECK, b"\x01\0\0\0\0", Some("12")),
            ("/grpc.health.v1.Health/Else", b"\0\0\0\0\0", Some("12")),
            ("/", b"\0\0\0\0\0", Some("12")),
        ] {
            let response = raw(path, "application/grpc", body).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let said = response.headers().get("grpc-status").cloned();
            assert_eq!(
                said.as_ref().map(|said| said.to_str().unwrap()),
                status,
                "{body:?}"
            );
            let collected = response.into_body().collect().await.unwrap();
            let trailers = collected.trailers().cloned();
            if status.is_none() {
                assert_eq!(trailers.unwrap()["grpc-status"], "0");
                assert_eq!(collected.to_bytes(), &[0, 0, 0, 0, 2, 8, 1][..]);
            } else {
                assert!(trailers.is_none() && collected.to_bytes().is_empty());
            }
        }
        assert_eq!(raw(CHECK, "application/json", b"{}").await.status(), 415);
        let get = Request::get(CHECK).body(Full::<Bytes>::default()).unwrap();
        let response = Health::new().grpc().oneshot(get).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"POST".parse().unwrap())
        );
    }
}
