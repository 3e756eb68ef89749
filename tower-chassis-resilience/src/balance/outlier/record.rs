//! What an endpoint did since somebody looked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many latencies are kept. A model has few, or it has no end.
pub(super) const KEPT: usize = if cfg!(chassis_loom) { 2 } else { 32 };

const FAILURE: usize = 0;
const GATEWAY: usize = 1;
const LOCAL: usize = 2;
/// What a success adds to the counts: a call, and a good one.
const GOOD: u64 = 1 << 32 | 1;

/// How a call ended, for outlier detection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Outcome {
    Good,
    /// It says nothing for the endpoint and nothing against its health: no good call, and no failure in a row.
    Limited,
    Failure {
        gateway: bool,
        /// There was no answer.
        local: bool,
    },
}

/// From how many in a row on somebody is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Thresholds {
    pub(super) rows: [u32; 3],
    pub(super) split: bool,
}

/// Counts that calls add to and the worker takes. Lock-free; a call that succeeds writes one word, and its latency.
#[derive(Debug, Default)]
pub(in super::super) struct Record {
    rows: [AtomicU32; 3],
    /// Good calls in the upper half, all in the lower.
    seen: AtomicU64,
    /// Calls without an answer, where those are judged apart.
    local: AtomicU32,
    /// Microseconds; 0 for none.
    latencies: [AtomicU32; KEPT],
}

/// What was counted in an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Interval {
    pub(super) good: u32,
    pub(super) total: u32,
    /// Calls without an answer that are in neither of the two.
    pub(super) local_failed: u32,
    /// The median of its last good answers in microseconds, and of how many.
    pub(super) median: u32,
    pub(super) answers: u32,
}

impl Record {
    /// Counts a call. Whether a row has just become long enough for somebody to look.
    pub(super) fn count(&self, outcome: Outcome, thresholds: &Thresholds) -> bool {
        match outcome {
            Outcome::Good => {
                self.seen.fetch_add(GOOD, Relaxed);
                self.clear_rows();
                false
            }
            Outcome::Limited => {
                self.seen.fetch_add(1, Relaxed);
                false
            }
            Outcome::Failure { local: true, .. } if thresholds.split => {
                self.local.fetch_add(1, Relaxed);
                self.lengthen(LOCAL, thresholds)
            }
            Outcome::Failure { gateway, .. } => {
                self.seen.fetch_add(1, Relaxed);
                // It answered.
                self.clear_row(LOCAL);
                let failures = self.lengthen(FAILURE, thresholds);
                if gateway {
                    self.lengthen(GATEWAY, thresholds) || failures
                } else {
                    self.clear_row(GATEWAY);
                    failures
                }
            }
        }
    }

    /// Remembers how long a good answer took. `beside` tells calls apart that are under way together.
    pub(super) fn sample(&self, micros: u32, beside: u32) {
        let at = (self.seen.load(Relaxed) as u32).wrapping_add(beside) as usize % KEPT;
        self.latencies[at].store(micros.max(1), Relaxed);
    }

    /// True for each full length of the row: one call tells of it, and another if nothing came of that.
    fn lengthen(&self, row: usize, thresholds: &Thresholds) -> bool {
        let length = self.rows[row].fetch_add(1, Relaxed).saturating_add(1);
        length.is_multiple_of(thresholds.rows[row].max(1))
    }

    fn clear_row(&self, row: usize) {
        if self.rows[row].load(Relaxed) != 0 {
            self.rows[row].store(0, Relaxed);
        }
    }

    /// Begins all rows anew.
    pub(super) fn clear_rows(&self) {
        (0..self.rows.len()).for_each(|row| self.clear_row(row));
    }

    /// Takes the rows that are long enough: each is told once.
    pub(super) fn take_rows(&self, thresholds: &Thresholds) -> [bool; 3] {
        std::array::from_fn(|row| {
            let long = self.rows[row].load(Relaxed) >= thresholds.rows[row].max(1);
            if long {
                self.rows[row].store(0, Relaxed);
            }
            long
        })
    }

    /// Takes the counts: each call is in one take.
    pub(super) fn take(&self) -> Interval {
        let mut latencies = [0; KEPT];
        let mut answers = 0;
        for cell in &self.latencies {
            if cell.load(Relaxed) != 0 {
                latencies[answers] = cell.swap(0, Relaxed);
                answers += 1;
            }
        }
        let median = match &mut latencies[..answers] {
            [] => 0,
            known => *known.select_nth_unstable((answers - 1) / 2).1,
        };
        let seen = self.seen.swap(0, Relaxed);
        Interval {
            good: (seen >> 32) as u32,
            total: seen as u32,
            local_failed: self.local.swap(0, Relaxed),
            median,
            answers: answers as u32,
        }
    }
}
