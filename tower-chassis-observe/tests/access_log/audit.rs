//! Records of calls, and sinks that take none.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Carrier, Class, Deadline, Events, Kind, Rejection, Respond,
    settle::UntilEnd,
    testing::{Case, contract},
    trace::TraceContext,
    verdict::Auto,
};
use tower_chassis_observe::{
    audit::{AuditConfig, AuditLayer, AuditPolicy, AuditRecord, AuditRule, LosslessAuditLayer},
    output::{Bound, Output},
};

use crate::support::{Routes, get};

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_735_689_600_123)
}

fn policy(change: impl FnOnce(&mut AuditConfig)) -> AuditPolicy {
    AuditPolicy::default().with(change).unwrap()
}

fn rule(routes: &[&str], methods: &[&str], classes: &[&str], record: bool) -> AuditRule {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    AuditRule {
        routes: texts(routes),
        methods: texts(methods),
        classes: texts(classes),
        record,
    }
}

#[derive(Clone, Default)]
struct Records(Arc<Mutex<Vec<AuditRecord>>>);

impl Records {
    fn layer(&self, policy: AuditPolicy) -> AuditLayer {
        let records = Arc::clone(&self.0);
        let put = move |record| {
            records.lock().unwrap().push(record);
            true
        };
        AuditLayer::new(policy, put).clock(clock)
    }
    fn classes(&self) -> Vec<Class> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|record| record.verdict.class())
            .collect()
    }
    fn one(&self) -> AuditRecord {
        let records = self.0.lock().unwrap();
        let [record] = &**records else {
            panic!("{records:?}")
        };
        record.clone()
    }
}

