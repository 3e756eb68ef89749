//! The layer as its users see it: what waits, what fails, what is marked, what is left alone.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Carrier, Class, Deadline, Events, Invocation, Kind, Live, Rejection, Verdict,
    clock,
    events::Event,
    testing::{ControlledService, Plan},
    verdict::Outcome,
};

use super::{
    super::{
        Abort, Arming, Delay, FaultFuture, FaultHandle, FaultLayer, FaultPolicy, FaultRule,
        Guarded, HeaderControl, InjectedFault, View, Why,
    },
    ALL, SECOND, armed, config, fine, get, layer, send, with_id,
};

fn kind(error: &BoxError) -> Kind {
    Rejection::find(&**error).unwrap().kind()
}

fn counts(handle: &FaultHandle) -> (u32, u64) {
    (
        handle.active(),
        handle.rules().iter().map(|rule| rule.injected).sum(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_delay_and_an_abort_are_a_delay_and_then_an_abort() {
    let rule = FaultRule::new("r")
        .delay(ALL, Delay::Fixed(SECOND))
        .abort(ALL, Abort::Status(503));
    let layer = layer(rule);
    let handle = layer.handle();
    let service = layer.layer(service_fn(fine));
    let began = Instant::now();
    let error = send(&service, get("/")).await.unwrap_err();
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(kind(&error), Kind::Injected);
    assert_eq!(InjectedFault::find(&*error).unwrap().rule(), "r");
    assert_eq!(Verdict::of_error(&error).http_status(), Some(503));
    assert!(Verdict::of_error(&error).is_failure());
    assert_eq!(counts(&handle), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_delay_alone_makes_the_call_later() {
    let layer = layer(FaultRule::new("r").delay(ALL, Delay::Fixed(SECOND))).http();
    let handle = layer.handle();
    let service = layer.layer(service_fn(fine));
    let began = Instant::now();
    let response = send(&service, get("/")).await.unwrap();
    assert_eq!((began.elapsed(), response.status().as_u16()), (SECOND, 200));
    assert_eq!(response.headers()["x-chassis-fault"], "r");
    assert_eq!(
        handle.active(),
        0,
        "a wait that is over is no fault any more"
    );
}

#[tokio::test]
async fn aborts_are_answers_of_http_and_of_grpc() {
    for (abort, status, code) in [
        (Abort::Status(503), 503, "14"),
        (Abort::Status(404), 404, "12"),
        (Abort::Grpc(14), 503, "14"),
        (Abort::Grpc(8), 429, "8"),
    ] {
        let service = layer(FaultRule::new("r").abort(ALL, abort))
            .http()
            .layer(service_fn(fine));
        let response = send(&service, get("/")).await.unwrap();
        assert_eq!(response.status(), status, "{abort:?}");
        assert_eq!(response.headers()["x-chassis-fault"], "r");
        assert_eq!(response.headers()["x-chassis-reject"], "injected");
        assert_eq!(response.verdict().http_status(), Some(status));
        let mut request = get("/");
        request
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        let response = send(&service, request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], code, "{abort:?}");
        assert_eq!(response.status(), 200);
    }
    let reset = layer(FaultRule::new("r").abort(ALL, Abort::Reset));
    let error = send(&reset.clone().http().layer(service_fn(fine)), get("/"))
        .await
        .unwrap_err();
    assert_eq!(Verdict::of_error(&error).class(), Class::Unreachable);
    let error = send(&reset.layer(service_fn(fine)), get("/"))
        .await
        .unwrap_err();
    assert_eq!(Verdict::of_error(&error).class(), Class::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_deadline_and_not_after() {
    let hang = FaultRule::new("r").abort(ALL, Abort::Hang);
    let delay = |length| FaultRule::new("r").delay(ALL, Delay::Fixed(length));
    for (rule, late) in [
        (hang.clone(), true),
        (delay(SECOND * 3), true),
        (delay(SECOND * 3).abort(ALL, Abort::Status(404)), true),
        // At the same instant it is late.
        (delay(SECOND * 2), true),
        (delay(SECOND), false),
    ] {
        let calls = Arc::new(AtomicU32::new(0));
        let inner = {
            let calls = Arc::clone(&calls);
            service_fn(move |request| {
                calls.fetch_add(1, Ordering::Relaxed);
                fine(request)
            })
        };
        let layer = layer(rule.clone());
        let request = || {
            let mut request = get("/");
            let deadline = Deadline::after(Instant::now(), SECOND * 2);
            request.invocation_mut().limit_deadline(deadline);
            request
        };
        let began = Instant::now();
        let result = send(&layer.layer(inner.clone()), request()).await;
        let took = if late { SECOND * 2 } else { SECOND };
        assert_eq!(began.elapsed(), took, "{rule:?}");
        assert_eq!(
            result.as_ref().err().map(kind),
            late.then_some(Kind::Timeout)
        );
        assert_eq!(
            calls.load(Ordering::Relaxed),
            u32::from(!late),
            "a late call is not made"
        );
        let response = send(&layer.clone().http().layer(inner), request())
            .await
            .unwrap();
        assert_eq!(response.status(), if late { 504 } else { 200 });
        assert_eq!(response.headers()["x-chassis-fault"], "r");
        assert_eq!(layer.handle().active(), 0);
    }
    // Without a deadline it hangs for ever.
    let service = layer(hang).layer(service_fn(fine));
    assert!(
        tokio::time::timeout(SECOND * 86_400, send(&service, get("/")))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_same_ids_are_chosen_again_and_by_every_layer() {
    let rule = FaultRule::new("r").abort(250_000, Abort::Reset);
    let chosen = async |layer: FaultLayer| {
        let service = layer.layer(service_fn(fine));
        let mut chosen = Vec::new();
        for n in 0..400 {
            chosen.push(send(&service, with_id(&format!("r-{n}"))).await.is_err());
        }
        chosen
    };
    let first = chosen(layer(rule.clone())).await;
    assert_eq!(first, chosen(layer(rule.clone())).await);
    let hits = first.iter().filter(|hit| **hit).count();
    assert!((60..140).contains(&hits), "{hits}");
    let mut other = config([rule.clone()]);
    other.seed = 1;
    let other = FaultLayer::new(FaultPolicy::try_from(other).unwrap()).arming(armed());
    assert_ne!(first, chosen(other).await);
    // The id of the invocation goes before that of the header.
    let service = layer(rule.clone()).layer(service_fn(fine));
    for (n, hit) in first.iter().enumerate() {
        let mut request = with_id("another");
        request
            .invocation_mut()
            .set_request_id(format!("r-{n}").into());
        assert_eq!(send(&service, request).await.is_err(), *hit);
    }
    // And one of one's own before both.
    let mine =
        layer(rule).request_id(|request: &Request<()>| Some(request.uri().path()[1..].to_owned()));
    let service = mine.layer(service_fn(fine));
    for (n, hit) in first.iter().enumerate() {
        assert_eq!(send(&service, get(&format!("/r-{n}"))).await.is_err(), *hit);
    }
}

#[tokio::test]
async fn attempts_share_their_fate_unless_each_is_chosen() {
    let rule = FaultRule::new("r").abort(500_000, Abort::Reset);
    for (rule, shared) in [(rule.clone(), true), (rule.per_attempt(), false)] {
        let service = layer(rule).layer(service_fn(fine));
        let mut differ = 0;
        for n in 0..200 {
            let mut hits = Vec::new();
            for attempt in 1..=3 {
                let mut request = with_id(&format!("r-{n}"));
                request.invocation_mut().set_attempt(attempt);
                hits.push(send(&service, request).await.is_err());
            }
            differ += usize::from(hits.iter().any(|hit| *hit != hits[0]));
        }
        assert_eq!(differ == 0, shared, "{differ}");
    }
}

#[tokio::test]
async fn calls_without_an_id_take_turns() {
    let service = layer(FaultRule::new("r").abort(500_000, Abort::Reset)).layer(service_fn(fine));
    let mut hits = 0;
    for _ in 0..1_000 {
        hits += usize::from(send(&service, get("/")).await.is_err());
    }
    assert!((430..570).contains(&hits), "{hits}");
}

#[tokio::test]
async fn health_admin_copies_and_what_is_excluded_are_left_alone() {
    let rule = FaultRule::new("r").abort(ALL, Abort::Status(500));
    let layer = layer(rule)
        .http()
        .exclude(|request: &Request<()>| request.headers().contains_key("x-probe"));
    let service = layer.layer(service_fn(fine));
    let status = async |request| send(&service, request).await.unwrap().status().as_u16();
    for path in [
        "/healthz",
        "/healthz/db",
        "/livez",
        "/admin",
        "/admin/x",
        "/metrics",
        "/grpc.health.v1.Health/Check",
    ] {
        assert_eq!(status(get(path)).await, 200, "{path}");
    }
    for path in ["/", "/healthzz", "/api/healthz", "/administer"] {
        assert_eq!(status(get(path)).await, 500, "{path}");
    }
    for header in ["x-probe", "x-chassis-shadow"] {
        let mut request = get("/");
        request.headers_mut().insert(header, "1".parse().unwrap());
        assert_eq!(status(request).await, 200, "{header}");
    }
    assert_eq!(layer.handle().active(), 0);
}

/// Also where faults are errors and not answers.
#[tokio::test]
async fn paths_are_known_without_http() {
    let rule = FaultRule::new("r").abort(ALL, Abort::Status(500));
    let service = layer(rule.clone()).layer(service_fn(fine));
    assert!(send(&service, get("/healthz/db")).await.is_ok());
    assert!(send(&service, get("/api")).await.is_err());
    let rule = rule.matching(|call| call.path_prefix = Some("/api".to_owned()));
    let service = layer(rule).layer(service_fn(fine));
    assert!(send(&service, get("/api/x")).await.is_err());
    assert!(send(&service, get("/other")).await.is_ok());
}

#[tokio::test]
async fn a_rule_may_ask_more_of_a_request() {
    let rules = ["one", "two"].map(|id| FaultRule::new(id).abort(ALL, Abort::Status(500)));
    let layer = FaultLayer::new(FaultPolicy::new(rules).unwrap())
        .arming(armed())
        .http()
        .matching("one", |request: &Request<()>| {
            request.uri().query() == Some("one")
        });
    let service = layer.layer(service_fn(fine));
    for (path, rule) in [("/?one", "one"), ("/", "two")] {
        let response = send(&service, get(path)).await.unwrap();
        assert_eq!(response.headers()["x-chassis-fault"], rule);
    }
}

#[tokio::test]
async fn only_trusted_peers_may_ask_and_only_if_somebody_may() {
    let mut asked = config([]);
    let policy =
        |config: &super::super::FaultConfig| FaultPolicy::try_from(config.clone()).unwrap();
    let request = || {
        let mut request = get("/");
        request
            .headers_mut()
            .insert("x-chassis-fault-abort", "503".parse().unwrap());
        request
    };
    let status = async |layer: FaultLayer, trusts: bool| {
        let layer = layer.http().trusted(move |_: &Request<()>| trusts);
        let service = layer.layer(service_fn(fine));
        send(&service, request()).await.unwrap().status().as_u16()
    };
    let make = |config: &super::super::FaultConfig| FaultLayer::new(policy(config)).arming(armed());
    assert_eq!(status(make(&asked), true).await, 200, "not configured");
    asked.headers = Some(HeaderControl::default());
    assert_eq!(status(make(&asked), false).await, 200, "not trusted");
    assert_eq!(status(make(&asked), true).await, 503);
    let nobody = make(&asked).http().layer(service_fn(fine));
    assert_eq!(
        send(&nobody, request()).await.unwrap().status(),
        200,
        "nobody is trusted"
    );
    let off = make(&asked).arming(Arming::new(false, Some("test")));
    assert_eq!(status(off, true).await, 200, "not armed");
    asked.max_ppm = 0;
    assert_eq!(status(make(&asked), true).await, 200, "the cap of all");
    // What is not trusted falls under the rules.
    asked.max_ppm = ALL;
    asked.rules = vec![FaultRule::new("r").abort(ALL, Abort::Status(500))];
    assert_eq!(status(make(&asked), false).await, 500);
    assert_eq!(status(make(&asked), true).await, 503);
}

#[tokio::test]
async fn what_is_not_armed_does_nothing_and_says_why() {
    let rule = FaultRule::new("r").abort(ALL, Abort::Reset);
    for (arming, expires, why) in [
        (
            Arming::new(false, Some("test")),
            false,
            Some(Why::NotEnabled),
        ),
        (
            Arming::new(true, Some("production")),
            false,
            Some(Why::NoExpiry),
        ),
        (Arming::new(true, None), false, Some(Why::NoExpiry)),
        (Arming::new(true, Some("production")), true, None),
        (Arming::new(true, Some("test")), false, None),
    ] {
        let rule = if expires {
            rule.clone().expires_in(SECOND * 60)
        } else {
            rule.clone()
        };
        let layer = layer(rule).arming(arming.clone());
        let handle = layer.handle();
        let result = send(&layer.layer(service_fn(fine)), get("/")).await;
        assert_eq!(result.is_err(), why.is_none(), "{arming:?}");
        let wanted = why.map_or(Guarded::Armed, Guarded::Disarmed);
        assert_eq!(handle.rules()[0].guarded, wanted);
        assert_eq!(handle.is_armed(), why.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn the_kill_switch_is_effective_at_once() {
    let rules = [
        FaultRule::new("hang")
            .abort(ALL, Abort::Hang)
            .matching(|c| c.path_prefix = Some("/hang".into())),
        FaultRule::new("slow")
            .delay(ALL, Delay::Fixed(SECOND * 60))
            .abort(ALL, Abort::Status(500)),
    ];
    let layer = FaultLayer::new(FaultPolicy::new(rules).unwrap())
        .arming(armed())
        .http();
    let handle = layer.handle();
    let service = layer.layer(service_fn(fine));
    let calls: Vec<_> = ["/hang", "/slow", "/hang", "/slow"]
        .map(|path| tokio::spawn(service.clone().oneshot(get(path))))
        .into();
    tokio::time::sleep(SECOND).await;
    assert_eq!(handle.active(), 4);
    let began = Instant::now();
    handle.kill();
    for call in calls {
        assert_eq!(
            call.await.unwrap().unwrap().status(),
            200,
            "as if there had been no fault"
        );
    }
    assert_eq!((began.elapsed(), handle.active()), (Duration::ZERO, 0));
    assert!(handle.is_killed() && !handle.is_armed());
    assert_eq!(send(&service, get("/hang")).await.unwrap().status(), 200);
    // A new policy does not bring it back to life.
    handle.update(|config| config.seed = 3).unwrap();
    assert_eq!(send(&service, get("/slow")).await.unwrap().status(), 200);
    handle.restore();
    assert_eq!(send(&service, get("/slow")).await.unwrap().status(), 500);
    assert_eq!(handle.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_is_taken_back_at_once_still_frees_all() {
    let layer = layer(FaultRule::new("r").abort(ALL, Abort::Hang));
    let handle = layer.handle();
    let service = layer.layer(service_fn(fine));
    let call = tokio::spawn(service.clone().oneshot(get("/")));
    tokio::time::sleep(SECOND).await;
    handle.kill();
    handle.restore();
    assert!(call.await.unwrap().is_ok());
    assert_eq!(handle.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_most_are_under_a_fault() {
    let mut few = config([FaultRule::new("r").abort(ALL, Abort::Hang)]);
    few.max_active = 2;
    let layer = FaultLayer::new(FaultPolicy::try_from(few).unwrap()).arming(armed());
    let handle = layer.handle();
    let service = layer.layer(service_fn(fine));
    let hanging: Vec<_> = (0..2)
        .map(|_| tokio::spawn(service.clone().oneshot(get("/"))))
        .collect();
    tokio::time::sleep(SECOND).await;
    assert!(send(&service, get("/")).await.is_ok());
    assert_eq!((handle.active(), handle.overflow()), (2, 1));
    for call in hanging {
        call.abort();
        assert!(call.await.is_err());
    }
    assert_eq!(handle.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn settings_are_live_and_an_expired_rule_is_not_looked_at() {
    let live = Live::new(FaultPolicy::default());
    let layer = FaultLayer::new(live.clone()).arming(armed());
    let handle = layer.handle();
    let service = layer.layer(service_fn(fine));
    assert!(send(&service, get("/")).await.is_ok());
    let rule = FaultRule::new("r")
        .abort(ALL, Abort::Reset)
        .expires_in(SECOND * 60);
    live.set(FaultPolicy::new([rule]).unwrap()).unwrap();
    assert!(send(&service, get("/")).await.is_err());
    tokio::time::advance(SECOND * 61).await;
    assert!(send(&service, get("/")).await.is_ok());
    assert_eq!(handle.rules()[0].guarded, Guarded::Disarmed(Why::Expired));
    // It was found to be over, so the clock is not read any more.
    let before = clock::readings();
    assert!(send(&service, get("/")).await.is_ok());
    assert_eq!(clock::readings(), before);
    handle
        .update(|config| config.rules[0].expires_at = None)
        .unwrap();
    assert!(send(&service, get("/")).await.is_err());
    assert_eq!(handle.rules()[0].injected, 2, "kept with the name");
}

#[tokio::test]
async fn each_fault_is_reported_by_rule_and_kind() {
    let events = Events::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    events.listen(move |event| {
        if let Event::FaultInjected { rule, fault, .. } = event {
            sink.lock().unwrap().push(format!("{rule} {fault}"));
        }
    });
    let rule = FaultRule::new("r")
        .throttle(ALL, 1_000_000)
        .truncate(ALL, 3)
        .delay(ALL, Delay::Fixed(Duration::ZERO));
    let layer = layer(rule).events(events).http();
    drop(
        send(&layer.layer(service_fn(fine)), get("/"))
            .await
            .unwrap(),
    );
    assert_eq!(
        *seen.lock().unwrap(),
        ["r delay", "r throttle", "r truncate"]
    );
}

#[tokio::test]
async fn the_state_is_shared_but_by_fresh() {
    let layer = layer(FaultRule::new("r").abort(ALL, Abort::Reset));
    let (twice, fresh) = (layer.clone(), layer.fresh());
    for layer in [&layer, &twice, &fresh] {
        assert!(
            send(&layer.layer(service_fn(fine)), get("/"))
                .await
                .is_err()
        );
    }
    assert_eq!(layer.handle().rules()[0].injected, 2);
    assert_eq!(fresh.handle().rules()[0].injected, 1);
    layer.handle().kill();
    assert!(twice.handle().is_killed() && !fresh.handle().is_killed());
}

/// A request that carries nothing.
#[derive(Clone)]
struct Plainest;

#[derive(Clone)]
struct Seen;
impl View<Plainest> for Seen {}

#[tokio::test]
async fn a_request_that_is_no_carrier_needs_a_view_of_its_own() {
    let layer = layer(FaultRule::new("r").abort(500_000, Abort::Reset)).view(Seen);
    let service = layer.layer(service_fn(async |_: Plainest| Ok::<_, BoxError>(7)));
    let mut fails = 0;
    for _ in 0..100 {
        fails += usize::from(send(&service, Plainest).await.is_err());
    }
    assert!((30..70).contains(&fails), "{fails}");
}

#[tokio::test]
async fn inner_errors_pass_and_are_kept() {
    let inner = ControlledService::new();
    inner.control().plan(Plan::error());
    for rule in [
        FaultRule::new("r"),
        FaultRule::new("r").delay(ALL, Delay::Fixed(Duration::ZERO)),
    ] {
        let service = layer(rule).http().layer(inner.clone());
        let error = send(&service, get("/")).await.unwrap_err();
        assert!(tower_chassis_core::testing::Marked::find(&*error).is_some());
        assert!(InjectedFault::find(&*error).is_none(), "no error of ours");
    }
}

/// What is in the page.
#[test]
fn a_call_that_is_left_alone_costs_a_word() {
    type Inner = tower::util::ServiceFn<fn(Request<()>) -> Answer>;
    type Answer = std::future::Ready<Result<Response<Body>, BoxError>>;
    let (inner, ours) = (
        size_of::<Answer>(),
        size_of::<FaultFuture<Inner, Request<()>, super::super::Http>>(),
    );
    assert!(ours <= inner + size_of::<usize>(), "{ours} over {inner}");
    let _ = Invocation::new(Instant::now());
}
