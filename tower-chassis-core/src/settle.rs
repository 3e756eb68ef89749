//! Where the end of a call is judged: one future, one body, for every layer.
//!
//! A policy supplies a ticket that implements [`Observe`]; [`ResponseFuture`] and [`Watched`] own it and see
//! to it that it is told exactly once how the call ended, also when the future or the body is dropped, the
//! inner service fails, or it panics.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::{
    cause, clock, upgrade,
    verdict::{Auto, ByFn, Classify, ClassifyEnd, End, Ending, Verdict},
};

/// The RAII half of a policy: it is told once how its call ended.
///
/// Also for tuples of up to four, so that observers of one position share one judge, one body and one
/// reading of the clock.
pub trait Observe: Send + 'static {
    /// The head of the response arrived, or the call failed without one. Called at most once, before `done`.
    fn head(&mut self, verdict: Verdict, now: Instant) {
        let _ = (verdict, now);
    }
    /// `bytes` more of the response's body passed. Only under [`UntilEnd`].
    fn data(&mut self, bytes: usize) {
        let _ = bytes;
    }
    /// Runs one poll of the inner call. A span enters itself around it.
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        poll()
    }
    /// The time that `head` and `done` are told. One that looks at no time may give any, and spare the reading.
    fn now(&self) -> Instant {
        clock::now()
    }
    /// The call is over. Called exactly once.
    fn done(self, verdict: Verdict, now: Instant);
}

impl Observe for () {
    fn done(self, _: Verdict, _: Instant) {}
}

impl<O: Observe> Observe for Option<O> {
    fn head(&mut self, verdict: Verdict, now: Instant) {
        if let Some(observer) = self {
            observer.head(verdict, now);
        }
    }
    fn data(&mut self, bytes: usize) {
        if let Some(observer) = self {
            observer.data(bytes);
        }
    }
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        match self {
            Some(observer) => observer.within(poll),
            None => poll(),
        }
    }
    fn done(self, verdict: Verdict, now: Instant) {
        if let Some(observer) = self {
            observer.done(verdict, now);
        }
    }
}

macro_rules! observe_tuple {
    ($($name:ident $field:tt),+; $first:tt $($rest:tt)*) => {
        impl<$($name: Observe),+> Observe for ($($name,)+) {
            fn head(&mut self, verdict: Verdict, now: Instant) {
                $(self.$field.head(verdict, now);)+
            }
            fn data(&mut self, bytes: usize) {
                $(self.$field.data(bytes);)+
            }
            fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
                observe_tuple!(@within self, poll, $first $($rest)*)
            }
            fn done(self, verdict: Verdict, now: Instant) {
                let mut held = ($(Held::new(self.$field),)+);
                // Whoever comes after one that panics hears the same.
                $(held.$field.judged = Some(verdict);)+
                $(held.$field.end(now);)+
            }
        }
    };
    (@within $self:ident, $poll:expr, ) => { $poll() };
    (@within $self:ident, $poll:expr, $first:tt $($rest:tt)*) => {{
        let (one, poll) = (&mut $self.$first, $poll);
        one.within(|| observe_tuple!(@within $self, poll, $($rest)*))
    }};
}

observe_tuple!(A 0, B 1; 0 1);
observe_tuple!(A 0, B 1, C 2; 0 1 2);
observe_tuple!(A 0, B 1, C 2, D 3; 0 1 2 3);

/// Who judges a call, and when it is over. The one type parameter of a layer that a user may meet.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge a call that answers `{Res}`",
    label = "this response has no body whose end could be judged",
    note = "leave `.until_end()` out, or say `.until_head()` where that is the default: `{Res}` is judged at the head, by its `Outcome` or by `.classify(…)`"
)]
pub trait Settle<Res, Err>: Clone {
    /// What the layer answers; [`UntilEnd`] wraps the body.
    type Response<G: Observe>;

    /// Judges the outcome and ends `guard`, now or with the body.
    ///
    /// # Errors
    /// The inner error, as it came.
    fn settle<G: Observe>(
        &self,
        result: Result<Res, Err>,
        guard: G,
    ) -> Result<Self::Response<G>, Err>;
}

/// The call is over when its head has arrived. Leaves the response type as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilHead<C = Auto>(C);

/// The call is over when its body has ended: read to the end, broken or dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilEnd<C = Auto>(C);

impl<C> UntilHead<C> {
    /// Judges by `classify`.
    pub const fn new(classify: C) -> Self {
        Self(classify)
    }
    /// The same judge, until the end of the body.
    pub fn until_end(self) -> UntilEnd<C> {
        UntilEnd(self.0)
    }
    /// Another judge, for the same span.
    pub fn classify<D>(self, classify: D) -> UntilHead<D> {
        UntilHead(classify)
    }
    /// A closure as judge, for the same span.
    pub fn classify_fn<F>(self, f: F) -> UntilHead<ByFn<F>> {
        UntilHead(ByFn(f))
    }
}

