//! The controller, shared between threads. Calls add to atomics; whoever finds that a window is over shows it to the
//! controller, if nobody else is at it: no call ever waits for another.

use std::sync::{
    Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
};

use super::{Change, Controller, Histogram, Nanos};

/// Of the calls in a bucket, one in so many looks at how many are in flight.
const LOOKS: u32 = 8;

#[derive(Debug)]
pub(in super::super) struct Meter {
    histogram: Histogram,
    peak: AtomicU32,
    /// No window ends before.
    due: AtomicU64,
    /// When the youngest call was let in that found the service overloaded and was not looked at yet, and one more.
    dropped: AtomicU64,
    /// How many did in this window, of those let in not before.
    overloaded: AtomicU32,
    lowered: AtomicU64,
    /// A call that was given up after so long is one that was slow.
    slow: AtomicU64,
    limit: AtomicU32,
    control: Mutex<Controller>,
}

impl Meter {
    pub(in super::super) fn new(control: Controller) -> Self {
        Self {
            histogram: Histogram::new(),
            peak: AtomicU32::new(0),
            due: AtomicU64::new(control.due()),
            dropped: AtomicU64::new(0),
            overloaded: AtomicU32::new(0),
            lowered: AtomicU64::new(0),
            slow: AtomicU64::new(Nanos::MAX),
            limit: AtomicU32::new(control.now().limit),
            control: Mutex::new(control),
        }
    }

    /// A call that was let in at `began` was answered; `in_flight` counts it. True if there is something to
    /// [turn](Self::turn).
    pub(in super::super) fn answered(
        &self,
        began: Nanos,
        now: Nanos,
        in_flight: impl FnOnce() -> u32,
    ) -> bool {
        let before = self.histogram.add(now.saturating_sub(began));
        if before.is_multiple_of(LOOKS) {
            self.used(in_flight());
        }
        self.is_due(now)
    }

    /// The same for a call that was given up: it would have taken at least so long.
    pub(in super::super) fn given_up(
        &self,
        began: Nanos,
        now: Nanos,
        in_flight: impl FnOnce() -> u32,
    ) -> bool {
        now.saturating_sub(began) > self.slow.load(Relaxed) && self.answered(began, now, in_flight)
    }

    /// So many were in flight at once.
    pub(in super::super) fn used(&self, in_flight: u32) {
        if in_flight > self.peak.load(Relaxed) {
            self.peak.fetch_max(in_flight, Relaxed);
        }
    }

    /// A call that was let in at `began` found the service overloaded. To be [turned](Self::turn).
    pub(in super::super) fn overloaded(&self, began: Nanos) {
        if began >= self.lowered.load(Relaxed) {
            self.overloaded.fetch_add(1, Relaxed);
            self.dropped.fetch_max(began.saturating_add(1), Relaxed);
        }
    }

    /// Whether a window may be over.
    pub(in super::super) fn is_due(&self, now: Nanos) -> bool {
        now >= self.due.load(Relaxed)
    }

    /// Looks at what has come together. `changed` is called outside of the lock, and if two threads call it at
    /// once, the older change may come last: what is in force is what [`limit`](Self::limit) says.
    #[cold]
    pub(in super::super) fn turn(&self, now: Nanos, mut changed: impl FnMut(Change)) {
        loop {
            // What was stored before is seen by whoever has the lock now, when it looks again.
            fence(SeqCst);
            let mut control = match self.control.try_lock() {
                Ok(control) => control,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let changes = self.look(&mut control, now);
            drop(control);
            changes.into_iter().flatten().for_each(&mut changed);
            fence(SeqCst);
            if self.dropped.load(Relaxed) == 0 {
                return;
            }
        }
    }

    fn look(&self, control: &mut Controller, now: Nanos) -> [Option<Change>; 3] {
        let expired = control.expire(now);
        let overloaded = match self.dropped.swap(0, Relaxed) {
            0 => None,
            began if self.are_many(control) => {
                self.overloaded.store(0, Relaxed);
                control.overloaded(began - 1, now)
            }
            _ => None,
        };
        let mut window = None;
        if control.is_over(self.histogram.count(), now) {
            let seen = self.histogram.take(self.peak.swap(0, Relaxed));
            control.count(self.overloaded.swap(0, Relaxed), seen.samples);
            window = control.window(&seen, now);
            self.slow.store(control.p90(), Relaxed);
        }
        self.publish(control);
        [expired, overloaded, window]
    }

    fn are_many(&self, control: &Controller) -> bool {
        control.are_many(self.overloaded.load(Relaxed), self.histogram.count())
    }

    /// What a user says. Waits for whoever is at it.
    pub(in super::super) fn with<R>(&self, ask: impl FnOnce(&mut Controller) -> R) -> R {
        let mut control = self.lock();
        let answer = ask(&mut control);
        self.publish(&control);
        answer
    }

    /// The limit that is to be in force.
    pub(in super::super) fn limit(&self) -> u32 {
        self.limit.load(SeqCst)
    }

    fn publish(&self, control: &Controller) {
        self.due.store(control.due(), Relaxed);
        self.lowered.store(control.lowered(), Relaxed);
        self.limit.store(control.now().limit, SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Controller> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
