//! Counts that every call makes and that somebody reads now and then.

use std::{
    array,
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// So many cells for each count: threads that differ here do not take a line from one another.
const STRIPES: usize = 8;

/// `N` counts, of which every thread has a cell.
#[derive(Debug)]
pub(crate) struct Tally<const N: usize>([Stripe<N>; STRIPES]);

/// Two lines, because they are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe<const N: usize>([AtomicU64; N]);

thread_local! {
    /// Drawn at the first count of a thread.
    static MINE: Cell<Option<usize>> = const { Cell::new(None) };
}

fn mine() -> usize {
    // Fails while the thread ends.
    MINE.try_with(|mine| {
        mine.get().unwrap_or_else(|| {
            let drawn = fastrand::usize(..STRIPES);
            mine.set(Some(drawn));
            drawn
        })
    })
    .unwrap_or_default()
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| {
            Stripe(array::from_fn(|_| AtomicU64::new(0)))
        }))
    }
}

impl<const N: usize> Tally<N> {
    /// One more.
    pub(crate) fn count(&self, which: usize) {
        let cell = self.0.get(mine()).and_then(|stripe| stripe.0.get(which));
        if let Some(cell) = cell {
            cell.fetch_add(1, Relaxed);
        }
    }

    /// How many.
    pub(crate) fn sum(&self, which: usize) -> u64 {
        let cells = self.0.iter().filter_map(|stripe| stripe.0.get(which));
        cells.map(|cell| cell.load(Relaxed)).sum()
    }

    /// How many `began` are not yet among `ended`. What ends meanwhile may still be counted.
    pub(crate) fn between<const E: usize>(&self, began: usize, ended: [usize; E]) -> u64 {
        // The ends first: what began in between makes it too large, never negative.
        let ended: u64 = ended.into_iter().map(|which| self.sum(which)).sum();
        self.sum(began).saturating_sub(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_lose_no_count() {
        let tally = Tally::<2>::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..1_000 {
                        tally.count(0);
                        if n % 4 > 0 {
                            tally.count(1);
                        }
                    }
                });
            }
        });
        assert_eq!((tally.sum(0), tally.sum(1)), (4_000, 3_000));
        assert_eq!(tally.between(0, [1]), 1_000);
    }
}
