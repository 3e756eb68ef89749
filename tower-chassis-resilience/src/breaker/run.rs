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
