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
}
