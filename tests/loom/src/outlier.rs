//! What outlier detection counts of an endpoint.

#[path = "../../../tower-chassis-resilience/src/balance/outlier/record.rs"]
mod record;

use std::{sync::Arc, thread};

use self::record::{Outcome, Record, Thresholds};
use crate::explore;

const TWO: Thresholds = Thresholds {
    rows: [2; 3],
    split: false,
};
const FAILED: Outcome = Outcome::Failure {
    gateway: false,
    local: false,
};

/// A call that is counted while others take is in one of the takes.
pub fn a_call_is_in_one_take() {
    explore(|| {
        let record = Arc::new(Record::default());
        let other = Arc::clone(&record);
        let counts = thread::spawn(move || {
            other.count(Outcome::Good, &TWO);
            other.sample(7, 0);
            other.count(FAILED, &TWO);
        });
        let first = record.take();
        counts.join().unwrap();
        let second = record.take();
        assert_eq!(
            (first.good + second.good, first.total + second.total),
            (1, 2)
        );
        assert_eq!(first.answers + second.answers, 1);
    });
}

/// Of two calls that fail at once one tells that the row is long.
pub fn a_row_is_told_once() {
    explore(|| {
        let record = Arc::new(Record::default());
        let other = Arc::clone(&record);
        let thread = thread::spawn(move || other.count(FAILED, &TWO));
        let mine = record.count(FAILED, &TWO);
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
        assert_eq!(record.take_rows(&TWO), [true, false, false]);
        assert_eq!(record.take_rows(&TWO), [false; 3]);
    });
}
