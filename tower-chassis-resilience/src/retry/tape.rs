//! What is kept of a body that is read once and may be wanted twice.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    buffered::to_bytes,
    memory::{Charge, ReplayMemory},
};

/// Smaller frames are copied together, all but the first: a small frame may hold a large read buffer alive.
const SMALL: usize = 4_096;

/// One body, shared by the attempt that reads it and the future that may want it again.
pub(super) struct Tape<B> {
    limit: usize,
    memory: ReplayMemory,
    /// What the body says of its length before it is read.
    hint: SizeHint,
    state: State<B>,
}

enum State<B> {
    /// Never polled. `held` while a [`Record`] may still poll it.
    Unread { body: B, held: bool },
    /// An attempt reads it.
    Reading(Reel),
    /// All of it is here.
    Done(Arc<Recorded>),
    /// It was too long, broke, or was dropped half-way.
    Lost,
}

pub(super) fn lock<B>(tape: &Mutex<Tape<B>>) -> MutexGuard<'_, Tape<B>> {
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Body> Tape<B> {
    pub(super) fn new(body: B, limit: usize, memory: ReplayMemory) -> Self {
        Self {
            limit,
            memory,
            hint: body.size_hint(),
            state: State::Unread { body, held: true },
        }
    }
}

// Bodies and bytes are foreign code: under the lock of a tape nobody asks or drops them.
impl<B> Tape<B> {
    /// The body, for who is to read it.
    fn begin(&mut self) -> Option<B> {
        let reel = Reel {
            charge: Charge::on(self.memory.clone()),
            ..Reel::default()
        };
        match mem::replace(&mut self.state, State::Reading(reel)) {
            State::Unread { body, .. } => Some(body),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// What the body says of its length, if it was not read.
    fn unread(&self) -> Option<SizeHint> {
        matches!(self.state, State::Unread { .. }).then_some(self.hint)
    }

    /// What can be sent again: `Some(Some(_))` is a recording, `Some(None)` the body itself, which the next
    /// [`Record`] takes. Never while an attempt still has the body: it may yet read it.
    pub(super) fn again(&mut self) -> Option<Option<Arc<Recorded>>> {
        match &mut self.state {
            State::Done(recorded) => Some(Some(Arc::clone(recorded))),
            State::Unread { held, .. } if !*held => {
                *held = true;
                Some(None)
            }
            _ => None,
        }
    }

    /// Whether there is something that more frames may complete.
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        let State::Reading(reel) = &mut self.state else {
            return false;
        };
        match frame.data_ref() {
            Some(bytes) => reel.push(bytes, self.limit),
            None => {
                reel.trailers = frame.trailers_ref().cloned();
                true
            }
        }
    }

    fn finish(&mut self) {
        if let State::Reading(reel) = &mut self.state {
            self.state = State::Done(Arc::new(mem::take(reel).wind()));
        }
    }

    /// What was kept of a body that is not wanted again, or cannot be.
    #[must_use = "to be dropped outside of the lock"]
    fn lose(&mut self) -> State<B> {
        mem::replace(&mut self.state, State::Lost)
    }

    /// Nobody wants it again: what was kept. A body that was not read yet stays for whoever reads it.
    pub(super) fn let_go(&mut self) -> Kept {
        match mem::replace(&mut self.state, State::Lost) {
            State::Reading(reel) => Kept(Some(reel), None),
            State::Done(recorded) => Kept(None, Some(recorded)),
            unread => {
                self.state = unread;
                Kept(None, None)
            }
        }
    }
}

/// What a tape kept, to be dropped.
pub(super) struct Kept(
    #[allow(dead_code, reason = "for its drop")] Option<Reel>,
    #[allow(dead_code, reason = "for its drop")] Option<Arc<Recorded>>,
);

/// The frames so far.
#[derive(Default)]
struct Reel {
    frames: Vec<Bytes>,
    tail: BytesMut,
    len: usize,
    trailers: Option<HeaderMap>,
    charge: Charge,
}

impl Reel {
    fn push(&mut self, bytes: &Bytes, limit: usize) -> bool {
        if bytes.len() > limit - self.len || !self.charge.add(bytes.len()) {
            return false;
        }
        self.len += bytes.len();
        if bytes.len() >= SMALL || self.frames.is_empty() {
            self.cut();
            if !bytes.is_empty() {
                self.frames.push(bytes.clone());
            }
        } else {
            self.tail.extend_from_slice(bytes);
        }
        true
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.frames.push(self.tail.split().freeze());
        }
    }

