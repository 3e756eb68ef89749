//! The server's end.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{Response, StatusCode};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, Deadline, Events, Invocation, RescueLayer, clock, events::Event, settle::UntilHead,
    verdict::OkIsSuccess, wire::Observed,
};

use super::*;

/// Answers what it has left.
fn leaf<Req: Carrier>()
-> impl Service<Req, Response = Duration, Error = BoxError, Future: Send> + Clone {
    service_fn(|request: Req| {
        std::future::ready(left(&request).ok_or_else(|| BoxError::from("no deadline")))
    })
}

#[tokio::test(start_paused = true)]
async fn the_least_of_what_arrives_counts_within_bounds() {
    const OWN: &str = "x-request-timeout-ms";
    const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";
    const TIMEOUT: &str = "grpc-timeout";
    let layer = DeadlineLayer::accept(policy());
    let trusting = layer.clone().trust_envoy();
    for (headers, plain, trusted) in [
        (&[][..], 1_000, 1_000),
        (&[(OWN, "300")], 300, 300),
        (&[(OWN, "3000")], 3_000, 3_000),
        (&[(OWN, "30000")], 10_000, 10_000),
        (&[(OWN, "99999999999999999999999999")], 10_000, 10_000),
        (&[GRPC, (TIMEOUT, "99999999H")], 10_000, 10_000),
        (&[GRPC, (TIMEOUT, "250m")], 250, 250),
        (&[GRPC, (TIMEOUT, "2S"), (OWN, "300")], 300, 300),
        (&[GRPC, (TIMEOUT, "200m"), (OWN, "300")], 200, 200),
        // Not a word of HTTP's.
        (&[(TIMEOUT, "200m")], 1_000, 1_000),
        (&[(TIMEOUT, "soon")], 1_000, 1_000),
        (&[(ENVOY, "200")], 1_000, 200),
        (&[(ENVOY, "2000")], 1_000, 2_000),
        (&[(ENVOY, "200"), (OWN, "300")], 300, 200),
        (&[(ENVOY, "400"), (OWN, "300")], 300, 300),
        (&[(ENVOY, "0")], 1_000, 1_000),
        (&[(ENVOY, "60000")], 1_000, 10_000),
    ] {
        for (layer, expected) in [(&layer, plain), (&trusting, trusted)] {
            let seen = layer.layer(leaf()).oneshot(request(headers)).await.unwrap();
            assert_eq!(seen, ms(expected), "{headers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_there_already_only_comes_forward() {
    let service = DeadlineLayer::accept(policy()).layer(leaf());
    for (own, told, expected) in [
        (300, None, 300),
        (3_000, None, 3_000),
        (30_000, None, 10_000),
        (300, Some("200"), 200),
        (300, Some("400"), 300),
    ] {
        let mut request = request(&[]);
        let now = Instant::now();
        let invocation = request.invocation_mut();
        invocation.limit_deadline(Deadline::after(now, ms(own)));
        if let Some(told) = told {
            request.set_meta("x-request-timeout-ms", told.into());
        }
        let seen = service.clone().oneshot(request).await.unwrap();
        assert_eq!(seen, ms(expected), "{own} {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_when_the_call_arrived() {
    let service = DeadlineLayer::accept(policy()).layer(leaf());
    for (told, expected) in [(None, 600), (Some("500"), 100), (Some("60000"), 9_600)] {
        let mut request = request(&[]);
        request.invocation_mut();
        if let Some(told) = told {
            request.set_meta("x-request-timeout-ms", told.into());
        }
        tokio::time::advance(ms(400)).await;
        let seen = service.clone().oneshot(request).await.unwrap();
        assert_eq!(seen, ms(expected), "{told:?}");
    }
    let mut request = request(&[("x-request-timeout-ms", "400")]);
    request.invocation_mut();
    tokio::time::advance(ms(400)).await;
    let error = service.oneshot(request).await.unwrap_err();
    assert_eq!(kind(&error), Kind::DeadlineExceeded, "it is used up");
}

/// Listens, and what it heard.
fn listen() -> (Events, Arc<Mutex<Vec<Kind>>>) {
    let events = Events::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    events.listen(move |event| {
        if let Event::Refused {
            layer: "deadline",
            kind,
            ..
        } = event
        {
            hears.lock().unwrap().push(*kind);
        }
    });
    (events, heard)
}

/// What the caller sees of a call that is refused; panics where it is served.
async fn refused(headers: &[(&'static str, &str)]) -> (BoxError, Vec<Kind>) {
    let (events, heard) = listen();
    let layer = DeadlineLayer::accept(policy()).trust_envoy().events(events);
    let inner = service_fn(
        |_: Request<()>| -> std::future::Ready<Result<(), BoxError>> { panic!("called") },
    );
    let error = layer.layer(inner).oneshot(request(headers)).await;
    let heard = heard.lock().unwrap().clone();
    (error.unwrap_err(), heard)
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_is_up_is_not_made() {
    for headers in [
        &[GRPC, ("grpc-timeout", "0m")][..],
        &[GRPC, ("grpc-timeout", "0H")],
        &[GRPC, ("x-request-timeout-ms", "0")],
        &[("x-request-timeout-ms", "000")],
    ] {
        let (error, heard) = refused(headers).await;
        assert_eq!(kind(&error), Kind::DeadlineExceeded, "{headers:?}");
        assert_eq!(heard, [Kind::DeadlineExceeded]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_and_named() {
    for value in [
        "",
        "5",
        "m",
        "100000000m",
        "5x",
        "-5m",
        "+5m",
        " 5m",
        "5 m",
        "1.5S",
        "5ms",
    ] {
        let (error, heard) = refused(&[GRPC, ("grpc-timeout", value)]).await;
        assert_eq!(kind(&error), Kind::BadRequest, "{value:?}");
        assert_eq!(heard, [Kind::BadRequest]);
        let source = Rejection::find(&*error).and_then(std::error::Error::source);
        assert_eq!(source.unwrap().to_string(), "`grpc-timeout` cannot be read");
    }
    for name in ["x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms"] {
        for value in ["", "soon", "-1", "1.5", "5ms", "0x10"] {
            let (error, _) = refused(&[(name, value)]).await;
            assert_eq!(kind(&error), Kind::BadRequest, "{name}: {value:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_answers_are_those_of_the_protocol() {
    const WEB: (&str, &str) = ("accept", "*/*");
    async fn never(_: Request<()>) -> Result<Response<Body>, BoxError> {
        std::future::pending().await
    }
    let layer = DeadlineLayer::accept(policy());
    let rescued = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(layer.clone())
        .service_fn(never);
    let infallible = service_fn(async |request| {
        Ok::<_, std::convert::Infallible>(never(request).await.unwrap())
    });
    let responds = layer.respond().layer(infallible);
    for (headers, status, code) in [
        (&[WEB, ("x-request-timeout-ms", "0")][..], 504, None),
        (&[WEB, ("x-request-timeout-ms", "20")], 504, None),
        (&[WEB, ("x-request-timeout-ms", "x")], 400, None),
        (&[GRPC, ("grpc-timeout", "0m")], 200, Some("4")),
        (&[GRPC, ("grpc-timeout", "20m")], 200, Some("4")),
        (&[GRPC, ("grpc-timeout", "x")], 200, Some("13")),
    ] {
        let first = rescued.clone().oneshot(request(headers)).await.unwrap();
        // Its error is that of the inner service, so it cannot fail.
        let second = responds.clone().oneshot(request(headers)).await;
        let second = second.unwrap_or_else(|never| match never {});
        for (status_of, headers_of) in [
            (first.status(), first.headers()),
            (second.status(), second.headers()),
        ] {
            assert_eq!(
                status_of,
                StatusCode::from_u16(status).unwrap(),
                "{headers:?}"
            );
            let found = headers_of.get("grpc-status").map(|v| v.to_str().unwrap());
            assert_eq!(found, code, "{headers:?}");
        }
    }
}

async fn nap(request: Request<Duration>) -> Result<(), BoxError> {
    tokio::time::sleep(request.into_body()).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_still_runs_is_ended_and_nobody_is_blamed() {
    let below = Below::default();
    let inner = Observed::new(service_fn(nap), below.clone(), UntilHead::new(OkIsSuccess));
    let (events, heard) = listen();
    let service = DeadlineLayer::accept(policy()).events(events).layer(inner);
    let began = Instant::now();
    let mut call = Box::pin(service.clone().oneshot(Request::new(ms(5_000))));
    let error = call.as_mut().await.unwrap_err();
    assert_eq!(began.elapsed(), ms(1_000));
    assert_eq!(kind(&error), Kind::Timeout);
    assert_eq!(below.ended(), [Class::Cancelled]);
    assert_eq!(
        below.flying(),
        0,
        "the future is still there, the call is not"
    );
    drop(call);
    service.oneshot(Request::new(ms(999))).await.unwrap();
    assert_eq!(below.ended(), [Class::Success]);
    assert_eq!(*heard.lock().unwrap(), [Kind::Timeout]);
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_once_on_the_way_in() {
    let layer = DeadlineLayer::accept(policy());
    let layer = (layer, DeadlineLayer::propagate(policy()));
    let mut service = layer.layer(leaf());
    let before = clock::readings();
    let call = service.call(request(&[]));
    assert_eq!(clock::readings() - before, 1);
    assert_eq!(call.await.unwrap(), ms(1_000));
    assert_eq!(clock::readings() - before, 3, "once at each poll of each");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_given_up_at_every_poll_and_leaves_nothing() {
    const POLLS: usize = 6;
    let below = Below::default();
    let inner = service_fn(async |_: Request<()>| {
        for _ in 1..POLLS {
            tokio::time::sleep(ms(10)).await;
        }
        Ok::<_, BoxError>(())
    });
    let inner = Observed::new(inner, below.clone(), UntilHead::new(OkIsSuccess));
    let mut service = DeadlineLayer::accept(policy()).layer(inner);
    for polls in 0..=POLLS {
        {
            let mut call = pin!(service.call(request(&[])));
            for k in 1..=polls {
                let poll = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
                assert_eq!(poll.is_ready(), k == POLLS);
                tokio::time::advance(ms(10)).await;
            }
            assert_eq!(below.flying(), usize::from(polls < POLLS));
        }
        assert_eq!(below.flying(), 0, "dropped after {polls}");
        let class = if polls < POLLS {
            Class::Cancelled
        } else {
            Class::Success
        };
        assert_eq!(below.ended(), [class], "dropped after {polls}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_below_stays_a_panic() {
    let below = Below::default();
    let inner = service_fn(async |_: Request<()>| -> Result<(), BoxError> {
        tokio::task::yield_now().await;
        panic!("planted")
    });
    let inner = Observed::new(inner, below.clone(), UntilHead::new(OkIsSuccess));
    let service = DeadlineLayer::accept(policy()).layer(inner);
    let task = tokio::spawn(service.oneshot(request(&[])));
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!((below.ended(), below.flying()), (vec![Class::Failure], 0));
}

#[test]
fn no_timer_before_the_first_pending() {
    // There is no runtime here: arming a timer would panic.
    let mut service = DeadlineLayer::accept(policy()).layer(leaf());
    let mut call = pin!(service.call(request(&[])));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(call.as_mut().poll(&mut cx), Poll::Ready(Ok(_))));
    assert!(!call.is_armed());
}

#[tokio::test(start_paused = true)]
async fn a_timer_after_it() {
    let mut service = DeadlineLayer::accept(policy()).layer(service_fn(nap));
    let mut call = pin!(service.call(Request::new(ms(1))));
    assert!(!call.is_armed());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    assert!(call.is_armed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_when_the_time_is_up() {
    let begun = Arc::new(AtomicUsize::new(0));
    let begins = Arc::clone(&begun);
    let mut service =
        DeadlineLayer::accept(policy()).layer(service_fn(move |pause: Request<bool>| {
            let begins = Arc::clone(&begins);
            async move {
                if pause.into_body() {
                    tokio::task::yield_now().await;
                }
                begins.fetch_add(1, Ordering::Relaxed);
                Ok::<_, BoxError>(())
            }
        }));
    let mut cx = Context::from_waker(Waker::noop());
    // Made in time and first polled too late: a future that waited in a queue of the runtime.
    let mut late = pin!(service.call(Request::new(false)));
    // Begun in time, and woken too late.
    let mut woken = pin!(service.call(Request::new(true)));
    assert!(woken.as_mut().poll(&mut cx).is_pending());
    tokio::time::advance(ms(1_000)).await;
    for poll in [late.as_mut().poll(&mut cx), woken.as_mut().poll(&mut cx)] {
        let Poll::Ready(Err(error)) = poll else {
            panic!("served or waiting")
        };
        assert_eq!(kind(&error), Kind::Timeout);
    }
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_service_that_uses_up_its_task_is_ended() {
    // The clock runs: a task that is always awake does not let a paused one go on.
    let began = Instant::now();
    let service =
        DeadlineLayer::accept(policy()).layer(service_fn(move |_: Request<()>| async move {
            while began.elapsed() < ms(5_000) {
                tokio::task::coop::consume_budget().await;
            }
            Ok::<_, BoxError>(())
        }));
    let error = service
        .oneshot(request(&[("x-request-timeout-ms", "20")]))
        .await;
    assert_eq!(kind(&error.unwrap_err()), Kind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_new_calls_and_leaves_those_in_flight() {
    let layer = DeadlineLayer::accept(policy());
    let fresh = layer.fresh();
    let service = layer.layer(service_fn(nap));
    let flying = tokio::spawn(service.clone().oneshot(Request::new(ms(900))));
    tokio::task::yield_now().await;
    let handle = layer.handle();
    handle.update(|config| config.default = ms(100)).unwrap();
    assert!(
        service
            .clone()
            .oneshot(Request::new(ms(200)))
            .await
            .is_err()
    );
    flying.await.unwrap().unwrap();
    handle
        .update(|config| config.default = ms(100_000))
        .unwrap_err();
    assert_eq!(handle.config().load().config().default, ms(100));
    let seen = fresh.layer(leaf()).oneshot(request(&[])).await.unwrap();
    assert_eq!(seen, ms(100), "the settings are the same");
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_an_end_is_as_far_as_the_clock_goes() {
    let policy = DeadlinePolicy::new(Duration::MAX, Duration::MAX).unwrap();
    let service = DeadlineLayer::accept(policy).layer(leaf());
    for headers in [&[][..], &[("x-request-timeout-ms", "18446744073709551615")]] {
        let seen = service.clone().oneshot(request(headers)).await.unwrap();
        assert!(seen > ms(1_000 * 60 * 60 * 24 * 365));
    }
}

#[tokio::test(start_paused = true)]
async fn the_call_is_that_of_a_protocol_of_ones_own() {
    let service = DeadlineLayer::accept(policy()).layer(leaf());
    let mut frame = Frame::default();
    assert_eq!(
        service.clone().oneshot(frame.clone()).await.unwrap(),
        ms(1_000)
    );
    frame.meta.insert("x-request-timeout-ms", "70".into());
    frame.meta.insert("grpc-timeout", "50m".into());
    assert_eq!(
        service.clone().oneshot(frame.clone()).await.unwrap(),
        ms(70)
    );
    frame.meta.insert("content-type", "application/grpc".into());
    assert_eq!(
        service.clone().oneshot(frame.clone()).await.unwrap(),
        ms(50)
    );
    frame.meta.insert("grpc-timeout", "0m".into());
    let error = service.oneshot(frame).await.unwrap_err();
    assert_eq!(kind(&error), Kind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn what_the_invocation_holds_stays() {
    let service = DeadlineLayer::accept(policy()).layer(service_fn(async |request: Request<()>| {
        let id = request.invocation().and_then(Invocation::request_id);
        Ok::<_, BoxError>(id.cloned())
    }));
    let mut request = request(&[]);
    request.invocation_mut().set_request_id("r-1".into());
    assert_eq!(
        service.oneshot(request).await.unwrap().as_deref(),
        Some("r-1")
    );
}
