mod batches;
mod governor;
mod headers;
mod service;
mod waiting;
mod window;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use proptest::prelude::*;

use crate::keyed::ip_key;

use super::{bucket, rule::Rule, store, *};

const SECOND: u64 = 1_000_000_000;

/// Ten per second, five at once.
fn rule() -> Rule {
    Rule::new(SECOND / 10, 5)
}

/// A bucket that is exact, and the time as an argument.
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

/// A store that is exact, and the time as an argument.
struct Store<K>(store::Store<K>);

impl<K: std::hash::Hash + Eq> Store<K> {
    fn new(rule: Rule, max_keys: usize) -> Self {
        Self(store::Store::new(rule, max_keys, true))
    }
    fn take(&self, key: K, mut now: u64) -> Result<(), u64> {
        self.0.take(key, 1, 0, &mut now).map(drop)
    }
    fn apply(&self, rule: Rule, now: u64) {
        self.0.apply(rule, now);
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Takes until refused.
fn drain(mut take: impl FnMut() -> Result<(), u64>) -> (usize, u64) {
    for taken in 0..1_000 {
        if let Err(wait) = take() {
            return (taken, wait);
        }
    }
    panic!("never refused")
}

#[test]
fn a_burst_then_the_rate_and_the_wait_is_exact() {
    let bucket = Bucket::new(rule());
    assert_eq!(drain(|| bucket.take(0)), (5, SECOND / 10));
    assert_eq!(bucket.take(SECOND / 10 - 1), Err(1));
    assert_eq!(drain(|| bucket.take(SECOND / 10)), (1, SECOND / 10));
    assert_eq!(drain(|| bucket.take(SECOND * 1_000)), (5, SECOND / 10));
}

#[test]
fn a_burst_of_one_is_an_even_pace() {
    let bucket = Bucket::new(Rule::new(10, 1));
    for n in 0..100 {
        assert_eq!(bucket.take(n * 10), Ok(()));
        assert_eq!(bucket.take(n * 10 + 3), Err(7));
    }
}

#[test]
fn time_that_goes_back_allows_nothing_more() {
    let bucket = Bucket::new(rule());
    assert_eq!(drain(|| bucket.take(SECOND)).0, 5);
    assert_eq!(bucket.take(0), Err(SECOND + SECOND / 10));
    assert_eq!(drain(|| bucket.take(SECOND + SECOND / 10)).0, 1);
}

/// Credit that grows by one per nanosecond up to a burst, in exact arithmetic.
struct Credit {
    interval: u128,
    full: u128,
    left: u128,
    at: u128,
}

impl Credit {
    fn take(&mut self, now: u64) -> Result<(), u64> {
        let now = u128::from(now);
        self.left = (self.left + (now - self.at)).min(self.full);
        self.at = now;
        if self.left < self.interval {
            return Err((self.interval - self.left) as u64);
        }
        self.left -= self.interval;
        Ok(())
    }
}

fn cases() -> ProptestConfig {
    let cases = if std::env::var_os("CHASSIS_LONG").is_some() {
        100_000
    } else {
        256
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Arrivals at once, near one another, and far apart.
fn gaps(interval: u64) -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![3 => Just(0), 4 => 0..=interval, 2 => 0..=interval * 3, 1 => 0..=interval * 100];
    prop::collection::vec(gap, 1..200)
}

fn arrivals() -> impl Strategy<Value = (u64, u32, Vec<u64>)> {
    (1_u64..1_000_000_000, 1_u32..20)
        .prop_flat_map(|(interval, burst)| (Just(interval), Just(burst), gaps(interval)))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn decisions_and_waits_are_those_of_exact_credit((interval, burst, gaps) in arrivals()) {
        let bucket = Bucket::new(Rule::new(interval, burst));
        let store = Store::new(Rule::new(interval, burst), 100);
        let full = u128::from(interval) * u128::from(burst);
        let mut credit = Credit { interval: interval.into(), full, left: full, at: 0 };
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let expected = credit.take(now);
            prop_assert_eq!(bucket.take(now), expected);
            prop_assert_eq!(store.take("key", now), expected);
        }
    }

    #[test]
    fn no_stretch_of_time_allows_more_than_burst_and_rate((interval, burst, gaps) in arrivals()) {
        let bucket = Bucket::new(Rule::new(interval, burst));
        let (mut now, mut allowed) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            if bucket.take(now).is_ok() {
                allowed.push(now);
            }
        }
        for (first, from) in allowed.iter().enumerate() {
            for (last, to) in allowed.iter().enumerate().skip(first) {
                prop_assert!((last - first + 1) as u64 <= u64::from(burst) + (to - from) / interval);
            }
        }
    }

    #[test]
    fn few_keys_in_little_room_are_never_allowed_more(
        calls in prop::collection::vec((0_u8..40, 0_u64..200_000_000), 1..300)
    ) {
        // Room for 8: most keys meet the shared bucket at times, and must not gain by it.
        let (interval, burst) = (SECOND / 10, 3);
        let store = Store::new(Rule::new(interval, burst), 8);
        let full = u128::from(interval) * u128::from(burst);
        let mut exact: Vec<_> =
            (0..40).map(|_| Credit { interval: interval.into(), full, left: full, at: 0 }).collect();
        let mut now = 0;
        for (key, gap) in calls {
            now += gap / 8;
            if store.take(key, now).is_ok() {
                prop_assert_eq!(exact[usize::from(key)].take(now), Ok(()));
            }
            prop_assert!(store.len() <= 8);
        }
    }
}

#[test]
fn threads_together_get_no_more_than_one_would() {
    for keyed in [false, true] {
        let (bucket, store) = (Bucket::new(rule()), Store::new(rule(), 1_000));
        let (clock, allowed) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let now = clock.fetch_add(10_000, Ordering::Relaxed);
                        let taken = if keyed {
                            store.take(1, now)
                        } else {
                            bucket.take(now)
                        };
                        allowed.fetch_add(u64::from(taken.is_ok()), Ordering::Relaxed);
                    }
                });
            }
        });
        let most = 5 + clock.into_inner() / (SECOND / 10);
        let allowed = allowed.into_inner();
        assert!((most - 1..=most).contains(&allowed), "{allowed} of {most}");
    }
}

