//! An HTTP request whose body is recorded while the first attempt reads it.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{Request, request::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_chassis_core::BoxError;

use super::{
    memory::ReplayMemory,
    replay::Replay,
    tape::{Again, Record, Tape, lock},
};

/// Keeps what the first attempt reads of an HTTP body while it reads it. The default.
///
/// Nothing is read ahead and nothing is kept of a body that is empty. Frames are kept, trailers too; a body that
/// turns out longer than the limit goes on, and the retry is given up. So it is where an attempt did not read it to its
/// end, which is there when the body says so ([`Body::is_end_stream`]) or was asked for it: trailers may follow. A body
/// that was never polled comes back whole, however long it is. All layers together keep 64 MiB at the most, or what [`within`](Self::within) says.
#[derive(Clone, Debug, Default)]
pub struct Buffered {
    memory: ReplayMemory,
}

impl Buffered {
    /// Keeps bodies within `memory`, for [`RetryLayer::replay`](super::RetryLayer::replay).
    #[must_use]
    pub const fn within(memory: ReplayMemory) -> Self {
        Self { memory }
    }
}

impl<B: Body> Replay<Request<B>> for Buffered {
    type Request = Request<ReplayBody<B>>;
    type Source = ReplaySource<B>;

    fn once(&self, request: Request<B>) -> Self::Request {
        request.map(ReplayBody::plain)
    }

    fn split(
        &self,
        request: Request<B>,
        limit: usize,
        idempotent: bool,
    ) -> (Self::Request, Option<ReplaySource<B>>) {
        let body = request.body();
        let tape = if body.is_end_stream() {
            None
        } else if body.size_hint().lower() > limit as u64 {
            // Decided before the head is copied.
            return (self.once(request), None);
        } else {
            Some(if idempotent { limit } else { 0 })
        };
        let (head, body) = request.into_parts();
        let (body, tape) = match tape {
            None => (ReplayBody::plain(body), None),
            Some(limit) => {
                let tape = Arc::new(Mutex::new(Tape::new(body, limit, self.memory.clone())));
                (ReplayBody::record(&tape), Some(tape))
            }
        };
        let source = ReplaySource {
            head: Some(head.clone()),
            tape,
        };
        (Request::from_parts(head, body), Some(source))
    }

    fn again(&self, source: &mut ReplaySource<B>, last: bool) -> Option<Self::Request> {
        let body = match &source.tape {
            None => ReplayBody::again(Again::empty()),
            Some(tape) => {
                let recorded = lock(tape).again()?;
                match recorded {
                    Some(recorded) => ReplayBody::again(Again::new(recorded)),
                    None => ReplayBody::record(tape),
                }
            }
        };
        let head = if last {
            source.head.take()
        } else {
            source.head.clone()
        };
        Some(Request::from_parts(head?, body))
    }
}

/// What [`Buffered`] keeps of a request: its head, and nothing of a body that is empty.
pub struct ReplaySource<B> {
    /// Gone once the last attempt took it.
    head: Option<Parts>,
    tape: Option<Arc<Mutex<Tape<B>>>>,
}

/// The call is over: what was kept goes, and what is still on its way is not kept.
impl<B> Drop for ReplaySource<B> {
    fn drop(&mut self) {
        if let Some(tape) = &self.tape {
            // Bytes are foreign code: they go outside of the lock.
            let kept = lock(tape).let_go();
            drop(kept);
        }
    }
}

impl<B> fmt::Debug for ReplaySource<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaySource")
            .field("is_empty", &self.tape.is_none())
            .finish()
    }
}

pin_project! {
    /// The body of a request under [`Buffered`]: the caller's own, passing through, or a replay of it.
    ///
    /// Its data are [`Bytes`]; a body of other data is copied.
    pub struct ReplayBody<B> {
        #[pin]
        repr: Repr<B>,
    }
}

pin_project! {
    #[project = ReprProj]
    enum Repr<B> {
        Plain { #[pin] body: B },
        Record { #[pin] record: Record<B> },
        Again { again: Again },
    }
}

impl<B> ReplayBody<B> {
    const fn plain(body: B) -> Self {
        Self {
            repr: Repr::Plain { body },
        }
    }

    fn record(tape: &Arc<Mutex<Tape<B>>>) -> Self {
        let record = Record::new(Arc::clone(tape));
        Self {
            repr: Repr::Record { record },
        }
    }

    const fn again(again: Again) -> Self {
        Self {
            repr: Repr::Again { again },
        }
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().repr.project() {
            ReprProj::Plain { body } => body.poll_frame(cx).map_ok(to_bytes),
            ReprProj::Record { record } => record.poll_frame(cx),
            ReprProj::Again { again } => Poll::Ready(again.next().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.repr {
            Repr::Plain { body } => body.is_end_stream(),
            Repr::Record { record } => record.is_end_stream(),
            Repr::Again { again } => again.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.repr {
            Repr::Plain { body } => body.size_hint(),
            Repr::Record { record } => record.size_hint(),
            Repr::Again { again } => again.size_hint(),
        }
    }
}

/// The same frame with [`Bytes`]; no copy where they already are.
pub(super) fn to_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

impl<B> From<ReplayBody<B>> for tower_chassis_core::Body
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Boxes only what is recorded, replayed in several frames or of an unknown kind.
    fn from(body: ReplayBody<B>) -> Self {
        match body.repr {
            Repr::Plain { body } => Self::new(body),
            Repr::Again { again } => match again.whole() {
                Ok(bytes) => Self::full(bytes),
                Err(again) => Self::new(ReplayBody::<B>::again(again)),
            },
            repr @ Repr::Record { .. } => Self::new(ReplayBody { repr }),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.repr {
            Repr::Plain { .. } => "ReplayBody(plain)",
            Repr::Record { .. } => "ReplayBody(record)",
            Repr::Again { .. } => "ReplayBody(again)",
        })
    }
}

#[cfg(test)]
impl<B: Send + 'static> ReplaySource<B> {
    /// Tells whether nobody holds the lock of the tape.
    pub(super) fn lock_is_free(&self) -> impl Fn() -> bool + Send + 'static {
        let tape = self.tape.as_ref().map(Arc::downgrade);
        move || {
            let tape = tape.as_ref().and_then(std::sync::Weak::upgrade);
            tape.is_none_or(|tape| tape.try_lock().is_ok())
        }
    }
}
