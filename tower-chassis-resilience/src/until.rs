//! A future that runs until an instant: what timeouts and deadlines are made of.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_chassis_core::{Verdict, cause, clock};

/// What happens where the time is up and the inner future is polled again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Late {
    /// It is polled once more: an answer that came in time is not lost because its task was late.
    Answers,
    /// It is not polled: nothing begins any more.
    Ends,
}

pin_project! {
    /// Ends `inner` at an instant.
    #[derive(Debug)]
    pub(crate) struct Until<F> {
        // None once the time was up.
        #[pin]
        inner: Option<F>,
        // None before the first Pending: most calls to a near service never need it.
        #[pin]
        sleep: Option<Sleep>,
        end: Instant,
        verdict: Verdict,
    }
}

impl<F: Future> Until<F> {
    #[inline]
    /// Ends `inner` at `end`; the guards below are told `verdict`.
    pub(crate) const fn new(inner: F, end: Instant, verdict: Verdict) -> Self {
        Self {
            inner: Some(inner),
            sleep: None,
            end,
            verdict,
        }
    }

    /// What the inner future says, or `None` where the time was up: then it has been dropped. `longer` is asked
    /// when the time is up, and may give more.
    pub(crate) fn poll_until(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        late: Late,
        longer: impl FnOnce() -> Option<Instant>,
    ) -> Poll<Option<F::Output>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let first = this.sleep.is_none();
        let over = late == Late::Ends && clock::now() >= *this.end;
        if !over {
            if let Poll::Ready(output) = inner.poll(cx) {
                return Poll::Ready(Some(output));
            }
            // tokio's timer pends when the task has used up its share of a poll. An inner future that uses it up
            // each time would never be ended, so after the first poll the clock has the last word.
            if first {
                this.sleep.set(Some(sleep_until(*this.end)));
            }
            let sleep = this.sleep.as_mut().as_pin_mut();
            let fired = sleep.is_some_and(|sleep| sleep.poll(cx).is_ready());
            if !fired && (first || late == Late::Ends || clock::now() < *this.end) {
                return Poll::Pending;
            }
        }
        if let Some(end) = longer() {
            *this.end = end;
            if let Some(mut sleep) = this.sleep.as_mut().as_pin_mut() {
                sleep.as_mut().reset(end);
                if sleep.poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        cause::drop_with(*this.verdict, || this.inner.set(None));
        Poll::Ready(None)
    }

    /// Whether it has a timer.
    #[cfg(test)]
    pub(crate) const fn is_armed(&self) -> bool {
        self.sleep.is_some()
    }
}
