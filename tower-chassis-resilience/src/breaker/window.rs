//! What a circuit counts: the calls of the last seconds or the last so many calls, without a lock.
//!
//! Either way exact numbers and not a decaying average, because a rate must not depend on how fast the calls came.

use std::{
    sync::{
        OnceLock,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::Duration,
};

use super::{
    buckets::{BUCKETS, Buckets},
    slots::Slots,
};

/// What a window holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

/// How a call is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Sample {
    pub(super) const fn is_plain(self) -> bool {
        !self.failed && !self.slow
    }
}

/// A window of time or of calls. Away from the state word, which every call reads and hardly any writes.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Window {
    /// The width of a bucket in nanoseconds, a tenth of the window.
    width: AtomicU64,
    /// The last bucket in which something was counted, as a number since the start.
    last: AtomicU64,
    /// How many calls it holds; 0 for a window of time.
    calls: AtomicU32,
    slots: OnceLock<Box<Slots>>,
    buckets: Buckets,
}

impl Window {
    /// Of the last `calls` calls, or of time if that is 0.
    pub(super) fn new(window: Duration, calls: u32) -> Self {
        let new = Self {
            width: AtomicU64::new(width_of(window)),
            last: AtomicU64::new(0),
            calls: AtomicU32::new(0),
            slots: OnceLock::new(),
            buckets: Buckets::default(),
        };
        new.resize(window, calls, 0);
        new
    }

    /// Changes the length or the kind, in `generation`. Another one begins with empty counts, the same one changes
    /// nothing. One at a time.
    pub(super) fn resize(&self, window: Duration, calls: u32, generation: u32) {
        if calls > 0 {
            self.slots.get_or_init(Box::default);
        }
        let width = width_of(window);
        let old = (
            self.width.swap(width, Relaxed),
            self.calls.swap(calls, Relaxed),
        );
        if old != (width, calls) {
            self.last.store(0, Relaxed);
            self.clear(generation);
        }
    }

    /// Forgets everything; what is counted next is of `generation`. One at a time.
    pub(super) fn clear(&self, generation: u32) {
        self.buckets.clear();
        if let Some(slots) = self.slots.get() {
            slots.clear(generation);
        }
    }

    /// Counts a call that took from `began` to `now`, nanoseconds since the start.
    // Most calls are successes, of which little of it is left.
    #[inline(always)]
    pub(super) fn record(&self, generation: u32, began: u64, now: u64, sample: Sample) {
        let last = self.last.load(Relaxed);
        let mut number = self.number(now);
        if sample.is_plain() {
            // In its first poll it is told as of its call, which may have been made long before. It ends now.
            number = number.max(last);
        }
        if number > last {
            self.turn(generation, began, number);
        }
        match self.slots() {
            None => self.buckets.record(generation, number, sample),
            Some((slots, calls)) => slots.record(generation, calls, sample),
        }
        if !sample.is_plain() {
            // Whoever counts next has to see what others wrote before they counted: one of them sees it all.
            fence(SeqCst);
        }
    }

    /// The counts of the window that ends `now` nanoseconds after the start.
    pub(super) fn counts(&self, generation: u32, now: u64) -> Counts {
        match self.slots() {
            Some((slots, calls)) => slots.counts(generation, calls),
            None => {
                let number = self.number(now);
                if number.saturating_sub(self.last.load(Relaxed)) >= BUCKETS {
                    return Counts::default();
                }
                self.buckets.counts(generation, number)
            }
        }
    }

    /// How long it remembers, in nanoseconds: also how long nobody may call before a window of calls is cold.
    pub(super) fn span(&self) -> u64 {
        self.width.load(Relaxed) * BUCKETS
    }

    /// Whether nobody has called for that long.
    pub(super) fn is_silent(&self, now: u64) -> bool {
        self.number(now) > self.last.load(Relaxed) + BUCKETS
    }

    #[inline]
    fn slots(&self) -> Option<(&Slots, u64)> {
        match self.calls.load(Relaxed) {
            0 => None,
            calls => Some((self.slots.get()?, u64::from(calls))),
        }
    }

    /// The bucket that `now` falls into. Most often the last one, which saves the division.
    #[inline]
    fn number(&self, now: u64) -> u64 {
        let (width, last) = (self.width.load(Relaxed), self.last.load(Relaxed));
        if now.wrapping_sub(last.wrapping_mul(width)) < width {
            last
        } else {
            now / width
        }
    }

    /// The first call that is counted in a bucket.
    #[cold]
    fn turn(&self, generation: u32, began: u64, number: u64) {
        let last = self.last.fetch_max(number, Relaxed);
        if number <= last {
            return;
        }
        self.buckets.turn(last, number);
        // What began in a silence of a whole window and not before it: what was counted is of another time.
        if let Some((slots, _)) = self.slots()
            && began / self.width.load(Relaxed) > last + BUCKETS
        {
            slots.forget(generation);
        }
    }
}

