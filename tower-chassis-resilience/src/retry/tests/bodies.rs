use http_body_util::Full;
use proptest::prelude::*;

use super::*;

fn limited(body_limit: usize) -> RetryLayer {
    let config = RetryConfig {
        body_limit,
        budget_min_per_second: 1e6,
        ..RetryConfig::default()
    };
    RetryLayer::new(policy(config)).seed(7)
}

fn full(len: usize) -> Full<Bytes> {
    Full::new(Bytes::from(vec![b'x'; len]))
}

#[tokio::test(start_paused = true)]
async fn a_body_up_to_the_limit_is_sent_again_whole() {
    for (len, attempts) in [(0, 3), (1, 3), (100, 3), (101, 1)] {
        let upstream = Upstream::always(503);
        assert_eq!(
            send(&limited(100), &upstream, put(full(len)))
                .await
                .unwrap()
                .status(),
            503
        );
        assert_eq!(
            upstream.bodies(),
            vec![Bytes::from(vec![b'x'; len]); attempts],
            "{len}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_up_to_the_limit_is_sent_again_and_one_over_it_goes_on() {
    for (limit, attempts) in [(15, 3), (14, 1), (0, 1)] {
        let upstream = Upstream::always(503);
        let answer = send(
            &limited(limit),
            &upstream,
            put(frames(["hello", "", "brave", "world"])),
        )
        .await;
        assert_eq!(answer.unwrap().status(), 503);
        assert_eq!(
            upstream.bodies(),
            vec!["hellobraveworld"; attempts],
            "{limit}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_are_sent_again() {
    let mut body = frames(["hello"]);
    let trailers = HeaderMap::from_iter([(http::header::ETAG, "7".parse().unwrap())]);
    body.frames
        .push_back(Ok(http_body::Frame::trailers(trailers.clone())));
    let upstream = Upstream::always(503);
    send(&layer(), &upstream, put(body)).await.unwrap();
    assert_eq!(upstream.bodies(), ["hello"; 3]);
    let seen = upstream.seen.lock().unwrap();
    assert!(
        seen.iter()
            .all(|seen| seen.trailers.as_ref() == Some(&trailers))
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_first_read_gives_the_body_back() {
    // However long it is: nothing need be kept.
    let upstream = Upstream::always(503).reading(Reads::Nothing);
    send(&limited(3), &upstream, put(frames(["hello", "world"])))
        .await
        .unwrap();
    assert_eq!(upstream.attempts(), 3);

    let upstream = Upstream::new(|n| {
        if n == 1 {
            reject(Kind::Unreachable)
        } else {
            status(200)
        }
    });
    let mut service = limited(100).layer(upstream.clone().reading(Reads::Nothing));
    std::future::poll_fn(|cx| Service::<Request<Frames>>::poll_ready(&mut service, cx))
        .await
        .unwrap();
    assert_eq!(
        service
            .call(post(frames(["hello"])))
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(upstream.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_body_is_final() {
    for reads in [Reads::OneFrame, Reads::Beside] {
        let mut body = frames(["hello", "world"]);
        body.pause = Some(ms(50));
        let upstream = Upstream::always(503).reading(reads);
        assert_eq!(
            send(&layer(), &upstream, put(body)).await.unwrap().status(),
            503
        );
        assert_eq!(upstream.attempts(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_held_and_not_yet_read_is_not_taken_away() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&held);
    let inner = tower::service_fn(move |request: Request<ReplayBody<Frames>>| {
        keep.lock().unwrap().push(request.into_body());
        std::future::ready(status(503))
    });
    let answer = tower::ServiceExt::oneshot(layer().layer(inner), put(frames(["hello"]))).await;
    assert_eq!(answer.unwrap().status(), 503);
    let body = held.lock().unwrap().pop().unwrap();
    assert!(held.lock().unwrap().is_empty(), "one attempt");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
}

/// The answer is there, and the upload stands still or is over: nothing is kept of it any more.
#[tokio::test(start_paused = true)]
async fn an_upload_that_outlives_its_call_keeps_no_memory() {
    for (exact, rest) in [(None, "world"), (Some(5), "")] {
        let held = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&held);
        let inner = tower::service_fn(move |request: Request<ReplayBody<Frames>>| {
            let keep = Arc::clone(&keep);
            async move {
                let mut body = request.into_body();
                assert!(body.frame().await.unwrap().is_ok());
                keep.lock().unwrap().push(body);
                status(200)
            }
        });
        let memory = ReplayMemory::new(1_000);
        let layer = layer().replay(Buffered::within(memory.clone()));
        let mut body = frames(["hello", "world"]);
        if exact.is_some() {
            body.frames.pop_back();
        }
        body.exact = exact;
        let answer = tower::ServiceExt::oneshot(layer.layer(inner), put(body)).await;
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(memory.used(), 0, "{exact:?}");
        let body = held.lock().unwrap().pop().unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), rest);
        assert_eq!(memory.used(), 0);
    }
}

/// A future that is done still holds what it was made of.
struct Done<B> {
    _body: B,
}
impl<B> Future for Done<B> {
    type Output = Answer;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(status(503))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_finished_attempt_holds_is_let_go_before_the_body_is_wanted_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&calls);
    let inner = tower::service_fn(move |request: Request<ReplayBody<Frames>>| {
        made.fetch_add(1, Ordering::Relaxed);
        Done {
            _body: request.into_body(),
        }
    });
    tower::ServiceExt::oneshot(layer().layer(inner), put(frames(["hello"])))
        .await
        .unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// hyper does not ask a body for its end that says that this was all.
#[tokio::test(start_paused = true)]
async fn a_body_that_knows_its_end_is_over_with_its_last_byte() {
    let mut body = frames(["hello"]);
    body.exact = Some(5);
    let upstream = Upstream::always(503).reading(Reads::OneFrame);
    send(&layer(), &upstream, put(body)).await.unwrap();
    assert_eq!(upstream.bodies(), ["hello"; 3]);
}

/// An attempt that broke off before them has not read all of it: without them it would be another request.
#[tokio::test(start_paused = true)]
async fn trailers_that_nobody_read_are_not_left_out() {
    for (reads, attempts) in [(Reads::All, 3), (Reads::OneFrame, 1)] {
        let mut body = frames(["hello"]);
        body.exact = Some(5);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frame = http_body::Frame::trailers(trailers.clone());
        body.frames.push_back(Ok(frame));
        let upstream = Upstream::always(503).reading(reads);
        send(&layer(), &upstream, put(body)).await.unwrap();
        assert_eq!(upstream.attempts(), attempts);
        if reads == Reads::All {
            let seen = upstream.seen.lock().unwrap();
            assert!(
                seen.iter()
                    .all(|seen| seen.trailers == Some(trailers.clone()))
            );
        }
    }
}

/// Says what a body is asked while the lock of its tape is held.
struct Asks {
    left: usize,
    tape: Arc<Mutex<Option<Shared>>>,
}
type Shared = Box<dyn Fn() -> bool + Send>;

impl Asks {
    fn is_free(&self) {
        if let Some(is_free) = &*self.tape.lock().unwrap() {
            assert!(is_free(), "under the lock of the tape");
        }
    }
}

impl http_body::Body for Asks {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        self.is_free();
        let tape = Arc::clone(&self.tape);
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        // Bytes that run code when they are dropped.
        let bytes = Bytes::from_owner(Owner(Asks { left: 0, tape }));
        Poll::Ready(more.then(|| Ok(http_body::Frame::data(bytes))))
    }
    fn is_end_stream(&self) -> bool {
        self.is_free();
        false
    }
    fn size_hint(&self) -> http_body::SizeHint {
        self.is_free();
        http_body::SizeHint::default()
    }
}

struct Owner(Asks);
impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        b"hello"
    }
}
impl Drop for Owner {
    fn drop(&mut self) {
        self.0.is_free();
    }
}

#[tokio::test]
async fn foreign_code_does_not_run_under_the_lock_of_a_tape() {
    // Left half-way, and too long with its second frame.
    for (limit, read) in [(100, 1), (8, 2)] {
        let slot = Arc::new(Mutex::new(None));
        let body = Asks {
            left: 2,
            tape: Arc::clone(&slot),
        };
        let (request, source) = Buffered::default().split(put(body), limit, true);
        let source = source.unwrap();
        let is_free = source.lock_is_free();
        *slot.lock().unwrap() = Some(Box::new(is_free) as Shared);
        let mut body = request.into_body();
        let _ = http_body::Body::size_hint(&body);
        for _ in 0..read {
            assert!(body.frame().await.is_some());
        }
        drop(body);
        drop(source);
        *slot.lock().unwrap() = None;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_not_sent_again() {
    let mut body = frames(["hello"]);
    body.frames.push_back(Err("broken"));
    let upstream = Upstream::always(503);
    assert_eq!(
        send(&layer(), &upstream, put(body)).await.unwrap().status(),
        503
    );
    assert_eq!(upstream.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_been_served_is_not_repeated_whatever_is_kept() {
    let upstream = Upstream::new(|_| reject(Kind::Unreachable));
    assert!(send(&layer(), &upstream, post(full(5))).await.is_err());
    assert_eq!(
        upstream.attempts(),
        1,
        "its body was read, so it may have been sent"
    );
    let upstream = Upstream::new(|_| reject(Kind::Unreachable)).reading(Reads::Nothing);
    assert!(send(&layer(), &upstream, post(full(5))).await.is_err());
    assert_eq!(upstream.attempts(), 4);
    let upstream = Upstream::new(|_| reject(Kind::Unreachable));
    assert!(send(&layer(), &upstream, post(full(0))).await.is_err());
    assert_eq!(upstream.attempts(), 4);
}

#[tokio::test(start_paused = true)]
async fn cloned_and_rewrapped_bodies() {
    let upstream = Upstream::always(503);
    send(&limited(0).clone_body(), &upstream, put(full(5)))
        .await
        .unwrap();
    assert_eq!(upstream.bodies(), ["xxxxx"; 3]);

    let kinds = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&kinds);
    let inner = tower::service_fn(move |request: Request<Body>| {
        let log = Arc::clone(&log);
        async move {
            log.lock().unwrap().push(format!("{:?}", request.body()));
            assert_eq!(request.into_body().collect().await?.to_bytes(), "hello");
            status(503)
        }
    });
    let service = layer().rewrap::<Body>().layer(inner);
    tower::ServiceExt::oneshot(service, put(Body::from("hello")))
        .await
        .unwrap();
    // The record is boxed; what was one piece is one piece again.
    assert_eq!(
        *kinds.lock().unwrap(),
        ["Body(boxed)", "Body(full)", "Body(full)"]
    );
}

#[tokio::test]
async fn replays_announce_their_length_unless_trailers_follow() {
    for trailers in [false, true] {
        let mut body = frames(["hello", "world"]);
        if trailers {
            body.frames
                .push_back(Ok(http_body::Frame::trailers(HeaderMap::new())));
        }
        let (first, source) = Buffered::default().split(put(body), 100, true);
        let mut source = source.unwrap();
        assert!(
            Buffered::default().again(&mut source, false).is_none(),
            "the first one is still there"
        );
        first.into_body().collect().await.unwrap();
        let again = Buffered::default()
            .again(&mut source, false)
            .unwrap()
            .into_body();
        let hint = http_body::Body::size_hint(&again);
        assert_eq!(
            (hint.lower(), hint.exact()),
            (10, (!trailers).then_some(10))
        );
        assert_eq!(again.collect().await.unwrap().to_bytes(), "helloworld");
    }
}

#[tokio::test]
async fn nothing_is_kept_that_nobody_wants() {
    let (request, source) = Buffered::default().split(put(frames(["hello", "world"])), 100, true);
    drop(source);
    let body = request.into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "helloworld");
    let (request, source) = Buffered::default().split(get(), 0, true);
    assert_eq!(
        format!("{:?} {source:?}", request.body()),
        "ReplayBody(plain) Some(ReplaySource { is_empty: true })"
    );
    let (request, source) = Buffered::default().split(put(full(101)), 100, true);
    assert_eq!(
        format!("{:?} {source:?}", request.body()),
        "ReplayBody(plain) None"
    );
}

proptest! {
    #[test]
    fn what_is_sent_again_is_what_was_sent(
        lens in proptest::collection::vec(prop_oneof![0usize..20, 4_000usize..5_000], 0..60),
        limit in 0usize..100_000,
    ) {
        let sent: Vec<Bytes> =
            lens.iter().enumerate().map(|(n, len)| Bytes::from(vec![n as u8; *len])).collect();
        let whole = sent.concat();
        let body = Frames {
            frames: sent.into_iter().map(|bytes| Ok(http_body::Frame::data(bytes))).collect(),
            exact: None,
            pause: None,
            sleep: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (request, source) = Buffered::default().split(put(body), limit, true);
        let first = runtime.block_on(request.into_body().collect()).unwrap().to_bytes();
        prop_assert_eq!(&first, &whole);
        let again = Buffered::default().again(&mut source.unwrap(), true);
        prop_assert_eq!(again.is_some(), whole.len() <= limit);
        if let Some(again) = again {
            prop_assert_eq!(&runtime.block_on(again.into_body().collect()).unwrap().to_bytes(), &whole);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_share_a_memory_and_give_it_back() {
    let memory = ReplayMemory::new(8);
    let layer = layer().replay(Buffered::within(memory.clone()));
    let upstream = Upstream::always(503);
    // Read by an attempt that goes on, so kept.
    let held = upstream.clone().reading(Reads::All);
    let mut service = layer.layer(held);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Service::<Request<Full<Bytes>>>::poll_ready(&mut service, &mut cx).is_ready());
    let mut first = Box::pin(service.call(put(full(5))));
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert_eq!(memory.used(), 5);
    send(&layer, &upstream, put(full(5))).await.unwrap();
    assert_eq!(upstream.attempts(), 1 + 1, "no room: it goes on, once");
    assert_eq!(memory.used(), 5);
    drop(first);
    assert_eq!(memory.used(), 0);
    send(&layer, &upstream, put(full(5))).await.unwrap();
    assert_eq!(upstream.attempts(), 2 + 3);
    assert_eq!((memory.used(), memory.limit()), (0, 8));
    assert_eq!(ReplayMemory::default().limit(), 64 * 1024 * 1024);
}
