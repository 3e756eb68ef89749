use std::{
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use tokio::time::Instant;

use super::Observe;
use crate::{Verdict, cause};

/// A ticket whose call goes on. Dropped, it is told why.
///
/// Inlined but for the drop of a ticket that was not told: so it stays in registers on its way, and is not written and
/// read back in other pieces, for which the processor waits.
#[derive(Debug)]
pub(crate) struct Held<G: Observe> {
    // Taken in any case before it is dropped, so that there is nothing left to drop.
    guard: ManuallyDrop<Option<G>>,
    /// What it watches panicked, and not somebody outside or beside it.
    panicked: bool,
}

/// Marks what unwinds past it.
struct Panics<'a>(Option<&'a mut bool>);

impl Drop for Panics<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(panicked) = self.0.take() {
            *panicked = true;
        }
    }
}

impl<G: Observe> Held<G> {
    #[inline]
    pub(crate) const fn new(guard: G) -> Self {
        Self {
            guard: ManuallyDrop::new(Some(guard)),
            panicked: false,
        }
    }

    /// The ticket, which somebody else sees to.
    #[inline]
    #[allow(clippy::expect_used, reason = "it is there until it is dropped")]
    pub(crate) fn release(mut self) -> G {
        self.guard.take().expect("held")
    }

    /// The ticket, if it was not told yet.
    #[inline]
    pub(super) fn take(&mut self) -> Option<G> {
        self.guard.take()
    }

    /// Runs what the ticket watches.
    #[inline]
    pub(crate) fn run<R>(&mut self, run: impl FnOnce() -> R) -> R {
        let mut panics = Panics(Some(&mut self.panicked));
        let ran = self.guard.within(run);
        panics.0 = None;
        ran
    }

    pub(super) fn head(&mut self, verdict: Verdict, now: Instant) {
        self.guard.head(verdict, now);
    }

    #[inline]
    pub(super) fn done(mut self, verdict: Verdict, now: Instant) {
        self.guard.take().done(verdict, now);
    }
}

/// By value: what is only taken by reference where it is dropped can be in registers before.
#[cold]
#[inline(never)]
fn left<G: Observe>(guard: G, panicked: bool) {
    let now = guard.now();
    let verdict = if panicked {
        Verdict::FAILURE
    } else {
        cause::of_drop()
    };
    tell(guard, verdict, now, false);
}

impl<G: Observe> Drop for Held<G> {
    #[inline]
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            left(guard, self.panicked);
        }
    }
}

/// A ticket that is told how its call ended when it is dropped: what comes beside it may panic when it is told.
pub(super) struct Told<G: Observe> {
    guard: Option<G>,
    verdict: Verdict,
    now: Instant,
    at_head: bool,
}

impl<G: Observe> Told<G> {
    pub(super) const fn new(guard: G, verdict: Verdict, now: Instant) -> Self {
        Self {
            guard: Some(guard),
            verdict,
            now,
            at_head: false,
        }
    }

    /// Of one whose call is over with its head.
    pub(super) const fn at_head(guard: G, verdict: Verdict, now: Instant) -> Self {
        Self {
            guard: Some(guard),
            verdict,
            now,
            at_head: true,
        }
    }
}

impl<G: Observe> Drop for Told<G> {
    #[inline]
    fn drop(&mut self) {
        tell(self.guard.take(), self.verdict, self.now, self.at_head);
    }
}

/// Where a panic unwinds already, a second one that got out of here would end the process.
#[inline]
fn tell<G: Observe>(guard: G, verdict: Verdict, now: Instant, at_head: bool) {
    if thread::panicking() {
        on_the_way_out(guard, verdict, now, at_head);
    } else if at_head {
        guard.done_at_head(verdict, now);
    } else {
        guard.done(verdict, now);
    }
}

#[cold]
fn on_the_way_out<G: Observe>(guard: G, verdict: Verdict, now: Instant, at_head: bool) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if at_head {
            guard.done_at_head(verdict, now);
        } else {
            guard.done(verdict, now);
        }
    }));
}