#[test]
fn a_flood_of_keys_stays_bounded_and_frees_nobody() {
    let store = Store::new(rule(), 2_048);
    let mut victim = Credit {
        interval: SECOND as u128 / 10,
        full: SECOND as u128 / 2,
        left: SECOND as u128 / 2,
        at: 0,
    };
    let mut passed = 0;
    for n in 0_u64..200_000 {
        let now = n * 10_000;
        // Limited all the time, in the middle of the flood: exactly as if it were alone.
        if n % 100 == 0 {
            assert_eq!(store.take(u64::MAX, now), victim.take(now), "{n}");
        }
        passed += usize::from(store.take(n, now).is_ok());
        assert!(n % 1_000 != 0 || store.len() <= 2_048);
    }
    // 10,000 are in use at once, and 2,048 of those fit: the rest shared.
    assert!(passed > 2_048, "{passed}");
    // A minute later all is as new.
    assert_eq!(drain(|| store.take(7, 60 * SECOND)).0, 5);
}

#[test]
fn keys_that_find_no_room_share_and_do_not_gain_by_it() {
    let store = Store::new(rule(), 2);
    assert!(store.take("a", 0).is_ok() && store.take("b", 0).is_ok());
    let mut names = ["c", "d", "e"].into_iter().cycle();
    assert_eq!(
        drain(|| store.take(names.next().unwrap(), 0)),
        (5, SECOND / 10)
    );
    // Room again: `c` goes on with what the shared bucket used.
    assert_eq!(drain(|| store.take("c", SECOND / 10)).0, 1);
    assert_eq!(store.take("a", SECOND / 10), Ok(()));
}

