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
        let thread = thread::spawn(move || {
            usize::from(other.take(0).is_ok()) + usize::from(other.take(0).is_ok())
        });
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

/// A rule is never read half: the bucket ends as it would if the call had come before the change, after it, or
/// between the two.
pub fn a_change_of_rule_is_one_step() {
    let rules = [Rule::new(4, 2), Rule::new(5, 1), Rule::new(1, 11)];
    // What is left at the end, for a call that comes before the change of that number.
    let left = |bucket: &Bucket| (0..).take_while(|_| bucket.take(0).is_ok()).count();
    explore(move || {
        let expected = [0, 1, 2].map(|when| {
            let bucket = Bucket::new(rules[0]);
            assert!(bucket.take(0).is_ok());
            let mut taken = false;
            for (change, rule) in rules.into_iter().enumerate() {
                if change > 0 {
                    bucket.apply(rule, 0);
                }
                if change == when {
                    taken = bucket.take(0).is_ok();
                }
            }
            (taken, left(&bucket))
        });
        let bucket = Arc::new(Bucket::new(rules[0]));
        assert!(bucket.take(0).is_ok());
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || other.take(0).is_ok());
        bucket.apply(rules[1], 0);
        bucket.apply(rules[2], 0);
        let taken = thread.join().unwrap();
        let found = (taken, left(&bucket));
        assert!(
            expected.contains(&found),
            "{found:?} is none of {expected:?}"
        );
    });
}
