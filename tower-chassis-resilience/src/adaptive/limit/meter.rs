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

use super::{Change, Controller, Histogram, Nanos, controller::SHORTEST};

/// A window of [`SHORTEST`] with more than twice so many measured calls is as good with half of them, and one with less than
/// half of it wants more. Below 40,000 calls a second each of them is measured.
const PLENTY: u64 = 2_048;
/// At the most one call in so many is measured, less one.
const THINNEST: u32 = 15;

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
    /// Of the calls, one in so many and one is measured: which ones is left to chance, so that those are a fair sample of all.
    mask: AtomicU32,
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
            mask: AtomicU32::new(0),
            slow: AtomicU64::new(Nanos::MAX),
            limit: AtomicU32::new(control.now().limit),
            control: Mutex::new(control),
        }
    }

    /// Whether a call that begins is measured. One that is not reads no clock, and says nothing here whatever comes of it.
    #[inline]
    pub(in super::super) fn measures(&self) -> bool {
        match self.mask.load(Relaxed) {
            0 => true,
            mask => fastrand::u32(..) & mask == 0,
        }
    }

    /// Measures every call from now on: the limit is in the way, and what comes next counts.
    pub(in super::super) fn measure_all(&self) {
        if self.mask.load(Relaxed) != 0 {
            self.mask.store(0, Relaxed);
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
        let lasted = control.lasted(now);
        let count = self.histogram.count();
        if lasted >= SHORTEST {
            self.thin(count, lasted);
        }
        if control.is_over(count, now) {
            let seen = self.histogram.take(self.peak.swap(0, Relaxed));
            control.count(self.overloaded.swap(0, Relaxed), seen.samples);
            window = control.window(&seen, now);
            self.slow.store(control.p90(), Relaxed);
        }
        self.publish(control);
        [expired, overloaded, window]
    }

    /// So many calls were measured in a window up to now.
    fn thin(&self, count: u64, lasted: Nanos) {
        let mask = self.mask.load(Relaxed);
        let measured = u128::from(count) * u128::from(SHORTEST) / u128::from(lasted);
        let mask = match measured as u64 {
            many if many > 2 * PLENTY => (mask << 1 | 1).min(THINNEST),
            few if few < PLENTY / 4 => 0,
            few if few < PLENTY / 2 => mask >> 1,
            _ => return,
        };
        self.mask.store(mask, Relaxed);
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{
        super::{MILLIS, SECOND, Settings},
        *,
    };
    use crate::adaptive::{Algorithm, Reason};

    fn meter() -> Meter {
        let settings = Settings {
            algorithm: Algorithm::Aimd,
            min: 1,
            max: 400,
            start: 20,
            tolerance: 1.5,
            slow: SECOND,
        };
        Meter::new(Controller::new(settings, 7))
    }

    fn answered(meter: &Meter, calls: u32, millis: Nanos, in_flight: u32) {
        for _ in 0..calls {
            let _ = meter.answered(0, millis * MILLIS, || in_flight);
        }
    }

    fn turn(meter: &Meter, now: Nanos) -> Vec<(u32, Reason)> {
        let mut changes = Vec::new();
        meter.turn(now, |change| changes.push((change.limit, change.reason)));
        changes
    }

    #[test]
    fn of_eight_calls_of_a_bucket_one_looks_at_what_is_in_flight() {
        let (meter, mut looks) = (meter(), 0);
        for _ in 0..17 {
            let due = meter.answered(MILLIS, 100 * MILLIS - 1, || {
                looks += 1;
                30 - looks
            });
            assert!(!due);
        }
        assert_eq!((looks, meter.peak.load(Relaxed)), (3, 29));
        assert!(meter.answered(MILLIS, 100 * MILLIS, || 1));
        meter.used(31);
        meter.used(30);
        assert_eq!(meter.peak.load(Relaxed), 31);
    }

    #[test]
    fn a_window_that_is_over_is_shown_once() {
        let meter = meter();
        answered(&meter, 249, 10, 20);
        assert_eq!(turn(&meter, 100 * MILLIS), []);
        assert!(!meter.is_due(200 * MILLIS - 1) && meter.is_due(200 * MILLIS));
        answered(&meter, 1, 10, 20);
        assert_eq!(turn(&meter, 200 * MILLIS), [(21, Reason::Grew)]);
        assert_eq!((meter.limit(), meter.histogram.count()), (21, 0));
        assert!(!meter.is_due(300 * MILLIS - 1) && meter.is_due(300 * MILLIS));
        // What was in flight before is not of the next window.
        answered(&meter, 250, 10, 3);
        assert_eq!(turn(&meter, 400 * MILLIS), []);
        assert_eq!(meter.limit(), 21);
    }

    #[test]
    fn who_gives_up_after_longer_than_most_take_was_slow() {
        let meter = meter();
        assert!(!meter.given_up(0, 100 * SECOND, || 1));
        answered(&meter, 250, 10, 20);
        turn(&meter, 200 * MILLIS);
        let slow = meter.with(|control| control.p90());
        assert!((9 * MILLIS..11 * MILLIS).contains(&slow));
        assert!(!meter.given_up(SECOND, SECOND + slow, || 1));
        assert_eq!(meter.histogram.count(), 0);
        assert!(meter.given_up(SECOND, SECOND + slow + 1, || 1));
        assert_eq!(meter.histogram.count(), 1);
        assert!(!meter.given_up(0, slow + 1, || 1), "no window is due then");
    }

    #[test]
    fn many_that_find_it_overloaded_lower_the_limit_once() {
        let meter = meter();
        answered(&meter, 100, 10, 20);
        (0..11).for_each(|_| meter.overloaded(5));
        assert_eq!(turn(&meter, 10 * MILLIS), []);
        assert_eq!(meter.dropped.load(Relaxed), 0);
        meter.overloaded(5);
        assert_eq!(turn(&meter, 10 * MILLIS), [(18, Reason::Overloaded)]);
        assert_eq!((meter.limit(), meter.overloaded.load(Relaxed)), (18, 0));
        // Who was let in before the limit was lowered does not lower it again.
        (0..50).for_each(|_| meter.overloaded(10 * MILLIS));
        assert_eq!(meter.overloaded.load(Relaxed), 0);
        assert_eq!(turn(&meter, 10 * MILLIS), []);
        (0..50).for_each(|_| meter.overloaded(10 * MILLIS + 1));
        assert_eq!(turn(&meter, 11 * MILLIS), [(16, Reason::Overloaded)]);
    }

    #[test]
    fn where_calls_are_many_some_are_measured() {
        let meter = meter();
        let mask = |count, millis| {
            meter.thin(count, millis * MILLIS);
            meter.mask.load(Relaxed)
        };
        let measured = || (0..16_000).filter(|_| meter.measures()).count();
        assert_eq!((mask(4_096, 100), measured()), (0, 16_000));
        assert_eq!((mask(4_097, 100), mask(1_024, 100)), (1, 1));
        assert!((7_500..8_500).contains(&measured()));
        // Of a window that was longer, the part that is as long.
        assert_eq!([mask(8_193, 200), mask(8_194, 200)], [1, 3]);
        assert_eq!([(); 3].map(|()| mask(40_000, 100)), [7, 15, 15]);
        assert!((800..1_200).contains(&measured()));
        assert_eq!(
            [mask(1_023, 100), mask(512, 100), mask(511, 100)],
            [7, 3, 0]
        );
        mask(40_000, 100);
        meter.measure_all();
        assert_eq!(measured(), 16_000);
    }

    #[test]
    fn a_window_that_is_too_short_says_nothing_of_how_many_there_are() {
        let meter = meter();
        answered(&meter, 5_000, 10, 20);
        turn(&meter, 100 * MILLIS - 1);
        assert_eq!(meter.mask.load(Relaxed), 0);
        turn(&meter, 100 * MILLIS);
        assert_eq!(meter.mask.load(Relaxed), 1);
    }

    /// The limit was lowered before anybody looked at the one that was dropped.
    #[test]
    fn who_was_let_in_before_the_limit_was_lowered_does_not_lower_it() {
        for (began, changes) in [(5, vec![]), (6, vec![(16, Reason::Overloaded)])] {
            let meter = meter();
            meter.overloaded(began);
            let _ = meter.with(|control| control.overloaded(0, 5));
            assert_eq!((meter.limit(), turn(&meter, 7)), (18, changes));
        }
    }

    #[test]
    fn those_of_a_window_count_in_the_next() {
        let meter = meter();
        answered(&meter, 250, 10, 20);
        (0..20).for_each(|_| meter.overloaded(5));
        assert_eq!(turn(&meter, 100 * MILLIS), [(21, Reason::Grew)]);
        assert_eq!(meter.overloaded.load(Relaxed), 0);
        // 20 of 250, and 5 more.
        (0..4).for_each(|_| meter.overloaded(5));
        assert_eq!(turn(&meter, 101 * MILLIS), []);
        meter.overloaded(5);
        assert_eq!(turn(&meter, 101 * MILLIS), [(18, Reason::Overloaded)]);
    }

    #[test]
    fn what_is_forced_ends_with_the_next_look() {
        let meter = meter();
        meter.with(|control| control.force(Some((7, SECOND))));
        assert_eq!((meter.limit(), turn(&meter, SECOND - 1)), (7, vec![]));
        assert_eq!(turn(&meter, SECOND), [(20, Reason::Released)]);
        assert_eq!(meter.limit(), 20);
    }

    #[test]
    fn nobody_waits_for_who_looks_and_a_panic_is_forgotten() {
        let meter = meter();
        meter.overloaded(5);
        assert_eq!(meter.with(|_| turn(&meter, MILLIS)), []);
        let panics = || meter.with(|_| panic!("a user's"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(turn(&meter, MILLIS), [(18, Reason::Overloaded)]);
        assert_eq!(meter.with(|control| control.now().limit), 18);
    }
}
