//! One reading of the clock for all layers that a call enters at once.
//!
//! A layer's `call` runs the `call` of the layer inside it, all in one synchronous span, so they may share
//! a reading: the outermost takes it inside [`entered`], the others find it. On the way out nothing is shared: a
//! future may finish a call and compute for long in the same poll, so each position reads the clock itself, and
//! layers of one position are fused (a tuple of [`Observe`](crate::settle::Observe)rs).
//!
//! So the `call` of a handler must not work for long before it returns its future: what it calls in that span is
//! given a time that is gone. Work belongs into the future.
//!
//! A layer that calls its inner service later, in its future (a balancer, a queue, the second attempt of a retry),
//! begins a new way in.

use std::{cell::Cell, marker::PhantomData};

use tokio::time::Instant;

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A way in, for as long as it lives. Made by [`enter`] or [`enter_at`].
///
/// A guard and no closure, so that a layer can make its future where its caller wants to have it, and need not move it.
#[derive(Debug)]
pub struct Entered {
    now: Instant,
    outer: Option<Instant>,
    /// It ends on the thread that it began on.
    thread: PhantomData<*const ()>,
}

impl Entered {
    /// The time at which the outermost way in around it began.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        NOW.set(self.outer);
    }
}

/// Begins a way in, or goes on with the one around it. It ends when what is returned is dropped.
#[inline]
#[must_use = "it ends when it is dropped"]
pub fn enter() -> Entered {
    let outer = NOW.get();
    let now = outer.unwrap_or_else(now);
    if outer.is_none() {
        NOW.set(Some(now));
    }
    Entered {
        now,
        outer,
        thread: PhantomData,
    }
}

/// Begins a way in with a reading that was taken just now, in the same poll.
#[inline]
#[must_use = "it ends when it is dropped"]
pub fn enter_at(now: Instant) -> Entered {
    Entered {
        now,
        outer: NOW.replace(Some(now)),
        thread: PhantomData,
    }
}

/// Runs `call` with the time at which the outermost way in around it began.
#[inline]
pub fn entered<R>(call: impl FnOnce(Instant) -> R) -> R {
    let entered = enter();
    call(entered.now)
}

/// Runs `call` with a reading that was taken just now, in the same poll.
#[inline]
pub fn entered_at<R>(now: Instant, call: impl FnOnce(Instant) -> R) -> R {
    let entered = enter_at(now);
    call(entered.now)
}

/// Reads the clock. Layers read it here, so that a test can count it.
#[must_use]
pub fn now() -> Instant {
    #[cfg(any(test, feature = "testing"))]
    READINGS.set(READINGS.get() + 1);
    Instant::now()
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static READINGS: Cell<u64> = const { Cell::new(0) };
}

/// How often layers have read the clock on this thread.
#[cfg(any(test, feature = "testing"))]
#[must_use]
pub fn readings() -> u64 {
    READINGS.get()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_reading_for_a_span_and_another_for_the_next() {
        let before = readings();
        let first = entered(|outer| {
            entered(|inner| assert_eq!(outer, inner));
            outer
        });
        assert_eq!(readings() - before, 1);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(entered(|now| now) > first);
        assert_eq!(readings() - before, 2);
    }

    #[test]
    fn a_panic_leaves_no_stale_time() {
        let panicked = catch_unwind(AssertUnwindSafe(|| entered(|_| panic!("planted"))));
        assert!(panicked.is_err() && NOW.get().is_none());
    }
}
