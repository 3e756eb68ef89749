use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Response;
use http_body_util::BodyExt;
use tokio::time;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Events, Kind, Live, Rejection, Verdict, cause, clock,
    events::{Event, Received},
};
use tower_layer::Layer;

use super::{super::BreakerLayer, *};

type Res = Result<Response<Body>, Infallible>;

fn strict() -> BreakerPolicy {
    BreakerPolicy::default()
        .with(|config| config.consecutive_failures = 2)
        .unwrap()
}

async fn answer(status: u16) -> Res {
    Ok(Response::builder()
        .status(status)
        .body(Body::from("hello"))
        .unwrap())
}

/// Never answers 0, answers other numbers with that status.
async fn answer_or_hang(status: u16) -> Res {
    if status == 0 {
        std::future::pending::<()>().await;
    }
    answer(status).await
}

/// Panics at 1, answers other numbers with that status.
async fn answer_or_panic(status: u16) -> Res {
    assert_ne!(status, 1, "planted");
    answer(status).await
}

async fn send<S>(service: &S, status: u16) -> Result<S::Response, BoxError>
where
    S: Service<u16, Error = BoxError> + Clone,
{
    service.clone().oneshot(status).await
}

fn kind(error: &BoxError) -> Kind {
    Rejection::find(&**error).unwrap().kind()
}

