use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::*;
use crate::{Kind, Rejection, cause, verdict::Class};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Verdict>>>);
impl Observe for Log {
    fn done(self, verdict: Verdict, _: Instant) {
        self.0.lock().unwrap().push(verdict);
    }
}
impl Log {
    fn classes(&self) -> Vec<Class> {
        self.0.lock().unwrap().iter().map(|v| v.class()).collect()
    }
}

type Res = Response<crate::Body>;

fn answer(status: u16, body: &'static str) -> Result<Res, Infallible> {
    Ok(Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .body(body.into())
        .unwrap())
}

#[tokio::test]
async fn a_future_dropped_early_is_cancelled_once() {
    let log = Log::default();
    let inner = std::future::pending::<Result<Res, Infallible>>();
    let mut future = Box::pin(ResponseFuture::new(
        inner,
        log.clone(),
        UntilHead::<Auto>::default(),
    ));
    assert!(futures_poll(future.as_mut()).is_none());
    drop(future);
    assert_eq!(log.classes(), [Class::Cancelled]);
}

#[tokio::test]
async fn a_timeout_above_tells_the_guards_below() {
    let log = Log::default();
    let inner = std::future::pending::<Result<Res, Infallible>>();
    let future = ResponseFuture::new(inner, log.clone(), UntilHead::<Auto>::default());
    cause::drop_with(Verdict::TIMEOUT, || drop(future));
    assert_eq!(log.classes(), [Class::Timeout]);
}

/// Counts the polls that it is around, and how often it was let go.
#[derive(Clone, Default)]
struct Beside(Arc<Mutex<(u32, u32)>>);
impl Observe for Beside {
    fn listens(&self) -> bool {
        false
    }
    fn head(&mut self, verdict: Verdict, _: Instant) {
        panic!("told {verdict:?}");
    }
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        self.0.lock().unwrap().0 += 1;
        poll()
    }
    fn done(self, _: Verdict, _: Instant) {
        self.0.lock().unwrap().1 += 1;
    }
}

