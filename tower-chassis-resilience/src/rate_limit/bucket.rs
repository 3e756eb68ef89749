//! One bucket for all callers.
//!
//! It is *cold* or *hot*. Cold, a call is one compare-and-swap of the number, and exact. A bucket that is asked often
//! becomes hot: it keeps back a `reserve`, what the [cells](super::cells) of all threads hold at the most, by
//! not letting its number say that more is left than a burst less the reserve. So what is left in it and what
//! is in the cells is never more than a burst, and what is in a cell may be used at any time without asking for it.
//! When little is left, or it is asked seldom, it becomes cold again: the cells are closed, what
//! was in them goes back, and it is exact to the last call.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
        fence,
    },
};

use super::{
    cells::Cells,
    rule::{Rule, Standing},
};

// number:59 | hot:1 | version:4. A number is good for 18 years.
const VERSION: u64 = 0b1111;
const HOT: u64 = 0b1_0000;
const NUMBER: u32 = 5;
const MARK: u64 = (1 << NUMBER) - 1;

/// The most calls that a thread takes at once.
const BATCH: u64 = 8;
/// What the cells hold is at the most this part of a burst, an eighth.
const PART: u32 = 3;
/// How often a bucket is asked is counted in spans of so many bits of nanoseconds, about a millisecond.
const SPAN: u32 = 20;
/// So often in a span makes it hot.
const OFTEN: u64 = 64;
/// Less often filling cells in a span makes it cold.
const SELDOM: u64 = 4;

/// The time, in nanoseconds since some start.
pub(super) trait Time {
    /// A reading that may have been taken a little earlier, for all that happens at once.
    fn now(&mut self) -> u64;
    /// A reading that is taken now.
    fn fresh(&mut self) -> u64;
}

/// A time that stands still.
impl Time for u64 {
    fn now(&mut self) -> u64 {
        *self
    }
    fn fresh(&mut self) -> u64 {
        *self
    }
}

/// What a call has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    /// How long it must wait.
    pub(super) wait: u64,
    /// Where it stands, to [take it back](Bucket::take_back).
    pub(super) place: u64,
}

/// The number and the version of the rule it stands under are one word, so that a change of rule and the rescaling of
/// the number are one step.
#[derive(Debug)]
pub(super) struct Bucket {
    /// The rule of a version is in the slot of its lowest bit: the one that is written is not the one in force.
    slots: [(AtomicU64, AtomicU64); 2],
    cells: Cells,
    center: Center,
    /// Held by who changes the rule, or makes it hot or cold.
    turn: Mutex<()>,
}

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Center {
    word: AtomicU64,
    /// span:48 | how often in it:16. Not exact.
    asked: AtomicU64,
}

impl Bucket {
    /// With so many cells, a power of two; without any it is always exact.
    pub(super) fn new(rule: Rule, cells: usize) -> Self {
        let bucket = Self {
            slots: Default::default(),
            cells: Cells::new(cells),
            center: Center {
                word: AtomicU64::new(0),
                asked: AtomicU64::new(0),
            },
            turn: Mutex::new(()),
        };
        bucket.write(0, rule);
        bucket
    }

    /// Takes a call that thread `at` took in advance, if there is one.
    #[inline]
    pub(super) fn take_spare(&self, at: usize) -> bool {
        self.cells.take(at)
    }

    /// Takes a call of so much `cost` for thread `at`, if it need not wait longer than `patience`, or says how
    /// long it is too early.
    #[inline]
    pub(super) fn take(
        &self,
        at: usize,
        cost: u32,
        patience: u64,
        time: &mut impl Time,
    ) -> Result<Taken, u64> {
        if cost == 1 && self.cells.take(at) {
            return Ok(Taken { wait: 0, place: 0 });
        }
        self.take_from_center(at, cost, patience, time)
    }

