use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Carrier, Class, Deadline, Events, Verdict, events::Event, invocation::Idempotent,
};

use super::*;
use crate::timeout::{TimeoutLayer, TimeoutPolicy};

async fn attempts(
    request: Request<Empty<Bytes>>,
    script: impl Fn() -> Answer + Send + Sync + 'static,
) -> usize {
    let upstream = Upstream::new(move |_| script());
    let _ = send(&layer(), &upstream, request).await;
    upstream.attempts()
}

fn request(method: &str, key: bool) -> Request<Empty<Bytes>> {
    let builder = Request::builder().method(method);
    let builder = if key {
        builder.header("idempotency-key", "a")
    } else {
        builder
    };
    builder.body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn method_by_outcome() {
    let requests = [
        "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH",
    ]
    .map(|method| (method, false));
    for (method, key) in requests
        .into_iter()
        .chain([("POST", true), ("PATCH", true)])
    {
        let idempotent = key || !["POST", "PATCH"].contains(&method);
        for (code, listed) in [
            (200, false),
            (404, false),
            (500, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            let expected = if listed && idempotent { 3 } else { 1 };
            assert_eq!(
                attempts(request(method, key), move || status(code)).await,
                expected,
                "{method} {code}"
            );
        }
        for (kind, unsent, again) in [
            (Kind::Unreachable, true, true),
            (Kind::CircuitOpen, true, true),
            (Kind::Reset, false, true),
            (Kind::Timeout, false, true),
            (Kind::Overloaded, false, false),
            (Kind::NoEndpoint, false, false),
            (Kind::DeadlineExceeded, false, false),
        ] {
            let expected = match kind {
                // One for nothing.
                Kind::Unreachable => 4,
                _ if unsent || (again && idempotent) => 3,
                _ => 1,
            };
            assert_eq!(
                attempts(request(method, key), move || reject(kind)).await,
                expected,
                "{method} {kind:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_result_comes_as_it_is_and_a_success_ends_it() {
    let upstream = Upstream::new(|n| status([503, 502, 504][n - 1]));
    let answer = send(&layer(), &upstream, get()).await.unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "text"
    );
    let upstream = Upstream::new(|n| status([503, 200][n - 1]));
    assert_eq!(
        send(&layer(), &upstream, get()).await.unwrap().status(),
        200
    );
    let upstream = Upstream::new(|n| {
        if n < 3 {
            status(503)
        } else {
            reject(Kind::Reset)
        }
    });
    assert!(send(&layer(), &upstream, get()).await.is_err());
}

/// An answer of HTTP or gRPC that may be tried again, with this header.
fn saying(name: &'static str, value: &str) -> Answer {
    let mut answer = with_header(503, name, value)?;
    if name.starts_with("grpc") {
        *answer.status_mut() = http::StatusCode::OK;
        let headers = answer.headers_mut();
        headers.insert("content-type", "application/grpc".parse()?);
        headers.insert("grpc-status", "14".parse()?);
    }
    Ok(answer)
}

#[tokio::test(start_paused = true)]
async fn the_service_says_when() {
    let date = |secs: i64| {
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let at = wall.checked_add_signed(secs).unwrap();
        // A date of any day will do, as long as the year is right enough: only its difference is read.
        format!(
            "{} {:02}:{:02}:{:02} GMT",
            day(at / 86_400),
            at / 3_600 % 24,
            at / 60 % 60,
            at % 60
        )
    };
    for (name, value, from, to) in [
        ("retry-after", "2".to_owned(), 2_000, 2_201),
        ("retry-after", "0".to_owned(), 1, 2),
        ("retry-after", date(10), 9_000, 11_001),
        ("retry-after", date(-10), 1, 2),
        ("retry-after", "soon".to_owned(), 0, 1_000),
        ("retry-after", "30".to_owned(), 30_000, 33_001),
        ("grpc-retry-pushback-ms", "40".to_owned(), 40, 40),
        ("grpc-retry-pushback-ms", "30000".to_owned(), 30_000, 30_000),
    ] {
        let header = value.clone();
        let upstream = Upstream::new(move |_| saying(name, &header));
        send(&layer(), &upstream, get()).await.unwrap();
        let gaps = upstream.gaps();
        assert_eq!(gaps.len(), 2, "{name} {value}");
        assert!(
            gaps.iter().all(|gap| (ms(from)..=ms(to)).contains(gap)),
            "{name} {value}: {gaps:?}"
        );
        if name == "retry-after" && value == "2" {
            assert_ne!(gaps[0], gaps[1], "jitter keeps clients apart");
        }
    }
    for (name, value) in [
        ("retry-after", "31"),
        ("retry-after", "99999999999999999999"),
        ("grpc-retry-pushback-ms", "-1"),
        ("grpc-retry-pushback-ms", "x"),
        ("grpc-retry-pushback-ms", "30001"),
    ] {
        let upstream = Upstream::new(move |_| saying(name, value));
        let start = Instant::now();
        assert_eq!(
            send(&layer(), &upstream, get()).await.unwrap().headers()[name],
            value
        );
        assert_eq!(
            (upstream.attempts(), start.elapsed()),
            (1, Duration::ZERO),
            "{name} {value}"
        );
    }
    for (value, attempts) in [("1", 3), ("2", 1)] {
        let upstream = Upstream::new(move |_| with_header(429, "retry-after", value));
        send(&layer(), &upstream, get()).await.unwrap();
        assert_eq!(upstream.attempts(), attempts);
    }
}

/// `Thu, 01 Jan 1970` of a day since then.
fn day(days: u64) -> String {
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut months = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ]
    .into_iter();
    let names = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut month = 0;
    while let Some(len) = months.next().filter(|len| left >= *len) {
        left -= len;
        month += 1;
    }
    format!("Thu, {:02} {} {year}", left + 1, names[month])
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    for (left, attempts) in [(3_000, 2), (1_900, 1)] {
        let upstream = Upstream::new(|_| with_header(503, "retry-after", "2"));
        let mut request = get();
        request
            .invocation_mut()
            .limit_deadline(Deadline::after(Instant::now(), ms(left)));
        let start = Instant::now();
        let answer = send(&layer(), &upstream, request).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), upstream.attempts()),
            (503, attempts)
        );
        assert!(start.elapsed() < ms(left));
    }
    let upstream = Upstream::always(503);
    let mut request = get();
    request
        .invocation_mut()
        .limit_deadline(Deadline::at(Instant::now()));
    send(&layer(), &upstream, request).await.unwrap();
    assert_eq!(upstream.attempts(), 1, "it has passed");
}

