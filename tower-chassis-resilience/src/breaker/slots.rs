//! The last so many calls, without a lock: a ring of two bits for each call.
//!
//! There are no sums to keep in step with the ring: the bits themselves are counted, and only when a call failed or
//! was slow. A success in a ring of successes takes its place by one addition and reads one word.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use super::window::{Counts, Sample};

/// The most calls that a ring holds.
pub(super) const MAX_CALLS: u32 = 1_000;

/// Calls in a word: two bits each beside its tag.
const PER_CELL: u64 = 24;
// A model has few calls, or it has no end.
const CELLS: usize = if cfg!(chassis_loom) {
    2
} else {
    (MAX_CALLS as u64).div_ceil(PER_CELL) as usize
};

// generation:10 | lap:6 | 48 bits: a position, or the calls of a cell
const TAG_SHIFT: u32 = 48;
const REST: u64 = (1 << TAG_SHIFT) - 1;
const LAP_BITS: u32 = 6;
const LAP_MASK: u64 = (1 << LAP_BITS) - 1;
const GENERATION_MASK: u64 = (1 << 10) - 1;
/// The lower bit of each call: it failed. The upper: it was slow.
const FAILED: u64 = 0x5555_5555_5555;

/// A ring of calls.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Slots {
    /// The tag of what is counted now, and how many calls that are. A lap begins when all before is forgotten.
    cursor: AtomicU64,
    /// What is of another tag counts as successes. 0 is one of which nothing is known, whatever its tag would be.
    cells: [AtomicU64; CELLS],
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            cursor: AtomicU64::new(0),
            cells: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Slots {
    /// Forgets everything, so that no tag of long ago is met again, and counts from now on in `generation`, however
    /// many there were since it last counted. One at a time.
    pub(super) fn clear(&self, generation: u32) {
        let tag = self.cursor.load(Acquire) >> TAG_SHIFT;
        for cell in &self.cells {
            cell.store(0, Relaxed);
        }
        let generation = u64::from(generation) & GENERATION_MASK;
        let next = if tag >> LAP_BITS == generation {
            next_lap(tag)
        } else {
            generation << LAP_BITS
        };
        self.cursor.store(next << TAG_SHIFT, Relaxed);
    }

    /// Forgets what was counted in `generation`, while others count.
    pub(super) fn forget(&self, generation: u32) {
        let seen = self.cursor.load(Acquire);
        let tag = seen >> TAG_SHIFT;
        if tag >> LAP_BITS == u64::from(generation) & GENERATION_MASK {
            // Whoever counted meanwhile ended the silence.
            let next = next_lap(tag);
            let begun = self
                .cursor
                .compare_exchange(seen, next << TAG_SHIFT, AcqRel, Relaxed);
            if begun.is_ok() {
                self.sweep(next);
            }
        }
    }

    /// Empties what is not of `tag`, before that comes round again.
    fn sweep(&self, tag: u64) {
        for cell in &self.cells {
            let word = cell.load(Relaxed);
            if word != 0 && word >> TAG_SHIFT != tag {
                // Lost to a writer of now, it is not old any more.
                let _ = cell.compare_exchange(word, 0, Relaxed, Relaxed);
            }
        }
    }

    /// Counts a call; the one before the last `size` falls out.
    pub(super) fn record(&self, generation: u32, size: u64, sample: Sample) {
        let Some((tag, position)) = self.next(u64::from(generation) & GENERATION_MASK) else {
            return;
        };
        let place = position % size;
        let cell = &self.cells[(place / PER_CELL) as usize];
        let shift = 2 * (place % PER_CELL);
        let bits = (sample.failed as u64 | (sample.slow as u64) << 1) << shift;
        let mut word = cell.load(Relaxed);
        loop {
            let calls = if word >> TAG_SHIFT == tag {
                word & REST
            } else if bits == 0 || word != 0 && newer(word >> TAG_SHIFT, tag) {
                return;
            } else {
                0
            };
            let next = calls & !(0b11 << shift) | bits;
            if next == calls {
                return;
            }
            match cell.compare_exchange_weak(word, tag << TAG_SHIFT | next, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// The tag and the position of one call more; `None` if the ring is of a later generation.
    fn next(&self, generation: u64) -> Option<(u64, u64)> {
        let mut seen = self.cursor.load(Acquire);
        loop {
            if seen >> (TAG_SHIFT + LAP_BITS) == generation {
                // In between it may have become another's, which has one success too many then.
                let seen = self.cursor.fetch_add(1, AcqRel);
                let tag = seen >> TAG_SHIFT;
                return (tag >> LAP_BITS == generation).then_some((tag, seen & REST));
            }
            let tag = generation << LAP_BITS;
            if newer(seen >> TAG_SHIFT, tag) {
                return None;
            }
            let first = tag << TAG_SHIFT | 1;
            match self
                .cursor
                .compare_exchange_weak(seen, first, AcqRel, Acquire)
            {
                Ok(_) => return Some((tag, 0)),
                Err(now) => seen = now,
            }
        }
    }

    /// The counts of the last `size` calls.
    pub(super) fn counts(&self, generation: u32, size: u64) -> Counts {
        let cursor = self.cursor.load(Acquire);
        let tag = cursor >> TAG_SHIFT;
        let mut counts = Counts::default();
        if tag >> LAP_BITS != u64::from(generation) & GENERATION_MASK {
            return counts;
        }
        counts.total = (cursor & REST).min(size);
        for cell in &self.cells[..size.div_ceil(PER_CELL) as usize] {
            let word = cell.load(Acquire);
            if word >> TAG_SHIFT == tag {
                counts.failed += u64::from((word & FAILED).count_ones());
                counts.slow += u64::from((word & FAILED << 1).count_ones());
            }
        }
        counts
    }
}

const fn next_lap(tag: u64) -> u64 {
    tag & !LAP_MASK | (tag + 1) & LAP_MASK
}

/// Whether `this` tag was made after `that`, both taken as points on a circle.
const fn newer(this: u64, that: u64) -> bool {
    let generations = (this >> LAP_BITS).wrapping_sub(that >> LAP_BITS) & GENERATION_MASK;
    if generations == 0 {
        let laps = this.wrapping_sub(that) & LAP_MASK;
        laps != 0 && laps <= LAP_MASK / 2
    } else {
        generations <= GENERATION_MASK / 2
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn sample(bits: u8) -> Sample {
        Sample {
            failed: bits & 1 != 0,
            slow: bits & 2 != 0,
        }
    }

    #[test]
    fn holds_the_last_calls_and_no_other() {
        let mut rng = fastrand::Rng::with_seed(7);
        for size in [1, 2, 23, 24, 25, 100, 999, 1_000] {
            let slots = Slots::default();
            let mut last = VecDeque::new();
            for _ in 0..5_000 {
                let call = sample(rng.u8(..) & rng.u8(..));
                slots.record(3, size, call);
                last.push_back(call);
                if last.len() as u64 > size {
                    last.pop_front();
                }
                let counts = slots.counts(3, size);
                let count =
                    |is: fn(&Sample) -> bool| last.iter().filter(|call| is(call)).count() as u64;
                assert_eq!(counts.total, last.len() as u64);
                assert_eq!(counts.failed, count(|call| call.failed));
                assert_eq!(counts.slow, count(|call| call.slow));
            }
        }
    }

    #[test]
    fn generations_and_laps_do_not_see_one_another() {
        let slots = Slots::default();
        slots.record(1, 10, sample(1));
        assert_eq!(slots.counts(2, 10), Counts::default());
        slots.record(2, 10, sample(0));
        slots.record(1, 10, sample(1));
        assert_eq!(
            (slots.counts(2, 10).total, slots.counts(2, 10).failed),
            (1, 0)
        );
        for _ in 0..200 {
            slots.record(2, 10, sample(3));
            slots.forget(1);
            assert_eq!(slots.counts(2, 10).failed, 1);
            slots.forget(2);
            assert_eq!(slots.counts(2, 10), Counts::default());
        }
        slots.record(2, 10, sample(3));
        slots.clear(2);
        assert_eq!(slots.counts(2, 10), Counts::default());
    }
}
