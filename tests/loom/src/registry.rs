//! The cells of a registry, which are read while they are written.

#[path = "../../../tower-chassis-observe/src/registry/cells.rs"]
mod cells;

use std::{sync::Arc, thread};

use self::cells::{CounterCell, GaugeCell, HistogramCell};
use crate::explore;

/// Two threads, of one core and of two, lose no count, and a reader never sees it fall.
pub fn a_count_is_not_lost() {
    explore(|| {
        let counter = Arc::new(CounterCell::with_stripes(2));
        let writers = [0, 1].map(|stripe| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.add_at(stripe, 1))
        });
        counter.add_at(0, 1);
        let (first, second) = (counter.get(), counter.get());
        assert!(1 <= first && first <= second && second <= 3);
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(counter.get(), 3);
    });
}

/// A total that is told while others count is the least that is there afterwards.
pub fn a_total_is_the_least() {
    explore(|| {
        let counter = Arc::new(CounterCell::with_stripes(2));
        let other = Arc::clone(&counter);
        let writer = thread::spawn(move || {
            other.add_at(1, 2);
            other.at_least(3);
        });
        counter.at_least(5);
        assert!(counter.get() >= 5);
        writer.join().unwrap();
        assert!([5, 7].contains(&counter.get()));
    });
}

/// What is in the buckets is in the sum, though two write it in one stripe.
pub fn a_snapshot_has_the_sum_of_its_counts() {
    explore(|| {
        let histogram = Arc::new(HistogramCell::with_stripes(1, [1.0].into()));
        let writers = [1.0, 3.0].map(|value| {
            let histogram = Arc::clone(&histogram);
            thread::spawn(move || histogram.record_at(0, value, 1))
        });
        let (counts, sum) = histogram.get();
        assert!(sum >= counts[0] as f64 + counts[1] as f64 * 3.0);
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(histogram.get(), (vec![1, 1], 4.0));
    });
}

/// A call that begins on one core and ends on another is never less than none.
pub fn what_is_active_is_never_negative() {
    explore(|| {
        let gauge = Arc::new(GaugeCell::with_stripes(2));
        let other = Arc::clone(&gauge);
        let call = thread::spawn(move || {
            other.add_one_at(0, true);
            let other = Arc::clone(&other);
            thread::spawn(move || other.add_one_at(1, false))
                .join()
                .unwrap();
        });
        let active = gauge.get();
        assert!((0.0..=1.0).contains(&active), "{active}");
        call.join().unwrap();
        assert_eq!(gauge.get(), 0.0);
    });
}

/// A gauge that is set while another adds has the new value, with what was added or without.
pub fn a_gauge_that_is_set_is_not_half_of_both() {
    explore(|| {
        let gauge = Arc::new(GaugeCell::with_stripes(2));
        gauge.add_one_at(0, true);
        let other = Arc::clone(&gauge);
        let adds = thread::spawn(move || other.add_one_at(1, true));
        let sets = Arc::clone(&gauge);
        let sets = thread::spawn(move || sets.set(10.0));
        let seen = gauge.get();
        assert!([1.0, 2.0, 10.0, 11.0].contains(&seen), "{seen}");
        adds.join().unwrap();
        sets.join().unwrap();
        assert!([10.0, 11.0].contains(&gauge.get()));
    });
}
