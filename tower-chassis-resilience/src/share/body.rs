//! A body that was kept, is being kept, or passes.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header, response::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::rule::compact;

/// A whole HTTP answer.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl StoredResponse {
    /// The bytes of its body and headers, and what it takes to hold them.
    pub(super) fn weight(&self) -> usize {
        let of = |headers: &HeaderMap| {
            let entries = headers.iter();
            entries
                .map(|(name, value)| name.as_str().len() + value.len() + 64)
                .sum::<usize>()
        };
        size_of::<Self>()
            + self.body.len()
            + of(&self.parts.headers)
            + self.trailers.as_ref().map_or(0, of)
    }
}

/// Takes what was kept, once.
pub trait Sink<T>: Send {
    /// Takes it.
    fn keep(self, kept: T);
}

/// A [`Sink`] of any type.
trait AnySink: Send {
    fn keep(self: Box<Self>, kept: Arc<StoredResponse>);
}

impl<P: Sink<Arc<StoredResponse>>> AnySink for P {
    fn keep(self: Box<Self>, kept: Arc<StoredResponse>) {
        Sink::keep(*self, kept);
    }
}

pin_project! {
    /// The body of an answer that may be given to many: kept, on its way, or both.
    ///
    /// Its data are [`Bytes`]; a body of other data is copied.
    pub struct StoredBody<B>
    where
        B: Body,
    {
        #[pin]
        repr: Repr<B, B::Error>,
    }

    impl<B: Body> PinnedDrop for StoredBody<B> {
        fn drop(this: Pin<&mut Self>) {
            // hyper drops a body of known length after its last byte, without asking for its end.
            if let ReprProj::Tee { tee, .. } = this.project().repr.project()
                && let Some(tee) = tee.take_if(|tee| tee.expected == Some(tee.reel.len as u64))
            {
                tee.finish(None);
            }
        }
    }
}

pin_project! {
    #[project = ReprProj]
    enum Repr<B, E> {
        // None once all is out; the data come first.
        Kept { stored: Option<Arc<StoredResponse>>, data: bool },
        Live { #[pin] body: B },
        // Some of it was read ahead: then comes the error that was met, or the rest.
        Rest {
            ahead: [Option<Bytes>; 2],
            error: Option<E>,
            body: Option<Pin<Box<B>>>,
        },
        Tee { tee: Option<Box<Tee>>, #[pin] body: B },
    }
}

impl<B: Body> StoredBody<B> {
    pub(super) fn kept(stored: Arc<StoredResponse>) -> Self {
        let data = !stored.body.is_empty();
        let stored = (data || stored.trailers.is_some()).then_some(stored);
        Self {
            repr: Repr::Kept { stored, data },
        }
    }

    pub(super) const fn live(body: B) -> Self {
        Self {
            repr: Repr::Live { body },
        }
    }

    pub(super) fn rest(
        ahead: Bytes,
        next: Option<Bytes>,
        error: Option<B::Error>,
        body: Option<Pin<Box<B>>>,
    ) -> Self {
        Self {
            repr: Repr::Rest {
                ahead: [Some(ahead), next].map(|bytes| bytes.filter(|bytes| !bytes.is_empty())),
                error,
                body,
            },
        }
    }

    pub(super) fn tee(
        body: B,
        parts: Parts,
        limit: usize,
        sink: impl Sink<Arc<StoredResponse>> + 'static,
    ) -> Self {
        let mut tee = Tee {
            parts,
            limit,
            expected: body.size_hint().exact(),
            reel: Reel::default(),
            sink: Box::new(sink),
        };
        if body.is_end_stream() {
            tee.finish(None);
            return Self::live(body);
        }
        tee.reel.compacts = true;
        Self {
            repr: Repr::Tee {
                tee: Some(Box::new(tee)),
                body,
            },
        }
    }
}

/// What passed so far.
#[derive(Default)]
pub(super) struct Reel {
    first: Bytes,
    more: BytesMut,
    len: usize,
    compacts: bool,
}

impl Reel {
    /// Whether it still fits.
    pub(super) fn push(&mut self, bytes: &Bytes, limit: usize) -> bool {
        if bytes.len() > limit - self.len.min(limit) {
            return false;
        }
        if self.len == 0 {
            self.first = bytes.clone();
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&self.first);
            }
            self.more.extend_from_slice(bytes);
        }
        self.len += bytes.len();
        true
    }

    pub(super) fn wind(self) -> Bytes {
        match self.more.is_empty() {
            true if self.compacts => compact(&self.first),
            true => self.first,
            false => self.more.freeze(),
        }
    }
}