impl<C> UntilEnd<C> {
    /// Judges by `classify`.
    pub const fn new(classify: C) -> Self {
        Self(classify)
    }
    /// The same judge, until the head only.
    pub fn until_head(self) -> UntilHead<C> {
        UntilHead(self.0)
    }
    /// Another judge, for the same span.
    pub fn classify<D>(self, classify: D) -> UntilEnd<D> {
        UntilEnd(classify)
    }
    /// A closure as judge, for the same span.
    pub fn classify_fn<F>(self, f: F) -> UntilEnd<ByFn<F>> {
        UntilEnd(ByFn(f))
    }
}

impl<Res, Err, C: Classify<Res, Err>> Settle<Res, Err> for UntilHead<C> {
    type Response<G: Observe> = Res;

    fn settle<G: Observe>(&self, result: Result<Res, Err>, guard: G) -> Result<Res, Err> {
        let now = guard.now();
        // Held while a classifier, which may panic, has the say.
        let mut guard = Held::new(guard);
        let verdict = match &result {
            Ok(response) => self.0.head(response),
            Err(error) => self.0.error(error),
        };
        guard.head(verdict, now);
        guard.done(verdict, now);
        result
    }
}

impl<B: Body, Err, C: Classify<Response<B>, Err>> Settle<Response<B>, Err> for UntilEnd<C> {
    type Response<G: Observe> = Response<Watched<B, G, C>>;

    fn settle<G: Observe>(
        &self,
        result: Result<Response<B>, Err>,
        guard: G,
    ) -> Result<Self::Response<G>, Err> {
        let now = guard.now();
        let mut guard = Held::new(guard);
        match result {
            Ok(mut response) => {
                let head = self.0.head(&response);
                guard.head(head, now);
                let ending = self.0.ending(&response);
                let guard = guard.guard.take();
                if upgrade::is_switch(&response) {
                    upgrade::park(&mut response, guard, head);
                    return Ok(response.map(Watched::done));
                }
                let mut watch = Watch {
                    guard,
                    classify: self.0.clone(),
                    ending,
                    head,
                    left: Left::Unread,
                };
                Ok(response.map(|body| {
                    if body.is_end_stream() {
                        watch.end_at(End::Clean, now);
                        Watched::done(body)
                    } else {
                        Watched {
                            inner: body,
                            watch: Some(watch),
                        }
                    }
                }))
            }
            Err(error) => {
                let verdict = self.0.error(&error);
                guard.head(verdict, now);
                guard.done(verdict, now);
                Err(error)
            }
        }
    }
}

/// A ticket whose call goes on. Dropped, it is told why.
#[derive(Debug)]
pub(crate) struct Held<G: Observe> {
    guard: Option<G>,
    /// What it watches is running: if it is dropped so, that panicked, and not somebody outside or beside it.
    inside: bool,
    judged: Option<Verdict>,
}

impl<G: Observe> Held<G> {
    pub(crate) const fn new(guard: G) -> Self {
        Self {
            guard: Some(guard),
            inside: false,
            judged: None,
        }
    }

    /// The ticket, which somebody else sees to.
    #[allow(clippy::expect_used, reason = "it is there until it is dropped")]
    pub(crate) fn release(mut self) -> G {
        self.guard.take().expect("held")
    }

    fn end(&mut self, now: Instant) {
        if let (Some(guard), Some(verdict)) = (self.guard.take(), self.judged) {
            guard.done(verdict, now);
        }
    }

    /// Runs what the ticket watches.
    pub(crate) fn run<R>(&mut self, run: impl FnOnce() -> R) -> R {
        self.inside = true;
        let ran = self.guard.within(run);
        self.inside = false;
        ran
    }

    fn head(&mut self, verdict: Verdict, now: Instant) {
        self.guard.head(verdict, now);
    }

    fn done(mut self, verdict: Verdict, now: Instant) {
        self.guard.take().done(verdict, now);
    }
}

impl<G: Observe> Drop for Held<G> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let now = guard.now();
            let verdict = match self.judged {
                Some(verdict) => verdict,
                None if self.inside => Verdict::FAILURE,
                None => cause::current().unwrap_or(Verdict::CANCELLED),
            };
            guard.done(verdict, now);
        }
    }
}

/// A service that never answers has no body to wait for.
///
/// With one type of response alone rustc would take it for granted that every response is one of HTTP, and would not
/// come to say what [`Settle`] says of another.
impl<Err, C: Classify<Infallible, Err>> Settle<Infallible, Err> for UntilEnd<C> {
    type Response<G: Observe> = Infallible;

    fn settle<G: Observe>(
        &self,
        result: Result<Infallible, Err>,
        guard: G,
    ) -> Result<Infallible, Err> {
        UntilHead(self.0.clone()).settle(result, guard)
    }
}

