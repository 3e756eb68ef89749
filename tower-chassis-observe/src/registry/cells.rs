//! What is counted, in as many cells as there are cores: each thread writes those of its own, a reader adds them up.

use std::sync::{
    Arc, OnceLock,
    atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use tower_chassis_core::striped::{here, stripes};

/// The most stripes: beyond, memory costs more than a shared line.
const MOST: usize = 8;
/// So many cells have two cache lines, which are fetched in pairs.
const LINE: usize = 16;

/// The cells of one thread, or a part of them.
#[derive(Debug)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// So many cells for each stripe.
#[derive(Debug)]
struct Stripes {
    lines: Box<[Line]>,
    /// Of one stripe.
    each: usize,
}

impl Stripes {
    fn new(stripes: usize, cells: usize) -> Self {
        let each = cells.div_ceil(LINE);
        let line = |_| Line(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            lines: (0..stripes * each).map(line).collect(),
            each,
        }
    }

    fn count(&self) -> usize {
        self.lines.len() / self.each
    }

    /// The stripe of the calling thread.
    #[inline]
    fn mine(&self) -> usize {
        if self.each == 1 {
            // Most are: spares a division.
            return here() & (self.lines.len() - 1);
        }
        here() & (self.count() - 1)
    }

    #[inline]
    fn cell(&self, stripe: usize, at: usize) -> &AtomicU64 {
        &self.lines[stripe * self.each + at / LINE].0[at % LINE]
    }

    fn sum(&self, at: usize, order: std::sync::atomic::Ordering) -> u64 {
        (0..self.count()).fold(0, |sum: u64, stripe| {
            sum.wrapping_add(self.cell(stripe, at).load(order))
        })
    }
}

/// A power of two.
fn usual() -> usize {
    stripes().min(MOST)
}

/// A count that only grows.
#[derive(Debug)]
pub(crate) struct CounterCell {
    /// What was said and not counted.
    base: AtomicU64,
    stripes: Stripes,
}

impl CounterCell {
    pub(crate) fn new() -> Self {
        Self::with_stripes(usual())
    }

    pub(crate) fn with_stripes(stripes: usize) -> Self {
        Self {
            base: AtomicU64::new(0),
            stripes: Stripes::new(stripes, 1),
        }
    }

    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.add_at(self.stripes.mine(), count);
    }

    #[inline]
    pub(crate) fn add_at(&self, stripe: usize, count: u64) {
        self.stripes.cell(stripe, 0).fetch_add(count, Relaxed);
    }

    /// At least so many.
    pub(crate) fn at_least(&self, total: u64) {
        let counted = self.stripes.sum(0, Relaxed);
        self.base.fetch_max(total.saturating_sub(counted), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        let base = self.base.load(Relaxed);
        base.wrapping_add(self.stripes.sum(0, Relaxed))
    }
}

/// A value that goes up and down.
///
/// Whole numbers that are added, calls that come and go, are counted in stripes, as what was added and what was taken
/// away; everything else goes into one word.
#[derive(Debug)]
pub(crate) struct GaugeCell {
    word: AtomicU64,
    stripes: OnceLock<Stripes>,
}

const UPS: usize = 0;
const DOWNS: usize = 1;

impl GaugeCell {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            stripes: OnceLock::new(),
        }
    }

    /// The stripes are there from the beginning.
    #[cfg(chassis_loom)]
    pub(crate) fn with_stripes(stripes: usize) -> Self {
        let cell = Self::new();
        cell.stripes.get_or_init(|| Stripes::new(stripes, 2));
        cell
    }

    #[inline]
    pub(crate) fn add(&self, value: f64) {
        let whole = value.abs() as u64;
        // Above, a float has no ones any more.
        if whole as f64 == value.abs() && whole < 1 << 32 {
            let stripes = self.stripes.get_or_init(|| Stripes::new(usual(), 2));
            let which = if value < 0.0 { DOWNS } else { UPS };
            Self::add_at(stripes, stripes.mine(), which, whole);
        } else {
            let add = |word| Some((f64::from_bits(word) + value).to_bits());
            let _ = self.word.fetch_update(Relaxed, Relaxed, add);
        }
    }

    /// As from a thread of that stripe.
    #[cfg(chassis_loom)]
    pub(crate) fn add_one_at(&self, stripe: usize, up: bool) {
        if let Some(stripes) = self.stripes.get() {
            Self::add_at(stripes, stripe, if up { UPS } else { DOWNS }, 1);
        }
    }

    #[inline]
    fn add_at(stripes: &Stripes, stripe: usize, which: usize, count: u64) {
        // Who reads what was taken away reads what had been added before.
        stripes.cell(stripe, which).fetch_add(count, Release);
    }

    /// What was added meanwhile is added to the new value or gone with the old one.
    pub(crate) fn set(&self, value: f64) {
        // Who reads the word reads in the stripes at least what was taken from it here.
        self.word.store((value - self.striped()).to_bits(), Release);
    }

    fn striped(&self) -> f64 {
        let Some(stripes) = self.stripes.get() else {
            return 0.0;
        };
        // First what was taken away: what comes in between makes it too large, never negative.
        let downs = stripes.sum(DOWNS, Acquire);
        let ups = stripes.sum(UPS, Acquire);
        ups.wrapping_sub(downs).cast_signed() as f64
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.word.load(Acquire)) + self.striped()
    }
}