#[tokio::test]
async fn who_does_not_listen_is_around_the_polls_and_nobody_judges() {
    #[derive(Clone)]
    struct Never;
    impl ClassifyEnd for Never {
        fn end(&self, _: Verdict, _: crate::verdict::End<'_>) -> Verdict {
            panic!("judges the end")
        }
    }
    impl<Res, Err> Classify<Res, Err> for Never {
        fn head(&self, _: &Res) -> Verdict {
            panic!("judges the head")
        }
        fn error(&self, _: &Err) -> Verdict {
            panic!("judges the error")
        }
    }
    let beside = Beside::default();
    let seen = || *beside.0.lock().unwrap();
    let call = |answer| std::future::ready(answer);
    let to_the_end =
        |answer| ResponseFuture::new(call(answer), (beside.clone(), None::<Log>), UntilEnd(Never));
    let answered = to_the_end(answer(200, "hello")).await.unwrap();
    assert_eq!(seen(), (1, 0));
    assert_eq!(
        answered.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    assert!(seen().0 > 1);
    assert_eq!(seen().1, 1);
    // Left, with an error, and judged at the head.
    drop(to_the_end(answer(200, "hello")).await.unwrap());
    assert_eq!(seen().1, 2);
    let failed = std::future::ready(Err::<Res, _>("planted"));
    let failed = ResponseFuture::new(failed, beside.clone(), UntilEnd(Never));
    assert!(failed.await.is_err());
    let headed = ResponseFuture::new(call(answer(500, "")), beside.clone(), UntilHead(Never));
    assert_eq!(headed.await.unwrap().status(), 500);
    assert_eq!(seen().1, 4);
    drop(to_the_end(answer(200, "")));
    assert_eq!(seen().1, 5);
    // One of them that listens is enough.
    assert!((beside.clone(), Log::default()).listens());
    assert!(Some(Log::default()).listens() && !None::<Log>.listens() && !().listens());
}

#[tokio::test]
async fn until_end_waits_for_the_body() {
    let log = Log::default();
    let inner = std::future::ready(answer(200, "hello"));
    let res = ResponseFuture::new(inner, log.clone(), UntilEnd::<Auto>::default())
        .await
        .unwrap();
    assert!(log.classes().is_empty());
    assert_eq!(res.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(log.classes(), [Class::Success]);
}

#[tokio::test]
async fn an_unread_body_keeps_the_verdict_of_its_head() {
    for (status, class) in [(200, Class::Success), (503, Class::Failure)] {
        let log = Log::default();
        let inner = std::future::ready(answer(status, "hello"));
        drop(
            ResponseFuture::new(inner, log.clone(), UntilEnd::<Auto>::default())
                .await
                .unwrap(),
        );
        assert_eq!(log.classes(), [class]);
    }
}

/// A body that ends with this error after a frame.
struct Ends<E>(Vec<Result<Frame<bytes::Bytes>, E>>);
impl<E: Unpin> Body for Ends<E> {
    type Data = bytes::Bytes;
    type Error = E;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, E>>> {
        Poll::Ready(self.0.pop())
    }
}

#[tokio::test]
async fn a_body_that_breaks_is_judged_by_its_error() {
    async fn judged<E: Unpin + 'static>(error: E) -> Vec<Class> {
        let (outer, inner) = (Log::default(), Log::default());
        let body = Ends(vec![Err(error), Ok(Frame::data("x".into()))]);
        let answer = std::future::ready(Ok::<_, Infallible>(Response::new(body)));
        let settle = UntilEnd::<Auto>::default();
        let watched = ResponseFuture::new(answer, inner.clone(), settle);
        let twice = ResponseFuture::new(watched, outer.clone(), settle).await;
        assert!(twice.unwrap().into_body().collect().await.is_err());
        [inner.classes(), outer.classes()].concat()
    }
    let late = || Rejection::new(Kind::Timeout, "timeout");
    assert_eq!(
        judged(crate::BoxError::from(late())).await,
        [Class::Timeout; 2]
    );
    assert_eq!(judged(late()).await, [Class::Timeout; 2]);
    let stalled = Rejection::new(Kind::BodyTimeout, "server");
    assert_eq!(
        judged(std::io::Error::other(stalled)).await,
        [Class::Cancelled; 2]
    );
    assert_eq!(judged("broken").await, [Class::Failure; 2]);
}

#[tokio::test]
async fn a_panic_below_is_a_failure() {
    let log = Log::default();
    let guard = log.clone();
    let joined = tokio::spawn(async move {
        let inner = async {
            tokio::task::yield_now().await;
            assert!(guard.0.lock().is_err(), "planted");
            answer(200, "")
        };
        let _ = ResponseFuture::new(inner, guard.clone(), UntilHead::<Auto>::default()).await;
    })
    .await;
    assert!(joined.is_err());
    let classes: Vec<_> = log
        .0
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .iter()
        .map(|v| v.class())
        .collect();
    assert_eq!(classes, [Class::Failure]);
}

#[tokio::test]
async fn a_tuple_tells_all_of_its_parts() {
    let (a, b, c) = (Log::default(), Log::default(), Log::default());
    let inner = std::future::ready(answer(200, ""));
    let guard = (a.clone(), b.clone(), c.clone());
    let _ = ResponseFuture::new(inner, guard, UntilHead::<Auto>::default())
        .await
        .unwrap();
    for log in [a, b, c] {
        assert_eq!(log.classes(), [Class::Success]);
    }
}

/// Notes by which of the two it was told that the call is over.
#[derive(Clone, Default)]
struct Which(Arc<Mutex<Vec<&'static str>>>);
impl Observe for Which {
    fn done(self, _: Verdict, _: Instant) {
        self.0.lock().unwrap().push("done");
    }
    fn done_at_head(self, _: Verdict, _: Instant) {
        self.0.lock().unwrap().push("done at head");
    }
}

#[tokio::test]
async fn the_parts_of_a_tuple_hear_that_the_head_was_the_end() {
    let which = Which::default();
    let guard = || (which.clone(), Log::default(), which.clone());
    let inner = std::future::ready(answer(200, ""));
    let head = UntilHead::<Auto>::default();
    let _ = ResponseFuture::new(inner, guard(), head).await.unwrap();
    let inner = std::future::ready(answer(200, ""));
    let end = UntilEnd::<Auto>::default();
    let _ = ResponseFuture::new(inner, guard(), end).await.unwrap();
    let told = which.0.lock().unwrap();
    assert_eq!(*told, ["done at head", "done at head", "done", "done"]);
}

/// What a call holds further in, and a ticket that must not be told before it is gone.
struct Inside(Arc<Mutex<bool>>);
impl Drop for Inside {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = true;
    }
}
struct After(Arc<Mutex<bool>>);
impl Observe for After {
    fn done(self, _: Verdict, _: Instant) {
        assert!(*self.0.lock().unwrap(), "told before the inside was gone");
        *self.0.lock().unwrap() = false;
    }
}

#[tokio::test]
async fn a_ticket_is_told_after_what_is_inside_was_let_go() {
    let gone = Arc::new(Mutex::new(false));
    let inside = Inside(Arc::clone(&gone));
    let inner = async move {
        let _inside = inside;
        std::future::pending::<Result<Response<String>, Infallible>>().await
    };
    let settle = UntilHead::<Auto>::default();
    let mut call = Box::pin(ResponseFuture::new(inner, After(Arc::clone(&gone)), settle));
    assert!(futures_poll(call.as_mut()).is_none());
    drop(call);
    assert!(!*gone.lock().unwrap(), "the ticket was told");

    struct Stream(#[allow(dead_code, reason = "for its drop")] Inside);
    impl Body for Stream {
        type Data = bytes::Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<bytes::Bytes>, Infallible>>> {
            Poll::Pending
        }
    }
    let body = Stream(Inside(Arc::clone(&gone)));
    let inner = std::future::ready(Ok::<_, Infallible>(Response::new(body)));
    let settle = UntilEnd::<Auto>::default();
    let response = ResponseFuture::new(inner, After(Arc::clone(&gone)), settle).await;
    drop(response.unwrap());
    assert!(!*gone.lock().unwrap(), "the ticket was told");
}

fn futures_poll<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut cx) {
        Poll::Ready(out) => Some(out),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn an_answer_that_is_watched_shows_nothing_of_its_body() {
    let log = Log::default();
    let inner = std::future::ready(answer(200, "secret"));
    let response = ResponseFuture::new(inner, log, UntilEnd::<Auto>::default()).await;
    let shown = format!("{:?}", response.unwrap().body());
    assert!(!shown.contains("secret"), "{shown}");
}

/// Of several that are told together.
enum Listener {
    Panics,
    Hears(Log),
}

impl Observe for Listener {
    fn done(self, verdict: Verdict, now: Instant) {
        match self {
            Self::Panics => panic!("planted"),
            Self::Hears(log) => log.done(verdict, now),
        }
    }
}

/// A second panic on the way out of the first would end the process.
#[test]
fn two_that_panic_when_they_are_told_are_one_panic() {
    let log = Log::default();
    let hears = || Listener::Hears(log.clone());
    let all = (Listener::Panics, hears(), Listener::Panics, hears());
    let tell = move || all.done(Verdict::SUCCESS, Instant::now());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(tell)).is_err());
    assert_eq!(log.classes(), [Class::Success; 2]);
}