async fn read<S, B>(service: S, request: Request<()>) -> bool
where
    S: Service<Request<()>, Response = Response<B>>,
    B: http_body::Body,
{
    match service.oneshot(request).await {
        Ok(response) => response.into_body().collect().await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_record_says_who_what_and_how() {
    let records = Records::default();
    let policy = policy(|config| {
        config.paths = true;
        config.headers = ["user-agent", "x-tag", "authorization", "x-api-key"]
            .map(String::from)
            .into();
    });
    let layer = records.layer(policy);
    let handle = layer.handle();
    let routes = Routes::default();
    let service = ServiceBuilder::new()
        .layer(layer)
        .service_fn(move |request: Request<()>| {
            let invocation = request.invocation().unwrap();
            invocation.set_principal("ann".into());
            routes.clone().call(request)
        });
    let mut request = get("/users/7?token=planted");
    let headers = request.headers_mut();
    for (name, value) in [
        ("user-agent", "curl \"8\""),
        ("x-tag", "a"),
        ("x-tag", "b"),
        ("authorization", "Bearer planted"),
        ("x-api-key", "planted"),
        ("cookie", "planted"),
        ("content-length", "12"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let trace = TraceContext::new([1; 16], [2; 8], true).unwrap();
    let invocation = request.invocation_mut();
    invocation.set_client("10.1.2.3:4567".parse().unwrap());
    invocation.set_request_id("r-1".into());
    invocation.set_trace(trace, None);
    assert!(read(service, request).await);
    let record = records.one();
    assert_eq!(
        (handle.recorded(), handle.lost(), handle.skipped()),
        (1, 0, 0)
    );
    let line = record.to_json();
    assert!(!line.contains("planted"), "{line}");
    let mut value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let took = value
        .as_object_mut()
        .unwrap()
        .remove("duration_ms")
        .unwrap();
    assert!(took.is_f64());
    assert_eq!(
        value,
        serde_json::json!({
            "time": "2025-01-01T00:00:00.123Z",
            "principal": "ann",
            "client": "10.1.2.3",
            "method": "GET",
            "route": "/users/{id}",
            "path": "/users/7",
            "class": "success",
            "request_id": "r-1",
            "trace_id": "01".repeat(16),
            "span_id": "02".repeat(8),
            "status": 200,
            "received": 12,
            "sent": 5,
            "headers": {
                "user-agent": "curl \"8\"", "x-tag": "a, b", "authorization": "Bearer ***", "x-api-key": "***",
            },
        })
    );
}

#[tokio::test]
async fn what_nobody_found_out_a_function_may() {
    let records = Records::default();
    let layer = records
        .layer(AuditPolicy::default())
        .principal(|headers, _| {
            headers
                .get("x-user")
                .and_then(|name| name.to_str().ok())
                .map(Arc::from)
        });
    let service = ServiceBuilder::new()
        .layer(layer)
        .service_fn(|request: Request<()>| Routes::default().call(request));
    let mut request = get("/users/7");
    request
        .headers_mut()
        .insert("x-user", HeaderValue::from_static("bob"));
    assert!(read(service, request).await);
    let record = records.one();
    assert_eq!(record.principal.as_deref(), Some("bob"));
    assert_eq!(
        (record.path, record.client, record.trace),
        (None, None, None)
    );
}

#[tokio::test]
async fn every_ending_has_its_record() {
    let records = Records::default();
    let service = records
        .layer(AuditPolicy::default())
        .layer(service_fn(|request: Request<()>| {
            Routes::default().call(request)
        }));
    for path in ["/users/7", "/nowhere", "/users/fail", "/users/grpc"] {
        assert!(read(service.clone(), get(path)).await, "{path}");
    }
    let panics = tokio::spawn(read(service.clone(), get("/users/panic"))).await;
    assert!(panics.is_err());
    {
        let mut slow = pin!(service.clone().oneshot(get("/slow")));
        assert!(
            slow.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    // A part of the body came, and nobody wants the rest.
    let (mut sender, response) = crate::support::endless();
    let response = Arc::new(Mutex::new(Some(response)));
    let endless = move |_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(
            response.lock().unwrap().take().unwrap(),
        ))
    };
    let service = records
        .layer(AuditPolicy::default())
        .layer(service_fn(endless));
    let mut body = service.oneshot(get("/")).await.unwrap().into_body();
    sender.send_data("part".into()).await.unwrap();
    assert!(body.frame().await.is_some());
    drop(body);
    assert_eq!(
        records.classes(),
        [
            Class::Success,
            Class::ClientFault,
            Class::Failure,
            Class::Failure,
            Class::Failure,
            Class::Cancelled,
            Class::Cancelled,
        ]
    );
}

#[tokio::test]
async fn the_first_rule_that_fits_decides_and_rules_are_live() {
    let records = Records::default();
    let layer = records.layer(policy(|config| {
        config.rules = vec![
            rule(&["/slow"], &[], &[], false),
            rule(&["/users/*"], &["POST", "DELETE"], &[], true),
            rule(&[], &["GET"], &["failure", "client-fault"], true),
        ];
    }));
    let handle = layer.handle();
    let service = layer.layer(service_fn(|request: Request<()>| {
        Routes::default().call(request)
    }));
    let call = async |method: &str, path: &str| {
        let before = records.0.lock().unwrap().len();
        let mut request = get(path);
        *request.method_mut() = method.parse().unwrap();
        assert!(read(service.clone(), request).await);
        records.0.lock().unwrap().len() > before
    };
    assert!(call("POST", "/users/7").await);
    assert!(call("DELETE", "/users/7").await);
    assert!(!call("GET", "/users/7").await);
    assert!(call("GET", "/users/fail").await);
    assert!(call("GET", "/nowhere").await);
    assert!(!call("POST", "/nowhere").await);
    assert_eq!(handle.skipped(), 2);
    // No rule wants it from the beginning.
    assert!(!call("PUT", "/users/fail").await);
    assert_eq!(handle.skipped(), 2);
    handle.update(|config| config.rules.clear()).unwrap();
    assert!(call("PUT", "/users/7").await);
    for (change, fault) in [
        (
            rule(&[], &["G T"], &[], true),
            "rules[0].methods[0] is no method: \"G T\"",
        ),
        (
            rule(&[], &[], &["bad"], true),
            "rules[0].classes[0] is no class: \"bad\"",
        ),
    ] {
        let said = handle
            .update(|config| config.rules.push(change))
            .unwrap_err();
        assert_eq!(said.to_string(), fault);
    }
    assert!(
        handle
            .update(|config| config.headers.push("a b".into()))
            .is_err()
    );
    assert!(handle.config().load().config().rules.is_empty());
    handle
        .update(|config| config.rules = vec![rule(&["*"], &[], &[], true)])
        .unwrap();
    assert!(call("GET", "/nowhere").await);
    let first = vec![
        rule(&["/users/*"], &[], &[], false),
        rule(&[], &[], &[], true),
    ];
    handle.update(|config| config.rules = first).unwrap();
    assert!(!call("GET", "/users/7").await);
    assert!(call("GET", "/nowhere").await);
}

#[tokio::test]
async fn sinks_that_are_full_or_panic_lose_records_and_no_call() {
    let (full, _records) = mpsc::channel::<AuditRecord>(1);
    let layer = AuditLayer::new(AuditPolicy::default(), full);
    let handle = layer.handle();
    let service = layer.layer(service_fn(|request: Request<()>| {
        Routes::default().call(request)
    }));
    for _ in 0..5 {
        assert!(read(service.clone(), get("/users/7")).await);
    }
    assert_eq!((handle.recorded(), handle.lost()), (1, 4));

    let layer = AuditLayer::new(AuditPolicy::default(), |_: AuditRecord| panic!("planted"));
    let handle = layer.handle();
    let service = layer.layer(service_fn(|request: Request<()>| {
        Routes::default().call(request)
    }));
    assert!(read(service, get("/users/7")).await);
    assert_eq!((handle.recorded(), handle.lost()), (0, 1));
}

#[tokio::test]
async fn an_output_writes_a_line_for_each() {
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let output = Output::new(Shared(Arc::clone(&written)), Bound::default());
    let lines = output.handle();
    let service =
        AuditLayer::new(AuditPolicy::default(), output).layer(service_fn(|request: Request<()>| {
            Routes::default().call(request)
        }));
    for _ in 0..3 {
        assert!(read(service.clone(), get("/users/7")).await);
    }
    assert!(lines.flush(Duration::from_secs(30)).await);
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(line).unwrap()["class"],
            "success"
        );
    }
}

fn lossless(places: usize) -> (LosslessAuditLayer, mpsc::Receiver<AuditRecord>) {
    let (places, records) = mpsc::channel(places);
    (
        LosslessAuditLayer::new(AuditPolicy::default(), places),
        records,
    )
}

fn routes() -> impl Service<
    Request<()>,
    Response = Response<crate::support::TestBody>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send {
    service_fn(|request: Request<()>| Routes::default().call(request))
}

fn kind(error: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    Rejection::find(error).map(Rejection::kind)
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_stalls_holds_calls_up_and_loses_none() {
    let (layer, mut records) = lossless(2);
    let handle = layer.handle();
    let service = layer.layer(routes());
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(read(service, get(&format!("/users/{n}"))))
        })
        .collect();
    tokio::task::yield_now().await;
    let mut seen = 0;
    // A record every 10 ms: the last call waits for half a second.
    while seen < 50 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        records.recv().await.unwrap();
        seen += 1;
    }
    for call in calls {
        assert!(call.await.unwrap());
    }
    assert_eq!(
        (handle.recorded(), handle.lost(), handle.refused()),
        (50, 0, 0)
    );
    assert!(records.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_is_refused_in_its_time() {
    let (layer, _records) = lossless(1);
    let events = Events::new();
    let mut reports = events.subscribe(8);
    let layer = layer.events(events);
    let handle = layer.handle();
    let service = layer.layer(routes());
    assert!(read(service.clone(), get("/users/7")).await);
    let begun = tokio::time::Instant::now();
    let error = service.clone().oneshot(get("/users/7")).await.unwrap_err();
    assert_eq!(kind(&*error), Some(Kind::Overloaded));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    let mut hurried = get("/users/7");
    let deadline = Deadline::after(tokio::time::Instant::now(), Duration::from_millis(100));
    hurried.invocation_mut().limit_deadline(deadline);
    let begun = tokio::time::Instant::now();
    assert!(service.clone().oneshot(hurried).await.is_err());
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    assert_eq!((handle.refused(), handle.recorded()), (2, 1));
    assert!(reports.recv().await.is_some());

    // Those that nobody wants to record need no place.
    handle
        .update(|config| config.rules = vec![rule(&[], &["POST"], &[], true)])
        .unwrap();
    assert!(read(service, get("/users/7")).await);
}

#[tokio::test]
async fn where_nobody_takes_records_nothing_is_served() {
    let (layer, records) = lossless(4);
    drop(records);
    let service = layer.clone().layer(routes());
    let error = service.oneshot(get("/users/7")).await.unwrap_err();
    assert_eq!(kind(&*error), Some(Kind::Overloaded));
    let service = layer.respond().layer(routes());
    let answered = service.oneshot(get("/users/7")).await.unwrap();
    assert_eq!(answered.status(), 503);
}

/// Pends once before each readiness and each answer, and panics where it is told to.
#[derive(Clone)]
struct Slow {
    ready: bool,
    panics: bool,
}

impl Service<Request<()>> for Slow {
    type Response = Response<crate::support::TestBody>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if std::mem::replace(&mut self.ready, true) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(!self.panics, "planted");
        Box::pin(async {
            tokio::task::yield_now().await;
            Ok(crate::support::answer(200, "hello"))
        })
    }
}

#[tokio::test]
async fn dropped_at_any_poll_it_gives_its_place_back() {
    let slow = Slow {
        ready: false,
        panics: false,
    };
    for polls in 0..8 {
        for waits in [false, true] {
            let (places, mut records) = mpsc::channel(1);
            let layer = LosslessAuditLayer::new(AuditPolicy::default(), places.clone());
            let handle = layer.handle();
            let service = layer.layer(slow.clone());
            let taken = waits.then(|| places.clone().try_reserve_owned().unwrap());
            let mut cx = Context::from_waker(Waker::noop());
            {
                let mut call = pin!(async {
                    let response = service.oneshot(get("/")).await.unwrap();
                    response.into_body().collect().await.unwrap();
                });
                let mut taken = taken;
                for poll in 0..polls {
                    if call.as_mut().poll(&mut cx).is_ready() {
                        break;
                    }
                    if poll == 2 {
                        taken = None;
                    }
                }
                drop(taken);
            }
            let recorded = u64::from(records.try_recv().is_ok());
            assert_eq!(recorded, handle.recorded(), "{polls} {waits}");
            assert!(records.try_recv().is_err());
            assert_eq!(places.capacity(), 1, "{polls} {waits}");
        }
    }
}

/// Counts what its instances reserve by their readiness, and serves only who reserved.
struct Strict {
    reserved: Arc<Mutex<u32>>,
    mine: bool,
}

impl Strict {
    fn release(&mut self) -> bool {
        let mine = std::mem::take(&mut self.mine);
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) -= u32::from(mine);
        mine
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            reserved: Arc::clone(&self.reserved),
            mine: false,
        }
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.release();
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<crate::support::TestBody>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if !std::mem::replace(&mut self.mine, true) {
            *self.reserved.lock().unwrap() += 1;
        }
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(self.release(), "called unready");
        std::future::ready(Ok(crate::support::answer(200, "hello")))
    }
}

