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
    /// The last so many calls, in a ring in which `generation` counts.
    fn ring(generation: u32) -> Slots {
        let slots = Slots::default();
        slots.clear(generation);
        slots
    }

    fn counts(total: u64, failed: u64, slow: u64) -> Counts {
        Counts {
            total,
            failed,
            slow,
        }
    }

    const fn tag((generation, lap): (u64, u64)) -> u64 {
        generation << LAP_BITS | lap
    }

    fn put(slots: &Slots, cell: usize, at: (u64, u64), calls: u64) {
        slots.cells[cell].store(tag(at) << TAG_SHIFT | calls, Relaxed);
    }

    #[test]
    fn tags_are_points_on_a_circle() {
        for (this, that, is) in [
            ((0, 0), (0, 0), false),
            ((5, 1), (5, 0), true),
            ((5, 0), (5, 1), false),
            ((5, 31), (5, 0), true),
            ((5, 32), (5, 0), false),
            ((5, 0), (5, 63), true),
            ((5, 63), (5, 0), false),
            // Of generations the later one is newer whatever the lap.
            ((1, 0), (0, 63), true),
            ((0, 63), (1, 0), false),
            ((511, 0), (0, 0), true),
            ((512, 0), (0, 0), false),
            ((0, 0), (1_023, 5), true),
            ((1_023, 5), (0, 0), false),
        ] {
            assert_eq!(newer(tag(this), tag(that)), is, "{this:?} {that:?}");
        }
        for (lap, next) in [
            ((3, 5), (3, 6)),
            ((3, 63), (3, 0)),
            ((1_023, 63), (1_023, 0)),
        ] {
            assert_eq!(next_lap(tag(lap)), tag(next));
        }
    }

    #[test]
    fn cleared_it_begins_a_lap_or_a_generation() {
        let slots = ring(7);
        slots.record(7, 10, sample(3));
        assert_eq!(slots.counts(7, 10), counts(1, 1, 1));
        for (generation, at) in [
            (7, (7, 1)),
            (7, (7, 2)),
            (9, (9, 0)),
            (1_024 + 9, (9, 1)),
            (5, (5, 0)),
        ] {
            slots.clear(generation);
            assert_eq!(slots.cursor.load(Relaxed), tag(at) << TAG_SHIFT);
            assert!(slots.cells.iter().all(|cell| cell.load(Relaxed) == 0));
            slots.record(generation, 10, sample(1));
            assert_eq!(slots.counts(generation, 10), counts(1, 1, 0));
        }
    }

    #[test]
    fn what_is_forgotten_is_swept_out() {
        let slots = ring(7);
        (0..50).for_each(|_| slots.record(7, 50, sample(1)));
        slots.forget(6);
        assert_eq!(slots.counts(7, 50), counts(50, 50, 0));
        // Those of now stay: somebody counted meanwhile.
        put(&slots, 1, (7, 1), 0b1101);
        slots.forget(1_024 + 7);
        let words = [0, 1, 2].map(|cell: usize| slots.cells[cell].load(Relaxed));
        assert_eq!(words, [0, tag((7, 1)) << TAG_SHIFT | 0b1101, 0]);
        assert_eq!(slots.cursor.load(Relaxed), tag((7, 1)) << TAG_SHIFT);
    }

    #[test]
    fn a_call_is_counted_in_its_generation() {
        // An empty cell is of no generation, whatever its tag would say.
        for generation in [0, 1, 511, 512, 513, 600, 1_023, 1_024, 1_537] {
            let slots = ring(generation);
            slots.record(generation, 10, sample(2));
            slots.record(generation, 10, sample(0));
            assert_eq!(
                slots.counts(generation, 10),
                counts(2, 0, 1),
                "{generation}"
            );
            slots.record(generation + 1, 10, sample(1));
            assert_eq!(slots.counts(generation + 1, 10), counts(1, 1, 0));
            assert_eq!(slots.counts(generation, 10), Counts::default());
            // A late one.
            slots.record(generation, 10, sample(1));
            assert_eq!(slots.counts(generation + 1, 10), counts(1, 1, 0));
        }
    }

    #[test]
    fn of_a_cell_the_later_one_wins() {
        for (at, bits, seen) in [
            ((7, 0), 0b11_0000, counts(1, 2, 1)),
            ((6, 63), 0b11_0000, counts(1, 1, 0)),
            ((8, 0), 0b11_0000, counts(1, 0, 0)),
            ((7, 1), 0b11_0000, counts(1, 0, 0)),
        ] {
            let slots = ring(7);
            put(&slots, 0, at, bits);
            slots.record(7, 10, sample(1));
            assert_eq!(slots.counts(7, 10), seen, "{at:?}");
        }
        // A success leaves what is of another tag as it is.
        let slots = ring(7);
        put(&slots, 0, (6, 0), 0b11);
        slots.record(7, 10, sample(0));
        assert_eq!(
            slots.cells[0].load(Relaxed),
            tag((6, 0)) << TAG_SHIFT | 0b11
        );
    }

    #[test]
    fn the_last_place_of_a_cell_and_the_first_of_the_next() {
        let slots = ring(7);
        (0..23).for_each(|_| slots.record(7, 26, sample(0)));
        for bits in [1, 2, 3] {
            slots.record(7, 26, sample(bits));
        }
        let words = [0, 1].map(|cell: usize| slots.cells[cell].load(Relaxed) & REST);
        assert_eq!(words, [1 << 46, 0b1110]);
        assert_eq!(slots.counts(7, 26), counts(26, 2, 2));
        // The next lap of the ring takes their places.
        (0..24).for_each(|_| slots.record(7, 26, sample(0)));
        assert_eq!(slots.counts(7, 26), counts(26, 1, 2));
        slots.record(7, 26, sample(1));
        assert_eq!(slots.counts(7, 26), counts(26, 2, 1));
    }
}
