//! What is tried again beyond the list: words of the service, of the user, of the caller.

use tower::{ServiceExt, service_fn};
use tower_chassis_core::{Carrier, Deadline, Verdict};

use super::*;
use crate::deadline::{DeadlineLayer, DeadlinePolicy};

fn with(change: impl FnOnce(&mut RetryConfig)) -> RetryLayer {
    let mut config = RetryConfig {
        budget_min_per_second: 1e6,
        ..RetryConfig::default()
    };
    change(&mut config);
    RetryLayer::new(policy(config)).seed(7)
}

async fn made<R, C, B>(
    layer: &RetryLayer<R, C>,
    request: Request<B>,
    answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> usize
where
    RetryLayer<R, C>: Layer<Upstream>,
    <RetryLayer<R, C> as Layer<Upstream>>::Service:
        Service<Request<B>, Response = Response<Body>, Error = BoxError>,
{
    let upstream = Upstream::new(answer);
    let _ = send(layer, &upstream, request).await;
    upstream.attempts()
}

fn grpc(code: u16) -> Answer {
    Ok(Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", code)
        .body(Body::empty())?)
}

#[tokio::test(start_paused = true)]
async fn too_early_is_tried_again_once_whatever_it_is() {
    for request in [get(), post(Empty::<Bytes>::new())] {
        assert_eq!(made(&layer(), request, |_| status(425)).await, 2);
    }
    // What comes after it goes by the rules.
    let then_busy = |n| status(if n == 1 { 425 } else { 503 });
    assert_eq!(made(&layer(), get(), then_busy).await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_no_repeat_can_heal() {
    for code in [409, 501, 505, 511] {
        assert_eq!(made(&layer(), get(), move |_| status(code)).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn codes_and_methods_are_lists() {
    let internal = with(|config| config.grpc_codes = vec![13]);
    assert_eq!(made(&internal, get(), |_| grpc(13)).await, 3);
    assert_eq!(made(&internal, get(), |_| grpc(14)).await, 1);
    let posts = with(|config| config.methods = vec!["POST".into()]);
    assert_eq!(
        made(&posts, post(Empty::<Bytes>::new()), |_| status(503)).await,
        3
    );
    assert_eq!(made(&posts, get(), |_| status(503)).await, 1, "not named");
    posts.handle().config().set(RetryPolicy::default()).unwrap();
    assert_eq!(made(&posts, get(), |_| status(503)).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_rule_adds_and_takes_away() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let more = layer().retry_if(move |it| {
        log.lock().unwrap().push((it.attempt, it.again));
        it.again || it.verdict.http_status() == Some(500)
    });
    assert_eq!(made(&more, get(), |_| status(500)).await, 3);
    assert_eq!(*seen.lock().unwrap(), [(1, false), (2, false), (3, false)]);
    assert_eq!(made(&more, get(), |_| status(200)).await, 1);
    let fewer = layer().retry_if(|it| it.again && it.attempt < 2);
    assert_eq!(made(&fewer, get(), |_| status(503)).await, 2);
    let kinds = layer().retry_if(|it| it.kind == Some(Kind::Reset));
    let post = || post(Empty::<Bytes>::new());
    assert_eq!(made(&kinds, post(), |_| reject(Kind::Reset)).await, 3);
    assert_eq!(made(&kinds, post(), |_| reject(Kind::Unreachable)).await, 1);
    // Nobody overrules the service.
    let all = layer().retry_if(|_| true);
    let never = |_| {
        let mut answer = grpc(14)?;
        let headers = answer.headers_mut();
        headers.insert("grpc-retry-pushback-ms", "-1".parse()?);
        Ok(answer)
    };
    assert_eq!(made(&all, get(), never).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_never_left_us_is_tried_again_at_once_for_nothing() {
    let layer = layer().budget(Budget::new(&tokens(0.0, 0.0)));
    let upstream = Upstream::new(|n| match n {
        1 => reject(Kind::Unreachable),
        _ => status(200),
    });
    send(&layer, &upstream, post(Empty::<Bytes>::new()))
        .await
        .unwrap();
    let handle = layer.handle();
    assert_eq!((handle.retries(), handle.transparent()), (0, 1));
    assert_eq!(upstream.gaps(), [Duration::ZERO]);
    // Neither in the number that the next service is told.
    assert!(upstream.seen.lock().unwrap()[1].headers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_reached_all_of_it_needs_the_budget() {
    let layer = layer().budget(Budget::new(&tokens(0.0, 10.0)));
    let down = Upstream::new(|_| reject(Kind::Unreachable));
    let start = Instant::now();
    for _ in 0..500 {
        let _ = send(&layer, &down, get()).await;
    }
    let handle = layer.handle();
    let paid = handle.retries() as f64;
    assert!(
        paid <= 20.0 + 10.0 * start.elapsed().as_secs_f64() + 1.0,
        "{paid}"
    );
    // Eight attempts in a row that did not leave us, three of them for nothing.
    assert_eq!(handle.transparent(), 3);
    assert_eq!(down.attempts() as u64, 500 + 3 + handle.retries());
    // One that is reached after all makes them free again.
    tokio::time::advance(ms(10_000)).await;
    let back = Upstream::new(|n| match n % 2 {
        1 => reject(Kind::Unreachable),
        _ => status(200),
    });
    for _ in 0..50 {
        send(&layer, &back, get()).await.unwrap();
    }
    assert_eq!(handle.transparent(), 3 + 49, "the first had to pay");
}

#[tokio::test(start_paused = true)]
async fn under_a_retry_of_the_caller_nothing_is_tried_again() {
    let under = |attempt| {
        let mut request = get();
        request.invocation_mut().set_caller_attempt(attempt);
        request
    };
    let layer = layer();
    assert_eq!(made(&layer, under(1), |_| status(503)).await, 3);
    let upstream = Upstream::always(503);
    send(&layer, &upstream, under(2)).await.unwrap();
    assert_eq!(upstream.attempts(), 1);
    // The next service is told.
    let told = upstream.seen.lock().unwrap()[0].headers["x-chassis-attempt"].clone();
    assert_eq!(told, "2");
    assert_eq!(layer.handle().suppressed(), 1);
    // It is not wanted, so it is not missing in the budget either.
    let broke = layer.clone().budget(Budget::new(&tokens(0.0, 0.0)));
    assert_eq!(made(&broke, under(2), |_| status(503)).await, 1);
    let handle = broke.handle();
    assert_eq!((handle.suppressed(), handle.exhausted()), (1, 0));
    // What never left us is no load on anybody.
    assert_eq!(
        made(&layer, under(2), |_| reject(Kind::Unreachable)).await,
        2
    );
    // So it is where nothing is tried again in any case.
    let once = with(|config| config.attempts = 1);
    let upstream = Upstream::always(503);
    send(&once, &upstream, under(2)).await.unwrap();
    send(&once, &upstream, under(1)).await.unwrap();
    let told: Vec<_> = {
        let seen = upstream.seen.lock().unwrap();
        let told = seen.iter().map(|seen| &seen.headers);
        told.map(|headers| headers.contains_key("x-chassis-attempt"))
            .collect()
    };
    assert_eq!(told, [true, false]);
    let below = with(|config| config.retry_under_retry = true);
    assert_eq!(made(&below, under(2), |_| status(503)).await, 3);
    // In one process too.
    let mut second = get();
    second.invocation_mut().set_attempt(2);
    assert_eq!(made(&layer, second, |_| status(503)).await, 1);
}

/// Three services one above another, each of which tries three times.
#[tokio::test(start_paused = true)]
async fn a_chain_does_not_multiply() {
    fn hop(
        layer: RetryLayer,
        inner: impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let client = tower::util::BoxCloneSyncService::new(layer.rewrap::<Body>().layer(inner));
        let server = service_fn(move |incoming: Request<Body>| {
            let client = client.clone();
            async move {
                let mut outgoing = Request::get("/").body(Body::empty())?;
                if let Some(own) = incoming.invocation() {
                    own.carry(&mut outgoing);
                }
                client.oneshot(outgoing).await
            }
        });
        CallerAttemptLayer::trusting(|_: &Request<Body>| true).layer(server)
    }
    let leaf = Upstream::always(503);
    let chain = hop(layer(), hop(layer(), hop(layer(), leaf.clone())));
    chain
        .oneshot(Request::get("/").body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(leaf.attempts(), 1 + 2 * 3, "not 27");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_after_the_first_says_its_number() {
    let upstream = Upstream::always(503);
    send(&layer(), &upstream, get()).await.unwrap();
    let seen = upstream.seen.lock().unwrap();
    let told = seen.iter().map(|seen| {
        let told = seen.headers.get("x-chassis-attempt");
        told.map(|told| told.to_str().unwrap().to_owned())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [None, Some("2".to_owned()), Some("3".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_has_no_time_is_not_begun() {
    for (least, attempts) in [(10, 3), (80, 2), (200, 1)] {
        let layer = with(|config| {
            (config.backoff_base, config.backoff_max) = (ms(100), ms(100));
            config.jitter = Jitter::Exponential;
            config.min_attempt_time = ms(least);
        });
        let mut request = get();
        request
            .invocation_mut()
            .limit_deadline(Deadline::after(Instant::now(), ms(250)));
        let start = Instant::now();
        let upstream = Upstream::always(503);
        let answer = send(&layer, &upstream, request).await.unwrap();
        assert_eq!(answer.status(), 503, "the last result");
        assert_eq!(upstream.attempts(), attempts, "{least}");
        assert!(start.elapsed() <= ms(250 - least).max(ms(1)));
    }
}

/// What gRPC's A6 says of an attempt that ended so: (code, pushback), and whether and when there is another.
#[tokio::test(start_paused = true)]
async fn a6_the_table_of_answers() {
    let answer = |code: u16, pushback: Option<&'static str>| {
        move |_| {
            let mut answer = grpc(code)?;
            if let Some(pushback) = pushback {
                let headers = answer.headers_mut();
                headers.insert("grpc-retry-pushback-ms", pushback.parse()?);
            }
            Ok(answer)
        }
    };
    for (code, pushback, attempts, wait) in [
        (0, None, 1, None),
        (0, Some("10"), 1, None),
        // Not in the list of codes: a pushback does not make it so.
        (3, None, 1, None),
        (3, Some("10"), 1, None),
        // In the list.
        (14, None, 3, None),
        (14, Some("40"), 3, Some(40)),
        (14, Some("0"), 3, Some(1)),
        (14, Some("-1"), 1, None),
        (14, Some("soon"), 1, None),
        // The service is well and asks for less.
        (8, None, 1, None),
        (8, Some("70"), 3, Some(70)),
        (8, Some("-5"), 1, None),
        (1, None, 1, None),
        (4, None, 1, None),
    ] {
        let upstream = Upstream::new(answer(code, pushback));
        send(&layer(), &upstream, get()).await.unwrap();
        assert_eq!(upstream.attempts(), attempts, "{code} {pushback:?}");
        if let Some(wait) = wait {
            assert_eq!(upstream.gaps(), [ms(wait); 2], "{code} {pushback:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_counts_as_under_way_until_its_call_is_over() {
    let layer = layer().budget(Budget::default());
    let handle = layer.handle();
    let mut service = layer.layer(Upstream::always(503));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut futures: Vec<_> = (0..10)
        .map(|_| Box::pin(service_call(&mut service)))
        .collect();
    // Three of ten find a place.
    let ready = futures
        .iter_mut()
        .filter_map(|future| future.as_mut().poll(&mut cx).is_ready().then_some(()))
        .count();
    let there = handle.budget();
    assert_eq!((ready, there.retries, there.places), (7, 3, 3));
    assert_eq!(handle.exhausted(), 7);
    drop(futures);
    let there = handle.budget();
    assert_eq!((there.calls, there.retries), (0, 0));
}

fn service_call<S>(service: &mut S) -> S::Future
where
    S: Service<Request<Empty<Bytes>>, Response = Response<Body>, Error = BoxError>,
{
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    service.call(get())
}

/// Given up at every poll, whatever goes on: afterwards nothing is held.
#[tokio::test(start_paused = true)]
async fn given_up_at_any_poll_it_gives_back_its_places() {
    for kind in [None, Some(Kind::Unreachable), Some(Kind::Reset)] {
        for polls in 0..24 {
            let layer = layer();
            let upstream = Upstream::new(move |_| match kind {
                None => status(503),
                Some(kind) => reject(kind),
            })
            .reading(Reads::Beside);
            let mut future = Box::pin(service_call(&mut layer.layer(upstream)));
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut under_way = 0;
            for _ in 0..polls {
                if future.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                under_way = under_way.max(layer.handle().budget().retries);
                tokio::time::advance(ms(40)).await;
            }
            assert_eq!(
                layer.handle().budget().calls,
                u64::from(layer.handle().budget().calls > 0)
            );
            drop(future);
            let there = layer.handle().budget();
            assert_eq!((there.calls, there.retries), (0, 0), "{kind:?} {polls}");
            assert!(polls < 12 || under_way == 1, "{kind:?} {polls}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_back_what_is_held() {
    for at in [1, 2] {
        let layer = layer();
        let upstream = Upstream::new(move |n| {
            assert_ne!(n, at, "planted");
            status(503)
        });
        let service = layer.layer(upstream);
        let task = tokio::spawn(service.oneshot(get()));
        assert!(task.await.unwrap_err().is_panic());
        let there = layer.handle().budget();
        assert_eq!((there.calls, there.retries), (0, 0), "{at}");
    }
}

proptest::proptest! {
    /// `attempts <= originals * (1 + ratio) + min_per_second * elapsed + burst`, of the layer itself, for every pattern
    /// of calls and answers.
    #[test]
    fn attempts_stay_within_the_bound_for_every_pattern(
        ratio in 0u32..=500,
        rate in 0u32..=20,
        seed in 0u64..1_000,
        calls in proptest::collection::vec((0u64..200, 0usize..4), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (attempts, bound) = runtime.block_on(async {
            let layer = RetryLayer::new(policy(RetryConfig {
                attempts: 5,
                budget_ratio: f64::from(ratio) / 1_000.0,
                budget_min_per_second: f64::from(rate),
                budget_min_in_flight: 1_000,
                ..RetryConfig::default()
            })).seed(seed);
            let (start, originals) = (Instant::now(), calls.len() as f64);
            let made = Arc::new(AtomicUsize::new(0));
            let mut running = tokio::task::JoinSet::new();
            for (wait, failures) in calls {
                tokio::time::sleep(ms(wait)).await;
                let upstream = Upstream::new(move |n| status(if n <= failures { 503 } else { 200 }));
                let (layer, made) = (layer.clone(), Arc::clone(&made));
                running.spawn(async move {
                    let _ = send(&layer, &upstream, get()).await;
                    made.fetch_add(upstream.attempts(), Ordering::Relaxed);
                });
            }
            while running.join_next().await.is_some() {}
            let rate = f64::from(rate);
            let burst = if rate > 0.0 { (2.0 * rate).max(1.0) } else { 0.0 };
            let share = originals * (1.0 + f64::from(ratio) / 1_000.0);
            let bound = share + rate * start.elapsed().as_secs_f64() + burst;
            (made.load(Ordering::Relaxed) as f64, bound)
        });
        proptest::prop_assert!(attempts <= bound + 1e-6, "{attempts} > {bound}");
    }
}

#[test]
fn a_verdict_of_a_rule_is_copied() {
    // Eight bytes and three words: a rule is told by value.
    assert!(size_of::<Attempted>() <= 24 && size_of::<Verdict>() == 8);
}

/// A later attempt does not promise the time of the first.
#[tokio::test(start_paused = true)]
async fn each_attempt_tells_what_is_left_by_then() {
    for (kind, header) in [
        ("text/plain", "x-request-timeout-ms"),
        ("application/grpc", "grpc-timeout"),
    ] {
        let retry = with(|config| {
            config.backoff_base = ms(1_000);
            config.jitter = Jitter::Exponential;
        });
        let deadline = DeadlineLayer::propagate(DeadlinePolicy::default());
        let upstream = Upstream::always(503);
        let service = deadline.layer(retry.layer(upstream.clone()));
        let mut request = get();
        let headers = request.headers_mut();
        headers.insert("content-type", kind.parse().unwrap());
        let start = Instant::now();
        service.oneshot(request).await.unwrap();
        let seen = upstream.seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        for seen in &*seen {
            let text = seen.headers[header].to_str().unwrap();
            let told = match header {
                "grpc-timeout" => Deadline::parse_grpc_timeout(text),
                _ => Deadline::parse_millis(text),
            };
            let (told, left) = (told.unwrap(), ms(15_000) - (seen.at - start));
            assert!(told <= left && told + ms(7) >= left, "{told:?} of {left:?}");
        }
    }
    // What was promised by nobody is promised by nobody.
    let upstream = Upstream::always(503);
    let mut request = get();
    let deadline = Deadline::after(Instant::now(), ms(5_000));
    request.invocation_mut().limit_deadline(deadline);
    send(&layer(), &upstream, request).await.unwrap();
    let seen = upstream.seen.lock().unwrap();
    assert!(
        seen.len() == 3
            && seen
                .iter()
                .all(|seen| !seen.headers.contains_key("x-request-timeout-ms"))
    );
}
