//! The rate limit's bucket.

#[path = "../../../tower-chassis-resilience/src/rate_limit/gcra.rs"]
mod gcra;

use std::{sync::Arc, thread};

use self::gcra::{Bucket, Rule};
use crate::explore;

/// Threads together get what one would.
pub fn two_threads_get_one_burst() {
    explore(|| {
        let bucket = Arc::new(Bucket::new(Rule::new(100, 2)));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || usize::from(other.take(0).is_ok()) + usize::from(other.take(0).is_ok()));
        let mine = usize::from(bucket.take(0).is_ok());
        assert_eq!(mine + thread.join().unwrap(), 2);
        assert_eq!(bucket.take(0), Err(100));
    });
}

/// A change of the rule frees nobody: a bucket that was empty under the old rule is so under the new one, and at
/// no time in between.
pub fn a_change_of_rule_frees_nobody() {
    for (old, new) in [((100, 2), (1, 1)), ((1, 1), (100, 2)), ((100, 1), (10, 20))] {
        explore(move || {
            let bucket = Arc::new(Bucket::new(Rule::new(old.0, old.1)));
            while bucket.take(0).is_ok() {}
            let other = Arc::clone(&bucket);
            let thread = thread::spawn(move || other.take(0));
            bucket.apply(Rule::new(new.0, new.1), 0);
            assert!(thread.join().unwrap().is_err());
            assert!(bucket.take(0).is_err());
        });
    }
}

/// A rule is never read half: with the interval of one and the tolerance of the other, a full bucket would give
/// more than either allows, or an interval that is neither's.
pub fn a_rule_is_read_whole() {
    explore(|| {
        let bucket = Arc::new(Bucket::new(Rule::new(1, 1_001)));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || {
            assert!(other.take(0).is_ok());
            other.take(0)
        });
        bucket.apply(Rule::new(1_000, 1), 0);
        // Under the old rule there are a thousand more, under the new one there is one in all.
        let second = thread.join().unwrap();
        assert!(matches!(second, Ok(()) | Err(1..=1_000)), "{second:?}");
        assert_eq!(bucket.take(0).is_ok(), false);
    });
}
