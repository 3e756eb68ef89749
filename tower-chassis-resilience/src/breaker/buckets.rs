//! Counts over time, without a lock: a ring of ten buckets, each one atomic word.
//!
//! A word carries its own tag, the turn of the ring and the generation of the circuit, so that
//! neither an old bucket nor a late failure of an older generation is ever mistaken for the present.
//! The ring stands on fixed boundaries: it does not drift, and it cannot wedge after a long pause.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::window::{Counts, Sample};

/// The number of buckets.
pub(super) const BUCKETS: u64 = 10;

// turn:4 | generation:6 | total:18 | failed:18 | slow:18
const COUNT_BITS: u32 = 18;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const FAILED_SHIFT: u32 = COUNT_BITS;
const TOTAL_SHIFT: u32 = 2 * COUNT_BITS;
const TAG_SHIFT: u32 = 3 * COUNT_BITS;
const GENERATION_BITS: u32 = 6;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const TURN_MASK: u64 = (1 << 4) - 1;
/// How often, in buckets, old words are swept out: long before the turn in a tag can come round
/// again.
const SWEEP: u64 = 4 * BUCKETS;
/// How many turns a bucket may be ahead of a writer that slept. Further ahead means: left from long
/// ago.
const SLEPT: u64 = 7;
/// Up to here a total is simply added to. So many threads may do it at once before it overflows as are left.
const ROOM: u64 = COUNT_MAX - 4096;

/// A ring of buckets.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Buckets([AtomicU64; BUCKETS as usize]);

impl Buckets {
    /// Forgets everything.
    pub(super) fn clear(&self) {
        for bucket in &self.0 {
            bucket.store(0, Relaxed);
        }
    }

    /// Counts a call in bucket `number` since the start.
    ///
    /// A success is simply added. If its thread sleeps here for as long as the ring takes to come round, or until
    /// another generation, the present has one success too many, once.
    #[inline]
    pub(super) fn record(&self, generation: u32, number: u64, sample: Sample) {
        let tag = tag(number, generation);
        let bucket = &self.0[(number % BUCKETS) as usize];
        let word = bucket.load(Relaxed);
        if sample.is_plain() && word >> TAG_SHIFT == tag && total(word) < ROOM {
            bucket.fetch_add(1 << TOTAL_SHIFT, Relaxed);
        } else {
            exchange(bucket, word, tag, sample);
        }
    }

    /// The counts of the window that ends with bucket `number`, not to be asked after a silence of a whole window.
    pub(super) fn counts(&self, generation: u32, number: u64) -> Counts {
        let mut counts = Counts::default();
        for number in number.saturating_sub(BUCKETS - 1)..=number {
            let word = self.0[(number % BUCKETS) as usize].load(Relaxed);
            if word >> TAG_SHIFT == tag(number, generation) {
                counts.total += total(word);
                counts.failed += failed(word);
                counts.slow += slow(word);
            }
        }
        counts
    }

    /// `number` is the first bucket in use after `last`. Whoever moved it on calls this.
    pub(super) fn turn(&self, last: u64, number: u64) {
        if number / SWEEP > last / SWEEP {
            self.sweep(number, number - last >= 2 * BUCKETS);
        }
    }

    /// Empties the buckets that are out of the window, all of them after a pause.
    fn sweep(&self, number: u64, idle: bool) {
        for bucket in &self.0 {
            let word = bucket.load(Relaxed);
            let turn = word >> (TAG_SHIFT + GENERATION_BITS);
            if idle || (number / BUCKETS).wrapping_sub(turn) & TURN_MASK > 1 {
                // Lost to a writer of now, it is not old any more.
                let _ = bucket.compare_exchange(word, 0, Relaxed, Relaxed);
            }
        }
    }
}

#[cold]
fn exchange(bucket: &AtomicU64, mut word: u64, tag: u64, sample: Sample) {
    loop {
        let next = if word >> TAG_SHIFT == tag {
            add(word, sample)
        } else if word != 0 && newer(word >> TAG_SHIFT, tag) {
            // The ring went round while this thread slept.
            return;
        } else {
            add(tag << TAG_SHIFT, sample)
        };
        match bucket.compare_exchange_weak(word, next, Relaxed, Relaxed) {
            Ok(_) => return,
            Err(seen) => word = seen,
        }
    }
}

