//! How long calls took of late: a quantile over the last half minute. Takes `now`, knows no tower.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// No answer to the question how long to wait.
pub(super) const NEVER: u64 = u64::MAX;

/// Calls are counted in windows of ten seconds, and what is older than the last three is forgotten.
pub(super) const WINDOW: u64 = 10_000_000_000;
pub(super) const WINDOWS: usize = 3;

/// How often the quantile is looked up, by whoever comes.
pub(super) const REFRESH: u64 = 250_000_000;

/// An octave has 32 buckets, so that the upper edge of one is at most 1/32 above what is in it.
const PART_BITS: u32 = 5;
const PARTS: usize = 1 << PART_BITS;
/// What is below 2^20 ns (1.05 ms) is one bucket: no timer is finer.
const LEAST_BITS: u32 = 20;
/// The octaves above end at 2^36 ns (69 s). What is longer is one bucket, whose upper edge nobody knows.
const OCTAVES: usize = 16;

/// What is asked of a [`Latency`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rule {
    /// The share of the calls that is over by then, in millionths.
    pub(super) share: u32,
    /// With fewer calls in the half minute there is no answer.
    pub(super) min_samples: u32,
    /// A shorter time is as long as this, in nanoseconds.
    pub(super) floor: u64,
    /// A longer one is no answer.
    pub(super) ceiling: u64,
}

/// Counts of calls by how long they took, of three windows, and the quantile that was looked up last.
///
/// Nothing is ever cleared: each cell carries the number of its window, and whoever finds an old one begins anew.
#[derive(Debug)]
pub(super) struct Latency {
    /// The buckets of the first window, then of the next.
    cells: Box<[Cell]>,
    octaves: usize,
    quantile: AtomicU64,
    /// When it is looked up next.
    due: AtomicU64,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self::with_octaves(OCTAVES)
    }

    /// With fewer buckets, for a model that tries every interleaving.
    pub(super) fn with_octaves(octaves: usize) -> Self {
        let cells = WINDOWS * (octaves * PARTS + 2);
        Self {
            cells: (0..cells).map(|_| Cell::default()).collect(),
            octaves,
            quantile: AtomicU64::new(NEVER),
            due: AtomicU64::new(0),
        }
    }

    /// A call that ended at `now` took so long.
    pub(super) fn record(&self, took: u64, now: u64) {
        let window = window(now);
        self.buckets(window)[index(took, self.octaves)].count(window);
    }

    /// How long to wait, by `rule`, as of the last quarter of a second; [`NEVER`] if it cannot be said.
    pub(super) fn delay(&self, now: u64, rule: impl FnOnce() -> Rule) -> u64 {
        let due = self.due.load(Relaxed);
        let next = now.saturating_add(REFRESH);
        let take = || self.due.compare_exchange(due, next, Relaxed, Relaxed);
        if now < due || take().is_err() {
            return self.quantile.load(Relaxed);
        }
        let found = self.look_up(now, rule());
        self.quantile.store(found, Relaxed);
        found
    }

    /// What [`delay`](Self::delay) would say if it were due.
    pub(super) fn look_up(&self, now: u64, rule: Rule) -> u64 {
        let last = window(now);
        let windows = || (last.saturating_sub(WINDOWS as u32 - 1)..=last).filter(|w| *w > 0);
        let count = |bucket: usize| -> u64 {
            windows()
                .map(|window| self.buckets(window)[bucket].counted(window))
                .sum()
        };
        let buckets = self.octaves * PARTS + 2;
        let total: u64 = (0..buckets).map(count).sum();
        if total == 0 || total < u64::from(rule.min_samples) {
            return NEVER;
        }
        let rank = (total * u64::from(rule.share)).div_ceil(1_000_000).max(1);
        let mut below = 0;
        for bucket in 0..buckets - 1 {
            below += count(bucket);
            if below >= rank {
                let delay = upper_edge(bucket).max(rule.floor);
                return if delay > rule.ceiling { NEVER } else { delay };
            }
        }
        NEVER
    }

    /// Nobody has asked for as long as anything is remembered.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        now > self
            .due
            .load(Relaxed)
            .saturating_add(WINDOW * WINDOWS as u64)
    }

    fn buckets(&self, window: u32) -> &[Cell] {
        let buckets = self.octaves * PARTS + 2;
        let begin = window as usize % WINDOWS * buckets;
        &self.cells[begin..begin + buckets]
    }
}

/// The number of the window of `now`, from 1, because a cell that was never used has 0.
fn window(now: u64) -> u32 {
    u32::try_from(now / WINDOW + 1).unwrap_or(u32::MAX)
}

/// The bucket of a time.
fn index(took: u64, octaves: usize) -> usize {
    let Some(octave) = took.checked_ilog2().and_then(|n| n.checked_sub(LEAST_BITS)) else {
        return 0;
    };
    if octave as usize >= octaves {
        return octaves * PARTS + 1;
    }
    let part = (took >> (octave + LEAST_BITS - PART_BITS)) as usize % PARTS;
    1 + octave as usize * PARTS + part
}

/// What everything in a bucket is below.
const fn upper_edge(bucket: usize) -> u64 {
    let Some(bucket) = bucket.checked_sub(1) else {
        return 1 << LEAST_BITS;
    };
    let (octave, part) = (bucket / PARTS, bucket % PARTS);
    ((PARTS + part + 1) as u64) << (octave as u32 + LEAST_BITS - PART_BITS)
}

/// How many calls there were in a window, and which: `window:32 | count:32` in one word.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Cell {
    /// One more, unless the cell is of a later window already.
    fn count(&self, window: u32) {
        let more = |word: u64| {
            let (of, count) = ((word >> 32) as u32, word as u32);
            let count = match of.cmp(&window) {
                std::cmp::Ordering::Less => 1,
                std::cmp::Ordering::Equal => count.saturating_add(1),
                std::cmp::Ordering::Greater => return None,
            };
            Some(u64::from(window) << 32 | u64::from(count))
        };
        // Nothing is lost by a call that came too late to be counted.
        let _ = self.0.fetch_update(Relaxed, Relaxed, more);
    }

    fn counted(&self, window: u32) -> u64 {
        let word = self.0.load(Relaxed);
        if (word >> 32) as u32 == window {
            word & u64::from(u32::MAX)
        } else {
            0
        }
    }
}
