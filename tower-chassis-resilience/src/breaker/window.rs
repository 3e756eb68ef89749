//! Counts over time, without a lock: a ring of ten buckets, each one atomic word.
//!
//! A word carries its own tag, the turn of the ring and the generation of the circuit, so that
//! neither an old bucket nor a late call of an older generation is ever mistaken for the present.
//! The ring stands on fixed boundaries: it does not drift, and it cannot wedge after a long pause.
//! Exact buckets and not a decaying average, because a rate must not depend on how fast the calls
//! came.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The number of buckets.
pub(super) const BUCKETS: u64 = 10;

// turn:14 | generation:10 | total:20 | failed:20
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const TAG_SHIFT: u32 = 2 * COUNT_BITS;
const GENERATION_BITS: u32 = 10;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const TURN_MASK: u64 = (1 << 14) - 1;
/// How often, in buckets, old words are swept out: long before the turn in a tag can come round
/// again.
const SWEEP: u64 = 4096 * BUCKETS;
/// How many turns a bucket may be ahead of a writer that slept. Further ahead means: left from long
/// ago.
const SLEPT: u64 = 16;

/// What a window holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) total: u64,
    pub(super) failed: u64,
}

/// A ring of buckets. Away from the state word, which every call reads and hardly any writes.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Window {
    buckets: [AtomicU64; BUCKETS as usize],
    /// The width of a bucket in nanoseconds.
    width: AtomicU64,
    /// The last bucket in which something was counted, as a number since the start.
    last: AtomicU64,
}