fn width_of(window: Duration) -> u64 {
    (u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn record(window: &Window, generation: u32, now: u64, failed: bool) {
        let sample = Sample {
            failed,
            slow: !failed && now % 2 == 1,
        };
        window.record(generation, now, now, sample);
    }

    fn counts(window: &Window, generation: u32, now: u64) -> (u64, u64) {
        let counts = window.counts(generation, now);
        (counts.total, counts.failed)
    }

    #[test]
    fn another_length_or_kind_begins_empty_the_same_one_does_not() {
        let ten = Duration::from_secs(10);
        let window = Window::new(ten, 0);
        for (length, calls) in [(ten * 2, 0), (ten * 2, 3), (ten * 2, 4), (ten, 4), (ten, 0)] {
            record(&window, 0, SECOND, true);
            assert_eq!(counts(&window, 0, SECOND), (1, 1));
            window.resize(length, calls, 0);
            assert_eq!(counts(&window, 0, SECOND), (0, 0), "{length:?} {calls}");
            record(&window, 0, SECOND, true);
            window.resize(length, calls, 0);
            assert_eq!(counts(&window, 0, SECOND), (1, 1), "{length:?} {calls}");
            window.clear(0);
        }
    }

    #[test]
    fn a_window_of_calls_is_cold_after_a_silence() {
        let window = Window::new(Duration::from_secs(10), 4);
        let failed = Sample {
            failed: true,
            slow: false,
        };
        // In the first second; ten whole ones are silent until the last.
        for (began, ended, total) in [
            (0, 0, 1),
            (10, 10, 2),
            (20, 21, 3),
            (31, 40, 4),
            (51, 52, 1),
        ] {
            window.record(7, began * SECOND, ended * SECOND, failed);
            assert_eq!(counts(&window, 7, ended * SECOND).0, total, "{ended}");
        }
        // One that took longer than that does not make it cold.
        window.record(7, 52 * SECOND, 99 * SECOND, failed);
        assert_eq!(counts(&window, 7, 99 * SECOND).0, 2);
    }

    #[test]
    fn a_window_of_calls_counts_after_any_number_of_silences() {
        for silences in 1..200 {
            let window = Window::new(Duration::from_secs(10), 4);
            for _ in 0..2 {
                record(&window, 7, 0, true);
            }
            for silence in 1..=silences {
                record(&window, 7, silence * 30 * SECOND, false);
            }
            let now = (silences + 1) * 30 * SECOND;
            for failures in 1..=3 {
                record(&window, 7, now, true);
                assert_eq!(counts(&window, 7, now), (failures, failures), "{silences}");
            }
        }
    }

    /// A success in the first poll counts as of its call, which may be long ago.
    #[test]
    fn a_success_of_long_ago_takes_nothing_away() {
        for began in 0..100 {
            let window = Window::new(Duration::from_secs(10), 0);
            for second in 91..=100 {
                record(&window, 0, second * SECOND, true);
            }
            let began = began * SECOND;
            window.record(0, began, began, Sample::default());
            assert_eq!(window.counts(0, 100 * SECOND).failed, 10, "{began}");
        }
    }
    #[test]
    fn a_bucket_is_a_tenth_of_the_window_from_its_first_nanosecond() {
        for (window, width) in [(10 * SECOND, SECOND), (25, 2), (1, 1), (0, 1)] {
            let window = Window::new(Duration::from_nanos(window), 0);
            assert_eq!(window.span(), 10 * width);
            // From the last bucket in use, near it and far from it.
            for last in [0, 1, 7] {
                window.last.store(last, Relaxed);
                for number in [0, 1, 6, 7, 8, 9, 1_000] {
                    for now in [number * width, (number + 1) * width - 1] {
                        assert_eq!(window.number(now), number, "{last} {now}");
                    }
                }
            }
        }
        let longest = Window::new(Duration::MAX, 0);
        assert_eq!(longest.span(), u64::MAX / 10 * 10);
    }

    #[test]
    fn it_is_silent_when_a_whole_window_was() {
        for calls in [0, 4] {
            let window = Window::new(Duration::from_secs(10), calls);
            record(&window, 7, 3 * SECOND, true);
            assert!(!window.is_silent(14 * SECOND - 1));
            assert!(window.is_silent(14 * SECOND));
        }
    }

    #[test]
    fn a_window_of_time_ends_now() {
        let window = Window::new(Duration::from_secs(10), 0);
        record(&window, 7, 3 * SECOND, true);
        assert_eq!(counts(&window, 7, 13 * SECOND - 1), (1, 1));
        assert_eq!(counts(&window, 7, 13 * SECOND), (0, 0));
        // Whatever the ring says: it is not swept before the next call.
        for turns in 1..40 {
            assert_eq!(counts(&window, 7, (10 * turns + 3) * SECOND), (0, 0));
        }
        record(&window, 7, 12 * SECOND, false);
        assert_eq!(counts(&window, 7, 12 * SECOND), (2, 1));
        // A late failure counts in its own time, and the ring does not turn back.
        record(&window, 7, 4 * SECOND, true);
        assert_eq!(counts(&window, 7, 13 * SECOND), (2, 1));
        assert_eq!(counts(&window, 7, 14 * SECOND), (1, 0));
    }

    #[test]
    fn a_ring_of_calls_is_made_where_it_is_used() {
        let window = Window::new(Duration::from_secs(10), 0);
        assert!(window.slots.get().is_none());
        window.resize(Duration::from_secs(10), 1, 0);
        assert!(window.slots.get().is_some());
        let plain = |failed, slow| Sample { failed, slow }.is_plain();
        assert!(plain(false, false) && !plain(true, false) && !plain(false, true));
    }
}
