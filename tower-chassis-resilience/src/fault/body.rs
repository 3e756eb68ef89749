use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep_until},
};
use tower_chassis_core::{BoxError, Class, Verdict};

use super::{error::InjectedFault, kinds::BodyPlan, shared::Active};

/// The longest piece that a slow body lets through at once.
const LARGEST: u64 = 64 * 1024;

pin_project! {
    /// The body of an answer under [`FaultLayer::http`](super::FaultLayer::http): the service's own, perhaps slow or
    /// cut off, or that of a failure that was injected. Without a fault it is neither boxed nor looked at.
    pub struct FaultBody<B> {
        #[pin]
        repr: Repr<B>,
    }
}

pin_project! {
    #[project = ReprProj]
    enum Repr<B> {
        Inner { #[pin] body: B },
        Faulty { faulty: Pin<Box<Faulty<B>>> },
        Made { bytes: Bytes },
    }
}

impl<B> FaultBody<B> {
    pub(super) const fn inner(body: B) -> Self {
        Self {
            repr: Repr::Inner { body },
        }
    }

    pub(super) const fn made(bytes: Bytes) -> Self {
        Self {
            repr: Repr::Made { bytes },
        }
    }

    pub(super) fn faulty(body: B, plan: BodyPlan, rule: Arc<str>, active: Active) -> Self {
        let killed = Arc::clone(active.shared().killed()).notified_owned();
        let faulty = Faulty {
            body,
            rest: Bytes::new(),
            pace: plan.throttle.map(Pace::new),
            left: plan.truncate,
            over: false,
            sleep: None,
            piece: 0,
            killed,
            active: Some(active),
            rule,
        };
        Self {
            repr: Repr::Faulty {
                faulty: Box::pin(faulty),
            },
        }
    }
}

/// When the next piece may pass. A slow line delivers its byte number `k` after `k / rate`.
#[derive(Debug)]
struct Pace {
    rate: u64,
    due: Option<Instant>,
}

impl Pace {
    const fn new(rate: u64) -> Self {
        Self { rate, due: None }
    }

    /// The largest piece: a tenth of a second.
    fn piece(&self) -> usize {
        (self.rate / 10).clamp(1, LARGEST) as usize
    }

    /// Bytes have arrived to be sent. A line that was idle has saved nothing up.
    fn arrived(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)));
    }

    /// When the next `bytes` are through.
    fn next(&mut self, bytes: usize) -> Instant {
        let took = Duration::from_nanos(
            u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(self.rate))
                .unwrap_or(u64::MAX),
        );
        let due = self.due.unwrap_or_else(Instant::now);
        let due = due.checked_add(took).unwrap_or(due);
        self.due = Some(due);
        due
    }
}

pin_project! {
    struct Faulty<B> {
        #[pin]
        body: B,
        // Came from the body and is not through.
        rest: Bytes,
        pace: Option<Pace>,
        // Until it breaks.
        left: Option<u64>,
        over: bool,
        // While a piece is on its way, and how long that is.
        #[pin]
        sleep: Option<Sleep>,
        piece: usize,
        #[pin]
        killed: OwnedNotified,
        // After the body: what it holds is let go first.
        active: Option<Active>,
        rule: Arc<str>,
    }
}

impl<B: Body<Data = Bytes>> Faulty<B>
where
    B::Error: Into<BoxError>,
{
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        loop {
            let active = this.active.as_ref();
            let mut killed = active.is_some_and(|active| active.shared().is_killed());
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut()
                && !killed
            {
                if sleep.poll(cx).is_pending() {
                    ready!(this.killed.as_mut().poll(cx));
                    killed = true;
                } else {
                    this.sleep.set(None);
                    return Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(*this.piece)))));
                }
            }
            if killed {
                // The rest passes as if there had been no fault.
                *this.pace = None;
                *this.left = None;
                this.sleep.set(None);
                *this.active = None;
            }
            if *this.over {
                return Poll::Ready(None);
            }
            if this.rest.is_empty() {
                let frame = match ready!(this.body.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => {
                        (*this.over, *this.active) = (true, None);
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    None => {
                        (*this.over, *this.active) = (true, None);
                        return Poll::Ready(None);
                    }
                };
                match frame.into_data() {
                    Ok(data) if data.is_empty() => {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(data) => *this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                }
                if let Some(pace) = this.pace {
                    pace.arrived(Instant::now());
                }
            }
            let mut piece = this.rest.len();
            if let Some(left) = this.left {
                if *left == 0 {
                    (*this.over, *this.active) = (true, None);
                    let broken = Verdict::new(Class::Unreachable);
                    let error = InjectedFault::error(this.rule, broken);
                    return Poll::Ready(Some(Err(error)));
                }
                piece = piece.min(usize::try_from(*left).unwrap_or(usize::MAX));
            }
            if let Some(pace) = this.pace.as_mut() {
                piece = piece.min(pace.piece());
                this.sleep.set(Some(sleep_until(pace.next(piece))));
            }
            if let Some(left) = this.left {
                *left -= piece as u64;
            }
            *this.piece = piece;
            if this.sleep.is_none() {
                return Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(piece)))));
            }
        }
    }
}

impl<B> Faulty<B> {
    fn is_end_stream(&self) -> bool
    where
        B: Body,
    {
        self.over || (self.rest.is_empty() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint
    where
        B: Body,
    {
        if self.over {
            return SizeHint::with_exact(0);
        }
        // What is announced is what the service announced: that is what a body that is cut off is short of.
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

impl<B: Body<Data = Bytes>> Body for FaultBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().repr.project() {
            ReprProj::Inner { body } => body.poll_frame(cx).map_err(Into::into),
            ReprProj::Faulty { faulty } => faulty.as_mut().poll_frame(cx),
            ReprProj::Made { bytes } if bytes.is_empty() => Poll::Ready(None),
            ReprProj::Made { bytes } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.repr {
            Repr::Inner { body } => body.is_end_stream(),
            Repr::Faulty { faulty } => faulty.is_end_stream(),
            Repr::Made { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.repr {
            Repr::Inner { body } => body.size_hint(),
            Repr::Faulty { faulty } => faulty.size_hint(),
            Repr::Made { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

// Without what is in it: bodies are no business of a log.
impl<B> fmt::Debug for FaultBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.repr {
            Repr::Inner { .. } => "FaultBody(inner)",
            Repr::Faulty { .. } => "FaultBody(faulty)",
            Repr::Made { .. } => "FaultBody(made)",
        })
    }
}