struct Tee {
    parts: Parts,
    limit: usize,
    expected: Option<u64>,
    reel: Reel,
    sink: Box<dyn AnySink>,
}

impl Tee {
    /// Whether it ended before what was announced. The answer to a HEAD announces what it does not have.
    fn is_cut_off(&self) -> bool {
        let said = self.parts.headers.get(header::CONTENT_LENGTH);
        let said = said.and_then(|said| said.to_str().ok()?.parse().ok());
        let len = self.reel.len as u64;
        self.expected.is_some_and(|expected| expected != len)
            || (len > 0 && said.is_some_and(|said: u64| said != len))
    }

    fn finish(self, trailers: Option<HeaderMap>) {
        if self.is_cut_off() {
            return;
        }
        self.sink.keep(Arc::new(StoredResponse {
            parts: self.parts,
            body: self.reel.wind(),
            trailers,
        }));
    }
}

/// The same frame with [`Bytes`]; no copy where they already are.
pub(super) fn to_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

impl<B: Body> Body for StoredBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().repr.project() {
            ReprProj::Kept { stored, data } => {
                if std::mem::take(data)
                    && let Some(kept) = stored
                {
                    let bytes = kept.body.clone();
                    if kept.trailers.is_none() {
                        *stored = None;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                let trailers = stored.take().and_then(|stored| stored.trailers.clone());
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            ReprProj::Live { body } => body.poll_frame(cx).map_ok(to_bytes),
            ReprProj::Rest { ahead, error, body } => {
                if let Some(bytes) = ahead.iter_mut().find_map(Option::take) {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                if let Some(error) = error.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                match body {
                    Some(body) => body.as_mut().poll_frame(cx).map_ok(to_bytes),
                    None => Poll::Ready(None),
                }
            }
            ReprProj::Tee { tee, mut body } => {
                let frame = ready!(body.as_mut().poll_frame(cx)).map(|frame| frame.map(to_bytes));
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(bytes) = frame.data_ref() {
                            if let Some(passing) = tee
                                && !passing.reel.push(bytes, passing.limit)
                            {
                                *tee = None;
                            }
                            // hyper does not ask a body of known length for its end.
                            if body.is_end_stream()
                                && let Some(tee) = tee.take()
                            {
                                tee.finish(None);
                            }
                        } else if let Some(tee) = tee.take() {
                            tee.finish(frame.trailers_ref().cloned());
                        }
                    }
                    Some(Err(_)) => *tee = None,
                    None => {
                        if let Some(tee) = tee.take() {
                            tee.finish(None);
                        }
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.repr {
            Repr::Kept { stored, .. } => stored.is_none(),
            Repr::Live { body } | Repr::Tee { body, .. } => body.is_end_stream(),
            Repr::Rest { ahead, error, body } => {
                let over = body.as_ref().is_none_or(|body| body.is_end_stream());
                ahead.iter().all(Option::is_none) && error.is_none() && over
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.repr {
            Repr::Kept { stored, data } => {
                let len = stored.as_ref().filter(|_| *data);
                let len = len.map_or(0, |stored| stored.body.len() as u64);
                let trailers = stored
                    .as_ref()
                    .is_some_and(|stored| stored.trailers.is_some());
                // HTTP/1 sends trailers only where the length is not announced.
                if trailers {
                    let mut hint = SizeHint::new();
                    hint.set_lower(len);
                    hint
                } else {
                    SizeHint::with_exact(len)
                }
            }
            Repr::Live { body } | Repr::Tee { body, .. } => body.size_hint(),
            Repr::Rest { ahead, error, body } => {
                let ahead: u64 = ahead.iter().flatten().map(|bytes| bytes.len() as u64).sum();
                let inner = match body {
                    Some(body) => body.size_hint(),
                    None if error.is_none() => SizeHint::with_exact(0),
                    None => SizeHint::default(),
                };
                let mut hint = SizeHint::new();
                if let Some(upper) = inner.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint.set_lower(inner.lower().saturating_add(ahead));
                hint
            }
        }
    }
}

impl<B: Body> fmt::Debug for StoredBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.repr {
            Repr::Kept { .. } => "StoredBody(kept)",
            Repr::Live { .. } => "StoredBody(live)",
            Repr::Rest { .. } => "StoredBody(rest)",
            Repr::Tee { .. } => "StoredBody(tee)",
        })
    }
}
