use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Frame;

use super::{Flaw, permits::Permit};
use crate::{Body, BoxError};

/// The body of [`Limit`](super::Limit)'s responses: it holds the permit.
#[derive(Debug)]
pub struct LimitBody {
    inner: Body,
    permit: Option<Permit>,
    frames: usize,
    first: Option<Frame<Bytes>>,
    flaw: Option<Flaw>,
}

impl LimitBody {
    pub(super) const fn new(inner: Body, permit: Option<Permit>, flaw: Option<Flaw>) -> Self {
        Self {
            inner,
            permit,
            frames: 0,
            first: None,
            flaw,
        }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if !frame.is_trailers() => self.frames += 1,
            ended => {
                let broken = matches!(ended, Some(Err(_)));
                if let Some(mut permit) = self.permit.take()
                    && broken
                    && self.flaw == Some(Flaw::LeaksBroken)
                {
                    permit.leak();
                }
            }
        }
        Poll::Ready(frame)
    }
}

use http_body::Body as _;

impl http_body::Body for LimitBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.flaw == Some(Flaw::HoldsFrames) && self.first.is_none() && self.frames == 0 {
            self.first = match ready!(self.poll_inner(cx)) {
                Some(Ok(frame)) => Some(frame),
                over => return Poll::Ready(over),
            };
        }
        if self.first.is_some() {
            let next = ready!(self.poll_inner(cx));
            let first = self.first.take().map(Ok);
            self.first = match next {
                Some(Ok(frame)) => Some(frame),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => None,
            };
            return Poll::Ready(first);
        }
        let frame = ready!(self.poll_inner(cx));
        let lost = self.flaw == Some(Flaw::LosesTrailers)
            && matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        Poll::Ready(frame.filter(|_| !lost))
    }
}

impl Drop for LimitBody {
    fn drop(&mut self) {
        let leaks = match self.flaw {
            Some(Flaw::LeaksUnread) => self.frames == 0,
            Some(Flaw::LeaksHalfRead) => self.frames > 0,
            _ => false,
        };
        if leaks && let Some(permit) = &mut self.permit {
            permit.leak();
        }
    }
}