impl Window {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            buckets: Default::default(),
            width: AtomicU64::new(width_of(window)),
            last: AtomicU64::new(0),
        }
    }

    /// Changes the length. Another length begins with empty counts, the same one changes nothing.
    pub(super) fn resize(&self, window: Duration) {
        let width = width_of(window);
        if self.width.swap(width, Relaxed) != width {
            self.last.store(0, Relaxed);
            self.clear();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }

    /// Counts a call that ended `now` nanoseconds after the start.
    pub(super) fn record(&self, generation: u32, now: u64, failed: bool) {
        let number = self.number(now);
        self.touch(number);
        let tag = tag(number, generation);
        let bucket = &self.buckets[(number % BUCKETS) as usize];
        let mut word = bucket.load(Relaxed);
        loop {
            let next = if word >> TAG_SHIFT == tag {
                add(word, failed)
            } else if word != 0 && newer(word >> TAG_SHIFT, tag) {
                // The ring went round while this thread slept.
                return;
            } else {
                add(tag << TAG_SHIFT, failed)
            };
            match bucket.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// The counts of the window that ends `now` nanoseconds after the start.
    pub(super) fn counts(&self, generation: u32, now: u64) -> Counts {
        let number = self.number(now);
        let mut counts = Counts::default();
        if number.saturating_sub(self.last.load(Relaxed)) >= BUCKETS {
            return counts;
        }
        for number in number.saturating_sub(BUCKETS - 1)..=number {
            let word = self.buckets[(number % BUCKETS) as usize].load(Relaxed);
            if word >> TAG_SHIFT == tag(number, generation) {
                counts.total += (word >> COUNT_BITS) & COUNT_MAX;
                counts.failed += word & COUNT_MAX;
            }
        }
        counts
    }

    /// The bucket that `now` falls into. Most often the last one, which saves the division.
    fn number(&self, now: u64) -> u64 {
        let (width, last) = (self.width.load(Relaxed), self.last.load(Relaxed));
        if now.wrapping_sub(last.wrapping_mul(width)) < width {
            last
        } else {
            now / width
        }
    }

    fn touch(&self, number: u64) {
        if number > self.last.load(Relaxed) {
            let last = self.last.fetch_max(number, Relaxed);
            if number / SWEEP > last / SWEEP {
                self.sweep(number, number - last >= 2 * BUCKETS);
            }
        }
    }

    /// Empties the buckets that are out of the window, all of them after a pause.
    fn sweep(&self, number: u64, idle: bool) {
        for bucket in &self.buckets {
            let word = bucket.load(Relaxed);
            let turn = word >> (TAG_SHIFT + GENERATION_BITS);
            if idle || (number / BUCKETS).wrapping_sub(turn) & TURN_MASK > 1 {
                // Lost to a writer of now, it is not old any more.
                let _ = bucket.compare_exchange(word, 0, Relaxed, Relaxed);
            }
        }
    }
}

fn width_of(window: Duration) -> u64 {
    (u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS).max(1)
}

const fn tag(number: u64, generation: u32) -> u64 {
    ((number / BUCKETS) & TURN_MASK) << GENERATION_BITS | generation as u64 & GENERATION_MASK
}

/// Whether `this` tag was made after `that`, both taken as points on a circle.
const fn newer(this: u64, that: u64) -> bool {
    let generations = this.wrapping_sub(that) & GENERATION_MASK;
    let turns = (this >> GENERATION_BITS).wrapping_sub(that >> GENERATION_BITS) & TURN_MASK;
    if generations == 0 {
        turns != 0 && turns <= SLEPT
    } else {
        generations <= GENERATION_MASK / 2
    }
}

/// One call more. A bucket that is full is halved: the rate stays.
const fn add(word: u64, failed: bool) -> u64 {
    let (mut total, mut fails) = ((word >> COUNT_BITS) & COUNT_MAX, word & COUNT_MAX);
    if total == COUNT_MAX {
        total /= 2;
        fails /= 2;
    }
    (word >> TAG_SHIFT) << TAG_SHIFT | (total + 1) << COUNT_BITS | (fails + failed as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn window() -> Window {
        Window::new(Duration::from_secs(10))
    }

    fn counts(window: &Window, generation: u32, now: u64) -> (u64, u64) {
        let counts = window.counts(generation, now);
        (counts.total, counts.failed)
    }

    #[test]
    fn a_bucket_falls_out_after_ten() {
        let window = window();
        window.record(0, 0, true);
        window.record(0, 5 * SECOND, false);
        assert_eq!(counts(&window, 0, 9 * SECOND + SECOND - 1), (2, 1));
        assert_eq!(counts(&window, 0, 10 * SECOND), (1, 0));
        assert_eq!(counts(&window, 0, 15 * SECOND), (0, 0));
    }

    #[test]
    fn any_gap_begins_cold_and_works_again() {
        // Gaps of whole turns, at which a tag without memory would look fresh.
        for turns in [1, 7, TURN_MASK, TURN_MASK + 1, 3 * (TURN_MASK + 1), 1 << 30] {
            let window = window();
            window.record(3, 0, true);
            let later = turns * BUCKETS * SECOND;
            assert_eq!(counts(&window, 3, later), (0, 0), "{turns} turns");
            window.record(3, later, false);
            assert_eq!(counts(&window, 3, later), (1, 0), "{turns} turns");
        }
    }

    #[test]
    fn a_bucket_that_was_left_alone_for_long_is_used_again() {
        // The other buckets stay busy, so that the ring is never idle.
        for turns in [100, TURN_MASK / 2 + 2, TURN_MASK + 1, 2 * (TURN_MASK + 1)] {
            let window = window();
            window.record(0, 3 * SECOND, true);
            for turn in 1..turns {
                window.record(0, (turn * BUCKETS) * SECOND, false);
            }
            let later = (turns * BUCKETS + 3) * SECOND;
            assert_eq!(counts(&window, 0, later), (0, 0), "{turns} turns");
            window.record(0, later, true);
            assert_eq!(counts(&window, 0, later), (1, 1), "{turns} turns");
        }
    }

    #[test]
    fn generations_do_not_see_one_another() {
        let window = window();
        window.record(1, SECOND, true);
        assert_eq!(counts(&window, 2, SECOND), (0, 0));
        window.record(2, SECOND, false);
        // A late writer of the older generation changes nothing.
        window.record(1, SECOND, true);
        assert_eq!(counts(&window, 2, SECOND), (1, 0));
        // Nor does one that slept for a whole turn.
        window.record(2, 11 * SECOND, false);
        window.record(2, SECOND, true);
        assert_eq!(counts(&window, 2, 11 * SECOND), (1, 0));
    }

    #[test]
    fn a_full_bucket_keeps_its_rate() {
        let window = window();
        for n in 0..COUNT_MAX + 100 {
            window.record(0, SECOND, n % 4 == 0);
        }
        let counts = window.counts(0, SECOND);
        let rate = counts.failed as f64 / counts.total as f64;
        assert!((0.249..0.251).contains(&rate), "{rate}");
        assert!(counts.total <= COUNT_MAX);
    }

    #[test]
    fn another_length_begins_empty_the_same_one_does_not() {
        let window = window();
        window.record(0, SECOND, true);
        window.resize(Duration::from_secs(10));
        assert_eq!(counts(&window, 0, SECOND), (1, 1));
        window.resize(Duration::from_secs(20));
        assert_eq!(counts(&window, 0, SECOND), (0, 0));
        window.record(0, SECOND, true);
        assert_eq!(counts(&window, 0, 19 * SECOND), (1, 1));
    }
}