    fn take_from_center(
        &self,
        at: usize,
        cost: u32,
        patience: u64,
        time: &mut impl Time,
    ) -> Result<Taken, u64> {
        let now = time.now();
        loop {
            let word = self.center.word.load(Acquire);
            if word & HOT == 0 {
                match self.take_cold(word, cost, patience, now) {
                    Ok(result) => return result,
                    Err(Stale) => continue,
                }
            }
            match self.take_hot(word, at, cost, now) {
                Ok(Some(place)) => return Ok(Taken { wait: 0, place }),
                Ok(None) => self.cool(time),
                Err(Stale) => {}
            }
        }
    }

    fn take_cold(
        &self,
        mut word: u64,
        cost: u32,
        patience: u64,
        now: u64,
    ) -> Result<Result<Taken, u64>, Stale> {
        let mark = word & MARK;
        loop {
            let rule = self.read(word);
            match rule.admit(word >> NUMBER, now, cost, patience) {
                Ok((number, wait)) => {
                    let place = pack(number, mark);
                    match self.swap(word, place) {
                        Ok(()) => {
                            if self.cells.len() > 0 && self.asked(now).0 >= OFTEN {
                                self.heat(now);
                            }
                            return Ok(Ok(Taken { wait, place }));
                        }
                        Err(seen) if seen & MARK == mark => word = seen,
                        Err(_) => return Err(Stale),
                    }
                }
                Err(wait) => {
                    let seen = self.center.word.load(Acquire);
                    if seen & MARK == mark {
                        return Ok(Err(wait));
                    }
                    return Err(Stale);
                }
            }
        }
    }

    /// `None` where it must become cold first.
    fn take_hot(
        &self,
        mut word: u64,
        at: usize,
        cost: u32,
        now: u64,
    ) -> Result<Option<u64>, Stale> {
        let mark = word & MARK;
        let fetch = if cost == 1 {
            self.cells.fetch(at)
        } else {
            None
        };
        let seldom = fetch.is_some() && {
            let (times, before) = self.asked(now);
            times == 1 && before < SELDOM
        };
        let taken = loop {
            let rule = self.read(word);
            let (batch, reserve) = self.batch(rule);
            let number = rule.at_least(word >> NUMBER, now, reserve);
            let calls = match self.share(rule, number, now, batch) {
                _ if seldom => break Ok(None),
                0 | 1 => break Ok(None),
                share if fetch.is_some() => share,
                _ => cost.into(),
            };
            // What is read from two rules is not used: the swap fails.
            let Ok((number, _)) = rule.admit(number, now, calls as u32, 0) else {
                break Ok(None);
            };
            let place = pack(number, mark);
            match self.swap(word, place) {
                Ok(()) => break Ok(Some((place, calls))),
                Err(seen) if seen & MARK == mark => word = seen,
                Err(_) => break Err(Stale),
            }
        };
        if let Some(fetch) = fetch {
            let more = match taken {
                Ok(Some((_, calls))) => calls - 1,
                _ => 0,
            };
            fetch.fill(more);
        }
        taken.map(|taken| taken.map(|(place, _)| place))
    }

    /// Lets threads take several calls at once.
    #[cold]
    pub(super) fn heat(&self, now: u64) {
        let Ok(_turn) = self.turn.try_lock() else {
            return;
        };
        let mut word = self.center.word.load(Acquire);
        loop {
            let rule = self.read(word);
            let (burst, _) = rule.quota();
            let left = rule.standing(word >> NUMBER, now).remaining;
            if word & HOT != 0 || self.batch(rule).0 < 2 || left < burst / 2 {
                return;
            }
            match self.swap(word, word | HOT) {
                Ok(()) => break,
                Err(seen) => word = seen,
            }
        }
        self.cells.open();
    }

    /// Takes back what is in the cells.
    #[cold]
    fn cool(&self, time: &mut impl Time) {
        let turn = self.turn();
        self.close(&turn, time);
    }

