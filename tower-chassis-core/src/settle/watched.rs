use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{Held, Observe, UNHEARD};
use crate::{
    Verdict,
    verdict::{ClassifyEnd, End, Ending},
};

/// What a body's end is told to. Dropped, it ends as [`left`](Self::left) says.
struct Watch<G: Observe, C: ClassifyEnd> {
    guard: Option<G>,
    classify: C,
    /// Judges in place of `classify`.
    ending: Option<Ending>,
    head: Verdict,
    left: Left,
    /// Bytes that are yet to come; [`UNTOLD`] if nobody said how many there are.
    rest: u64,
}

/// More than ever pass.
const UNTOLD: u64 = u64::MAX;

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
            // hyper drops a body of known length after its last data frame, and that of a HEAD unpolled. What is known, by
            // the body or by a header, is not always known to `is_end_stream`.
            let complete = watch.rest == 0 && matches!(watch.left, Left::Midway);
            let ended = complete || this.inner.is_end_stream();
            if ended && !matches!(watch.left, Left::Panicked) {
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
            if !guard.listens() {
                return guard.done(UNHEARD, now);
            }
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
    /// A body whose head was judged at `now`, and told `length`.
    pub(super) fn new(
        inner: B,
        length: Option<u64>,
        guard: G,
        classify: C,
        ending: Option<Ending>,
        head: Verdict,
        now: Instant,
    ) -> Self {
        let mut watch = Watch {
            guard: Some(guard),
            classify,
            ending,
            head,
            left: Left::Unread,
            // Trailers are to come after it.
            rest: length.filter(|_| !head.is_unsaid()).unwrap_or(UNTOLD),
        };
        if inner.is_end_stream() {
            watch.end_at(End::Clean, now);
            return Self::done(inner);
        }
        Self {
            inner,
            watch: Some(watch),
        }
    }

    /// A body that nobody waits for any more.
    pub(super) const fn done(inner: B) -> Self {
        Self { inner, watch: None }
    }
}

impl<B, G, C> Body for Watched<B, G, C>
where
    B: Body<Error: 'static>,
    G: Observe,
    C: ClassifyEnd,
{
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
                    let bytes = data.remaining();
                    if watch.rest != UNTOLD {
                        watch.rest = watch.rest.saturating_sub(bytes as u64);
                    }
                    watch.guard.data(bytes);
                } else if let Some(trailers) = frame.trailers_ref()
                    && let Some(mut watch) = this.watch.take()
                {
                    watch.end(End::Trailers(trailers));
                }
            }
            Some(Err(error)) => {
                if let Some(mut watch) = this.watch.take() {
                    watch.end(End::Broken(Verdict::of_error(error)));
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
