//! Free permits: in one word, or spread over several so that threads do not meet.

use std::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The word of a stripe that hands out nothing and takes nothing back. Any other word is the number
/// of its free permits.
const CLOSED: u32 = 1 << 31;

/// A word on cache lines of its own; two, because they are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(AtomicU32);

/// How a try to take a permit went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    Permit,
    /// None is free.
    Empty,
    /// Whoever holds the lock knows what is free.
    Closed,
}

/// Permits that can be taken and given back with one compare-and-swap.
///
/// `close`, `open` and `spread` are for one thread at a time. A stripe is closed when made.
#[derive(Debug)]
pub(crate) struct Stripes {
    stripes: Box<[Stripe]>,
    /// How many are in use, from the first; the others stay closed. A power of two: a division costs as much as the
    /// rest.
    spread: AtomicUsize,
}

impl Stripes {
    /// `count` stripes or some more, all closed, one in use.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            stripes: (0..count.next_power_of_two())
                .map(|_| Stripe(AtomicU32::new(CLOSED)))
                .collect(),
            spread: AtomicUsize::new(1),
        }
    }

    /// Takes a permit: from the stripe of thread `at`, else from another one.
    ///
    /// Exact with one stripe in use. With more, `Empty` may come from a moment in which a permit was
    /// taken behind the search and another one given back ahead of it.
    #[inline]
    pub(crate) fn take(&self, at: usize) -> Take {
        match self.own(at).map_or(Take::Empty, take) {
            Take::Empty => self.steal(at),
            took => took,
        }
    }

    #[cold]
    fn steal(&self, at: usize) -> Take {
        let others = self.from(at).skip(1);
        others
            .map(take)
            .find(|took| *took != Take::Empty)
            .unwrap_or(Take::Empty)
    }

    /// Gives a permit back to the stripe of thread `at`; `false` if that is closed.
    #[inline]
    pub(crate) fn give(&self, at: usize) -> bool {
        let Some(word) = self.own(at) else {
            return false;
        };
        let mut free = word.load(Relaxed);
        while free != CLOSED {
            match word.compare_exchange_weak(free, free + 1, Release, Relaxed) {
                Ok(_) => return true,
                Err(seen) => free = seen,
            }
        }
        false
    }

    /// Whether a permit could be taken now.
    #[inline]
    pub(crate) fn any(&self, at: usize) -> bool {
        let free = |word: &AtomicU32| !matches!(word.load(Relaxed), 0 | CLOSED);
        self.own(at).is_some_and(free) || self.from(at).any(free)
    }

    /// How many permits are free, stripe by stripe.
    pub(crate) fn free(&self) -> u32 {
        self.from(0)
            .map(|word| word.load(Relaxed))
            .filter(|free| *free != CLOSED)
            .sum()
    }

    /// Closes all stripes; the permits that were free.
    pub(crate) fn close(&self) -> u32 {
        self.from(0)
            .map(|word| word.swap(CLOSED, AcqRel))
            .filter(|free| *free != CLOSED)
            .sum()
    }

    /// Opens those that are in use with `free` permits in shares that differ by one at the most.
    pub(crate) fn open(&self, free: u32, at: usize) {
        let stripes = self.spread.load(Relaxed) as u32;
        let (share, mut rest) = (free / stripes, free % stripes);
        for word in self.from(at) {
            word.store(share + u32::from(rest > 0), Release);
            rest = rest.saturating_sub(1);
        }
    }

    /// Uses all stripes or only the first, from the next `open` on. They must be closed.
    pub(crate) fn spread(&self, wide: bool) {
        let stripes = if wide { self.stripes.len() } else { 1 };
        self.spread.store(stripes, Relaxed);
    }

    /// The word of thread `at`.
    #[inline]
    fn own(&self, at: usize) -> Option<&AtomicU32> {
        let own = self.stripes.get(at & (self.spread.load(Relaxed) - 1));
        own.map(|stripe| &stripe.0)
    }

    /// The words in use, beginning with that of thread `at`.
    fn from(&self, at: usize) -> impl Iterator<Item = &AtomicU32> {
        let spread = self.spread.load(Relaxed);
        let (before, after) = self.stripes[..spread].split_at(at & (spread - 1));
        after.iter().chain(before).map(|stripe| &stripe.0)
    }
}

#[inline]
fn take(word: &AtomicU32) -> Take {
    let mut free = word.load(Acquire);
    while free != 0 {
        if free == CLOSED {
            return Take::Closed;
        }
        match word.compare_exchange_weak(free, free - 1, Acquire, Acquire) {
            Ok(_) => return Take::Permit,
            Err(seen) => free = seen,
        }
    }
    Take::Empty
}
