//! Sums that threads add to without meeting each other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const CELLS: usize = 8;

/// What was paid in, which only grows, and the calls that are under way: one may end on another thread than
/// it began on, so a cell of its own says nothing and may be negative.
#[derive(Default)]
pub(super) struct Cells([Cell; CELLS]);

#[derive(Default)]
#[repr(align(128))]
struct Cell {
    paid: AtomicU64,
    calls: AtomicU64,
}

impl Cells {
    /// A call begins and pays so much.
    pub(super) fn enter(&self, share: u64) {
        let cell = self.mine();
        cell.paid.fetch_add(share, Relaxed);
        cell.calls.fetch_add(1, Relaxed);
    }

    /// A call is over.
    pub(super) fn leave(&self) {
        self.mine().calls.fetch_sub(1, Relaxed);
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

    fn mine(&self) -> &Cell {
        thread_local! {
            static HERE: u8 = const { 0 };
        }
        // Each thread has its own copy at its own address; the high bits of the product mix all of it.
        let here = HERE.with(|here| std::ptr::from_ref(here).addr() as u64);
        let cell = here.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61;
        &self.0[cell as usize % CELLS]
    }
}