    fn close(&self, _turn: &MutexGuard<'_, ()>, time: &mut impl Time) {
        let mut word = self.center.word.load(Acquire);
        if word & HOT == 0 {
            return;
        }
        let calls = self.cells.close();
        // Read now: what was used of the cells was used before.
        let now = time.fresh();
        let rule = self.read(word);
        let (_, reserve) = self.batch(rule);
        loop {
            let number = rule.at_least(word >> NUMBER, now, reserve);
            let number = rule.take_back(number, calls as u32);
            match self.swap(word, pack(number, word & VERSION)) {
                Ok(()) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// Puts another rule in force and keeps the share of the bucket that is left.
    pub(super) fn apply(&self, rule: Rule, time: &mut impl Time) {
        let turn = self.turn();
        let mut word = self.center.word.load(Relaxed);
        let old = self.read(word);
        if old == rule {
            return;
        }
        self.close(&turn, time);
        let now = time.fresh();
        word = self.center.word.load(Relaxed);
        let version = (word + 1) & VERSION;
        // A reader that sees what follows sees that its slot is no longer the one in force.
        fence(Release);
        self.write(version, rule);
        while let Err(seen) = self.center.word.compare_exchange_weak(
            word,
            pack(rule.rescale(old, word >> NUMBER, now), version),
            Release,
            Relaxed,
        ) {
            word = seen;
        }
    }

    /// Gives a call up that has not been made; `false` if another one has come after it.
    pub(super) fn take_back(&self, place: u64, cost: u32) -> bool {
        let rule = self.read(place);
        let number = rule.take_back(place >> NUMBER, cost);
        self.swap(place, pack(number, place & MARK)).is_ok()
    }

    /// Takes calls that are made anyway, as many as there are. Without cells only.
    pub(super) fn charge(&self, calls: u32, now: u64) {
        let mut word = self.center.word.load(Acquire);
        loop {
            let rule = self.read(word);
            let used = rule.at_least(word >> NUMBER, now, 0);
            let (burst, _) = rule.quota();
            let number = rule
                .give(used, calls)
                .min(rule.at_least(0, now, burst.into()));
            match self.swap(word, pack(number, word & MARK)) {
                Ok(()) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// Fills it up.
    pub(super) fn reset(&self, time: &mut impl Time) {
        let turn = self.turn();
        self.close(&turn, time);
        let mut word = self.center.word.load(Acquire);
        while let Err(seen) = self.swap(word, word & VERSION) {
            word = seen;
        }
    }

    /// What is left, but for what threads hold in their cells.
    pub(super) fn standing(&self, now: u64) -> Standing {
        loop {
            let word = self.center.word.load(Acquire);
            let standing = self.read(word).standing(word >> NUMBER, now);
            if self.center.word.load(Acquire) & VERSION == word & VERSION {
                return standing;
            }
        }
    }

    /// The most calls that a thread takes at once, and what the cells hold then but for the calls that are made.
    const fn batch(&self, rule: Rule) -> (u64, u64) {
        let (Rule::Gcra { burst, .. }, 1..) = (rule, self.cells.len()) else {
            return (1, 0);
        };
        // The number of cells is a power of two.
        let cells = self.cells.len().trailing_zeros();
        let batch = burst as u64 >> (PART + cells);
        let batch = if batch > BATCH { BATCH } else { batch };
        (batch, batch.saturating_sub(1) << cells)
    }

    /// As many of a batch as are less than half of a thread's share of what is left.
    fn share(&self, rule: Rule, number: u64, now: u64, batch: u64) -> u64 {
        let cells = self.cells.len().trailing_zeros();
        let (burst, _) = rule.quota();
        // Mostly so, and without a division.
        let rest = u64::from(burst).saturating_sub(batch << (cells + 1));
        if number <= rule.at_least(0, now, rest) {
            return batch;
        }
        let left = u64::from(rule.standing(number, now).remaining);
        batch.min(left >> (cells + 1))
    }

    /// Counts how often it is asked: how often in this span, and, if it is the first time in it, how often in the
    /// one before.
    fn asked(&self, now: u64) -> (u64, u64) {
        let asked = self.center.asked.load(Relaxed);
        let (span, times) = (asked >> 16, asked & 0xffff);
        let this = now >> SPAN;
        if span == this {
            let times = (times + 1).min(0xffff);
            self.center.asked.store(this << 16 | times, Relaxed);
            return (times, 0);
        }
        self.center.asked.store(this << 16 | 1, Relaxed);
        (1, if span + 1 == this { times } else { 0 })
    }

    fn swap(&self, from: u64, to: u64) -> Result<(), u64> {
        let word = &self.center.word;
        word.compare_exchange(from, to, AcqRel, Acquire).map(|_| ())
    }

    /// The rule under which `word` stands. Half of another one if there were two changes meanwhile: then the word is
    /// another one, too, and who looks after this sees it.
    fn read(&self, word: u64) -> Rule {
        let (span, count) = &self.slots[word as usize & 1];
        let (span, count) = (span.load(Relaxed), count.load(Relaxed));
        fence(Acquire);
        match count >> 32 {
            0 => Rule::Gcra {
                interval: span,
                burst: count as u32,
            },
            _ => Rule::Window {
                length: span,
                limit: count as u32,
            },
        }
    }

    fn write(&self, version: u64, rule: Rule) {
        let (first, second) = match rule {
            Rule::Gcra { interval, burst } => (interval, u64::from(burst)),
            Rule::Window { length, limit } => (length, u64::from(limit) | 1 << 32),
        };
        let (span, count) = &self.slots[version as usize & 1];
        span.store(first, Relaxed);
        count.store(second, Relaxed);
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The word is another one.
#[derive(PartialEq, Debug)]
struct Stale;

const fn pack(number: u64, mark: u64) -> u64 {
    number << NUMBER | mark
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule::Gcra {
        interval: 1_000,
        burst: 1_000,
    };

    fn word(bucket: &Bucket) -> u64 {
        bucket.center.word.load(Relaxed)
    }

    fn is_hot(bucket: &Bucket) -> bool {
        word(bucket) & HOT != 0
    }

    fn left(bucket: &Bucket, now: u64) -> u32 {
        bucket.standing(now).remaining
    }

    fn spare(bucket: &Bucket, at: usize) -> usize {
        (0..100).take_while(|_| bucket.take_spare(at)).count()
    }

    fn take(bucket: &Bucket, cost: u32, mut now: u64) -> Result<Taken, u64> {
        bucket.take(0, cost, 0, &mut now)
    }

    /// Four cells, 64 calls at 0.
    fn hot() -> Bucket {
        let bucket = Bucket::new(RULE, 4);
        for _ in 0..OFTEN {
            assert!(!is_hot(&bucket));
            take(&bucket, 1, 0).unwrap();
        }
        assert!(is_hot(&bucket));
        bucket
    }

    /// Another call came between the look and the swap.
    #[test]
    fn a_call_that_was_overtaken_counts_as_well() {
        let bucket = Bucket::new(RULE, 4);
        let before = word(&bucket);
        take(&bucket, 1, 0).unwrap();
        let taken = bucket.take_cold(before, 2, 0, 0).unwrap().ok().unwrap();
        assert_eq!((taken.place, left(&bucket, 0)), (word(&bucket), 997));

        let bucket = hot();
        let before = word(&bucket);
        take(&bucket, 1, 0).unwrap();
        assert_eq!(bucket.take_hot(before, 1, 1, 0), Ok(Some(word(&bucket))));
        assert_eq!((left(&bucket, 0), is_hot(&bucket)), (920, true));
        assert_eq!((spare(&bucket, 0), spare(&bucket, 1)), (7, 7));
    }

    /// What was looked at is not in force any more: the call is neither made nor refused.
    #[test]
    fn a_call_that_looked_at_another_rule_looks_again() {
        let bucket = Bucket::new(RULE, 4);
        let before = word(&bucket);
        assert_eq!(bucket.take_cold(before, 1_001, 0, 0), Ok(Err(u64::MAX)));
        bucket.apply(Rule::new(1_000, 2_000), &mut 0);
        assert_eq!(bucket.take_cold(before, 1, 0, 0), Err(Stale));
        assert_eq!(bucket.take_cold(before, 1_001, 0, 0), Err(Stale));
        assert_eq!(left(&bucket, 0), 2_000);

        let bucket = hot();
        let before = word(&bucket);
        assert_eq!(bucket.take_cold(before & !HOT, 1, 0, 0), Err(Stale));
        assert_eq!(bucket.take_cold(before & !HOT, 1_001, 0, 0), Err(Stale));
        bucket.apply(Rule::new(1_000, 2_000), &mut 0);
        bucket.heat(0);
        let (now, after) = (word(&bucket), left(&bucket, 0));
        assert_ne!(now & MARK, before & MARK);
        assert_eq!(bucket.take_hot(before, 1, 1, 0), Err(Stale));
        assert_eq!((word(&bucket), left(&bucket, 0)), (now, after));
        bucket.cool(&mut 0);
        assert_eq!(bucket.take_hot(now, 1, 1, 0), Err(Stale));
        assert_eq!((left(&bucket, 0), spare(&bucket, 1)), (after, 0));
    }

    #[test]
    fn what_costs_more_than_one_is_not_taken_in_advance() {
        let bucket = hot();
        take(&bucket, 3, 0).unwrap();
        assert_eq!((left(&bucket, 0), spare(&bucket, 0)), (933, 0));
        take(&bucket, 1, 0).unwrap();
        take(&bucket, 2, 0).unwrap();
        assert_eq!((left(&bucket, 0), spare(&bucket, 0)), (923, 7));
        take(&bucket, 0, 0).unwrap();
        assert_eq!((left(&bucket, 0), is_hot(&bucket)), (923, true));
    }

    #[test]
    fn one_that_is_half_empty_or_small_or_exact_stays_cold() {
        for (burst, cost, heats) in [
            (1_000, 500, true),
            (1_000, 501, false),
            (64, 1, true),
            (63, 1, false),
        ] {
            let bucket = Bucket::new(Rule::new(1_000, burst), 4);
            take(&bucket, cost, 0).unwrap();
            bucket.heat(0);
            assert_eq!(is_hot(&bucket), heats, "{cost} of {burst}");
        }
        let exact = Bucket::new(RULE, 0);
        assert!((0..100).all(|_| take(&exact, 1, 0).is_ok()));
        assert!(!is_hot(&exact));
        assert_eq!(exact.center.asked.load(Relaxed), 0);
    }

    #[test]
    fn one_that_is_hot_is_not_heated_again() {
        let bucket = hot();
        take(&bucket, 1, 0).unwrap();
        bucket.heat(0);
        assert_eq!(spare(&bucket, 0), 7);
    }

    #[test]
    fn it_cools_where_it_was_filled_less_than_four_times_in_a_span() {
        for (fills, stays) in [(3, false), (4, true)] {
            let (bucket, next) = (hot(), 1 << SPAN);
            for now in [next; 4].into_iter().take(fills) {
                take(&bucket, 1, now).unwrap();
                assert_eq!(spare(&bucket, 0), 7);
            }
            take(&bucket, 1, 2 * next).unwrap();
            assert_eq!(is_hot(&bucket), stays, "{fills}");
            // And where nobody came for longer.
            let bucket = hot();
            take(&bucket, 1, 2 * next).unwrap();
            assert!(!is_hot(&bucket));
        }
    }

    #[test]
    fn cold_again_it_has_what_was_not_used() {
        for (now, remaining) in [(0, 935), (40_000, 975), (1 << 40, 979)] {
            let bucket = hot();
            take(&bucket, 1, 0).unwrap();
            bucket.cool(&mut { now });
            // In the end, what all cells may have held, but for what was in this one.
            assert_eq!((left(&bucket, now), is_hot(&bucket)), (remaining, false));
            assert_eq!(spare(&bucket, 0), 0);
            let cold = word(&bucket);
            bucket.cool(&mut { now });
            assert_eq!(word(&bucket), cold);
        }
    }

    #[test]
    fn only_the_last_call_can_be_taken_back() {
        for bucket in [Bucket::new(RULE, 4), hot()] {
            let before = left(&bucket, 0);
            let first = take(&bucket, 2, 0).unwrap().place;
            let second = take(&bucket, 3, 0).unwrap().place;
            assert!(!bucket.take_back(first, 2));
            assert!(bucket.take_back(second, 3));
            assert_eq!(left(&bucket, 0), before - 2);
            assert!(!bucket.take_back(second, 3));
            assert!(bucket.take_back(first, 2));
            assert_eq!(left(&bucket, 0), before);
        }
    }

    #[test]
    fn what_is_charged_empties_it_and_no_more() {
        let bucket = Bucket::new(RULE, 0);
        bucket.charge(300, 7);
        assert_eq!(left(&bucket, 7), 700);
        bucket.apply(Rule::new(1_000, 100), &mut 7);
        bucket.charge(10, 7);
        assert_eq!(left(&bucket, 7), 60);
        bucket.charge(5_000, 7);
        assert_eq!(take(&bucket, 1, 7), Err(1_000));
        assert_eq!(left(&bucket, 1_007), 1);
    }

    #[test]
    fn filled_up_it_keeps_its_rule() {
        let (bucket, rule) = (hot(), Rule::new(1_000, 2_000));
        bucket.apply(rule, &mut 0);
        bucket.heat(0);
        take(&bucket, 1, 0).unwrap();
        bucket.reset(&mut 0);
        assert_eq!((left(&bucket, 0), is_hot(&bucket)), (2_000, false));
        assert_eq!((bucket.read(word(&bucket)), spare(&bucket, 0)), (rule, 0));
    }

    #[test]
    fn rules_may_change_more_often_than_there_are_versions() {
        let bucket = Bucket::new(RULE, 4);
        let mut seen = Vec::new();
        for burst in 1..100 {
            let rule = Rule::new(1_000, burst);
            bucket.apply(rule, &mut 0);
            bucket.apply(rule, &mut 0);
            seen.push(word(&bucket));
            assert_eq!(bucket.read(word(&bucket)), rule);
        }
        assert!((1..100).map(|version| version % 16).eq(seen));
    }

    #[test]
    fn a_batch_is_a_part_of_the_burst_and_of_what_is_left() {
        for (burst, batch) in [
            (31, (0, 0)),
            (63, (1, 0)),
            (64, (2, 4)),
            (255, (7, 24)),
            (256, (8, 28)),
            (1_000, (8, 28)),
        ] {
            let bucket = Bucket::new(RULE, 4);
            assert_eq!(bucket.batch(Rule::new(7, burst)), batch, "{burst}");
            let exact = Bucket::new(RULE, 0);
            assert_eq!(exact.batch(Rule::new(7, burst)), (1, 0));
            let (length, limit) = (7, burst);
            assert_eq!(bucket.batch(Rule::Window { length, limit }), (1, 0));
        }
        let bucket = Bucket::new(RULE, 4);
        for left in 0..=1_000 {
            // At 5, so much is left.
            let number = 5 + (1_000 - left) * 1_000;
            assert_eq!(bucket.share(RULE, number, 5, 8), 8.min(left / 8), "{left}");
        }
    }

    #[test]
    fn it_counts_how_often_it_is_asked() {
        let (bucket, span) = (Bucket::new(RULE, 4), 1 << SPAN);
        assert_eq!(bucket.asked(0), (1, 0));
        assert_eq!(bucket.asked(span - 1), (2, 0));
        assert_eq!(bucket.asked(span), (1, 2));
        assert_eq!(bucket.asked(span), (2, 0));
        assert_eq!(bucket.asked(3 * span), (1, 0));
        for times in 2..70_000 {
            assert_eq!(bucket.asked(3 * span), (times.min(0xffff), 0));
        }
        assert_eq!(bucket.asked(4 * span), (1, 0xffff));
    }
}