#[test]
fn a_live_change_keeps_the_share_that_is_left() {
    // Of 10 per second and 10 at once, 4 are used.
    let old = Rule::new(SECOND / 10, 10);
    for (interval, burst, left, wait) in [
        (SECOND / 100, 100, 60, SECOND / 100),
        (SECOND, 10, 6, SECOND),
        (SECOND / 10, 5, 3, SECOND / 10),
        (SECOND, 1, 0, SECOND * 4 / 10),
    ] {
        let (bucket, store) = (Bucket::new(old), Store::new(old, 100));
        let now = SECOND * 50;
        for _ in 0..4 {
            assert!(bucket.take(now).is_ok() && store.take("key", now).is_ok());
        }
        bucket.apply(Rule::new(interval, burst), now);
        store.apply(Rule::new(interval, burst), now);
        assert_eq!(
            drain(|| bucket.take(now)),
            (left, wait),
            "{burst} per {interval}"
        );
        assert_eq!(
            drain(|| store.take("key", now)),
            (left, wait),
            "{burst} per {interval}"
        );
        assert_eq!(drain(|| store.take("new", now)).0, burst as usize);
    }
}

#[test]
fn a_debt_is_capped_to_one_window() {
    let bucket = Bucket::new(Rule::new(SECOND * 3_600, 10));
    assert_eq!(drain(|| bucket.take(0)).0, 10);
    bucket.apply(Rule::new(SECOND / 10, 5), 0);
    assert_eq!(bucket.take(0), Err(SECOND / 10));
}

#[test]
fn settings_out_of_range_name_their_field() {
    let cases: [(&str, fn(&mut RateLimitConfig)); 16] = [
        ("rate", |c| c.rate = 0.0),
        ("rate", |c| c.rate = -1.0),
        ("rate", |c| c.rate = f64::NAN),
        ("rate", |c| c.rate = f64::INFINITY),
        ("rate", |c| c.rate = 1e10),
        ("rate", |c| c.rate = 1e-7),
        ("burst", |c| c.burst = 0),
        ("per", |c| c.per = Duration::ZERO),
        ("max_wait", |c| c.max_wait = Duration::from_secs(86_401)),
        ("jitter", |c| c.jitter = 1.1),
        ("jitter", |c| c.jitter = f64::NAN),
        ("rate", |c| {
            (c.rate, c.algorithm) = (0.5, Algorithm::SlidingWindow)
        }),
        ("rate", |c| {
            (c.rate, c.algorithm) = (10.5, Algorithm::SlidingWindow)
        }),
        ("rate", |c| {
            (c.rate, c.algorithm) = (1e7, Algorithm::SlidingWindow)
        }),
        ("per", |c| {
            (c.per, c.algorithm) = (Duration::MAX, Algorithm::SlidingWindow)
        }),
        ("max_wait", |c| {
            (c.max_wait, c.algorithm) = (Duration::from_secs(1), Algorithm::SlidingWindow);
        }),
    ];
    for (field, change) in cases {
        assert_eq!(
            RateLimitPolicy::default().with(change).unwrap_err().field(),
            field
        );
    }
    let daily = RateLimitConfig {
        rate: 1.0,
        burst: 2,
        per: Duration::from_secs(86_400),
        ..RateLimitConfig::default()
    };
    assert_eq!(
        RateLimitPolicy::try_from(daily).unwrap().interval(),
        Duration::from_secs(86_400)
    );
    assert_eq!(
        RateLimitPolicy::new(3.0, 1).unwrap().interval(),
        Duration::from_nanos(333_333_334)
    );
}

#[test]
fn one_client_of_ipv6_is_a_64() {
    for (address, key) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("::1", "::"),
    ] {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(ip_key(parse(address)), parse(key));
    }
}
