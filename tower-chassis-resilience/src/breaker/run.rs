//! Failures in a row, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many calls of a generation failed since one succeeded. One word:
/// `generation:32 | length:32`, so that a late call of an older generation neither lengthens nor
/// ends the row of the present.
#[derive(Debug, Default)]
pub(super) struct Run(AtomicU64);

impl Run {
    /// One failure more; the length of the row.
    pub(super) fn count(&self, generation: u32) -> u32 {
        let mut word = self.0.load(Relaxed);
        loop {
            if newer((word >> 32) as u32, generation) {
                return 0;
            }
            let length = length(word, generation).saturating_add(1);
            match self
                .0
                .compare_exchange_weak(word, pack(generation, length), Relaxed, Relaxed)
            {
                Ok(_) => return length,
                Err(seen) => word = seen,
            }
        }
    }

    /// A failure after a long silence: a row of its own. `false` if there is one of a later generation.
    pub(super) fn restart(&self, generation: u32) -> bool {
        let mut word = self.0.load(Relaxed);
        loop {
            if newer((word >> 32) as u32, generation) {
                return false;
            }
            match self
                .0
                .compare_exchange_weak(word, pack(generation, 1), Relaxed, Relaxed)
            {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// A success. One load if there is no row.
    #[inline]
    pub(super) fn end(&self, generation: u32) {
        let mut word = self.0.load(Relaxed);
        while length(word, generation) > 0 {
            match self
                .0
                .compare_exchange_weak(word, pack(generation, 0), Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    pub(super) fn length(&self, generation: u32) -> u32 {
        length(self.0.load(Relaxed), generation)
    }
}

/// Generations wrap at 29 bits.
const fn newer(this: u32, that: u32) -> bool {
    const MASK: u32 = (1 << 29) - 1;
    let ahead = this.wrapping_sub(that) & MASK;
    ahead != 0 && ahead <= MASK / 2
}

const fn length(word: u64, generation: u32) -> u32 {
    if (word >> 32) as u32 == generation {
        word as u32
    } else {
        0
    }
}

const fn pack(generation: u32, length: u32) -> u64 {
    (generation as u64) << 32 | length as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(generation: u32, length: u32) -> Run {
        Run(AtomicU64::new(pack(generation, length)))
    }

    #[test]
    fn a_row_grows_ends_and_begins_again() {
        let run = row(3, 2);
        assert_eq!((run.count(3), run.length(3)), (3, 3));
        assert!(run.restart(3));
        assert_eq!((run.length(3), run.count(3)), (1, 2));
        run.end(3);
        assert_eq!((run.length(3), run.count(3)), (0, 1));
    }

    #[test]
    fn what_is_late_changes_nothing_and_what_is_later_begins_anew() {
        let run = row(3, 5);
        assert_eq!((run.count(2), run.restart(2)), (0, false));
        run.end(2);
        assert_eq!((run.length(2), run.length(3)), (0, 5));
        run.end(4);
        assert_eq!((run.length(4), run.length(3)), (0, 5));
        assert_eq!((run.count(4), run.length(3), run.length(4)), (1, 0, 1));
        let run = row(3, 5);
        assert!(run.restart(4));
        assert_eq!((run.length(3), run.length(4)), (0, 1));
    }

    #[test]
    fn generations_come_round() {
        const LAST: u32 = (1 << 29) - 1;
        const HALF: u32 = LAST / 2;
        for (present, other, late) in [
            (LAST, 0, false),
            (0, LAST, true),
            (HALF, 0, true),
            (HALF + 1, 0, false),
            (7, 9 + HALF, true),
            (7, 8 + HALF, false),
        ] {
            let counted = row(present, 5).count(other);
            assert_eq!(counted, u32::from(!late), "{present} {other}");
            assert_eq!(row(present, 5).restart(other), !late, "{present} {other}");
        }
    }
}
