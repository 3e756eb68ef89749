//! Bodies that are made frame by frame.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tower_chassis_core::{
    Body, BoxError,
    body::{Bytes, Frame, HttpBody},
    boxed::BoxFuture,
};

/// What makes the frames of a body.
pub(crate) trait Frames: Sized + Send + 'static {
    /// The next one; none at the end. Polled until it is there, and dropped when nobody reads any more.
    fn next(self) -> impl Future<Output = Option<(Frame<Bytes>, Self)>> + Send;
}

/// The body of these frames.
pub(crate) fn body<F: Frames>(frames: F) -> Body {
    Body::new(Streaming {
        next: Some(Box::pin(frames.next())),
    })
}

struct Streaming<F> {
    /// None at the end.
    next: Option<BoxFuture<'static, Option<(Frame<Bytes>, F)>>>,
}

impl<F: Frames> HttpBody for Streaming<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let made = ready!(next.as_mut().poll(cx));
        self.next = None;
        Poll::Ready(made.map(|(frame, frames)| {
            if !frame.is_trailers() {
                self.next = Some(Box::pin(frames.next()));
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none()
    }
}
