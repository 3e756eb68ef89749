//! How many calls of each level came.

use std::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Levels. A model has few, or it has no end.
pub(super) const CELLS: usize = if cfg!(chassis_loom) { 2 } else { 500 };

/// Counts that threads add to, each where the others do not. What is added while it is [taken](Self::take) is in this
/// take or in the next.
pub(super) struct Seen(Box<[Stripe]>);

/// Aligned to two cache lines, which are fetched in pairs.
#[repr(align(128))]
struct Stripe([AtomicU32; CELLS]);

impl Seen {
    /// `stripes` is a power of two.
    pub(super) fn new(stripes: usize) -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| AtomicU32::new(0)));
        Self((0..stripes.max(1)).map(stripe).collect())
    }

    /// Counts one, in the stripe of `here`.
    #[inline]
    pub(super) fn add(&self, here: usize, level: usize) {
        let stripe = &self.0[here & (self.0.len() - 1)];
        if let Some(count) = stripe.0.get(level) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Takes all out: each that was added is taken once.
    pub(super) fn take(&self) -> [u32; CELLS] {
        let mut taken = [0; CELLS];
        for stripe in &self.0 {
            for (taken, count) in taken.iter_mut().zip(&stripe.0) {
                // Most are empty, and a swap takes the line from those who add to it.
                if count.load(Relaxed) != 0 {
                    *taken += count.swap(0, Relaxed);
                }
            }
        }
        taken
    }

    /// How many of these levels were added and not taken.
    pub(super) fn count(&self, levels: std::ops::Range<usize>) -> u64 {
        let counts = self.0.iter().flat_map(|stripe| &stripe.0[levels.clone()]);
        counts.map(|count| u64::from(count.load(Relaxed))).sum()
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seen").field(&self.count(0..CELLS)).finish()
    }
}
