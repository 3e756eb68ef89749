//! The rate limit's bucket, with its cells.

#[path = "../../../tower-chassis-resilience/src/rate_limit/bucket.rs"]
mod bucket;
#[path = "../../../tower-chassis-resilience/src/rate_limit/cells.rs"]
mod cells;
#[path = "../../../tower-chassis-resilience/src/rate_limit/rule.rs"]
mod rule;

use std::{sync::Arc, thread};

use self::{cells::Cells, rule::Rule};
use crate::explore;

/// A bucket without cells, and the time as an argument.
struct Bucket(bucket::Bucket);

impl Bucket {
    fn new(rule: Rule) -> Self {
        Self(bucket::Bucket::new(rule, 0))
    }
    fn take(&self, mut now: u64) -> Result<(), u64> {
        self.0.take(0, 1, 0, &mut now).map(drop)
    }
    fn apply(&self, rule: Rule, mut now: u64) {
        self.0.apply(rule, &mut now);
    }
}

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

/// Cells that are filled, emptied and closed at the same time: what was put in is taken once, or comes back once, or is
/// lost because the cell was closed before it arrived.
pub fn what_is_in_a_cell_is_taken_once() {
    explore(|| {
        let cells = Arc::new(Cells::new(1));
        cells.open();
        let (filler, taker) = (Arc::clone(&cells), Arc::clone(&cells));
        let filler = thread::spawn(move || match filler.fetch(0) {
            Some(fetch) => {
                fetch.fill(2);
                1
            }
            None => 0,
        });
        let taker = thread::spawn(move || u64::from(taker.take(1)));
        let back = cells.close();
        let (filled, taken) = (filler.join().unwrap(), taker.join().unwrap());
        assert!(back + taken <= 2 * filled, "{back} {taken} of {filled}");
        assert!(back == 0 || back + taken == 2);
        assert!(!cells.take(0) && cells.fetch(0).is_none() && cells.close() == 0);
    });
}

/// A cell is filled by one at a time, and what was fetched for one opening is not put into the next.
pub fn a_fetch_of_before_fills_nothing_later() {
    explore(|| {
        let cells = Arc::new(Cells::new(1));
        cells.open();
        let other = Arc::clone(&cells);
        let thread = thread::spawn(move || {
            if let Some(fetch) = other.fetch(0) {
                fetch.fill(3);
            }
        });
        let before = cells.close();
        cells.open();
        let mine = cells.fetch(0).map(|fetch| fetch.fill(1)).is_some();
        thread.join().unwrap();
        let after = (0..).take_while(|_| cells.take(0)).count();
        assert!([0, 3].contains(&before), "{before}");
        // What the other one fetched before is lost, if it was not there yet.
        assert_eq!(after, if mine { 1 } else { 3 });
    });
}

/// A hot bucket of 32 at one instant, of which few are left. Two threads: never more than 32, and none is lost but what
/// was on its way into a cell as it was closed.
pub fn a_hot_bucket_never_gives_more_than_a_burst() {
    for used in [17, 29] {
        explore(move || {
            // Two to a batch, of two cells.
            let bucket = Arc::new(bucket::Bucket::new(Rule::new(100, 32), 2));
            let take = |bucket: &bucket::Bucket, at| bucket.take(at, 1, 0, &mut 1).is_ok();
            let mut taken = 0;
            for call in 0..used {
                taken += usize::from(take(&bucket, call % 2));
                if call == 2 {
                    bucket.heat(1);
                }
            }
            let other = Arc::clone(&bucket);
            let thread =
                thread::spawn(move || usize::from(take(&other, 1)) + usize::from(take(&other, 1)));
            taken += usize::from(take(&bucket, 0)) + usize::from(take(&bucket, 0));
            taken += thread.join().unwrap();
            while take(&bucket, 0) {
                taken += 1;
            }
            assert!((31..=32).contains(&taken), "{taken}");
        });
    }
}

/// While a hot bucket's rule changes, nobody gets more than under either.
pub fn a_change_of_rule_empties_the_cells() {
    explore(|| {
        let bucket = Arc::new(bucket::Bucket::new(Rule::new(100, 32), 2));
        let take = |bucket: &bucket::Bucket, at| bucket.take(at, 1, 0, &mut 1).is_ok();
        assert!(take(&bucket, 0));
        bucket.heat(1);
        assert!(take(&bucket, 0));
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || take(&other, 0));
        bucket.apply(Rule::new(100, 16), &mut 1);
        // What is used of 32 by then is half of it of 16, rounded up.
        let mut taken = u32::from(thread.join().unwrap());
        while take(&bucket, 1) {
            taken += 1;
        }
        assert!((14..=15).contains(&taken), "{taken}");
    });
}

/// Two who wait, of whom one gives its place up: it is given back if it is the last, and else it is gone.
pub fn a_place_is_given_back_once() {
    explore(|| {
        let bucket = Arc::new(bucket::Bucket::new(Rule::new(100, 1), 0));
        bucket.take(0, 1, 0, &mut 1).unwrap();
        let other = Arc::clone(&bucket);
        let thread = thread::spawn(move || {
            let taken = other.take(0, 1, 1_000, &mut 1).unwrap();
            other.take_back(taken.place, 1)
        });
        let mine = bucket.take(0, 1, 1_000, &mut 1).unwrap().wait;
        let back = thread.join().unwrap();
        assert!([100, 200].contains(&mine));
        let next = bucket.take(0, 1, 1_000, &mut 1).unwrap().wait;
        assert_eq!(next, if back { 200 } else { 300 });
        // Given back before mine came, or after: never while mine is behind it.
        assert!(!back || mine == 100);
    });
}
