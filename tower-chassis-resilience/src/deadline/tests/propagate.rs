//! The client's end.

use std::sync::Mutex;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use proptest::prelude::*;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{Deadline, Invocation};

use super::*;
use crate::{
    deadline::dialect,
    retry::{RetryConfig, RetryLayer, RetryPolicy},
};

/// Answers what went over the wire: one of the two.
fn wire<Req: Carrier>()
-> impl Service<Req, Response = (&'static str, String), Error = BoxError, Future: Send> + Clone {
    service_fn(|request: Req| {
        let one = |name| request.meta(name).map(|value| (name, value.to_owned()));
        let told = match (one("grpc-timeout"), one("x-request-timeout-ms")) {
            (Some(_), Some(_)) => Err("both".into()),
            (one, other) => one.or(other).ok_or_else(|| BoxError::from("none")),
        };
        std::future::ready(told)
    })
}

fn with_deadline<Req: Carrier>(mut request: Req, left: Duration) -> Req {
    let deadline = Deadline::after(Instant::now(), left);
    request.invocation_mut().limit_deadline(deadline);
    request
}

#[tokio::test(start_paused = true)]
async fn what_is_left_goes_out_in_the_terms_of_the_protocol() {
    const OWN: &str = "x-request-timeout-ms";
    let service = DeadlineLayer::propagate(policy()).layer(wire());
    for (headers, left, expected) in [
        (&[][..], None, (OWN, "995")),
        (&[], Some(ms(2_000)), (OWN, "1995")),
        (&[], Some(ms(60_000)), (OWN, "9995")),
        (&[], Some(ms(200)), (OWN, "198")),
        (&[], Some(Duration::from_micros(50_999)), (OWN, "50")),
        (&[], Some(Duration::from_micros(1_011)), (OWN, "1")),
        (&[GRPC], None, ("grpc-timeout", "995000u")),
        (&[GRPC], Some(ms(50)), ("grpc-timeout", "49500000n")),
        (
            &[GRPC],
            Some(Duration::from_nanos(1)),
            ("grpc-timeout", "1n"),
        ),
    ] {
        let mut request = request(headers);
        if let Some(left) = left {
            request = with_deadline(request, left);
        }
        let (name, value) = service.clone().oneshot(request).await.unwrap();
        assert_eq!((name, &*value), expected, "{headers:?} {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_left_nothing_is_sent() {
    let layer = DeadlineLayer::propagate(policy());
    let service = layer.layer(service_fn(
        |_: Request<()>| -> std::future::Ready<Result<(), BoxError>> { panic!("sent") },
    ));
    for (headers, left) in [
        (&[][..], Duration::ZERO),
        (&[], Duration::from_micros(999)),
        (&[GRPC], Duration::ZERO),
        (&[("x-request-timeout-ms", "0")], ms(500)),
        (&[GRPC, ("grpc-timeout", "0S")], ms(500)),
    ] {
        let request = with_deadline(request(headers), left);
        let error = service.clone().oneshot(request).await.unwrap_err();
        assert_eq!(kind(&error), Kind::DeadlineExceeded, "{headers:?} {left:?}");
    }
    let request = with_deadline(request(&[]), ms(20));
    tokio::time::advance(ms(30)).await;
    let error = service.oneshot(request).await.unwrap_err();
    assert_eq!(kind(&error), Kind::DeadlineExceeded, "it passed");
}

#[tokio::test(start_paused = true)]
async fn a_nearer_time_that_the_caller_wrote_counts() {
    let seen = service_fn(async |request: Request<()>| {
        Ok::<_, BoxError>((left(&request).unwrap(), request))
    });
    let service = DeadlineLayer::propagate(policy()).layer(seen);
    for (headers, own, expected, told) in [
        (
            &[GRPC, ("grpc-timeout", "200m")][..],
            Some(ms(5_000)),
            200,
            "198000u",
        ),
        (&[GRPC, ("grpc-timeout", "200m")], None, 200, "198000u"),
        (&[GRPC, ("grpc-timeout", "3S")], None, 3_000, "2995000u"),
        (
            &[GRPC, ("grpc-timeout", "3S")],
            Some(ms(2_000)),
            2_000,
            "1995000u",
        ),
        (&[GRPC, ("grpc-timeout", "1H")], None, 10_000, "9995000u"),
        (&[GRPC, ("grpc-timeout", "soon")], None, 1_000, "995000u"),
    ] {
        let mut request = request(headers);
        if let Some(own) = own {
            request = with_deadline(request, own);
        }
        let (left, request) = service.clone().oneshot(request).await.unwrap();
        assert_eq!(left, ms(expected), "{headers:?} {own:?}");
        assert_eq!(
            request.meta("grpc-timeout"),
            Some(told),
            "{headers:?} {own:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_on_both_sides_of_another_takes_one_margin() {
    let layer = DeadlineLayer::propagate(policy());
    let once = layer.layer(wire());
    let twice = layer.layer(layer.layer(wire()));
    for headers in [&[][..], &[GRPC]] {
        for left in [1_500, 777_777, 99_999_999, 100_000_001, 1_234_567_890] {
            let left = Duration::from_nanos(left);
            let one = once
                .clone()
                .oneshot(with_deadline(request(headers), left))
                .await;
            let two = twice
                .clone()
                .oneshot(with_deadline(request(headers), left))
                .await;
            match (one, two) {
                (Ok(one), Ok(two)) => assert_eq!(one, two),
                (one, two) => assert!(one.is_err() && two.is_err(), "{left:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_call_ends_in_time_also_where_the_protocol_tells_nobody() {
    struct Silent(Extensions);
    impl Carrier for Silent {
        fn extensions(&self) -> &Extensions {
            &self.0
        }
        fn extensions_mut(&mut self) -> &mut Extensions {
            &mut self.0
        }
    }
    let never = service_fn(async |_: Silent| std::future::pending::<Result<(), BoxError>>().await);
    let service = DeadlineLayer::propagate(policy()).layer(never);
    let began = Instant::now();
    let error = service
        .oneshot(Silent(Extensions::new()))
        .await
        .unwrap_err();
    assert_eq!((kind(&error), began.elapsed()), (Kind::Timeout, ms(995)));
}

/// As tonic's channel does it.
#[tokio::test(start_paused = true)]
async fn a_transport_that_reads_the_deadline_too_does_not_end_the_call_first() {
    let transport = service_fn(async |request: Request<()>| {
        let told = request.meta("grpc-timeout").unwrap();
        let told = Deadline::parse_grpc_timeout(told).unwrap();
        tokio::time::sleep(told).await;
        Err::<(), _>(BoxError::from("expired"))
    });
    let layer = DeadlineLayer::propagate(policy());
    let began = Instant::now();
    let error = layer
        .layer(transport)
        .oneshot(request(&[GRPC]))
        .await
        .unwrap_err();
    assert_eq!((kind(&error), began.elapsed()), (Kind::Timeout, ms(995)));
}

#[tokio::test(start_paused = true)]
async fn a_protocol_of_ones_own_is_told() {
    let service = DeadlineLayer::propagate(policy()).layer(wire());
    let frame = with_deadline(Frame::default(), ms(300));
    let told = service.clone().oneshot(frame).await.unwrap();
    assert_eq!(told, ("x-request-timeout-ms", "297".to_owned()));
    let mut frame = with_deadline(Frame::default(), ms(300));
    frame
        .meta
        .insert("content-type", "application/grpc+own".into());
    let told = service.oneshot(frame).await.unwrap();
    assert_eq!(told, ("grpc-timeout", "297000u".to_owned()));
}

/// An upstream that fails each attempt after `takes`: when each began, and what it was told.
async fn attempts(
    inner: bool,
    takes: Duration,
) -> (Vec<(Duration, u64)>, Result<StatusCode, Kind>) {
    let began = Instant::now();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    let upstream = service_fn(move |request: Request<Full<Bytes>>| {
        let told = request.meta("x-request-timeout-ms").unwrap();
        sees.lock()
            .unwrap()
            .push((began.elapsed(), told.parse().unwrap()));
        async move {
            tokio::time::sleep(takes).await;
            let response = Response::builder()
                .status(503)
                .body(Full::<Bytes>::default())?;
            Ok::<_, BoxError>(response)
        }
    });
    let layer = DeadlineLayer::propagate(policy());
    let retry = RetryConfig {
        attempts: 5,
        ..RetryConfig::default()
    };
    let retry = RetryLayer::new(RetryPolicy::try_from(retry).unwrap()).clone_body();
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .layer(retry.seed(1))
        .option_layer(inner.then_some(layer))
        .service(upstream);
    let request = Request::get("/").body(Full::default()).unwrap();
    let result = service.oneshot(request).await;
    let result = result.map(|response| response.status());
    let seen = seen.lock().unwrap().clone();
    (seen, result.map_err(|error| kind(&error)))
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline() {
    // An attempt that outlasts the deadline is the last one.
    let (seen, result) = attempts(true, ms(400)).await;
    assert_eq!(result, Err(Kind::Timeout));
    assert!((2..=3).contains(&seen.len()), "{seen:?}");
    assert!(seen.iter().all(|(at, _)| *at < ms(1_000)), "{seen:?}");
    // The wait before another would: the last answer comes, before the time is up.
    let (seen, result) = attempts(true, ms(990)).await;
    assert_eq!(
        (seen.len(), result),
        (1, Ok(StatusCode::SERVICE_UNAVAILABLE))
    );
    // All of them fit.
    let (seen, result) = attempts(true, ms(1)).await;
    assert!(seen.len() > 1, "{seen:?}");
    assert_eq!(result, Ok(StatusCode::SERVICE_UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_what_is_left_then() {
    // With a layer around each attempt, and by the retry alone.
    for inner in [true, false] {
        let (seen, _) = attempts(inner, ms(200)).await;
        assert!(seen.len() > 2, "{seen:?}");
        for (at, told) in seen {
            let left = ms(1_000) - at;
            assert_eq!(ms(told), dialect::promise(left, false), "{at:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_below_reads_the_deadline() {
    let service =
        DeadlineLayer::propagate(policy()).layer(service_fn(async |request: Request<()>| {
            Ok::<_, BoxError>(request.invocation().and_then(Invocation::deadline))
        }));
    let deadline = service.oneshot(request(&[])).await.unwrap().unwrap();
    assert_eq!(deadline.remaining(Instant::now()), Some(ms(1_000)));
}

proptest! {
    #[test]
    fn a_promise_is_less_than_what_is_left_by_the_margin_and_the_rounding(
        left in prop_oneof![0..2_000_000_000_u64, any::<u64>()],
        grpc in any::<bool>(),
    ) {
        let left = Duration::from_nanos(left);
        let margin = (left / 100).min(ms(5));
        let promise = dialect::promise(left, grpc);
        prop_assert!(promise <= left - margin);
        // Above 100,000 s gRPC counts in seconds.
        if left < Duration::from_secs(99_999) {
            prop_assert!(left - margin - promise < ms(1));
        }
    }

    #[test]
    fn the_other_end_never_gets_more(
        left in 0..20_000_000_000_u64,
        grpc in any::<bool>(),
    ) {
        let left = Duration::from_nanos(left);
        let mut request = request(if grpc { &[GRPC][..] } else { &[] });
        if let Some(promise) = dialect::write(&mut request, left, grpc) {
            let read = dialect::read(&request, false).unwrap().unwrap();
            prop_assert_eq!(read, promise);
            prop_assert!(read <= left && !read.is_zero());
        } else {
            prop_assert!(left < ms(2));
            prop_assert_eq!(dialect::read(&request, false).unwrap(), None);
        }
    }

    #[test]
    fn no_text_is_too_odd(text in ".{0,24}", grpc in any::<bool>()) {
        let mut frame = Frame::default();
        frame.meta.insert("grpc-timeout", text.clone());
        frame.meta.insert("x-request-timeout-ms", text.clone());
        frame.meta.insert("x-envoy-expected-rq-timeout-ms", text.clone());
        if grpc {
            frame.meta.insert("content-type", "application/grpc".into());
        }
        let read = dialect::read(&frame, true);
        // No text is both.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        prop_assert_eq!(read.is_ok(), digits && !grpc);
    }
}
