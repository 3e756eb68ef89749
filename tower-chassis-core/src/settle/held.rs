use tokio::time::Instant;

use super::Observe;
use crate::{Verdict, cause};

/// A ticket whose call goes on. Dropped, it is told why.
#[derive(Debug)]
pub(crate) struct Held<G: Observe> {
    guard: Option<G>,
    /// What it watches is running: if it is dropped so, that panicked, and not somebody outside or beside it.
    inside: bool,
    pub(super) judged: Option<Verdict>,
}

impl<G: Observe> Held<G> {
    pub(crate) const fn new(guard: G) -> Self {
        Self {
            guard: Some(guard),
            inside: false,
            judged: None,
        }
    }

    /// The ticket, which somebody else sees to.
    #[allow(clippy::expect_used, reason = "it is there until it is dropped")]
    pub(crate) fn release(mut self) -> G {
        self.guard.take().expect("held")
    }

    /// The ticket, if it was not told yet.
    pub(super) fn take(&mut self) -> Option<G> {
        self.guard.take()
    }

    pub(super) fn end(&mut self, now: Instant) {
        if let (Some(guard), Some(verdict)) = (self.guard.take(), self.judged) {
            guard.done(verdict, now);
        }
    }

    /// Runs what the ticket watches.
    #[inline]
    pub(crate) fn run<R>(&mut self, run: impl FnOnce() -> R) -> R {
        self.inside = true;
        let ran = self.guard.within(run);
        self.inside = false;
        ran
    }

    pub(super) fn head(&mut self, verdict: Verdict, now: Instant) {
        self.guard.head(verdict, now);
    }

    pub(super) fn done(mut self, verdict: Verdict, now: Instant) {
        self.guard.take().done(verdict, now);
    }
}

impl<G: Observe> Drop for Held<G> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let now = guard.now();
            let verdict = match self.judged {
                Some(verdict) => verdict,
                None if self.inside => Verdict::FAILURE,
                None => cause::current().unwrap_or(Verdict::CANCELLED),
            };
            guard.done(verdict, now);
        }
    }
}