pin_project! {
    /// The future of every layer that observes a call. Dropped early, its ticket is told why.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, G, J>
    where
        G: Observe,
    {
        #[pin]
        inner: F,
        // After the future: what the call holds further in is let go first, or a limit would be passed for a moment.
        guard: Held<G>,
        settle: J,
    }
}

impl<F, G: Observe, J> ResponseFuture<F, G, J> {
    pub(crate) const fn holding(inner: F, guard: Held<G>, settle: J) -> Self {
        Self {
            inner,
            guard,
            settle,
        }
    }

    /// Watches `inner` with `guard`, judged by `settle`.
    pub const fn new(inner: F, guard: G, settle: J) -> Self {
        Self::holding(inner, Held::new(guard), settle)
    }
}

impl<F, G, J, Res, Err> Future for ResponseFuture<F, G, J>
where
    F: Future<Output = Result<Res, Err>>,
    G: Observe,
    J: Settle<Res, Err>,
{
    type Output = Result<J::Response<G>, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let result = ready!(this.guard.run(|| inner.poll(cx)));
        match this.guard.guard.take() {
            Some(guard) => Poll::Ready(this.settle.settle(result, guard)),
            // Polled after it was ready: the inner future has the say (most panic).
            None => Poll::Pending,
        }
    }
}

/// What a body's end is told to. Dropped, it ends as [`left`](Self::left) says.
struct Watch<G: Observe, C: ClassifyEnd> {
    guard: Option<G>,
    classify: C,
    /// Judges in place of `classify`.
    ending: Option<Ending>,
    head: Verdict,
    left: Left,
}

/// How a body is left if it is dropped now.
#[derive(Clone, Copy, Debug)]
enum Left {
    Unread,
    Midway,
    Clean,
    Panicked,
}

pin_project! {
    /// A body that tells its ticket how it ended.
    pub struct Watched<B, G, C>
    where
        B: Body,
        G: Observe,
        C: ClassifyEnd,
    {
        #[pin]
        inner: B,
        // After the body: what it holds is let go first.
        watch: Option<Watch<G, C>>,
    }

    impl<B: Body, G: Observe, C: ClassifyEnd> PinnedDrop for Watched<B, G, C> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let Some(watch) = this.watch else { return };
            // hyper drops a body of known length after its last data frame, and that of a HEAD unpolled.
            if !matches!(watch.left, Left::Panicked) && this.inner.is_end_stream() {
                watch.left = Left::Clean;
            }
        }
    }
}

// Without what is in it: bodies are no business of a log.
impl<B: Body, G: Observe, C: ClassifyEnd> fmt::Debug for Watched<B, G, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("is_over", &self.watch.is_none())
            .finish_non_exhaustive()
    }
}

impl<G: Observe, C: ClassifyEnd> Watch<G, C> {
    fn end(&mut self, end: End<'_>) {
        if let Some(now) = self.guard.as_ref().map(Observe::now) {
            self.end_at(end, now);
        }
    }

    fn end_at(&mut self, end: End<'_>, now: Instant) {
        if let Some(guard) = self.guard.take() {
            let guard = Held::new(guard);
            let verdict = match &self.ending {
                Some(ending) => ending.end(end),
                None => self.classify.end(self.head, end),
            };
            guard.done(verdict, now);
        }
    }
}

impl<G: Observe, C: ClassifyEnd> Drop for Watch<G, C> {
    fn drop(&mut self) {
        self.end(match self.left {
            Left::Unread => End::Unread,
            Left::Midway => End::Dropped,
            Left::Clean => End::Clean,
            Left::Panicked => End::Panicked,
        });
    }
}

impl<B: Body, G: Observe, C: ClassifyEnd> Watched<B, G, C> {
    /// A body that nobody waits for any more.
    const fn done(inner: B) -> Self {
        Self { inner, watch: None }
    }
}

impl<B: Body, G: Observe, C: ClassifyEnd> Body for Watched<B, G, C> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let inner = this.inner;
        let frame = match this.watch.as_mut() {
            Some(watch) => {
                watch.left = Left::Panicked;
                let frame = watch.guard.within(|| inner.poll_frame(cx));
                watch.left = Left::Midway;
                ready!(frame)
            }
            None => ready!(inner.poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(watch)) = (frame.data_ref(), this.watch.as_mut()) {
                    watch.guard.data(data.remaining());
                } else if let Some(trailers) = frame.trailers_ref()
                    && let Some(mut watch) = this.watch.take()
                {
                    watch.end(End::Trailers(trailers));
                }
            }
            Some(Err(_)) => {
                if let Some(mut watch) = this.watch.take() {
                    watch.end(End::Broken);
                }
            }
            None => {
                if let Some(mut watch) = this.watch.take() {
                    watch.end(End::Clean);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::verdict::Class;

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
}
