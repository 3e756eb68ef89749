//! A body that has so much time.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_chassis_core::{
    BoxError, Deadline, Kind, Rejection, Verdict, cause, clock, invocation::Upload,
};

use super::Report;

/// How far a [`TimeoutLayer`](super::TimeoutLayer) bounds a call.
#[diagnostic::on_unimplemented(
    message = "`{Res}` has no body whose end could be waited for",
    label = "this timeout is to last to the end of the body",
    note = "leave `.until_end()` out, or put the layer where the response is an `http::Response`"
)]
pub trait Bounds<Res> {
    /// What is answered.
    type Response;
    /// Of a call that is to end at `end`; `verdict` is for the guards below if its body is ended.
    fn new(end: Instant, verdict: Verdict) -> Self;
    /// It has more time.
    fn prolong(&mut self, end: Instant);
    /// An answer from inside, whose head is there. Takes `report` where there is more to report.
    fn bound(&self, response: Res, report: &mut Report) -> Self::Response;
}

/// To the head of the response.
#[derive(Clone, Copy, Debug)]
pub struct ToHead;

impl<Res> Bounds<Res> for ToHead {
    type Response = Res;
    fn new(_: Instant, _: Verdict) -> Self {
        Self
    }
    fn prolong(&mut self, _: Instant) {}
    fn bound(&self, response: Res, _: &mut Report) -> Res {
        response
    }
}

/// To the end of its body.
#[derive(Clone, Copy, Debug)]
pub struct ToEnd {
    end: Instant,
    verdict: Verdict,
}

impl<B: Body> Bounds<Response<B>> for ToEnd {
    type Response = Response<TimedBody<B>>;
    fn new(end: Instant, verdict: Verdict) -> Self {
        Self { end, verdict }
    }
    fn prolong(&mut self, end: Instant) {
        self.end = end;
    }
    fn bound(&self, response: Response<B>, report: &mut Report) -> Self::Response {
        let limit = Limit::End(self.end);
        response.map(|body| TimedBody::new(body, limit, self.verdict, report.take()))
    }
}

/// What ends a body.
#[derive(Debug)]
pub(super) enum Limit {
    /// Nothing any more.
    None,
    /// It is not over at that instant.
    End(Instant),
    /// Nothing moves for so long.
    Idle {
        after: Duration,
        /// When it has; known while it is waited for.
        due: Option<Instant>,
        /// The other half of the call, and how far it was when that was last looked at: whether that moves.
        upload: Option<Upload>,
        seen: u32,
    },
}

impl Limit {
    /// When it ends a body that is waited for now.
    fn due(&mut self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::End(end) => Some(*end),
            Self::Idle { due: Some(due), .. } => Some(*due),
            Self::Idle {
                after,
                due,
                upload,
                seen,
            } => {
                // What moved before does not count.
                *seen = upload.as_ref().map_or(0, Upload::received);
                Some(*due.insert(Deadline::after(clock::now(), *after).instant()))
            }
        }
    }

    /// Time is up: when it will be because the other half has moved since.
    fn later(&mut self) -> Option<Instant> {
        match self {
            Self::Idle {
                after,
                due,
                upload: Some(upload),
                seen,
            } if *seen != upload.received() => {
                *seen = upload.received();
                Some(*due.insert(Deadline::after(clock::now(), *after).instant()))
            }
            _ => None,
        }
    }
}

pin_project! {
    /// A body that is ended where its time is up: with an error around a [`Rejection`] of [`Kind::Timeout`], after
    /// what was inside has been dropped.
    pub struct TimedBody<B> {
        // None once the time was up.
        #[pin]
        inner: Option<B>,
        // None before the first Pending.
        timer: Option<Pin<Box<Sleep>>>,
        limit: Limit,
        verdict: Verdict,
        report: Report,
    }
}

impl<B: Body> TimedBody<B> {
    pub(super) fn new(inner: B, limit: Limit, verdict: Verdict, report: Report) -> Self {
        let limit = if inner.is_end_stream() {
            Limit::None
        } else {
            limit
        };
        Self {
            inner: Some(inner),
            timer: None,
            limit,
            verdict,
            report,
        }
    }
}

// Without what is in it: bodies are no business of a log.
impl<B> fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedBody")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let over = matches!(this.limit, Limit::End(end) if *end <= clock::now());
        if !over {
            let waited = matches!(this.limit, Limit::Idle { due: Some(_), .. });
            if let Poll::Ready(frame) = inner.poll_frame(cx) {
                match (&frame, &mut *this.limit) {
                    (Some(Ok(_)), Limit::Idle { due, .. }) => *due = None,
                    (Some(Ok(_)), _) => {}
                    _ => *this.limit = Limit::None,
                }
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
            let Some(mut due) = this.limit.due() else {
                return Poll::Pending;
            };
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            loop {
                // tokio's timer pends when the task has used up its share of a poll: then the clock has the last
                // word, as one that uses it up each time would never be ended.
                if timer.as_mut().poll(cx).is_pending() && !(waited && due <= clock::now()) {
                    return Poll::Pending;
                }
                // Set again when it fires and not with each frame: it may be that of an earlier wait.
                if timer.deadline() == due {
                    match this.limit.later() {
                        Some(later) => due = later,
                        None => break,
                    }
                }
                timer.as_mut().reset(due);
            }
        }
        *this.limit = Limit::None;
        *this.timer = None;
        cause::drop_with(*this.verdict, || this.inner.set(None));
        this.report.refused();
        let rejection = Rejection::new(Kind::Timeout, "timeout");
        Poll::Ready(Some(Err(rejection.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
