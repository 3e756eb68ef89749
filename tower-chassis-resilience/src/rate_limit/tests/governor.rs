//! The same calls, decided by the `governor` crate.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, FakeRelativeClock},
};
use proptest::prelude::*;

use super::{super::rule::Rule, bucket::Bucket, cases, store::Store};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn decisions_and_waits_are_those_of_governor(
        interval in 1_u64..1_000_000_000, burst in 1_u32..50,
        calls in prop::collection::vec((0_u64..3_000_000, 1_u32..6), 1..200)
    ) {
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(Duration::from_nanos(interval)).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let (bucket, store) = (Bucket::new(Rule::new(interval, burst), 0), Store::new(Rule::new(interval, burst), 100, true));
        let mut now = 0_u64;
        for (gap, cost) in calls {
            let gap = (u128::from(gap) * u128::from(interval) / 1_000_000) as u64;
            now += gap;
            clock.advance(Duration::from_nanos(gap));
            let ours = bucket.take(0, cost, 0, &mut now).map(|taken| taken.wait);
            let keyed = store.take("key", cost, 0, &mut now).map(|taken| taken.wait);
            prop_assert_eq!(ours, keyed);
            match theirs.check_n(NonZeroU32::new(cost).unwrap()) {
                Ok(Ok(())) => prop_assert_eq!(ours, Ok(0)),
                Ok(Err(not_until)) => {
                    let wait = not_until.wait_time_from(clock.now()).as_nanos() as u64;
                    prop_assert_eq!(ours, Err(wait));
                }
                Err(_) => prop_assert_eq!(ours, Err(u64::MAX)),
            }
        }
    }
}
