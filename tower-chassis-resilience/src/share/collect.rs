use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response, response::Parts};
use http_body::Body;

use super::{
    body::{Reel, StoredBody, StoredResponse, to_bytes},
    rule::{Collected, off_the_hop},
};

/// Reads an HTTP answer, so far as it fits.
#[must_use = "futures do nothing unless polled"]
pub struct Collect<B> {
    parts: Option<Parts>,
    body: Source<B>,
    reel: Reel,
    limit: usize,
}

enum Source<B> {
    /// For the caller alone.
    Apart(Option<B>),
    /// Boxed, because it moves on if it turns out too long.
    Read(Pin<Box<B>>),
    Empty,
}

impl<B: Body> Collect<B> {
    /// Reads up to `limit` bytes; `None` is an answer that is the caller's alone.
    pub(super) fn new(response: Response<B>, limit: Option<usize>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            parts: Some(parts),
            body: match limit {
                None => Source::Apart(Some(body)),
                Some(_) if body.is_end_stream() => Source::Empty,
                Some(_) => Source::Read(Box::pin(body)),
            },
            reel: Reel::default(),
            limit: limit.unwrap_or(0),
        }
    }

    fn whole(&mut self, mut parts: Parts, trailers: Option<HeaderMap>) -> Output<B> {
        off_the_hop(&mut parts.headers);
        Collected::Shared(Arc::new(StoredResponse {
            parts,
            body: mem::take(&mut self.reel).wind(),
            trailers,
        }))
    }

    fn apart(&mut self, parts: Parts, next: Option<Bytes>, error: Option<B::Error>) -> Output<B> {
        let body = match mem::replace(&mut self.body, Source::Empty) {
            Source::Read(body) if error.is_none() => Some(body),
            _ => None,
        };
        let ahead = mem::take(&mut self.reel).wind();
        let body = StoredBody::rest(ahead, next, error, body);
        Collected::Apart(Response::from_parts(parts, body))
    }
}

type Output<B> = Collected<Arc<StoredResponse>, Response<StoredBody<B>>>;

// The body is in a box, if it is pinned at all.
impl<B> Unpin for Collect<B> {}

impl<B: Body> Future for Collect<B> {
    type Output = Output<B>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let frame = match &mut self.body {
                Source::Apart(body) => {
                    let body = body.take();
                    return match (self.parts.take(), body) {
                        (Some(parts), Some(body)) => {
                            let body = StoredBody::live(body);
                            Poll::Ready(Collected::Apart(Response::from_parts(parts, body)))
                        }
                        _ => Poll::Pending,
                    };
                }
                Source::Read(body) => ready!(body.as_mut().poll_frame(cx)),
                Source::Empty => None,
            };
            let frame = frame.map(|frame| frame.map(to_bytes));
            let end = match frame {
                None => Ok(None),
                Some(Err(error)) => Err((None, Some(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        let limit = self.limit;
                        if self.reel.push(&bytes, limit) {
                            continue;
                        }
                        Err((Some(bytes), None))
                    }
                    Err(frame) => Ok(frame.into_trailers().ok()),
                },
            };
            let Some(parts) = self.parts.take() else {
                return Poll::Pending;
            };
            return Poll::Ready(match end {
                Ok(trailers) => self.whole(parts, trailers),
                Err((next, error)) => self.apart(parts, next, error),
            });
        }
    }
}

impl<B> fmt::Debug for Collect<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect")
            .field("is_over", &self.parts.is_none())
            .finish_non_exhaustive()
    }
}
