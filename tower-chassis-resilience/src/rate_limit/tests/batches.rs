//! Calls that are taken in advance: never more than a burst and the rate, and few less.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;

use super::{
    super::{
        bucket::{Bucket, Time},
        rule::Rule,
        store::Store,
    },
    SECOND, cases,
};

/// Threads that the model has, and the cells that they share.
const THREADS: usize = 6;
const CELLS: usize = 4;
const BATCH: u64 = 8;
/// More than any of the buckets has.
const MOST: u64 = 100_000;

/// No stretch of time has more than a burst and what the rate gives.
fn holds(allowed: &[u64], interval: u64, burst: u32) {
    for (first, from) in allowed.iter().enumerate() {
        for (last, to) in allowed.iter().enumerate().skip(first) {
            let most = u64::from(burst) + (to - from) / interval;
            assert!((last - first + 1) as u64 <= most, "{first} to {last}");
        }
    }
}

/// Calls in an exact bucket, in nanoseconds.
struct Exact {
    interval: u64,
    burst: u32,
    tat: u64,
}

impl Exact {
    fn left(&self, now: u64) -> u64 {
        let full = self.interval * u64::from(self.burst);
        (full - self.tat.saturating_sub(now).min(full)) / self.interval
    }
    fn take(&mut self, now: u64) {
        self.tat = self.tat.max(now) + self.interval;
    }
}

/// Who calls, how much later than the one before, and how often.
fn calls() -> impl Strategy<Value = Vec<(usize, u64, usize)>> {
    let gap = prop_oneof![
        4 => Just(0),
        4 => 0_u64..1_000,
        2 => 0_u64..2_000_000,
        1 => 0_u64..2_000_000_000
    ];
    prop::collection::vec((0..THREADS, gap, 1_usize..120), 1..40)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_bucket_in_batches_is_never_over_and_little_under(
        calls in calls(), interval in 1_u64..100_000, burst in 1_u32..2_000
    ) {
        let bucket = Bucket::new(Rule::new(interval, burst), CELLS);
        let mut exact = Exact { interval, burst, tat: 0 };
        let (mut now, mut allowed) = (0, Vec::new());
        for (thread, gap, times) in calls {
            now += gap;
            for _ in 0..times {
                match bucket.take(thread, 1, 0, &mut now) {
                    Ok(_) => {
                        allowed.push(now);
                        exact.take(now);
                    }
                    Err(wait) => {
                        prop_assert!(wait > 0);
                        let left = exact.left(now);
                        prop_assert!(left <= CELLS as u64 * (BATCH - 1), "{left} left");
                    }
                }
            }
        }
        if allowed.len() < 1_500 {
            holds(&allowed, interval, burst);
        } else {
            prop_assert!(exact.tat <= now + interval * u64::from(burst), "over");
        }
    }

    #[test]
    fn a_key_in_batches_is_never_over_and_little_under(
        calls in calls(), interval in 1_u64..100_000, burst in 700_u32..2_000
    ) {
        let store = Store::new(Rule::new(interval, burst), 8, false);
        let mut exact: Vec<_> = (0..THREADS).map(|_| Exact { interval, burst, tat: 0 }).collect();
        let mut now = 0;
        for (key, gap, times) in calls {
            now += gap;
            for _ in 0..times {
                match store.take(key, 1, 0, &mut now) {
                    Ok(_) => {
                        exact[key].take(now);
                        prop_assert!(exact[key].tat <= now + interval * u64::from(burst), "over");
                    }
                    Err(_) => prop_assert!(exact[key].left(now) < BATCH),
                }
            }
        }
    }
}