#[tokio::test]
async fn readiness_is_neither_skipped_nor_held_while_it_waits() {
    let (places, mut records) = mpsc::channel(2);
    let layer = LosslessAuditLayer::new(AuditPolicy::default(), places.clone());
    let reserved = Arc::<Mutex<u32>>::default();
    let mut service = layer.layer(Strict {
        reserved: Arc::clone(&reserved),
        mine: false,
    });
    let ready = async |service: &mut _| {
        std::future::poll_fn(|cx| Service::poll_ready(service, cx))
            .await
            .unwrap();
    };
    // No place when it is asked, and one when it is called.
    let taken = [(); 2].map(|()| places.clone().try_reserve_owned().unwrap());
    ready(&mut service).await;
    assert_eq!(*reserved.lock().unwrap(), 0);
    drop(taken);
    assert!(service.call(get("/")).await.is_ok());

    // The last place went to another meanwhile.
    ready(&mut service).await;
    assert_eq!(*reserved.lock().unwrap(), 1);
    let taken = places.clone().try_reserve_owned().unwrap();
    let waits = service.call(get("/"));
    assert_eq!(*reserved.lock().unwrap(), 0);
    drop(taken);
    assert!(waits.await.is_ok());

    // A clone of one that is ready is not.
    drop(records.recv().await);
    ready(&mut service).await;
    assert!(service.clone().call(get("/")).await.is_ok());
}