const fn tag(number: u64, generation: u32) -> u64 {
    ((number / BUCKETS) & TURN_MASK) << GENERATION_BITS | generation as u64 & GENERATION_MASK
}

const fn total(word: u64) -> u64 {
    (word >> TOTAL_SHIFT) & COUNT_MAX
}

const fn failed(word: u64) -> u64 {
    (word >> FAILED_SHIFT) & COUNT_MAX
}

const fn slow(word: u64) -> u64 {
    word & COUNT_MAX
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

/// One call more. A bucket that is full is halved: the rates stay.
const fn add(word: u64, sample: Sample) -> u64 {
    let halved = (total(word) >= ROOM) as u32;
    let total = (total(word) >> halved) + 1;
    let failed = (failed(word) >> halved) + sample.failed as u64;
    let slow = (slow(word) >> halved) + sample.slow as u64;
    (word >> TAG_SHIFT) << TAG_SHIFT | total << TOTAL_SHIFT | failed << FAILED_SHIFT | slow
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::window::{Sample, Window},
        *,
    };

    const SECOND: u64 = 1_000_000_000;

    fn window() -> Window {
        Window::new(Duration::from_secs(10), 0)
    }

    fn record(window: &Window, generation: u32, now: u64, failed: bool) {
        let sample = Sample {
            failed,
            slow: false,
        };
        window.record(generation, now, now, sample);
    }

    fn counts(window: &Window, generation: u32, now: u64) -> (u64, u64) {
        let counts = window.counts(generation, now);
        (counts.total, counts.failed)
    }

    #[test]
    fn a_bucket_falls_out_after_ten() {
        let window = window();
        record(&window, 0, 0, true);
        record(&window, 0, 5 * SECOND, false);
        assert_eq!(counts(&window, 0, 9 * SECOND + SECOND - 1), (2, 1));
        assert_eq!(counts(&window, 0, 10 * SECOND), (1, 0));
        assert_eq!(counts(&window, 0, 15 * SECOND), (0, 0));
    }

    #[test]
    fn any_gap_begins_cold_and_works_again() {
        // Gaps of whole turns, at which a tag without memory would look fresh.
        for turns in [1, 7, TURN_MASK, TURN_MASK + 1, 3 * (TURN_MASK + 1), 1 << 30] {
            let window = window();
            record(&window, 3, 0, true);
            let later = turns * BUCKETS * SECOND;
            assert_eq!(counts(&window, 3, later), (0, 0), "{turns} turns");
            record(&window, 3, later, false);
            assert_eq!(counts(&window, 3, later), (1, 0), "{turns} turns");
        }
    }

    #[test]
    fn a_bucket_that_was_left_alone_for_long_is_used_again() {
        // The other buckets stay busy, so that the ring is never idle.
        for turns in 2..100 {
            for place in 1..BUCKETS {
                let window = window();
                record(&window, 0, place * SECOND, true);
                for turn in 1..turns {
                    record(&window, 0, (turn * BUCKETS) * SECOND, false);
                }
                let later = (turns * BUCKETS + place) * SECOND;
                assert_eq!(counts(&window, 0, later).1, 0, "{turns} turns");
                record(&window, 0, later, true);
                assert_eq!(counts(&window, 0, later), (1, 1), "{turns} turns");
            }
        }
    }

    #[test]
    fn generations_do_not_see_one_another() {
        let window = window();
        record(&window, 1, SECOND, true);
        assert_eq!(counts(&window, 2, SECOND), (0, 0));
        record(&window, 2, SECOND, false);
        // A late writer of the older generation changes nothing.
        record(&window, 1, SECOND, true);
        assert_eq!(counts(&window, 2, SECOND), (1, 0));
        // Nor does one that slept for a whole turn.
        record(&window, 2, 11 * SECOND, false);
        record(&window, 2, SECOND, true);
        assert_eq!(counts(&window, 2, 11 * SECOND), (1, 0));
    }

    #[test]
    fn a_full_bucket_keeps_its_rates() {
        let window = window();
        for n in 0..2 * COUNT_MAX + 100 {
            let sample = Sample {
                failed: n % 4 == 0,
                slow: n % 8 < 3,
            };
            window.record(0, SECOND, SECOND, sample);
        }
        let counts = window.counts(0, SECOND);
        for (part, rate) in [(counts.failed, 0.25), (counts.slow, 0.375)] {
            let seen = part as f64 / counts.total as f64;
            assert!((seen - rate).abs() < 0.001, "{seen}");
        }
        assert!((ROOM / 2..=COUNT_MAX).contains(&counts.total));
    }
    const FAILED: Sample = Sample {
        failed: true,
        slow: false,
    };

    /// A ring in which a failure was counted in each of these buckets.
    fn ring(numbers: std::ops::RangeInclusive<u64>) -> Buckets {
        let buckets = Buckets::default();
        numbers.for_each(|number| buckets.record(0b10_1011, number, FAILED));
        buckets
    }

    /// How many failures are left after the ring turned from `last` to `number`.
    fn left(buckets: &Buckets, last: u64, number: u64) -> u64 {
        buckets.turn(last, number);
        let words = buckets.0.iter().map(|word| failed(word.load(Relaxed)));
        words.sum()
    }

    #[test]
    fn a_sweep_takes_what_is_out_of_the_window_and_no_more() {
        // Not before its time.
        assert_eq!(left(&ring(5..=14), 14, 39), 10);
        assert_eq!(left(&ring(50..=59), 59, 78), 10);
        // Those of the turn before stay, and those of this one.
        assert_eq!(left(&ring(30..=39), 39, 40), 10);
        assert_eq!(left(&ring(36..=45), 35, 45), 10);
        let swept = ring(25..=34);
        assert_eq!(left(&swept, 34, 40), 5);
        assert_eq!(swept.counts(0b10_1011, 40).failed, 4);
        assert_eq!(left(&ring(30..=30), 30, 42), 1);
        // However many turns ago, as long as the tag can tell.
        for sweep in (1..100).filter(|sweep| sweep % 4 != 0) {
            let now = sweep * SWEEP;
            assert_eq!(left(&ring(0..=9), now - 1, now), 0, "{now}");
        }
        // After a pause all of them, also those that would seem to be of now.
        assert_eq!(left(&ring(30..=39), 39, 190), 0);
        assert_eq!(left(&ring(30..=30), 21, 40), 1);
        assert_eq!(left(&ring(30..=30), 20, 40), 0);
    }

    #[test]
    fn a_call_is_counted_however_late_it_is() {
        for number in [0, 1, 159, 160, 1_000, 123_456_789] {
            let buckets = Buckets::default();
            for calls in 1..4 {
                buckets.record(7, number, FAILED);
                buckets.record(7, number, Sample::default());
                let counts = buckets.counts(7, number);
                assert_eq!(
                    (counts.total, counts.failed),
                    (2 * calls, calls),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn tags_are_points_on_a_circle() {
        for (this, that, is) in [
            ((0, 0), (0, 0), false),
            ((9, 0), (0, 0), false),
            ((10, 0), (9, 0), true),
            ((70, 0), (0, 0), true),
            ((80, 0), (0, 0), false),
            ((0, 0), (10, 0), false),
            // The turns come round.
            ((160, 0), (150, 0), true),
            ((10, 5), (150, 5), true),
            ((150, 5), (10, 5), false),
            // Of generations the later one is newer whatever the turn, and they come round as well.
            ((0, 1), (90, 0), true),
            ((90, 0), (0, 1), false),
            ((0, 31), (0, 0), true),
            ((0, 32), (0, 0), false),
            ((0, 1), (0, 63), true),
            ((0, 63), (0, 1), false),
            ((0, 64), (0, 63), true),
        ] {
            let tag = |(number, generation)| tag(number, generation);
            assert_eq!(newer(tag(this), tag(that)), is, "{this:?} {that:?}");
        }
    }

    #[test]
    fn a_bucket_is_halved_when_it_is_full() {
        let buckets = Buckets::default();
        let slow = Sample {
            failed: false,
            slow: true,
        };
        (0..99).for_each(|_| buckets.record(3, 25, FAILED));
        (0..50).for_each(|_| buckets.record(3, 25, slow));
        let counts = |total, failed, slow| Counts {
            total,
            failed,
            slow,
        };
        (149..ROOM).for_each(|_| buckets.record(3, 25, Sample::default()));
        assert_eq!(buckets.counts(3, 25), counts(ROOM, 99, 50));
        buckets.record(3, 25, Sample::default());
        assert_eq!(buckets.counts(3, 25), counts(ROOM / 2 + 1, 49, 25));
        buckets.record(3, 25, FAILED);
        assert_eq!(buckets.counts(3, 25), counts(ROOM / 2 + 2, 50, 25));
    }
}