#[tokio::test(start_paused = true)]
async fn waits_grow_and_a_pushback_begins_them_again() {
    let config = RetryConfig {
        attempts: 5,
        budget_min_per_second: 1e6,
        ..RetryConfig::default()
    };
    let upstream = Upstream::new(|n| match n {
        3 => saying("grpc-retry-pushback-ms", "7"),
        _ => status(503),
    });
    let mut sums = [Duration::ZERO; 4];
    for seed in 0..100 {
        upstream.seen.lock().unwrap().clear();
        let layer = RetryLayer::new(policy(config.clone())).seed(seed);
        send(&layer, &upstream, get()).await.unwrap();
        for (sum, gap) in sums.iter_mut().zip(upstream.gaps()) {
            *sum += gap;
        }
    }
    assert_eq!(sums[2], ms(700));
    assert!(sums[1] > sums[0], "{sums:?}");
    assert!(sums[3] < sums[1], "{sums:?}");
}

/// Records what each attempt finds, and notes an endpoint of its own, as a balancer does.
fn tracking(log: &Arc<Mutex<Vec<String>>>) -> Upstreamish {
    let log = Arc::clone(log);
    Arc::new(move |request: &Request<ReplayBody<Empty<Bytes>>>| {
        let Some(invocation) = request.invocation() else {
            log.lock().unwrap().push("none".into());
            return;
        };
        let attempt = invocation.attempt();
        let tried: Vec<_> = (11..15).filter(|key| invocation.has_tried(*key)).collect();
        log.lock().unwrap().push(format!("{attempt} {tried:?}"));
        invocation.note_endpoint(10 + u64::from(attempt));
    })
}

type Upstreamish = Arc<dyn Fn(&Request<ReplayBody<Empty<Bytes>>>) + Send + Sync>;

