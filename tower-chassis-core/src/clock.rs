//! One reading of the clock for all layers that a call enters at once.
//!
//! A layer's `call` runs the `call` of the layer inside it, all in one synchronous span, so they may share
//! a reading: the first that asks takes it inside [`entered`], the others find it; where none asks there is none. On the way out nothing is shared: a
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

/// What is known of the time.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// There is no way in.
    None,
    /// There is one, and nobody has asked yet.
    Unread,
    At(Instant),
}

thread_local! {
    static NOW: Cell<Reading> = const { Cell::new(Reading::None) };
}

/// A way in, for as long as it lives. Made by [`enter`] or [`enter_at`].
///
/// A guard and no closure, so that a layer can make its future where its caller wants to have it, and need not move it.
#[derive(Debug)]
pub struct Entered {
    outer: Reading,
    /// It ends on the thread that it began on.
    thread: PhantomData<*const ()>,
}

impl Entered {
    /// The time of this way in: that at which it was first asked for, here or further out.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        match NOW.get() {
            Reading::At(now) => now,
            _ => {
                let now = now();
                NOW.set(Reading::At(now));
                now
            }
        }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        // What was read in here is true for the rest of the way in around it.
        if !matches!(self.outer, Reading::Unread) {
            NOW.set(self.outer);
        }
    }
}

/// Begins a way in, or goes on with the one around it. It ends when what is returned is dropped.
#[inline]
#[must_use = "it ends when it is dropped"]
pub fn enter() -> Entered {
    let outer = NOW.get();
    if matches!(outer, Reading::None) {
        NOW.set(Reading::Unread);
    }
    Entered {
        outer,
        thread: PhantomData,
    }
}

/// Begins a way in with a reading that was taken just now, in the same poll.
#[inline]
#[must_use = "it ends when it is dropped"]
pub fn enter_at(now: Instant) -> Entered {
    Entered {
        outer: NOW.replace(Reading::At(now)),
        thread: PhantomData,
    }
}

/// Runs `call` with the time of the way in around it, or of a new one.
#[inline]
pub fn entered<R>(call: impl FnOnce(Instant) -> R) -> R {
    let entered = enter();
    call(entered.now())
}

/// Runs `call` with a reading that was taken just now, in the same poll.
#[inline]
pub fn entered_at<R>(now: Instant, call: impl FnOnce(Instant) -> R) -> R {
    let _entered = enter_at(now);
    call(now)
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
    fn who_asks_first_reads_it_and_where_nobody_asks_nobody_does() {
        let before = readings();
        drop(enter());
        assert_eq!(readings(), before);
        let outer = enter();
        let first = enter().now();
        // One that knows better is of no account outside.
        let later = first + std::time::Duration::from_secs(1);
        assert_eq!(enter_at(later).now(), later);
        assert_eq!((enter().now(), outer.now()), (first, first));
        assert_eq!(readings(), before + 1);
        drop(outer);
        assert!(matches!(NOW.get(), Reading::None));
    }

    #[test]
    fn a_panic_leaves_no_stale_time() {
        let panicked = catch_unwind(AssertUnwindSafe(|| entered(|_| panic!("planted"))));
        assert!(panicked.is_err() && matches!(NOW.get(), Reading::None));
    }
}