#[tokio::test]
async fn a_call_that_panics_or_cannot_be_made_is_recorded() {
    let (layer, mut records) = lossless(4);
    let service = layer.layer(Slow {
        ready: false,
        panics: true,
    });
    let panics = tokio::spawn(read(service, get("/"))).await;
    assert!(panics.is_err());
    assert_eq!(records.try_recv().unwrap().verdict.class(), Class::Failure);

    // It is not ready when its place comes.
    #[derive(Clone)]
    struct Never;
    impl Service<Request<()>> for Never {
        type Response = Response<crate::support::TestBody>;
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err(std::io::ErrorKind::ConnectionRefused.into()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let (places, mut records) = mpsc::channel(1);
    let layer = LosslessAuditLayer::new(AuditPolicy::default(), places.clone());
    let mut service = layer.layer(Never);
    let taken = places.try_reserve_owned().unwrap();
    std::future::poll_fn(|cx| service.poll_ready(cx))
        .await
        .unwrap();
    let call = service.call(get("/"));
    drop(taken);
    assert!(call.await.is_err());
    assert!(records.try_recv().unwrap().verdict.class() != Class::Success);
}

#[test]
fn tickets_and_futures_are_small() {
    type Service = tower_chassis_observe::audit::LosslessAudit<Slow>;
    type Future = <Service as tower::Service<Request<()>>>::Future;
    type Inner = <Slow as tower::Service<Request<()>>>::Future;
    assert_eq!(
        size_of::<Option<tower_chassis_observe::audit::AuditTicket>>(),
        24
    );
    assert_eq!(size_of::<Future>(), size_of::<Inner>() + 32);
}

#[test]
fn the_laws_are_kept() {
    contract(|| {
        let layer = AuditLayer::new(AuditPolicy::default(), |_: AuditRecord| true);
        let handle = layer.handle();
        Case::new(layer)
            .reads(move || handle.recorded())
            .calls_once()
    })
    .assert();
    contract(|| {
        let (places, records) = mpsc::channel(100_000);
        let layer = LosslessAuditLayer::new(AuditPolicy::default(), places);
        let handle = layer.handle();
        Case::new(layer)
            .reads(move || handle.recorded())
            .calls_once()
            .keep(records)
    })
    .assert();
    contract(|| {
        let (layer, held, records) = no_record();
        Case::new(layer)
            .limit(2)
            .held(held)
            .calls_once()
            .keep(records)
    })
    .assert();
    contract(|| {
        let (layer, held, records) = no_record();
        let layer: LosslessAuditLayer<Respond<UntilEnd<Auto>>> = layer.respond();
        Case::new(layer)
            .limit(2)
            .held(held)
            .calls_once()
            .keep(records)
    })
    .assert();
}

/// Two places, and rules that want a record of no call that the contract makes: each gives its place back.
fn no_record() -> (
    LosslessAuditLayer,
    impl Fn() -> usize + Send + Sync + 'static,
    mpsc::Receiver<AuditRecord>,
) {
    let (places, records) = mpsc::channel(2);
    let policy = policy(|config| config.rules = vec![rule(&[], &[], &["rate-limited"], true)]);
    let layer = LosslessAuditLayer::new(policy, places.clone());
    (
        layer,
        move || places.max_capacity() - places.capacity(),
        records,
    )
}

#[cfg(feature = "config")]
#[test]
fn it_is_read_from_a_configuration() {
    use tower_chassis_core::config::{Format, Loader};
    let text = "paths: true\nmax_wait: 50ms\nrules:\n- routes: [/admin/*]\n  classes: [refused]\n- record: false\n";
    let loader = Loader::new().text("audit.yaml", Format::Yaml, text);
    let (_, read) = loader.load_as::<AuditConfig>().unwrap();
    assert_eq!(
        read.rules,
        [
            rule(&["/admin/*"], &[], &["refused"], true),
            rule(&[], &[], &[], false)
        ]
    );
    assert!(read.paths && AuditPolicy::try_from(read).is_ok());
}

#[tokio::test]
async fn parameters_of_a_path_may_be_secret() {
    let records = Records::default();
    let layer = records.layer(policy(|config| config.paths = true));
    let service = layer.layer(service_fn(|request| Routes::default().call(request)));
    read(service, get("/users/7;jsessionid=PLANTED;v=1")).await;
    assert_eq!(
        records.one().path.as_deref(),
        Some("/users/7;jsessionid=***;v=1")
    );
}

#[tokio::test]
async fn who_asks_is_not_known_where_finding_out_panics() {
    let records = Records::default();
    let layer = records
        .layer(AuditPolicy::default())
        .principal(|_, _| panic!("planted"));
    let service = layer.layer(service_fn(|request| Routes::default().call(request)));
    assert!(read(service, get("/users/7")).await);
    assert_eq!(records.one().principal, None);
}

/// A record waits in memory: nobody makes it as large as he likes.
#[tokio::test]
async fn a_long_header_is_cut() {
    let records = Records::default();
    let layer = records.layer(policy(|config| config.headers = vec!["x-note".to_owned()]));
    let service = layer.layer(service_fn(|request| Routes::default().call(request)));
    let mut request = get("/users/7");
    let long = HeaderValue::from_str(&"a".repeat(100_000)).unwrap();
    request.headers_mut().insert("x-note", long);
    assert!(read(service, request).await);
    assert_eq!(records.one().headers[0].1.len(), 8 * 1024);
}