#[tokio::test(start_paused = true)]
async fn each_attempt_knows_its_number_and_what_was_tried() {
    let run = async |layer: RetryLayer, request: Request<Empty<Bytes>>| {
        let log = Arc::default();
        let note = tracking(&log);
        let inner = service_fn(move |request| {
            note(&request);
            std::future::ready(status(503))
        });
        layer.layer(inner).oneshot(request).await.unwrap();
        Arc::try_unwrap(log).map_or_else(
            |log| log.lock().unwrap().clone(),
            |log| log.into_inner().unwrap(),
        )
    };
    let mut with = get();
    with.invocation_mut().set_service("users".into());
    let expected = ["1 []", "2 [11]", "3 [11, 12]"];
    assert_eq!(run(layer(), with).await, expected);
    assert_eq!(run(layer(), get()).await, expected);
    assert_eq!(run(layer().untracked(), get()).await, ["none"; 3]);
    // Below another retry, its numbers go on.
    let below = RetryLayer::new(policy(RetryConfig {
        retry_under_retry: true,
        ..RetryConfig::default()
    }));
    let mut second = get();
    second.invocation_mut().set_attempt(2);
    assert_eq!(run(below, second).await, ["2 []", "3 [12]", "4 [12, 13]"]);
}

#[tokio::test(start_paused = true)]
async fn grpc_is_told_how_many_attempts_there_were() {
    let upstream = Upstream::new(|_| {
        let builder = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "14");
        Ok(builder.body(Body::empty()).unwrap())
    });
    let mut request = post(Empty::<Bytes>::new());
    request
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    request.extensions_mut().insert(Idempotent);
    send(&layer(), &upstream, request).await.unwrap();
    let seen = upstream.seen.lock().unwrap();
    let told: Vec<_> = seen
        .iter()
        .map(|seen| seen.headers.get("grpc-previous-rpc-attempts"))
        .collect();
    assert_eq!(
        told.iter()
            .map(|value| value.map(|v| v.to_str().unwrap()))
            .collect::<Vec<_>>(),
        [None, Some("1"), Some("2")]
    );
}

#[tokio::test(start_paused = true)]
async fn each_try_has_its_time_and_all_of_them_together() {
    let timeout = |after| TimeoutPolicy::new(ms(after)).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let stack = |total| {
        let calls = Arc::clone(&calls);
        ServiceBuilder::new()
            .layer(TimeoutLayer::total(timeout(total)))
            .layer(layer())
            .layer(TimeoutLayer::per_try(timeout(100)))
            .service(service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
                calls.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<Answer>()
            }))
    };
    let start = Instant::now();
    let error = stack(10_000).oneshot(get()).await.unwrap_err();
    assert!(Rejection::find(&*error).unwrap().is_timeout());
    assert_eq!(calls.swap(0, Ordering::Relaxed), 3);
    assert!((ms(300)..ms(500)).contains(&start.elapsed()));
    let start = Instant::now();
    assert!(stack(150).oneshot(get()).await.is_err());
    assert_eq!(
        (calls.swap(0, Ordering::Relaxed), start.elapsed()),
        (2, ms(150))
    );
    assert!(stack(10_000).oneshot(post(Empty::new())).await.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 1, "it may have been served");
}

#[tokio::test(start_paused = true)]
async fn a_classifier_has_the_say() {
    for (verdict, attempts) in [
        (Verdict::SUCCESS, 1),
        (Verdict::FAILURE, 3),
        (Verdict::new(Class::Unreachable), 3),
        (Verdict::CANCELLED, 1),
    ] {
        let upstream = Upstream::always(200);
        let layer = layer().classify_fn(move |_: Result<&Response<Body>, &BoxError>| verdict);
        send(&layer, &upstream, get()).await.unwrap();
        assert_eq!(upstream.attempts(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn events_and_counters() {
    let (events, log) = (Events::new(), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&log);
    events.listen(move |event| {
        heard.lock().unwrap().push(match event {
            Event::Retry {
                attempt, backoff, ..
            } => format!("{attempt} {}", backoff.as_secs()),
            other => format!("{other:?}"),
        });
    });
    let one = Budget::new(&tokens(1.0, 0.0));
    let layer = layer().budget(one).events(events);
    let upstream = Upstream::new(|_| saying("grpc-retry-pushback-ms", "2000"));
    send(&layer, &upstream, get()).await.unwrap();
    assert_eq!(*log.lock().unwrap(), ["2 2", "BudgetExhausted"]);
    assert_eq!(
        (layer.handle().retries(), layer.handle().exhausted()),
        (1, 1)
    );
    assert_eq!(layer.fresh().handle().retries(), 0);
}
