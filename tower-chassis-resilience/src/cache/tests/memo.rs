//! The memo against a plain one that keeps lists, and what it is for.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::memo::{Found, Life, Memo};

const MS: Duration = Duration::from_millis(1);

fn life(born: Instant, fresh: u64, stale: u64) -> Life {
    let fresh = born + MS * fresh as u32;
    Life {
        born,
        fresh,
        stale: fresh + MS * stale as u32,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert {
        key: u8,
        weight: usize,
        fresh: u64,
        stale: u64,
    },
    Get(u8),
    Remove(u8),
    Clear,
    Wait(u64),
    Bound(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let insert = (0..20_u8, 1..8_usize, 1..50_u64, 0..20_u64);
    prop_oneof![
        10 => insert.prop_map(|(key, weight, fresh, stale)| Step::Insert { key, weight, fresh, stale }),
        10 => (0..20_u8).prop_map(Step::Get),
        2 => (0..20_u8).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        2 => (0..10_u64).prop_map(Step::Wait),
        1 => (1..12_usize, 1..40_usize).prop_map(|(entries, weight)| Step::Bound(entries, weight)),
    ]
}

/// A memo that was made large has many shards. Its bound is that of all of them.
#[test]
fn a_small_bound_holds_for_all_shards() {
    let (memo, now) = (Memo::new(10_000, 1 << 20), Instant::now());
    let fill = || {
        for key in 0..1_000_u32 {
            memo.insert(memo.hashed(key), key, 1, life(now, 10, 0));
        }
        memo.check();
        memo.len()
    };
    assert_eq!(fill(), 1_000);
    for bound in [1, 5, 17, 100] {
        memo.bound(bound, 1 << 20);
        assert!(memo.len() <= bound, "{} of {bound}", memo.len());
        assert!((1..=bound).contains(&fill()), "{} of {bound}", memo.len());
    }
}

#[derive(Clone)]
struct Kept {
    value: u32,
    weight: usize,
    life: Life,
    frequency: u8,
}

/// S3-FIFO in its plainest form.
struct Model {
    kept: HashMap<u8, Kept>,
    small: VecDeque<u8>,
    main: VecDeque<u8>,
    ghosts: VecDeque<u8>,
    evicted: u64,
    entries: usize,
    weight: usize,
}

impl Model {
    fn drop_key(&mut self, key: u8) -> bool {
        self.small.retain(|other| *other != key);
        self.main.retain(|other| *other != key);
        self.kept.remove(&key).is_some()
    }

    fn evict(&mut self, entries: usize, weight: usize) {
        let total = |kept: &HashMap<u8, Kept>| kept.values().map(|kept| kept.weight).sum::<usize>();
        while self.kept.len() > entries || total(&self.kept) > weight {
            let small = self.small.len() * 10 > self.kept.len() || self.main.is_empty();
            let queue = if small {
                &mut self.small
            } else {
                &mut self.main
            };
            let Some(key) = queue.pop_front() else { break };
            let kept = self.kept.get_mut(&key).unwrap();
            if kept.frequency > 0 {
                kept.frequency = if small { 0 } else { kept.frequency - 1 };
                self.main.push_back(key);
                continue;
            }
            self.kept.remove(&key);
            self.evicted += 1;
            if small {
                if !self.ghosts.contains(&key) {
                    self.ghosts.push_back(key);
                }
                while self.ghosts.len() > entries.max(1) {
                    self.ghosts.pop_front();
                }
            }
        }
    }

    fn insert(&mut self, key: u8, kept: Kept) {
        let old = self.kept.get(&key).map(|kept| kept.frequency);
        if kept.weight > self.weight {
            self.drop_key(key);
            return;
        }
        match old {
            Some(frequency) => {
                self.kept.insert(key, Kept { frequency, ..kept });
            }
            None => {
                self.evict(self.entries - 1, self.weight - kept.weight);
                let queue = if self.ghosts.contains(&key) {
                    &mut self.main
                } else {
                    &mut self.small
                };
                queue.push_back(key);
                self.kept.insert(key, kept);
            }
        }
        self.evict(self.entries, self.weight);
    }

    fn get(&mut self, key: u8, now: Instant) -> Found<u32> {
        let Some(kept) = self.kept.get_mut(&key) else {
            return Found::Nothing;
        };
        if now >= kept.life.stale {
            self.drop_key(key);
            return Found::Nothing;
        }
        kept.frequency = (kept.frequency + 1).min(3);
        if now < kept.life.fresh {
            Found::Fresh(kept.value, kept.life.born)
        } else {
            Found::Stale(kept.value, kept.life.born)
        }
    }
}

fn long(cases: u32) -> ProptestConfig {
    let factor = if std::env::var_os("CHASSIS_LONG").is_some() {
        100
    } else {
        1
    };
    ProptestConfig::with_cases(cases * factor)
}

proptest! {
    #![proptest_config(long(256))]

    #[test]
    fn it_keeps_what_the_plain_one_keeps(steps in prop::collection::vec(step(), 1..200)) {
        let memo = Memo::<u8, u32>::new(8, 30);
        let mut model = Model {
            kept: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            evicted: 0,
            entries: 8,
            weight: 30,
        };
        let (mut now, mut told) = (Instant::now(), 0);
        for (value, step) in (0..).zip(steps) {
            match step {
                Step::Insert { key, weight, fresh, stale } => {
                    let life = life(now, fresh, stale);
                    told += memo.insert(memo.hashed(key), value, weight, life) as u64;
                    model.insert(key, Kept { value, weight, life, frequency: 0 });
                }
                Step::Get(key) => {
                    prop_assert_eq!(memo.get(&memo.hashed(key), now), model.get(key, now));
                }
                Step::Remove(key) => {
                    prop_assert_eq!(memo.remove(&memo.hashed(key)), model.drop_key(key));
                }
                Step::Clear => {
                    memo.clear();
                    model.kept.clear();
                    model.small.clear();
                    model.main.clear();
                    model.ghosts.clear();
                }
                Step::Wait(ms) => now += MS * ms as u32,
                Step::Bound(entries, weight) => {
                    told += memo.bound(entries, weight) as u64;
                    (model.entries, model.weight) = (entries, weight);
                    model.evict(entries, weight);
                    while model.ghosts.len() > entries {
                        model.ghosts.pop_front();
                    }
                }
            }
            memo.check();
            prop_assert_eq!((memo.evicted(), told), (model.evicted, model.evicted));
            prop_assert_eq!(memo.len(), model.kept.len());
            prop_assert_eq!(memo.weight(), model.kept.values().map(|kept| kept.weight).sum::<usize>());
        }
    }
}

/// Keys that are asked for once each, ten times as many as there is room, leave those alone that are asked for again.
#[test]
fn a_scan_leaves_the_rest_alone() {
    let memo = Memo::<u32, u32>::new(1_000, usize::MAX / 2);
    let now = Instant::now();
    let put = |key| memo.insert(memo.hashed(key), key, 1, life(now, 1_000, 0));
    for _ in 0..3 {
        for key in 0..500 {
            if memo.get(&memo.hashed(key), now) == Found::Nothing {
                put(key);
            }
        }
    }
    for key in 10_000..20_000 {
        put(key);
    }
    let left = (0..500)
        .filter(|key| memo.get(&memo.hashed(*key), now) != Found::Nothing)
        .count();
    assert!(left >= 450, "{left} of 500");
    assert!(memo.len() <= 1_000);
    memo.check();
}

#[test]
fn threads_find_what_they_put_or_nothing() {
    let memo = Memo::<u32, u32>::new(200, 10_000);
    let now = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let memo = &memo;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(u64::from(thread));
                for _ in 0..20_000 {
                    let key = random.u32(0..400);
                    match random.u8(0..8) {
                        0 => {
                            memo.remove(&memo.hashed(key));
                        }
                        1..4 => {
                            memo.insert(memo.hashed(key), key, 10, life(now, 1_000, 0));
                        }
                        _ => match memo.get(&memo.hashed(key), now) {
                            Found::Fresh(value, _) => assert_eq!(value, key),
                            Found::Stale(..) => panic!("it is fresh"),
                            Found::Nothing => {}
                        },
                    }
                }
            });
        }
    });
    memo.check();
}

/// Who bounds entries alone says that bytes have no bound, and who weighs may say that an answer is as heavy as can be.
#[test]
fn weights_without_bound_do_not_run_over() {
    let (memo, now) = (Memo::new(100, usize::MAX), Instant::now());
    for key in 0..3 {
        memo.insert(memo.hashed(key), key, 10, life(now, 10, 0));
    }
    for weight in [usize::MAX, usize::MAX / 2, usize::MAX - 5, 10] {
        memo.insert(memo.hashed(1), 1, weight, life(now, 10, 0));
        memo.check();
    }
}
