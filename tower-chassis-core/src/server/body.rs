use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::connection::Shared;
use crate::{BoxError, Kind, Rejection, invocation::Upload};

/// A request's body as it comes in: counted, and not waited for without end.
pub(super) struct Received {
    inner: Incoming,
    left: u64,
    stall: Duration,
    /// Armed at the first `Pending`; a body that is there costs no timer.
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
    connection: Shared,
    upload: Upload,
    failed: bool,
}

impl Received {
    pub(super) fn new(
        inner: Incoming,
        limit: u64,
        stall: Duration,
        connection: Shared,
        upload: Upload,
    ) -> Self {
        Self {
            inner,
            left: limit,
            stall,
            sleep: None,
            armed: false,
            connection,
            upload,
            failed: false,
        }
    }

    fn fail(&mut self, rejection: Rejection) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.failed = true;
        self.upload.set_waiting(false);
        // The client may still be sending: read on for a while, or it never sees the answer.
        self.connection.linger();
        Poll::Ready(Some(Err(rejection.into())))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.upload.set_waiting(polled.is_pending());
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.armed = false;
                let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.upload.add_received(len);
                match self.left.checked_sub(len) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => self.fail(Rejection::new(Kind::BodyTooLarge, "server")),
                }
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(Rejection::new(Kind::BadRequest, "server").because(error))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let this = &mut *self;
                let at = Instant::now() + this.stall;
                let armed = std::mem::replace(&mut this.armed, true);
                let sleep = this
                    .sleep
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                if !armed {
                    this.upload.take_answered();
                    sleep.as_mut().reset(at);
                }
                while sleep.as_mut().poll(cx).is_ready() {
                    // A stream of which the other half goes on does not stall.
                    if !this.upload.take_answered() {
                        return self.fail(Rejection::new(Kind::BodyTimeout, "server"));
                    }
                    sleep.as_mut().reset(Instant::now() + this.stall);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // Nobody asks for it any more.
        self.upload.set_waiting(false);
    }
}