#[test]
fn an_observer_that_panics_on_the_way_out_of_a_panic_is_none_more() {
    let call = async || -> Result<Res, Infallible> { panic!("planted") };
    let poll = move || {
        let call = ResponseFuture::new(call(), Listener::Panics, UntilHead::new(Auto));
        let _ = Box::pin(call)
            .as_mut()
            .poll(&mut Context::from_waker(std::task::Waker::noop()));
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
}

/// What a server takes of a body whose length it knows: its frames, and not its end.
#[tokio::test]
async fn a_body_is_over_with_the_last_of_the_bytes_that_were_told() {
    struct Hinted(Ends<Infallible>, SizeHint);
    impl Body for Hinted {
        type Data = bytes::Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<bytes::Bytes>, Infallible>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }
        fn size_hint(&self) -> SizeHint {
            self.1
        }
    }
    let of = SizeHint::with_exact;
    for (hint, header, content_type, read, class) in [
        (of(4), None, "text/plain", 2, Class::Success),
        (of(4), None, "text/plain", 1, Class::Cancelled),
        (of(4), None, "text/plain", 0, Class::Success),
        (SizeHint::new(), Some("4"), "text/plain", 2, Class::Success),
        (
            SizeHint::new(),
            Some("4"),
            "text/plain",
            1,
            Class::Cancelled,
        ),
        (
            SizeHint::new(),
            Some("5"),
            "text/plain",
            2,
            Class::Cancelled,
        ),
        (
            SizeHint::new(),
            Some("x"),
            "text/plain",
            2,
            Class::Cancelled,
        ),
        (SizeHint::new(), None, "text/plain", 2, Class::Cancelled),
        // Its trailers are to come.
        (of(4), None, "application/grpc", 2, Class::Cancelled),
    ] {
        let log = Log::default();
        let mut response = Response::builder().header("content-type", content_type);
        if let Some(length) = header {
            response = response.header("content-length", length);
        }
        let frames = ["cd", "ab"].map(|text| Ok(Frame::data(text.into())));
        let body = Hinted(Ends(frames.into()), hint);
        let inner = std::future::ready(Ok::<_, Infallible>(response.body(body).unwrap()));
        let settle = UntilEnd::<Auto>::default();
        let answer = ResponseFuture::new(inner, log.clone(), settle).await;
        let mut body = answer.unwrap().into_body();
        for _ in 0..read {
            body.frame().await.unwrap().unwrap();
        }
        drop(body);
        assert_eq!(
            log.classes(),
            [class],
            "{read} of {header:?} {content_type}"
        );
    }
}