/// A burst at one instant is allowed to the last call, hot or not.
#[test]
fn a_burst_at_once_is_exact() {
    for burst in [1, 20, 64, 100, 1_000, 5_000] {
        let bucket = Bucket::new(Rule::new(SECOND, burst), CELLS);
        let store = Store::new(Rule::new(SECOND, burst), 100, false);
        for call in 0..burst as usize {
            assert!(
                bucket.take(call % 3, 1, 0, &mut 5).is_ok(),
                "{call} of {burst}"
            );
            assert!(store.take("key", 1, 0, &mut 5).is_ok(), "{call} of {burst}");
        }
        assert_eq!(bucket.take(0, 1, 0, &mut 5), Err(SECOND));
        assert_eq!(store.take("key", 1, 0, &mut 5), Err(SECOND));
    }
}

#[test]
fn what_was_taken_in_advance_needs_no_time() {
    let bucket = Bucket::new(Rule::new(1_000, 1_000), CELLS);
    let spare = |thread| (0..100).take_while(|_| bucket.take_spare(thread)).count();
    // So many make it hot, and the next one fetches eight.
    for _ in 0..64 {
        bucket.take(0, 1, 0, &mut 1).unwrap();
        assert_eq!(spare(0), 0);
    }
    bucket.take(0, 1, 0, &mut 1).unwrap();
    assert_eq!((spare(1), spare(0), spare(0)), (0, 7, 0));
}

/// What was taken in advance and used after a pause counts for the burst that follows.
#[test]
fn what_is_used_later_counts_when_it_is_used() {
    let (bucket, store) = (
        Bucket::new(Rule::new(1_000, 800), CELLS),
        Store::new(Rule::new(1_000, 800), 100, false),
    );
    let mut now = 1;
    for _ in 0..200 {
        bucket.take(0, 1, 0, &mut now).unwrap();
        store.take("key", 1, 0, &mut now).unwrap();
        now += 2_000;
    }
    // One, 25 times eight, and two of the next eight.
    for _ in 0..3 {
        store.take("key", 1, 0, &mut now).unwrap();
        now += 2_000;
    }
    now += SECOND;
    let taken = (0..MOST).take_while(|_| bucket.take(0, 1, 0, &mut now).is_ok());
    assert!((770..=800).contains(&taken.count()));
    let taken = (0..MOST).take_while(|_| store.take("key", 1, 0, &mut now).is_ok());
    let taken = taken.count();
    assert!((790..=800).contains(&taken), "{taken}");
}

/// A clock that counts how often it is read.
struct Counted(u64, u64);

impl Time for Counted {
    fn now(&mut self) -> u64 {
        self.1 += 1;
        self.0
    }
    fn fresh(&mut self) -> u64 {
        self.now()
    }
}

#[test]
fn where_many_calls_come_few_ask_for_the_time() {
    let bucket = Bucket::new(Rule::new(10, 1_000_000), CELLS);
    let store = Store::new(Rule::new(10, 1_000_000), 100, false);
    let mut clock = Counted(1, 0);
    for _ in 0..10_000 {
        bucket.take(0, 1, 0, &mut clock).unwrap();
        clock.0 += 50;
    }
    assert!((1_250..1_400).contains(&clock.1), "{}", clock.1);
    clock.1 = 0;
    for _ in 0..10_000 {
        store.take("key", 1, 0, &mut clock).unwrap();
        clock.0 += 50;
    }
    assert!((1_250..1_300).contains(&clock.1), "{}", clock.1);
}

/// After a pause it is as exact as if it had never been hot, but for what threads took in advance.
#[test]
fn what_is_seldom_asked_becomes_exact_again() {
    let (bucket, mut now) = (Bucket::new(Rule::new(1_000, 1_000), CELLS), 1);
    for _ in 0..1_000 {
        bucket.take(0, 1, 0, &mut now).unwrap();
        now += 1_000;
    }
    now += SECOND;
    // The first ones come from a cell, and then it cools.
    for _ in 0..40 {
        bucket.take(0, 1, 0, &mut now).unwrap();
        now += 10_000_000;
    }
    let taken = (0..MOST).take_while(|_| bucket.take(1, 1, 0, &mut now).is_ok());
    assert_eq!(taken.count(), 1_000);
}