#[tokio::test(start_paused = true)]
async fn a_whole_turn_through_a_service() {
    let events = Events::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    events.listen(move |event| {
        log.lock().unwrap().push(match event {
            Event::Breaker {
                name, to, reason, ..
            } => format!("{name} {to} {reason}"),
            Event::Refused {
                layer, name, kind, ..
            } => format!(
                "{layer} {} {}",
                name.as_deref().unwrap_or("-"),
                kind.as_str()
            ),
            Event::Ejected {
                name,
                reason,
                shut_for,
                ..
            } => format!("{name} ejected {reason} {}", shut_for.as_millis()),
            _ => String::from("?"),
        });
    });
    let gate = Gate::new();
    let layer = BreakerLayer::new(strict())
        .named("stock")
        .events(events)
        .gate(gate.clone())
        .seed(1);
    let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
    for _ in 0..2 {
        assert_eq!(send(&service, 503).await.unwrap().status(), 503);
    }
    assert_eq!(handle.state(), State::Open);
    let left = handle.snapshot().remaining.unwrap();
    let ejected = format!(
        "stock ejected consecutive-failures {}",
        handle.snapshot().open_for.unwrap().as_millis()
    );
    assert_eq!(
        gate.opens_in(Instant::now()).unwrap().as_micros(),
        left.as_micros()
    );
    let error = send(&service, 200).await.unwrap_err();
    let rejection = Rejection::find(&*error).unwrap();
    assert_eq!(
        (rejection.kind(), rejection.layer()),
        (Kind::CircuitOpen, "breaker")
    );
    assert_eq!(rejection.retry_after(), Some(left));
    time::advance(left).await;
    for _ in 0..3 {
        send(&service, 200).await.unwrap();
    }
    assert_eq!(handle.state(), State::Closed);
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "stock open consecutive-failures",
            &ejected,
            "breaker stock circuit-open",
            "stock half-open open-time-over",
            "stock closed probes-succeeded",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_asks_for_a_pause_gets_it() {
    async fn later(seconds: u16) -> Res {
        let response = Response::builder()
            .status(if seconds == 0 { 200 } else { 429 })
            .header("retry-after", seconds.to_string());
        Ok(response.body(Body::empty()).unwrap())
    }
    let policy = strict()
        .with(|config| config.open_on_retry_after = true)
        .unwrap();
    let layer = BreakerLayer::new(policy).gate(Gate::new());
    let (handle, service) = (layer.handle(), layer.layer(service_fn(later)));
    send(&service, 0).await.unwrap();
    assert_eq!(
        handle.state(),
        State::Closed,
        "a success may say what it likes"
    );
    assert_eq!(send(&service, 77).await.unwrap().status(), 429);
    let error = send(&service, 0).await.unwrap_err();
    let left = Rejection::find(&*error).unwrap().retry_after();
    assert_eq!(left, Some(Duration::from_secs(77)));
    handle.reset();
    handle
        .update(|config| config.open_on_retry_after = false)
        .unwrap();
    send(&service, 77).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_closure_may_open_it_and_may_panic() {
    let layer = BreakerLayer::new(strict()).trip_on(|verdict| match verdict.http_status() {
        Some(503) => Some(Duration::from_secs(7)),
        Some(599) => panic!("planted"),
        _ => None,
    });
    let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
    send(&service, 200).await.unwrap();
    send(&service, 503).await.unwrap();
    assert_eq!(handle.snapshot().open_for, Some(Duration::from_secs(7)));
    time::advance(Duration::from_secs(7)).await;
    // The permit of a probe comes back.
    let panicked = tokio::spawn(async move { send(&service, 599).await.is_ok() }).await;
    assert!(panicked.unwrap_err().is_panic());
    assert_eq!((handle.state(), handle.probes()), (State::HalfOpen, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_is_told_and_ends() {
    let events = Events::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    events.listen(move |event| {
        log.lock().unwrap().push(match event {
            Event::Breaker { to, reason, .. } => format!("{to} {reason}"),
            Event::BreakerWouldOpen { reason, .. } => format!("would {reason}"),
            Event::BreakerForced { mode, lasts, .. } => format!("{mode} {lasts:?}"),
            Event::Ejected { reason, .. } => format!("ejected {reason}"),
            Event::Refused { .. } => String::from("refused"),
            _ => String::from("?"),
        });
    });
    let minute = Duration::from_secs(60);
    let layer = BreakerLayer::new(strict()).events(events).gate(Gate::new());
    let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
    let told = || std::mem::take(&mut *heard.lock().unwrap());

    handle.force(Mode::ForcedOpen, None);
    let error = send(&service, 200).await.unwrap_err();
    assert_eq!(
        Rejection::find(&*error).unwrap().retry_after(),
        None,
        "who knows"
    );
    assert_eq!(told(), ["forced-open None", "open forced", "refused"]);
    handle.force(Mode::ForcedOpen, Some(minute));
    send(&service, 200).await.unwrap_err();
    time::advance(minute).await;
    send(&service, 200).await.unwrap();
    assert_eq!(
        told(),
        [
            "forced-open Some(60s)",
            "refused",
            "auto None",
            "half-open open-time-over"
        ]
    );
    handle.force(Mode::ObserveOnly, Some(minute));
    for _ in 0..4 {
        send(&service, 500).await.unwrap();
    }
    assert_eq!(
        told(),
        [
            "observe-only Some(60s)",
            "closed forced",
            "would consecutive-failures"
        ]
    );
    time::advance(minute).await;
    for _ in 0..2 {
        send(&service, 500).await.unwrap();
    }
    assert_eq!(
        told(),
        [
            "auto None",
            "open consecutive-failures",
            "ejected consecutive-failures"
        ]
    );
    handle.force(Mode::Disabled, None);
    handle.reset();
    assert_eq!(
        told(),
        [
            "disabled None",
            "disabled forced",
            "auto None",
            "closed reset"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn slowness_is_that_of_the_head_and_not_of_the_reader() {
    let policy = strict()
        .with(|config| {
            config.slow_call = Duration::from_secs(1);
            config.minimum_calls = 2;
        })
        .unwrap();
    let layer = BreakerLayer::new(policy).until_end();
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |seconds: u16| {
        time::sleep(Duration::from_secs(seconds.into())).await;
        answer(200).await
    }));
    for _ in 0..4 {
        let response = send(&service, 0).await.unwrap();
        time::advance(Duration::from_secs(2)).await;
        response.into_body().collect().await.unwrap();
    }
    assert_eq!((handle.state(), handle.snapshot().slow), (State::Closed, 0));
    time::advance(Duration::from_secs(60)).await;
    for _ in 0..2 {
        drop(send(&service, 2).await.unwrap());
    }
    assert_eq!(handle.state(), State::Open);
}

/// A success that is answered in its first poll is counted without a second look at the clock; what waited, and
/// what failed, is counted when it ended.
#[tokio::test(start_paused = true)]
async fn one_reading_of_the_clock_for_an_answer_at_once() {
    for (status, readings) in [(200, 1), (404, 1), (500, 2)] {
        let layer = BreakerLayer::new(BreakerPolicy::default());
        let mut service = layer.layer(service_fn(answer));
        service.ready().await.unwrap();
        let before = clock::readings();
        service.call(status).await.unwrap();
        assert_eq!(clock::readings() - before, readings, "{status}");
        assert_eq!(layer.handle().snapshot().total, 1);
    }
    let policy = BreakerPolicy::default()
        .with(|config| config.window = Duration::from_secs(1))
        .unwrap();
    for until_end in [false, true] {
        let layer = BreakerLayer::new(policy.clone());
        let handle = layer.handle();
        let slow = service_fn(async |_: u16| {
            time::sleep(Duration::from_secs(5)).await;
            answer(200).await
        });
        if until_end {
            let at_once = layer.until_end().layer(service_fn(answer));
            let response = send(&at_once, 200).await.unwrap();
            time::advance(Duration::from_secs(5)).await;
            response.into_body().collect().await.unwrap();
        } else {
            send(&layer.layer(slow), 200).await.unwrap();
        }
        assert_eq!(handle.snapshot().total, 1, "it ended now");
    }
}

#[test]
fn a_call_and_a_circuit_are_small() {
    assert_eq!(size_of::<Option<crate::breaker::Ticket>>(), 24);
    let circuit = size_of::<Circuit>();
    assert!(circuit <= 900, "{circuit}");
}

#[tokio::test(start_paused = true)]
async fn layered_many_times_it_is_one_breaker() {
    let layer = BreakerLayer::new(strict());
    let services: Vec<_> = (0..5)
        .map(|_| layer.clone().layer(service_fn(answer)))
        .collect();
    send(&services[0], 500).await.unwrap();
    send(&services[1], 500).await.unwrap();
    for service in &services {
        assert_eq!(
            kind(&send(service, 200).await.unwrap_err()),
            Kind::CircuitOpen
        );
    }
    let fresh = layer.fresh().layer(service_fn(answer));
    send(&fresh, 200).await.unwrap();
    layer.handle().reset();
    for service in &services {
        send(service, 200).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shut_breaker_does_not_wait_for_its_inner_service() {
    let polled = Arc::new(AtomicUsize::new(0));
    #[derive(Clone)]
    struct Dead(Arc<AtomicUsize>);
    impl Service<u16> for Dead {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Res>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        }
        fn call(&mut self, _: u16) -> Self::Future {
            unreachable!("never ready")
        }
    }
    let layer = BreakerLayer::new(strict());
    let live = layer.layer(service_fn(answer));
    let dead = layer.layer(Dead(Arc::clone(&polled)));
    for _ in 0..2 {
        send(&live, 500).await.unwrap();
    }
    let refused = time::timeout(Duration::from_secs(1), send(&dead, 200)).await;
    assert_eq!(kind(&refused.unwrap().unwrap_err()), Kind::CircuitOpen);
    assert_eq!(polled.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_timeout_cuts_off_count_and_cancelled_ones_do_not() {
    for (timeout, opens) in [(true, true), (false, false)] {
        let layer = BreakerLayer::new(strict());
        let service = layer.layer(service_fn(answer_or_hang));
        for _ in 0..2 {
            let mut call = Box::pin(send(&service, 0));
            assert!(
                time::timeout(Duration::from_secs(1), &mut call)
                    .await
                    .is_err()
            );
            if timeout {
                cause::drop_with(Verdict::TIMEOUT, || drop(call));
            } else {
                drop(call);
            }
        }
        assert_eq!(layer.handle().state() == State::Open, opens);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_at_any_point_gives_its_permit_back() {
    let policy = strict().with(|config| config.half_open_probes = 1).unwrap();
    let layer = BreakerLayer::new(policy).until_end();
    let mut service = layer.layer(service_fn(answer_or_hang));
    let handle = layer.handle();
    for _ in 0..2 {
        drop(send(&service, 500).await.unwrap());
    }
    time::advance(handle.snapshot().remaining.unwrap()).await;
    // Readied and not called.
    let mut readied = service.clone();
    readied.ready().await.unwrap();
    drop(readied);
    // Called and never polled.
    drop(service.ready().await.unwrap().call(200));
    assert_eq!(handle.state(), State::HalfOpen);
    // Polled once.
    let mut call = Box::pin(send(&service, 0));
    assert!(
        time::timeout(Duration::from_secs(1), &mut call)
            .await
            .is_err()
    );
    assert_eq!(
        kind(&send(&service, 200).await.unwrap_err()),
        Kind::CircuitOpen
    );
    drop(call);
    // Its body begun and dropped.
    let hangs = layer.layer(service_fn(async |_: u16| {
        Ok::<_, Infallible>(Response::new(Hangs(false)))
    }));
    let mut body = send(&hangs, 200).await.unwrap().into_body();
    assert!(body.frame().await.is_some());
    assert_eq!(
        kind(&send(&service, 200).await.unwrap_err()),
        Kind::CircuitOpen
    );
    drop(body);
    assert_eq!(handle.state(), State::HalfOpen);
    // Read to its end.
    send(&service, 200)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(handle.state(), State::Closed);
}

/// One frame, then nothing for ever.
struct Hangs(bool);

impl http_body::Body for Hangs {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(
            b"one",
        )))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_below_fails_the_probe() {
    let policy = strict()
        .with(|config| config.consecutive_failures = 1)
        .unwrap();
    let layer = BreakerLayer::new(policy);
    let service = layer.layer(service_fn(answer_or_panic));
    let joined = tokio::spawn(async move { send(&service, 1).await.is_ok() }).await;
    assert!(joined.unwrap_err().is_panic());
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_there_is_a_future_counts_too() {
    fn at_once(_: u16) -> std::future::Ready<Res> {
        panic!("planted")
    }
    let policy = strict()
        .with(|config| config.consecutive_failures = 1)
        .unwrap();
    let layer = BreakerLayer::new(policy);
    let service = layer.layer(service_fn(at_once));
    let joined = tokio::spawn(async move { send(&service, 1).await.is_ok() }).await;
    assert!(joined.unwrap_err().is_panic());
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn until_end_counts_what_the_trailers_say() {
    let layer = BreakerLayer::new(strict()).until_end();
    let service = layer.layer(service_fn(async |_: u16| {
        let trailers =
            http::HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]);
        let body = http_body_util::Full::new(bytes::Bytes::from_static(b"x"));
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        let response = Response::builder()
            .header("content-type", "application/grpc")
            .body(body);
        Ok::<_, Infallible>(response.unwrap())
    }));
    for _ in 0..2 {
        assert_eq!(layer.handle().state(), State::Closed);
        send(&service, 200)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
    }
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn settings_are_live_and_bad_ones_are_refused() {
    let live = Live::new(strict());
    let (one, two) = (
        BreakerLayer::new(live.clone()),
        BreakerLayer::new(live.clone()).named("two"),
    );
    let handle = two.handle();
    handle
        .update(|config| config.consecutive_failures = 1)
        .unwrap();
    assert_eq!(
        handle
            .update(|config| config.window = Duration::ZERO)
            .unwrap_err()
            .field(),
        "window"
    );
    assert_eq!(
        handle.config().load().config().window,
        Duration::from_secs(10)
    );
    let service = one.layer(service_fn(answer));
    send(&service, 500).await.unwrap();
    assert_eq!(one.handle().state(), State::Open);
    assert_eq!(format!("{handle:?}"), r#"BreakerHandle("two", Closed)"#);
}

#[tokio::test(start_paused = true)]
async fn any_request_and_response_by_a_closure() {
    let layer =
        BreakerLayer::new(strict()).classify_fn(|result: Result<&u32, &Infallible>| match result {
            Ok(0) => Verdict::FAILURE,
            _ => Verdict::SUCCESS,
        });
    let service = layer.layer(service_fn(async |n: u16| Ok::<_, Infallible>(u32::from(n))));
    for _ in 0..2 {
        send(&service, 0).await.unwrap();
    }
    assert!(send(&service, 1).await.is_err());
}

/// The deadline of a probe is for its head: how long a body is, and how fast it is read, says nothing.
#[tokio::test(start_paused = true)]
async fn probes_with_long_bodies_close_it_and_broken_ones_do_not() {
    let policy = BreakerPolicy::default()
        .with(|config| {
            config.consecutive_failures = 1;
            config.half_open_probes = 2;
            config.probe_timeout = Duration::from_secs(1);
            config.open_base = Duration::from_secs(1);
            config.open_max = Duration::from_secs(1);
        })
        .unwrap();
    let layer = BreakerLayer::new(policy).until_end();
    let handle = layer.handle();
    let service = layer.layer(service_fn(answer));

    send(&service, 500).await.unwrap();
    time::advance(Duration::from_millis(1_001)).await;
    let streams = [
        send(&service, 200).await.unwrap(),
        send(&service, 200).await.unwrap(),
    ];
    assert_eq!(
        kind(&send(&service, 200).await.unwrap_err()),
        Kind::CircuitOpen
    );
    assert_eq!(handle.state(), State::HalfOpen);
    time::advance(Duration::from_millis(1_001)).await;
    send(&service, 200).await.unwrap();
    assert_eq!(
        handle.state(),
        State::Closed,
        "both heads were good and in time"
    );
    // What became of the bodies is of an older generation.
    drop(streams);
    assert_eq!(handle.state(), State::Closed);

    send(&service, 500).await.unwrap();
    time::advance(Duration::from_millis(1_001)).await;
    let stream = send(&service, 200).await.unwrap();
    cause::drop_with(Verdict::FAILURE, || {
        let mut body = Box::pin(stream.into_body());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Read from, so that what drops it decides.
        assert!(http_body::Body::size_hint(&*body).exact() == Some(5));
        let _ = http_body::Body::poll_frame(body.as_mut(), &mut cx);
    });
    assert_eq!(
        handle.state(),
        State::HalfOpen,
        "read to its end, it is a success"
    );
}

#[tokio::test(start_paused = true)]
async fn an_ejection_is_told_once_for_each_opening_and_only_behind_a_gate() {
    for gate in [None, Some(Gate::new())] {
        let events = Events::new();
        let mut stream = events.subscribe(64);
        let layer = BreakerLayer::new(strict()).named("a").events(events);
        let layer = match &gate {
            Some(gate) => layer.gate(gate.clone()),
            None => layer,
        };
        let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
        for _ in 0..2 {
            send(&service, 500).await.unwrap();
        }
        send(&service, 500).await.unwrap_err();
        let first = handle.snapshot().open_for.unwrap();
        time::advance(first).await;
        // The probe fails: it opens again.
        send(&service, 500).await.unwrap();
        let second = handle.snapshot().open_for.unwrap();
        let mut ejected = Vec::new();
        while let Ok(received) = stream.try_recv() {
            if let Received::Event(event @ Event::Ejected { .. }) = received {
                ejected.push(event);
            }
        }
        let expected = match gate {
            Some(_) => vec![
                Event::ejected("a", "consecutive-failures", first),
                Event::ejected("a", "probe-failed", second),
            ],
            None => Vec::new(),
        };
        assert_eq!(ejected, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_neither_fails_the_call_nor_keeps_a_permit() {
    let events = Events::new();
    events.listen(|_| panic!("planted"));
    let policy = strict().with(|config| config.half_open_probes = 1).unwrap();
    let layer = BreakerLayer::new(policy).events(events).gate(Gate::new());
    let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
    for _ in 0..2 {
        assert_eq!(send(&service, 500).await.unwrap().status(), 500);
    }
    assert_eq!(
        kind(&send(&service, 200).await.unwrap_err()),
        Kind::CircuitOpen
    );
    time::advance(handle.snapshot().remaining.unwrap()).await;
    assert_eq!(send(&service, 200).await.unwrap().status(), 200);
    assert_eq!(handle.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_came_too_early_is_told_as_a_refusal() {
    let events = Events::new();
    let layer = BreakerLayer::new(strict())
        .named("a")
        .events(events.clone());
    let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
    for _ in 0..2 {
        send(&service, 500).await.unwrap();
    }
    let mut readied = service.clone();
    readied.ready().await.unwrap();
    // It closes between readiness and the call, which finds an inner service that nobody readied.
    handle.reset();
    let mut stream = events.subscribe(4);
    let error = readied.call(200).await.unwrap_err();
    let rejection = Rejection::find(&*error).unwrap();
    assert_eq!(
        (rejection.kind(), rejection.layer()),
        (Kind::CircuitOpen, "breaker")
    );
    let refused = Event::refused_by("breaker", "a", Kind::CircuitOpen);
    assert_eq!(stream.try_recv(), Ok(Received::Event(refused)));
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_asked_of_a_success_as_well() {
    let layer = BreakerLayer::new(strict())
        .trip_on(|verdict| (verdict.http_status() == Some(204)).then_some(Duration::from_secs(7)));
    let (handle, service) = (layer.handle(), layer.layer(service_fn(answer)));
    send(&service, 200).await.unwrap();
    assert_eq!(handle.state(), State::Closed);
    send(&service, 204).await.unwrap();
    assert_eq!(handle.snapshot().open_for, Some(Duration::from_secs(7)));
}