/// Values by size.
#[derive(Debug)]
pub(crate) struct HistogramCell {
    bounds: Arc<[f64]>,
    /// The sum, then a count for each bucket.
    stripes: Stripes,
}

const SUM: usize = 0;
const COUNTS: usize = 1;

impl HistogramCell {
    pub(crate) fn new(bounds: Arc<[f64]>) -> Self {
        Self::with_stripes(usual(), bounds)
    }

    pub(crate) fn with_stripes(stripes: usize, bounds: Arc<[f64]>) -> Self {
        Self {
            stripes: Stripes::new(stripes, COUNTS + bounds.len() + 1),
            bounds,
        }
    }

    /// Counts a value that is a number.
    #[inline]
    pub(crate) fn record(&self, value: f64, count: u64) {
        self.record_at(self.stripes.mine(), value, count);
    }

    #[inline]
    pub(crate) fn record_at(&self, stripe: usize, value: f64, count: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let all = value * count as f64;
        let sum = self.stripes.cell(stripe, SUM);
        let mut before = sum.load(Relaxed);
        loop {
            let after = (f64::from_bits(before) + all).to_bits();
            match sum.compare_exchange_weak(before, after, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        // After the sum: who reads the count reads its value in the sum.
        let bucket = self.stripes.cell(stripe, COUNTS + bucket);
        bucket.fetch_add(count, Release);
    }

    pub(crate) const fn bounds(&self) -> &Arc<[f64]> {
        &self.bounds
    }

    /// The buckets, and the sum of all that is in them, and of what comes meanwhile.
    pub(crate) fn get(&self) -> (Vec<u64>, f64) {
        let counts = COUNTS..=COUNTS + self.bounds.len();
        let counts = counts.map(|at| self.stripes.sum(at, Acquire)).collect();
        let sums = (0..self.stripes.count()).map(|stripe| self.stripes.cell(stripe, SUM));
        let sum = sums.map(|sum| f64::from_bits(sum.load(Relaxed))).sum();
        (counts, sum)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_lose_nothing() {
        let (counter, gauge) = (CounterCell::new(), GaugeCell::new());
        let histogram = HistogramCell::new([1.0, 2.0].into());
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    for n in 0..1_000_u32 {
                        counter.add(2);
                        gauge.add(1.0);
                        histogram.record(f64::from(n % 4), 1);
                        if n % 4 > 0 {
                            gauge.add(-1.0);
                        }
                    }
                });
            }
            for _ in 0..1_000 {
                let (counts, sum) = histogram.get();
                let least = counts[1] as f64 * 2.0 + counts[2] as f64 * 3.0;
                assert!(sum >= least, "{counts:?} {sum}");
                assert!(gauge.get() >= 0.0);
            }
        });
        assert_eq!((counter.get(), gauge.get()), (20_000, 2_500.0));
        assert_eq!(histogram.get(), (vec![5_000, 2_500, 2_500], 15_000.0));
    }

    #[test]
    fn a_gauge_that_is_set_is_what_it_was_set_to() {
        let gauge = GaugeCell::new();
        gauge.add(3.0);
        gauge.add(-5.0);
        assert_eq!(gauge.get(), -2.0);
        gauge.set(7.5);
        assert_eq!(gauge.get(), 7.5);
        gauge.add(0.25);
        gauge.add(-1.0);
        assert_eq!(gauge.get(), 6.75);
        gauge.set(f64::INFINITY);
        assert_eq!(gauge.get(), f64::INFINITY);
        gauge.set(1.0);
        assert_eq!(gauge.get(), 1.0);
    }

    #[test]
    fn a_counter_that_is_told_a_total_has_at_least_that() {
        let counter = CounterCell::new();
        counter.at_least(5);
        counter.add(2);
        assert_eq!(counter.get(), 7);
        counter.at_least(6);
        assert_eq!(counter.get(), 7);
        counter.at_least(9);
        assert_eq!(counter.get(), 9);
        counter.add(1);
        assert_eq!(counter.get(), 10);
    }

    #[test]
    fn a_bound_is_in_its_bucket_and_many_are_counted_at_once() {
        let bounds: Arc<[f64]> = (1..=30).map(f64::from).collect();
        let histogram = HistogramCell::new(bounds);
        for n in 1..=31_u8 {
            histogram.record(f64::from(n), u64::from(n));
        }
        let (counts, sum) = histogram.get();
        assert_eq!(counts, (1..=31).collect::<Vec<u64>>());
        assert_eq!(sum, (1..=31).map(|n| f64::from(n * n)).sum::<f64>());
    }

    #[test]
    fn the_histogram_of_durations_takes_two_lines_of_cache_for_a_core() {
        let bounds = crate::prometheus::BUCKETS.into();
        assert_eq!(HistogramCell::new(bounds).stripes.each, 1);
        assert_eq!(size_of::<Line>(), 128);
    }
}
