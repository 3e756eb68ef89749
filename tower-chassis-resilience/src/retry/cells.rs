//! Sums that threads add to without meeting each other.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// So many cells have one thread each that writes them: those whose [number](tower_chassis_core::striped::here) is below
/// it. Numbers are never given to another thread, so two plain moves do it there, which cost a tenth of an atomic
/// addition. (loom runs all of its threads on one of the system's.)
const OWN: usize = if cfg!(chassis_loom) { 0 } else { 16 };

/// Cells that the other threads share.
const SHARED: usize = 4;

/// The most calls of a thread between two looks at the clock.
const MOST: u32 = 64;

/// What was paid in, which only grows, and the calls that are under way: one may end on another thread than
/// it began on, so a cell by itself says nothing and may be negative.
pub(super) struct Cells([Cell; OWN + SHARED]);

#[derive(Default)]
#[repr(align(128))]
struct Cell {
    paid: AtomicU64,
    calls: AtomicU64,
    /// How many calls begin before the next look at the clock.
    left: AtomicU32,
    /// How many begin between two looks.
    stride: AtomicU32,
    /// When the last look was, in milliseconds of any beginning.
    looked: AtomicU64,
}

impl Default for Cells {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
    }
}

impl Cells {
    /// A call of `thread` begins and pays so much.
    #[inline]
    pub(super) fn enter(&self, thread: usize, share: u64) {
        let (cell, own) = self.at(thread);
        add(&cell.paid, share, own);
        add(&cell.calls, 1, own);
    }

    /// Whether it is time for `thread` to look at the clock. Asked once for each call that it begins.
    #[inline]
    pub(super) fn is_due(&self, thread: usize) -> bool {
        let (cell, _) = self.at(thread);
        // Where cells are shared it may be too early or too late by a few.
        let left = cell.left.load(Relaxed).wrapping_sub(1);
        cell.left.store(left, Relaxed);
        // Below zero it is the largest there is.
        left >= MOST
    }

    /// The clock was looked at. Where calls come in quick succession the next ones do not: the time from one look to
    /// the next stays well below a second.
    pub(super) fn looked(&self, thread: usize, millis: u64) {
        let (cell, _) = self.at(thread);
        let took = millis.saturating_sub(cell.looked.load(Relaxed));
        cell.looked.store(millis, Relaxed);
        let stride = cell.stride.load(Relaxed);
        let stride = match took {
            0..50 => (stride * 2 + 1).min(MOST - 1),
            50..200 => stride,
            _ => 0,
        };
        cell.stride.store(stride, Relaxed);
        cell.left.store(stride, Relaxed);
    }

    /// A call is over.
    pub(super) fn leave(&self, thread: usize) {
        let (cell, own) = self.at(thread);
        add(&cell.calls, u64::MAX, own);
    }

    /// Everything that was ever paid.
    pub(super) fn paid(&self) -> u64 {
        self.sum(|cell| &cell.paid)
    }

    /// How many calls are under way. Calls that begin or end meanwhile may be missed.
    pub(super) fn calls(&self) -> u64 {
        // One may be seen to end that was not seen to begin.
        let calls = self.sum(|cell| &cell.calls).cast_signed();
        calls.max(0).cast_unsigned()
    }

    fn sum(&self, which: impl Fn(&Cell) -> &AtomicU64) -> u64 {
        let words = self.0.iter().map(|cell| which(cell).load(Relaxed));
        words.fold(0, u64::wrapping_add)
    }

    /// The cell of a thread, and whether no other writes it.
    fn at(&self, thread: usize) -> (&Cell, bool) {
        if thread < OWN {
            (&self.0[thread], true)
        } else {
            (&self.0[OWN + thread % SHARED], false)
        }
    }
}

fn add(word: &AtomicU64, amount: u64, own: bool) {
    if own {
        word.store(word.load(Relaxed).wrapping_add(amount), Relaxed);
    } else {
        word.fetch_add(amount, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of calls that begin `apart` milliseconds after one another, how many there are from one look to the next.
    fn gaps<const N: usize>(cells: &Cells, thread: usize, now: &mut u64, apart: u64) -> [u32; N] {
        [(); N].map(|()| {
            let mut calls = 0;
            loop {
                *now += apart;
                calls += 1;
                assert!(calls <= MOST, "it never looks");
                if cells.is_due(thread) {
                    cells.looked(thread, *now);
                    return calls;
                }
            }
        })
    }

    #[test]
    fn the_faster_calls_come_the_fewer_look_at_the_clock() {
        for thread in [0, OWN + 1] {
            let (cells, mut now) = (Cells::default(), 0);
            assert_eq!(
                gaps(&cells, thread, &mut now, 0),
                [1, 2, 4, 8, 16, 32, 64, 64]
            );
            // 128 ms from one look to the next, and then 256.
            assert_eq!(gaps(&cells, thread, &mut now, 2), [64, 64]);
            assert_eq!(gaps(&cells, thread, &mut now, 4), [64, 1, 2, 4, 8, 16, 16]);
            assert_eq!(gaps(&cells, thread, &mut now, 200), [16, 1, 1]);
            assert_eq!(gaps(&cells, thread, &mut now, 50), [1, 1]);
            assert_eq!(gaps(&cells, thread, &mut now, 49), [1, 2, 2]);
        }
    }

    /// The one that is due has not looked yet, and another of its cell begins a call.
    #[test]
    fn a_look_that_is_due_stays_due_until_it_is_done() {
        let cells = Cells::default();
        assert!((0..3).all(|_| cells.is_due(OWN)));
        cells.looked(OWN, 7);
        assert!(!cells.is_due(OWN) && cells.is_due(OWN) && cells.is_due(OWN + SHARED));
    }

    #[test]
    fn threads_have_cells_of_their_own_and_the_others_share_four() {
        let cells = Cells::default();
        assert_eq!(size_of::<Cells>(), 20 * size_of::<Cell>());
        assert!((0..40).all(|thread| cells.at(thread).1 == (thread < OWN)));
        for thread in 0..40 {
            cells.enter(thread, 1 << thread);
            cells.leave(39 - thread);
        }
        assert_eq!((cells.paid(), cells.calls()), ((1 << 40) - 1, 0));
        let calls = |cell: &Cell| cell.calls.load(Relaxed).cast_signed();
        assert!(cells.0[..OWN].iter().all(|cell| calls(cell) == 0));
        let paid = cells
            .0
            .iter()
            .map(|cell| cell.paid.load(Relaxed).count_ones());
        assert!(paid.eq([1; OWN].into_iter().chain([6; SHARED])));
        // More that end than began: seen while they come and go.
        cells.leave(3);
        assert_eq!(cells.calls(), 0);
    }
}
