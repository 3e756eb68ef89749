//! A bounded number of places, in two words.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Places of which no more than so many are taken.
#[derive(Debug)]
pub(crate) struct Slots {
    most: AtomicU32,
    taken: AtomicU32,
}

impl Slots {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most: AtomicU32::new(most),
            taken: AtomicU32::new(0),
        }
    }

    /// From now on at most so many. Those that are taken stay.
    pub(crate) fn set_most(&self, most: u32) {
        self.most.store(most, Relaxed);
    }

    /// Takes one, if one is free.
    pub(crate) fn take(&self) -> bool {
        let most = self.most.load(Relaxed);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// Gives back one that was taken.
    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }
}
