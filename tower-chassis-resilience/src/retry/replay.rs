//! How the body of a request is sent a second time.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_chassis_core::BoxError;

use super::tape::{Again, Record, Tape, lock};

/// How the body of a request is sent a second time.
pub trait Replay<B>: Clone {
    /// The body that the inner service sees.
    type Body;
    /// What is kept of the first body.
    type Source;

    /// The body of a request that will not be tried again: nothing is kept.
    fn once(&self, body: B) -> Self::Body;

    /// The body of the first attempt, and what is kept to send it again; `None` if it is known to be longer
    /// than `limit` bytes.
    ///
    /// `idempotent` is false for a request that is repeated only if nothing of it was sent; then nothing that
    /// was read need be kept.
    fn split(&self, body: B, limit: usize, idempotent: bool) -> (Self::Body, Option<Self::Source>);

    /// The body once more, if all of it is there: it was read to its end and was not too long, or was dropped
    /// before its first poll.
    fn again(&self, source: &Self::Source) -> Option<Self::Body>;
}

/// Keeps what the first attempt reads while it reads it. The default.
///
/// Nothing is read ahead and nothing is kept of a body that is empty. Frames are kept, trailers too; a body that
/// turns out longer than the limit goes on, and the retry is given up. A body that was never polled comes back
/// whole, however long it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffered;

impl<B: Body> Replay<B> for Buffered {
    type Body = ReplayBody<B>;
    type Source = ReplaySource<B>;

    fn once(&self, body: B) -> ReplayBody<B> {
        ReplayBody {
            repr: Repr::Plain { body },
        }
    }

    fn split(
        &self,
        body: B,
        limit: usize,
        idempotent: bool,
    ) -> (ReplayBody<B>, Option<ReplaySource<B>>) {
        if body.is_end_stream() {
            return (self.once(body), Some(ReplaySource(None)));
        }
        if body.size_hint().lower() > limit as u64 {
            return (self.once(body), None);
        }
        let tape = Arc::new(Mutex::new(Tape::new(
            body,
            if idempotent { limit } else { 0 },
        )));
        let record = Record::new(Arc::clone(&tape));
        (
            ReplayBody {
                repr: Repr::Record { record },
            },
            Some(ReplaySource(Some(tape))),
        )
    }

    fn again(&self, source: &ReplaySource<B>) -> Option<ReplayBody<B>> {
        let repr = match &source.0 {
            None => Repr::Again {
                again: Again::empty(),
            },
            Some(tape) => {
                let mut held = lock(tape);
                match held.again()? {
                    Some(recorded) => Repr::Again {
                        again: Again::new(recorded),
                    },
                    None => Repr::Record {
                        record: Record::new(Arc::clone(tape)),
                    },
                }
            }
        };
        Some(ReplayBody { repr })
    }
}

/// What [`Buffered`] keeps of a body: nothing of one that is empty.
pub struct ReplaySource<B>(Option<Arc<Mutex<Tape<B>>>>);

impl<B> fmt::Debug for ReplaySource<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplaySource")
            .field("is_empty", &self.0.is_none())
            .finish()
    }
}

/// Clones the body, for bodies that are cheap to clone (`Full`, `Empty`, `Bytes` of your own). The type of the
/// body stays, and the limit does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

impl<B: Clone> Replay<B> for Cloned {
    type Body = B;
    type Source = B;

    fn once(&self, body: B) -> B {
        body
    }
    fn split(&self, body: B, _: usize, _: bool) -> (B, Option<B>) {
        let source = body.clone();
        (body, Some(source))
    }
    fn again(&self, source: &B) -> Option<B> {
        Some(source.clone())
    }
}

/// Turns the bodies of `R` into `O`, for an inner service that takes one type of body only: a tonic `Channel`, a
/// `service_fn` over axum's body, or [`tower_chassis_core::Body`].
pub struct Rewrapped<O, R = Buffered> {
    inner: R,
    body: PhantomData<fn() -> O>,
}

impl<O, R> Rewrapped<O, R> {
    /// The bodies of `inner`, as `O`.
    pub const fn new(inner: R) -> Self {
        Self {
            inner,
            body: PhantomData,
        }
    }
}

impl<O, R: Clone> Clone for Rewrapped<O, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<O, R: fmt::Debug> fmt::Debug for Rewrapped<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rewrapped").field(&self.inner).finish()
    }
}

impl<B, O, R> Replay<B> for Rewrapped<O, R>
where
    R: Replay<B>,
    O: From<R::Body>,
{
    type Body = O;
    type Source = R::Source;

    fn once(&self, body: B) -> O {
        self.inner.once(body).into()
    }
    fn split(&self, body: B, limit: usize, idempotent: bool) -> (O, Option<R::Source>) {
        let (body, source) = self.inner.split(body, limit, idempotent);
        (body.into(), source)
    }
    fn again(&self, source: &R::Source) -> Option<O> {
        self.inner.again(source).map(Into::into)
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
                Err(again) => Self::new(ReplayBody::<B> {
                    repr: Repr::Again { again },
                }),
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