#[test]
fn a_change_of_rule_takes_back_what_was_taken_in_advance() {
    let (bucket, mut now) = (Bucket::new(Rule::new(1_000, 1_000), CELLS), 1);
    let store = Store::new(Rule::new(1_000, 1_000), 100, false);
    for _ in 0..201 {
        bucket.take(0, 1, 0, &mut now).unwrap();
        store.take("key", 1, 0, &mut now).unwrap();
    }
    // A fifth is used.
    bucket.apply(Rule::new(SECOND, 10), &mut now);
    store.apply(Rule::new(SECOND, 10), now);
    let taken = (0..MOST).take_while(|_| bucket.take(0, 1, 0, &mut now).is_ok());
    assert_eq!(taken.count(), 7);
    let taken = (0..MOST).take_while(|_| store.take("key", 1, 0, &mut now).is_ok());
    assert_eq!(taken.count(), 7);
    bucket.reset(&mut now);
    store.reset("key");
    assert_eq!(bucket.standing(now).remaining, 10);
    assert_eq!(store.standing("key", now).remaining, 10);
}

/// Threads at once, on a clock that goes on: in total what one would get, and a burst at the most.
#[test]
fn threads_together_get_what_one_would_and_few_less() {
    const EACH: u64 = 60_000;
    for (interval, burst) in [
        (10, 4_000),
        (40, 4_000),
        (1_000, 4_000),
        (30, 200),
        (50, 20),
    ] {
        let bucket = Bucket::new(Rule::new(interval, burst), CELLS);
        let (clock, allowed, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        struct Ticks<'a>(&'a AtomicU64, Option<u64>);
        impl Time for Ticks<'_> {
            fn now(&mut self) -> u64 {
                *self.1.get_or_insert_with(|| self.0.load(Relaxed))
            }
            fn fresh(&mut self) -> u64 {
                self.0.load(Relaxed)
            }
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (bucket, clock, allowed, refused) = (&bucket, &clock, &allowed, &refused);
                scope.spawn(move || {
                    for _ in 0..EACH {
                        clock.fetch_add(10, Relaxed);
                        match bucket.take(thread, 1, 0, &mut Ticks(clock, None)) {
                            Ok(_) => allowed.fetch_add(1, Relaxed),
                            Err(_) => refused.fetch_add(1, Relaxed),
                        };
                    }
                });
            }
        });
        let most = u64::from(burst) + clock.into_inner() / interval;
        let (allowed, refused) = (allowed.into_inner(), refused.into_inner());
        assert!(allowed <= most, "{allowed} of {most}");
        // Where there were refusals, all was used but for what is in the cells, at the last refusal.
        if refused > EACH {
            assert!(allowed + most / 10 + 50 >= most, "{allowed} of {most}");
        }
    }
}

/// While one changes the rule to and fro, and time stands still, what was used stays used.
#[test]
fn changes_of_rule_under_threads_let_nobody_in() {
    let (small, large) = (Rule::new(1_000, 800), Rule::new(100, 8_000));
    for round in 0..50_u64 {
        let bucket = Bucket::new(large, CELLS);
        let (now, over) = (round * 1_000_000, AtomicU64::new(0));
        let taken: u64 = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..3)
                .map(|thread| {
                    let (bucket, over) = (&bucket, &over);
                    scope.spawn(move || {
                        let (mut taken, mut refused) = (0, 0);
                        while refused < 200 && taken <= MOST {
                            match bucket.take(thread, 1, 0, &mut { now }) {
                                Ok(_) => taken += 1,
                                Err(_) => refused += 1,
                            }
                        }
                        over.fetch_add(1, Relaxed);
                        taken
                    })
                })
                .collect();
            while over.load(Relaxed) < 3 {
                bucket.apply(small, &mut { now });
                bucket.apply(large, &mut { now });
            }
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert!(taken <= 8_000, "{taken}");
    }
}
