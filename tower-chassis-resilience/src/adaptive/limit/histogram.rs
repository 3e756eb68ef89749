//! Latencies of a window, counted in buckets that grow with what they hold.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Nanos;

/// The finest unit: 2^10 ns, about a microsecond.
const UNIT: u32 = 10;
/// Buckets for each doubling: 2^3, so that one is at most an eighth wider than what it begins with.
const PART: u32 = 3;
const PARTS: u64 = 1 << PART;
/// Up to 2^28 units, more than four minutes. What is above counts in the last. A model has few, or it has no end.
pub(super) const BUCKETS: usize = if cfg!(chassis_loom) {
    2
} else {
    26 * PARTS as usize
};

/// Counts that many threads add to. What is added while it is [taken](Self::take) is in this window or in the next.
pub(in super::super) struct Histogram([AtomicU32; BUCKETS]);

/// What was seen in a window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Window {
    /// How many calls were answered.
    pub(in super::super) samples: u64,
    /// The latency that a tenth of the calls exceeded, in nanoseconds.
    pub(in super::super) p90: f64,
    /// The mean latency, in which a call counts for at most that.
    pub(in super::super) mean: f64,
    /// The most calls that were in flight at once.
    pub(in super::super) peak: u32,
}

impl Histogram {
    pub(in super::super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    /// Counts one. How many were in its bucket before.
    pub(in super::super) fn add(&self, latency: Nanos) -> u32 {
        self.0[bucket(latency)].fetch_add(1, Relaxed)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0
            .iter()
            .map(|count| u64::from(count.load(Relaxed)))
            .sum()
    }

    /// Takes all out: each that was added is taken once.
    pub(in super::super) fn take(&self, peak: u32) -> Window {
        let mut counts = [0_u32; BUCKETS];
        let mut samples = 0;
        for (count, shared) in counts.iter_mut().zip(&self.0) {
            // Most are empty, and a swap takes the line from those who add to it.
            if shared.load(Relaxed) != 0 {
                *count = shared.swap(0, Relaxed);
                samples += u64::from(*count);
            }
        }
        let p90 = quantile(&counts, samples as f64 * 0.9);
        let sum: f64 = counts
            .iter()
            .enumerate()
            .map(|(bucket, &count)| f64::from(count) * middle(bucket).min(p90))
            .sum();
        Window {
            samples,
            p90,
            mean: sum / (samples.max(1)) as f64,
            peak,
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Histogram").field(&self.count()).finish()
    }
}

const fn bucket(latency: Nanos) -> usize {
    let units = latency >> UNIT;
    if units < PARTS {
        return units as usize;
    }
    let octave = units.ilog2();
    let part = (units >> (octave - PART)) & (PARTS - 1);
    let bucket = ((octave - PART + 1) as usize) * PARTS as usize + part as usize;
    if bucket < BUCKETS {
        bucket
    } else {
        BUCKETS - 1
    }
}

/// Where a bucket begins.
const fn begin(bucket: usize) -> Nanos {
    let (octave, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    match octave {
        0 => part << UNIT,
        _ => (PARTS + part) << (octave - 1) << UNIT,
    }
}

fn middle(bucket: usize) -> f64 {
    f64::midpoint(begin(bucket) as f64, begin(bucket + 1) as f64)
}

/// The value below which `rank` of those counted lie, if those of a bucket are spread evenly in it.
fn quantile(counts: &[u32; BUCKETS], rank: f64) -> f64 {
    let mut below = 0.0;
    for (bucket, &count) in counts.iter().enumerate() {
        let count = f64::from(count);
        if count > 0.0 && below + count >= rank {
            let (from, to) = (begin(bucket) as f64, begin(bucket + 1) as f64);
            return from + (to - from) * (rank - below) / count;
        }
        below += count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_join_without_a_gap_and_are_an_eighth_wide() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(begin(index)), index);
            if index > 0 {
                assert_eq!(bucket(begin(index) - 1), index - 1);
            }
            if index >= PARTS as usize {
                let width = begin(index + 1) - begin(index);
                assert!(width * PARTS <= begin(index), "{index}");
            }
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
        let longest = 1 << 38;
        assert_eq!(
            (bucket(longest - 1), bucket(longest)),
            (BUCKETS - 1, BUCKETS - 1)
        );
    }

    /// A window of so many calls each that took so long, in 1,024 ns.
    fn window(calls: &[(u32, u64)]) -> Window {
        let histogram = Histogram::new();
        for &(times, units) in calls {
            for before in 0..times {
                assert_eq!(histogram.add(units * 1_024), before);
            }
        }
        histogram.take(7)
    }

    #[test]
    fn a_bucket_is_spread_evenly_and_what_is_above_counts_as_the_ninth_tenth() {
        let seen = |samples, p90, mean| Window {
            samples,
            p90: p90 * 1_024.0,
            mean: mean * 1_024.0,
            peak: 7,
        };
        // Eight units are a bucket of one, sixteen one of two.
        assert_eq!(window(&[(10, 8)]), seen(10, 8.9, 8.5));
        assert_eq!(window(&[(10, 16)]), seen(10, 17.8, 17.0));
        assert_eq!(window(&[(9, 8), (1, 16)]), seen(10, 9.0, 8.55));
        assert_eq!(window(&[(5, 8), (5, 16)]), seen(10, 17.6, 12.75));
        assert_eq!(window(&[(10, 0)]), seen(10, 0.9, 0.5));
        assert_eq!(window(&[]), seen(0, 0.0, 0.0));
    }

    #[test]
    fn it_shows_how_many_it_holds() {
        let histogram = Histogram::new();
        assert_eq!([0, 1, 2].map(|calls| histogram.add(calls << 20)), [0; 3]);
        assert_eq!(
            (histogram.count(), format!("{histogram:?}")),
            (3, "Histogram(3)".to_owned())
        );
        assert_eq!((histogram.take(0).samples, histogram.count()), (3, 0));
    }

    proptest! {
        /// Against the sorted list: off by no more than the bucket.
        #[test]
        fn a_window_is_that_of_the_sorted_list(
            mut latencies in proptest::collection::vec(8_000_u64..100_000_000_000, 1..300),
        ) {
            let histogram = Histogram::new();
            for &latency in &latencies {
                histogram.add(latency);
            }
            prop_assert_eq!(histogram.count(), latencies.len() as u64);
            let window = histogram.take(3);
            latencies.sort_unstable();
            prop_assert_eq!((window.samples, window.peak), (latencies.len() as u64, 3));
            let exact = latencies[(latencies.len() * 9).div_ceil(10) - 1];
            prop_assert!((window.p90 / exact as f64 - 1.0).abs() <= 0.126, "{} {}", window.p90, exact);
            let sum: u64 = latencies.iter().map(|latency| *latency.min(&exact)).sum();
            let exact = sum as f64 / latencies.len() as f64;
            prop_assert!((window.mean / exact - 1.0).abs() <= 0.126, "{} {}", window.mean, exact);
            prop_assert_eq!(histogram.take(0).samples, 0);
        }
    }
}
