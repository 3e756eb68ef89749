//! The first frame of a gRPC response, before its head goes on: for a status that comes in the trailers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_chassis_core::{
    Carrier, Class, Verdict,
    verdict::{Outcome, is_grpc},
};
use tower_layer::Layer;
use tower_service::Service;

/// Reads one frame of a gRPC response before its head goes on.
///
/// A gRPC server that sends its head and then fails says so in the trailers, which come too late for a retry. This
/// layer, below it, waits for the first frame: are it trailers, nothing was delivered, and how the call went becomes
/// the verdict of the head, for every layer outside. The frame itself comes in its place in the body, whatever it is.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_chassis_resilience::retry::{PeekLayer, RetryLayer, RetryPolicy};
///
/// # let channel = ();
/// let service = ServiceBuilder::new()
///     .layer(RetryLayer::new(RetryPolicy::default()))
///     // … here the timeout of a try, so that it holds the wait for the frame too …
///     .layer(PeekLayer::new())
///     .service(channel);
/// # drop(service);
/// ```
///
/// Only responses of gRPC whose head leaves it open are waited for, and only to requests that are
/// [idempotent](Carrier::is_idempotent): no other is tried again for what it was answered. In a call whose two sides
/// talk in turn the service may wait for a message that the client sends after the head; do not mark such calls, nor use
/// [`every`](Self::every) for them.
///
/// The body of the response is a [`PeekBody`], which adds the room of a frame and allocates nothing; it must be
/// [`Unpin`], as hyper's, tonic's and [`tower_chassis_core::Body`] are. Dropped at any time, it leaves nothing behind.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct PeekLayer {
    every: bool,
}

impl PeekLayer {
    /// Looks into the answers to idempotent requests.
    pub const fn new() -> Self {
        Self { every: false }
    }

    /// Looks into the answers to every request: where the policy says what is idempotent (`methods`), or for a breaker.
    pub const fn every(self) -> Self {
        Self { every: true }
    }
}

impl<S> Layer<S> for PeekLayer {
    type Service = Peek<S>;

    fn layer(&self, inner: S) -> Peek<S> {
        Peek {
            inner,
            every: self.every,
        }
    }
}

/// The service of [`PeekLayer`].
#[derive(Clone, Debug)]
pub struct Peek<S> {
    inner: S,
    every: bool,
}

impl<S, Req, B> Service<Req> for Peek<S>
where
    Req: Carrier,
    S: Service<Req, Response = Response<B>>,
    B: Body + Unpin,
{
    type Response = Response<PeekBody<B>>;
    type Error = S::Error;
    type Future = PeekFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        PeekFuture {
            peeks: self.every || request.is_idempotent(),
            step: Step::Calling {
                future: self.inner.call(request),
            },
        }
    }
}

pin_project! {
    /// The future of [`Peek`].
    #[must_use = "futures do nothing unless polled"]
    pub struct PeekFuture<F, B> {
        #[pin]
        step: Step<F, B>,
        peeks: bool,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, B> {
        Calling { #[pin] future: F },
        // None once it is over.
        Peeking { response: Option<Response<B>> },
    }
}

impl<F, B, E> Future for PeekFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Unpin,
{
    type Output = Result<Response<PeekBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProj::Calling { future } => {
                    let response = ready!(future.poll(cx))?;
                    let peeks = *this.peeks && is_open(&response);
                    // The attempt is over, its body goes on.
                    let kept = Step::Peeking { response: None };
                    if !peeks {
                        this.step.set(kept);
                        return Poll::Ready(Ok(response.map(PeekBody::plain)));
                    }
                    this.step.set(Step::Peeking {
                        response: Some(response),
                    });
                }
                StepProj::Peeking { response } => {
                    let Some(held) = response else {
                        return Poll::Pending;
                    };
                    let frame = ready!(Pin::new(held.body_mut()).poll_frame(cx));
                    let Some(mut response) = response.take() else {
                        return Poll::Pending;
                    };
                    if let Some(verdict) = of_first(frame.as_ref()) {
                        response.extensions_mut().insert(verdict);
                    }
                    return Poll::Ready(Ok(response.map(|body| PeekBody {
                        over: frame.is_none(),
                        first: frame,
                        inner: body,
                    })));
                }
            }
        }
    }
}

impl<F, B> fmt::Debug for PeekFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekFuture").finish_non_exhaustive()
    }
}

/// Whether the head of a gRPC response leaves open how the call went.
fn is_open<B: Body>(response: &Response<B>) -> bool {
    let headers = response.headers();
    // gRPC-Web has its trailers inside of the body.
    let web = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc-web");
    is_grpc(headers) && !headers.get(CONTENT_TYPE).is_some_and(web) && {
        let verdict = response.verdict();
        let said = response.extensions().get::<Verdict>().is_some();
        !said
            && verdict.is_success()
            && verdict.grpc_code().is_none()
            && !response.body().is_end_stream()
    }
}

/// What the first frame says of the call; nothing if it goes on, or went well.
fn of_first<D, E>(frame: Option<&Result<Frame<D>, E>>) -> Option<Verdict> {
    match frame {
        Some(Ok(frame)) => of_trailers(frame.trailers_ref()?),
        // It broke before anything was delivered.
        Some(Err(_)) => Some(Verdict::new(Class::Unreachable)),
        // Over without a word.
        None => Some(Verdict::grpc(UNKNOWN)),
    }
}

/// gRPC's code for a call that ended without one.
const UNKNOWN: u16 = 2;

fn of_trailers(trailers: &HeaderMap) -> Option<Verdict> {
    // As if they were the head, which is how gRPC itself writes a call without messages.
    let mut head = Response::new(());
    *head.headers_mut() = trailers.clone();
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(CONTENT_TYPE, grpc);
    let verdict = head.verdict();
    if verdict.grpc_code().is_none() {
        return Some(Verdict::grpc(UNKNOWN));
    }
    (verdict.class() != Class::Success).then_some(verdict)
}

pin_project! {
    /// The body of a response under [`PeekLayer`]: the frame that was looked at, and the rest.
    pub struct PeekBody<B>
    where
        B: Body,
    {
        // Given out at the first poll.
        first: Option<Result<Frame<B::Data>, B::Error>>,
        // There was none: the body has ended and is not polled again.
        over: bool,
        #[pin]
        inner: B,
    }
}

impl<B: Body> PeekBody<B> {
    const fn plain(inner: B) -> Self {
        Self {
            first: None,
            over: false,
            inner,
        }
    }
}

impl<B: Body> Body for PeekBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None if *this.over => Poll::Ready(None),
            None => this.inner.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.first.is_none() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        if let Some(Ok(frame)) = &self.first
            && let Some(data) = frame.data_ref()
        {
            let first = bytes::Buf::remaining(data) as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(first));
            }
            hint.set_lower(hint.lower().saturating_add(first));
        }
        hint
    }
}

impl<B: Body> fmt::Debug for PeekBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekBody")
            .field("has_first", &self.first.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl PeekBody<http_body_util::Full<bytes::Bytes>> {
    pub(super) fn after(first: &'static str, rest: &'static str) -> Self {
        Self {
            first: Some(Ok(Frame::data(first.into()))),
            over: false,
            inner: rest.into(),
        }
    }
}
