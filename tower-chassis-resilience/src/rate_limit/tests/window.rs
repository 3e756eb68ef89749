//! The sliding window.

use proptest::prelude::*;

use super::{
    super::{
        bucket::Bucket,
        rule::{NEVER, Rule},
        store::Store,
    },
    SECOND, cases, drain,
};

const RULE: Rule = Rule::Window {
    length: SECOND,
    limit: 10,
};

/// httprate's counter: the count of each window, in a map.
struct Reference {
    length: u64,
    limit: u32,
    windows: std::collections::HashMap<u64, u32>,
}

impl Reference {
    fn fits(&self, now: u64, cost: u32) -> bool {
        let (window, elapsed) = (now / self.length, now % self.length);
        let of = |window: u64| u128::from(self.windows.get(&window).copied().unwrap_or(0));
        let before = if window > 0 { of(window - 1) } else { 0 };
        let length = u128::from(self.length);
        before * u128::from(self.length - elapsed) + (of(window) + u128::from(cost)) * length
            <= u128::from(self.limit) * length
    }
    fn take(&mut self, now: u64, cost: u32) -> bool {
        let fits = cost <= self.limit && (cost == 0 || self.fits(now, cost));
        if fits {
            *self.windows.entry(now / self.length).or_default() += cost;
        }
        fits
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn decisions_are_those_of_a_count_for_each_window(
        length in 1_u64..1_000_000, limit in 1_u32..30,
        calls in prop::collection::vec((0_u64..1_000_000, 0_u32..4), 1..200), spread in 1_u64..20
    ) {
        let rule = Rule::Window { length, limit };
        let (bucket, store) = (Bucket::new(rule, 4), Store::new(rule, 100, false));
        let mut reference = Reference { length, limit, windows: Default::default() };
        let mut now = 0;
        for (gap, cost) in calls {
            now += gap * length / 1_000_000 / spread;
            let result = bucket.take(0, cost, 0, &mut now);
            prop_assert_eq!(result.is_ok(), reference.take(now, cost));
            prop_assert_eq!(store.take("key", cost, 0, &mut now).is_ok(), result.is_ok());
            if let Err(wait) = result && wait != NEVER {
                // Exact: allowed then, if nobody else comes, and not a nanosecond earlier.
                prop_assert!(reference.fits(now + wait, cost));
                prop_assert!(!reference.fits(now + wait - 1, cost));
            }
        }
    }
}

#[test]
fn the_window_before_counts_by_what_is_left_of_it() {
    let bucket = Bucket::new(RULE, 4);
    let take = |mut now: u64| bucket.take(0, 1, 0, &mut now).map(drop);
    assert_eq!(drain(|| take(0)).0, 10);
    // None of the next window, and then one for each tenth of it.
    assert_eq!(take(SECOND / 2), Err(SECOND / 2 + SECOND / 10));
    assert_eq!(take(SECOND), Err(SECOND / 10));
    assert_eq!(drain(|| take(SECOND + SECOND / 10)), (1, SECOND / 10));
    assert_eq!(drain(|| take(SECOND * 3 / 2)).0, 4);
    // Nothing of it after two.
    assert_eq!(drain(|| take(SECOND * 5)).0, 10);
}

#[test]
fn a_time_that_goes_back_allows_nothing_more() {
    let bucket = Bucket::new(RULE, 4);
    let take = |mut now: u64| bucket.take(0, 1, 0, &mut now).map(drop);
    assert_eq!(drain(|| take(SECOND * 7)).0, 10);
    assert!(take(SECOND * 6).is_err() && take(0).is_err());
}

#[test]
fn a_live_change_keeps_the_share_that_is_left() {
    let gcra = Rule::new(SECOND / 10, 10);
    let cases = [
        (
            RULE,
            Rule::Window {
                length: SECOND,
                limit: 100,
            },
            60,
        ),
        (
            RULE,
            Rule::Window {
                length: SECOND * 10,
                limit: 5,
            },
            3,
        ),
        (RULE, gcra, 6),
        (gcra, RULE, 6),
        (
            gcra,
            Rule::Window {
                length: SECOND,
                limit: 1_000_000,
            },
            600_000,
        ),
    ];
    for (old, new, left) in cases {
        let (bucket, mut now) = (Bucket::new(old, 4), SECOND * 50);
        for _ in 0..4 {
            bucket.take(0, 1, 0, &mut now).unwrap();
        }
        bucket.apply(new, &mut now);
        assert_eq!(bucket.standing(now).remaining, left, "{new:?}");
        let fresh = Bucket::new(old, 4);
        fresh.apply(new, &mut now);
        assert_eq!(fresh.standing(now).remaining, new.quota().0);
    }
}

/// The number of a window has few bits. What is older than they can tell is no debt.
#[test]
fn a_window_that_was_idle_for_long_is_full_again() {
    for windows in [2, 1 << 17, (1 << 18) + 5, (1 << 19) - 20, (1 << 19) + 7] {
        let (bucket, store) = (Bucket::new(RULE, 4), Store::new(RULE, 100, false));
        let of_all = |mut now: u64| bucket.take(0, 1, 0, &mut now).map(drop);
        let of_key = |mut now: u64| store.take("key", 1, 0, &mut now).map(drop);
        let later = SECOND * (7 + windows);
        for take in [&of_all as &dyn Fn(u64) -> Result<(), u64>, &of_key] {
            assert_eq!(drain(|| take(SECOND * 7)).0, 10);
            assert_eq!(drain(|| take(later)).0, 10, "after {windows} windows");
            assert_eq!(drain(|| take(later + SECOND * 2)).0, 10);
        }
    }
}
