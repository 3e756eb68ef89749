//! Calls that were taken from a bucket in advance, a few for each thread, so that threads do not meet and need not
//! ask for the time.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

// epoch:56 | calls:8. An epoch begins when the cells open.
const EPOCH: u32 = 8;
const CALLS: u64 = (1 << EPOCH) - 1;
/// Somebody fetches calls for this cell.
const FETCHING: u64 = CALLS - 1;
/// Nothing is in it, and nothing may be put into it.
const CLOSED: u64 = CALLS;

/// A word on cache lines of its own; two, because they are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Cell(AtomicU64);

/// One cell for each thread, closed when made. A number of the thread says which; where there are more threads than cells,
/// some share one. `open` and `close` are for one thread at a time.
#[derive(Debug)]
pub(super) struct Cells {
    cells: Box<[Cell]>,
}

/// The right to fill a cell. There is one at a time.
#[derive(Debug)]
pub(super) struct Fetch<'a> {
    cell: &'a Cell,
    word: u64,
}

impl Cells {
    /// A power of two, or none.
    pub(super) fn new(count: usize) -> Self {
        Self {
            cells: (0..count).map(|_| Cell(AtomicU64::new(CLOSED))).collect(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Takes one call from the cell of thread `at`.
    #[inline]
    pub(super) fn take(&self, at: usize) -> bool {
        let Some(Cell(cell)) = self.of(at) else {
            return false;
        };
        let mut word = cell.load(Relaxed);
        loop {
            if !(1..FETCHING).contains(&(word & CALLS)) {
                return false;
            }
            match cell.compare_exchange_weak(word, word - 1, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// The right to fill the cell of thread `at`, if it is empty.
    pub(super) fn fetch(&self, at: usize) -> Option<Fetch<'_>> {
        let cell = self.of(at)?;
        let word = cell.0.load(Relaxed);
        if word & CALLS != 0 {
            return None;
        }
        let fetching = word | FETCHING;
        let marked = cell.0.compare_exchange(word, fetching, Acquire, Relaxed);
        marked.is_ok().then_some(Fetch {
            cell,
            word: fetching,
        })
    }

    /// Closes all cells; the calls that were in them. What somebody fetches at this moment is lost.
    pub(super) fn close(&self) -> u64 {
        let cells = self.cells.iter().map(|Cell(cell)| {
            // Nobody opens it meanwhile.
            let word = cell.load(Relaxed) | CLOSED;
            cell.swap(word, AcqRel) & CALLS
        });
        cells.filter(|calls| *calls < FETCHING).sum()
    }

    /// Opens all cells, empty.
    pub(super) fn open(&self) {
        for Cell(cell) in &self.cells {
            let epoch = (cell.load(Relaxed) >> EPOCH) + 1;
            cell.store(epoch << EPOCH, Release);
        }
    }

    fn of(&self, at: usize) -> Option<&Cell> {
        self.cells.get(at & self.cells.len().wrapping_sub(1))
    }
}

impl Fetch<'_> {
    /// Puts calls into the cell; they are lost if it was closed meanwhile.
    pub(super) fn fill(self, calls: u64) {
        let filled = self.word & !CALLS | calls;
        let _ = self
            .cell
            .0
            .compare_exchange(self.word, filled, Release, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(count: usize) -> Cells {
        let cells = Cells::new(count);
        cells.open();
        cells
    }

    fn taken(cells: &Cells, at: usize) -> usize {
        (0..1_000).take_while(|_| cells.take(at)).count()
    }

    #[test]
    fn a_cell_gives_what_was_put_into_it() {
        let cells = opened(4);
        assert!(!cells.take(1));
        for calls in [0, 1, 7, FETCHING - 1] {
            cells.fetch(1).unwrap().fill(calls);
            assert_eq!((taken(&cells, 0), taken(&cells, 1)), (0, calls as usize));
        }
        // Threads share them where there are more.
        cells.fetch(5).unwrap().fill(2);
        assert!(cells.take(1) && cells.take(9) && !cells.take(5));
        let none = opened(0);
        assert!(!none.take(0) && none.fetch(0).is_none());
        assert_eq!((none.len(), cells.len()), (0, 4));
    }

    #[test]
    fn one_fetches_at_a_time_and_only_for_an_empty_cell() {
        let cells = opened(2);
        let fetch = cells.fetch(0).unwrap();
        assert!(cells.fetch(0).is_none() && !cells.take(0));
        assert!(cells.fetch(1).is_some());
        fetch.fill(2);
        assert!(cells.fetch(0).is_none() && cells.take(0));
        assert!(cells.fetch(0).is_none() && cells.take(0));
        assert!(cells.fetch(0).is_some());
    }

    #[test]
    fn closed_it_gives_and_takes_nothing() {
        let cells = Cells::new(4);
        assert!(!cells.take(0) && cells.fetch(0).is_none());
        cells.open();
        cells.fetch(0).unwrap().fill(3);
        cells.fetch(1).unwrap().fill(FETCHING - 1);
        let (late, lost) = (cells.fetch(2).unwrap(), cells.fetch(3).unwrap());
        // What somebody fetches is not in it.
        assert_eq!(cells.close(), 3 + FETCHING - 1);
        assert_eq!(cells.close(), 0);
        late.fill(5);
        assert!((0..4).all(|at| taken(&cells, at) == 0 && cells.fetch(at).is_none()));
        // Nor may it come later, although somebody fetches again.
        cells.open();
        let fetch = cells.fetch(3).unwrap();
        lost.fill(5);
        assert_eq!(taken(&cells, 3), 0);
        fetch.fill(2);
        assert_eq!(taken(&cells, 3), 2);
        assert_eq!(cells.cells[0].0.load(Relaxed), 2 << EPOCH);
    }
}