    fn wind(mut self) -> Recorded {
        self.cut();
        Recorded {
            frames: self.frames,
            len: self.len as u64,
            trailers: self.trailers,
            _charge: self.charge,
        }
    }
}

pin_project! {
    /// The body of an attempt: passes frames on and leaves a copy on the tape.
    pub(super) struct Record<B> {
        tape: Arc<Mutex<Tape<B>>>,
        // Taken from the tape at the first poll, so that an attempt that never polls leaves it there.
        #[pin]
        body: Option<B>,
        keeping: bool,
    }

    impl<B> PinnedDrop for Record<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.body.is_some() && !*this.keeping {
                return;
            }
            let mut tape = lock(this.tape);
            let lost = match &mut tape.state {
                State::Unread { held, .. } => {
                    *held = false;
                    None
                }
                // Also where all of its bytes were read: trailers may have followed.
                State::Reading(_) => Some(tape.lose()),
                State::Done(_) | State::Lost => None,
            };
            drop(tape);
            drop(lost);
        }
    }
}

impl<B> Record<B> {
    pub(super) const fn new(tape: Arc<Mutex<Tape<B>>>) -> Self {
        Self {
            tape,
            body: None,
            keeping: false,
        }
    }
}

impl<B: Body> Record<B> {
    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if this.body.is_none() {
            let body = lock(this.tape).begin();
            *this.keeping = body.is_some();
            this.body.set(body);
        }
        let Some(mut body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.as_mut().poll_frame(cx)).map(|frame| frame.map(to_bytes));
        if !*this.keeping {
            return Poll::Ready(frame);
        }
        let is_last = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || body.is_end_stream(),
            _ => true,
        };
        let mut tape = lock(this.tape);
        let kept = match &frame {
            // Whoever might have wanted it has gone: the answer is there, and the upload goes on.
            _ if Arc::strong_count(this.tape) == 1 => false,
            Some(Ok(frame)) => tape.keep(frame),
            Some(Err(_)) => false,
            None => true,
        };
        let mut lost = None;
        if !kept {
            lost = Some(tape.lose());
        } else if is_last {
            // hyper drops a body that says so without asking for its end.
            tape.finish();
        }
        drop(tape);
        drop(lost);
        *this.keeping = kept && !is_last;
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => lock(&self.tape).unread().unwrap_or_default(),
        }
    }
}

/// A body that was read to its end.
#[derive(Debug)]
pub(super) struct Recorded {
    frames: Vec<Bytes>,
    len: u64,
    trailers: Option<HeaderMap>,
    _charge: Charge,
}

/// A recorded body on its way out.
#[derive(Debug)]
pub(super) struct Again {
    /// None is an empty body.
    recorded: Option<Arc<Recorded>>,
    next: usize,
    left: u64,
}

impl Again {
    pub(super) const fn empty() -> Self {
        Self {
            recorded: None,
            next: 0,
            left: 0,
        }
    }

    pub(super) fn new(recorded: Arc<Recorded>) -> Self {
        Self {
            left: recorded.len,
            recorded: Some(recorded),
            next: 0,
        }
    }

    /// All of it in one piece, where it is one.
    pub(super) fn whole(self) -> Result<Bytes, Self> {
        match &self.recorded {
            None => Ok(Bytes::new()),
            Some(recorded) if recorded.trailers.is_none() => match &*recorded.frames {
                [] => Ok(Bytes::new()),
                [bytes] => Ok(bytes.clone()),
                _ => Err(self),
            },
            Some(_) => Err(self),
        }
    }

    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        let recorded = self.recorded.as_ref()?;
        let next = self.next;
        self.next += 1;
        match recorded.frames.get(next) {
            Some(bytes) => {
                self.left -= bytes.len() as u64;
                Some(Frame::data(bytes.clone()))
            }
            None => {
                let trailers = recorded.trailers.clone();
                self.recorded = None;
                trailers.map(Frame::trailers)
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.recorded
            .as_ref()
            .is_none_or(|r| self.next >= r.frames.len() && r.trailers.is_none())
    }

    /// Exact, but for a body with trailers: HTTP/1 sends those only where the length is not announced.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self
            .recorded
            .as_ref()
            .is_none_or(|recorded| recorded.trailers.is_none())
        {
            return SizeHint::with_exact(self.left);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(self.left);
        hint
    }
}
