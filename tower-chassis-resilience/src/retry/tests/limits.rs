use std::task::Waker;

use tower::service_fn;

use super::*;

/// A service that fails each call after some pending polls, and counts what is alive of it.
fn failing(alive: &Arc<()>, pends: usize, calls: &Arc<AtomicUsize>) -> impl Clone + Inner {
    let (alive, calls) = (Arc::clone(alive), Arc::clone(calls));
    service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
        let held = Arc::clone(&alive);
        calls.fetch_add(1, Ordering::Relaxed);
        async move {
            for _ in 0..pends {
                tokio::task::yield_now().await;
            }
            let body = Guarded {
                _held: held,
                frame: Some(Bytes::from("failed")),
            };
            Ok::<_, BoxError>(Response::builder().status(503).body(body).unwrap())
        }
    })
}

trait Inner:
    Service<Request<ReplayBody<Empty<Bytes>>>, Response = Response<Guarded>, Error = BoxError>
{
}
impl<S> Inner for S where
    S: Service<Request<ReplayBody<Empty<Bytes>>>, Response = Response<Guarded>, Error = BoxError>
{
}

/// A body that holds a connection.
struct Guarded {
    _held: Arc<()>,
    frame: Option<Bytes>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Ready(
            self.frame
                .take()
                .map(|bytes| Ok(http_body::Frame::data(bytes))),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn the_failed_response_is_gone_before_the_wait() {
    let (alive, calls) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
    let mut service = layer().layer(failing(&alive, 0, &calls));
    let idle = Arc::strong_count(&alive);
    let mut future = Box::pin(service.call(get()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert_eq!(
        (calls.load(Ordering::Relaxed), Arc::strong_count(&alive)),
        (1, idle)
    );
    let response = future.await.unwrap();
    assert_eq!(Arc::strong_count(&alive), idle + 1, "the last one");
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "failed"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_returns_the_response_whole() {
    let (alive, calls) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
    let layer = layer().budget(Budget::new(&tokens(0.5, 0.0)));
    // The first call pays half a token, the second the other half.
    for (expected, exhausted) in [(1, 1), (2, 2)] {
        calls.store(0, Ordering::Relaxed);
        let response = layer
            .layer(failing(&alive, 0, &calls))
            .call(get())
            .await
            .unwrap();
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "failed"
        );
        assert_eq!(
            (calls.load(Ordering::Relaxed), layer.handle().exhausted()),
            (expected, exhausted)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_poll_it_holds_nothing() {
    for pends in [0, 2] {
        for polls in 0..16 {
            let (alive, calls) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
            let mut service = layer().layer(failing(&alive, pends, &calls));
            let idle = Arc::strong_count(&alive);
            let mut future = Box::pin(service.call(get()));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if future.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                tokio::time::advance(ms(200)).await;
            }
            drop(future);
            assert_eq!(Arc::strong_count(&alive), idle, "{pends} {polls}");
            let made = calls.load(Ordering::Relaxed);
            tokio::time::advance(ms(5_000)).await;
            assert_eq!(
                calls.load(Ordering::Relaxed),
                made,
                "nothing goes on behind it"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_readied_instance_is_called_and_one_clone_makes_the_rest() {
    for (code, clones) in [(200, 0), (503, 1)] {
        let upstream = Upstream::always(code);
        let mut service = layer().layer(upstream.clone());
        let before = upstream.clones.load(Ordering::Relaxed);
        for call in 1..=3 {
            std::future::poll_fn(|cx| {
                Service::<Request<Empty<Bytes>>>::poll_ready(&mut service, cx)
            })
            .await
            .unwrap();
            service.call(get()).await.unwrap();
            assert_eq!(
                upstream.clones.load(Ordering::Relaxed) - before,
                clones * call
            );
        }
    }
}

/// Needs a while to be ready for each call, and may fail at it.
struct Slow {
    ready: Option<Pin<Box<tokio::time::Sleep>>>,
    fails: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self {
            ready: None,
            fails: self.fails,
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Service<Request<Empty<Bytes>>> for Slow {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let sleep = self
            .ready
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(ms(500))));
        std::task::ready!(sleep.as_mut().poll(cx));
        let gone = self.fails && self.calls.load(Ordering::Relaxed) > 0;
        Poll::Ready(if gone { Err("gone".into()) } else { Ok(()) })
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        assert!(
            self.ready.take().is_some_and(|sleep| sleep.is_elapsed()),
            "called unready"
        );
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::future::ready(status(503))
    }
}

#[tokio::test(start_paused = true)]
async fn later_attempts_wait_until_their_service_is_ready() {
    for (fails, attempts) in [(false, 3), (true, 1)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let inner = Slow {
            ready: None,
            fails,
            calls: Arc::clone(&calls),
        };
        let mut service = layer().clone_body().layer(inner);
        std::future::poll_fn(|cx| Service::<Request<Empty<Bytes>>>::poll_ready(&mut service, cx))
            .await
            .unwrap();
        let start = Instant::now();
        let answer = service.call(get()).await;
        assert_eq!(
            (answer.is_err(), calls.load(Ordering::Relaxed)),
            (fails, attempts)
        );
        assert!(start.elapsed() >= ms(500) * (attempts as u32 - 1).max(1));
    }
}

/// Is ready for its first call; its clones fail to be ready so often, and must not be polled again after that.
struct Fails {
    broken: bool,
    left: Arc<AtomicUsize>,
    kind: Kind,
    calls: Arc<AtomicUsize>,
    first: bool,
}

impl Clone for Fails {
    fn clone(&self) -> Self {
        Self {
            broken: false,
            left: Arc::clone(&self.left),
            kind: self.kind,
            calls: Arc::clone(&self.calls),
            first: false,
        }
    }
}

impl Service<Request<Empty<Bytes>>> for Fails {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        assert!(!self.broken, "polled after it failed");
        let left = self.left.load(Ordering::Relaxed);
        if self.first || left == 0 {
            return Poll::Ready(Ok(()));
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.broken = true;
        Poll::Ready(Err(Rejection::new(self.kind, "x").into()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::future::ready(status(503))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_failed_to_be_ready_is_not_polled_again() {
    for (failures, kind, calls, left) in [
        // The attempt that failed to be ready did not leave us: another is made for nothing.
        (1, Kind::Unreachable, 3, 0),
        (9, Kind::Unreachable, 1, 6),
        (9, Kind::Internal, 1, 8),
    ] {
        let left_over = Arc::new(AtomicUsize::new(failures));
        let made = Arc::new(AtomicUsize::new(0));
        let inner = Fails {
            broken: false,
            left: Arc::clone(&left_over),
            kind,
            calls: Arc::clone(&made),
            first: true,
        };
        // As a layer makes it, but that the first instance is ready.
        let mut service = layer().clone_body().layer(inner);
        std::future::poll_fn(|cx| Service::<Request<Empty<Bytes>>>::poll_ready(&mut service, cx))
            .await
            .unwrap();
        let answer = service.call(get()).await;
        assert_eq!(answer.is_ok(), failures == 1);
        assert_eq!(
            (
                made.load(Ordering::Relaxed),
                left_over.load(Ordering::Relaxed)
            ),
            (calls, left)
        );
    }
}

/// Counts its clones.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);
impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_tried_again_is_not_copied() {
    let config = |attempts, body_limit, ratio| RetryConfig {
        attempts,
        body_limit,
        budget_ratio: ratio,
        budget_min_per_second: 0.0,
        ..RetryConfig::default()
    };
    for (config, attempts, copies) in [
        (config(1, 100, 10.0), 1, 0),
        (config(3, 4, 10.0), 1, 0),
        // Without a token, but an attempt that does not leave us needs none.
        (config(3, 100, 0.0), 1, 1),
        // One for the source, one for the second attempt; the third takes the source.
        (config(3, 100, 10.0), 3, 2),
        (config(2, 5, 10.0), 2, 1),
    ] {
        let made = Arc::new(AtomicUsize::new(0));
        let mut request = put(http_body_util::Full::new(Bytes::from("hello")));
        request.extensions_mut().insert(Counted(Arc::clone(&made)));
        let upstream = Upstream::always(503);
        send(&RetryLayer::new(policy(config)), &upstream, request)
            .await
            .unwrap();
        assert_eq!(
            (upstream.attempts(), made.load(Ordering::Relaxed)),
            (attempts, copies)
        );
    }
}

/// Nor where the budget is empty and nothing can be reached.
#[tokio::test(start_paused = true)]
async fn without_a_token_and_without_a_free_attempt_nothing_is_copied() {
    let layer = layer().budget(Budget::new(&tokens(0.0, 0.0)));
    let down = Upstream::new(|_| reject(Kind::Unreachable));
    let mut copies = Vec::new();
    for _ in 0..12 {
        let made = Arc::new(AtomicUsize::new(0));
        let mut request = get();
        request.extensions_mut().insert(Counted(Arc::clone(&made)));
        let _ = send(&layer, &down, request).await;
        copies.push(made.load(Ordering::Relaxed));
    }
    // That of the call and that of the free attempt.
    assert_eq!(copies[..8], [2; 8]);
    assert_eq!(copies[8..], [0; 4]);
    assert_eq!(layer.handle().transparent(), 8);
}

/// Found in tower-resilience: 2,000 attempts for 1,000 calls, because a retry that succeeds pays back.
#[tokio::test(start_paused = true)]
async fn retries_stay_within_the_bound_when_everything_fails() {
    for (script, ratio) in [
        (Upstream::always(503), 0.2),
        // The first attempt fails, its retry succeeds.
        (
            Upstream::new(|n| status(if n % 2 == 1 { 503 } else { 200 })),
            0.2,
        ),
        (Upstream::always(503), 0.0),
    ] {
        let config = RetryConfig {
            attempts: 5,
            budget_ratio: ratio,
            ..RetryConfig::default()
        };
        let layer = RetryLayer::new(policy(config)).seed(1);
        let (start, calls) = (Instant::now(), 2_000);
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..calls {
            let (layer, script) = (layer.clone(), script.clone());
            running.spawn(async move { send(&layer, &script, get()).await });
            tokio::time::advance(ms(5)).await;
        }
        while running.join_next().await.is_some() {}
        let bound = f64::from(calls) * (1.0 + ratio) + 10.0 * start.elapsed().as_secs_f64() + 20.0;
        let attempts = script.attempts() as f64;
        assert!(attempts <= bound, "{attempts} > {bound}");
        assert!(attempts > 0.9 * bound, "{attempts} of {bound}");
        assert_eq!(layer.handle().retries() as f64, attempts - f64::from(calls));
        assert!(layer.handle().exhausted() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn layers_share_a_budget_and_all_services_of_a_layer_do() {
    let budget = Budget::new(&tokens(0.0, 1.0));
    let (one, two) = (layer().budget(budget.clone()), layer().budget(budget));
    let upstream = Upstream::always(503);
    send(&one, &upstream, get()).await.unwrap();
    send(&two, &upstream, get()).await.unwrap();
    assert_eq!(upstream.attempts(), 4, "two retries in all");
    assert_eq!(
        (one.handle().budget().reserve, two.handle().budget().reserve),
        (0, 0)
    );
    // The policy does not touch a budget that was handed in.
    one.handle().config().set(RetryPolicy::default()).unwrap();
    assert_eq!(two.handle().budget().reserve, 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_by_services_that_run() {
    let layer = layer();
    let upstream = Upstream::always(500);
    let mut service = layer.layer(upstream.clone());
    let config = layer.handle().config().clone();
    let change = |change: fn(&mut RetryConfig)| {
        let mut new = config.load().config().clone();
        change(&mut new);
        config.set(policy(new)).unwrap();
    };
    let mut expect = async |attempts| {
        upstream.seen.lock().unwrap().clear();
        std::future::poll_fn(|cx| Service::<Request<Empty<Bytes>>>::poll_ready(&mut service, cx))
            .await
            .unwrap();
        service.call(get()).await.unwrap();
        assert_eq!(upstream.attempts(), attempts);
    };
    expect(1).await;
    change(|config| config.statuses = vec![500, 599]);
    expect(3).await;
    change(|config| config.attempts = 2);
    expect(2).await;
    change(|config| config.attempts = 1);
    expect(1).await;
    change(|config| (config.attempts, config.statuses) = (5, vec![503]));
    expect(1).await;
}

#[test]
fn futures_can_move_between_threads_and_need_no_sync_service() {
    fn is_send<T: Send>(_: &T) {}
    let unsync = std::cell::Cell::new(0);
    let mut service = layer().layer(service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
        unsync.set(unsync.get() + 1);
        std::future::ready(status(200))
    }));
    is_send(&service);
    is_send(&service.call(get()));
}

/// Futures are moved by value through every layer outside, so each byte is copied several times.
#[test]
fn futures_are_small() {
    let answer = |_| std::future::ready(status(200));
    let inner = size_of::<std::future::Ready<Answer>>();
    let mut buffered = layer().layer(service_fn(answer));
    let of_buffered = size_of_val(&buffered.call(get())) - inner;
    let mut cloned = layer()
        .clone_body()
        .layer(service_fn(|_: own::Ask| std::future::ready(status(200))));
    let of_cloned = size_of_val(&cloned.call(own::Ask::default())) - inner;
    // What the page says.
    assert_eq!(of_buffered, 272);
    assert_eq!(of_cloned, 32 + size_of::<own::Ask>());
}

/// A service whose clone goes on with another call of the same layer, which needs a clone too.
struct Nosy(Arc<Mutex<Option<Other>>>);
type Other = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Clone for Nosy {
    fn clone(&self) -> Self {
        let other = self.0.lock().unwrap().take();
        if let Some(mut other) = other {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(other.as_mut().poll(&mut cx).is_pending());
            *self.0.lock().unwrap() = Some(other);
        }
        Self(Arc::clone(&self.0))
    }
}

impl<B> Service<Request<B>> for Nosy {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Answer>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<B>) -> Self::Future {
        std::future::ready(reject(Kind::Unreachable))
    }
}

/// To clone a service is foreign code, which may do anything.
#[test]
fn a_service_is_not_cloned_under_a_lock() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let other = Arc::new(Mutex::new(None));
        // One more attempt, for nothing and at once.
        let layer = RetryLayer::new(policy(RetryConfig {
            attempts: 2,
            budget_ratio: 0.0,
            budget_min_per_second: 0.0,
            ..RetryConfig::default()
        }))
        .budget(Budget::new(&tokens(0.0, 1.0)));
        let mut service = layer.layer(Nosy(Arc::clone(&other)));
        let call = service.call(get());
        *other.lock().unwrap() = Some(Box::pin(service.call(get())) as Other);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let (first, second) = runtime.unwrap().block_on(async {
            let first = call.await;
            let other = other.lock().unwrap().take();
            (first, other.unwrap().await)
        });
        assert!(first.is_err() && second.is_err());
        done.send(layer.handle().transparent()).unwrap();
    });
    assert_eq!(is_done.recv_timeout(Duration::from_secs(20)), Ok(2));
}
