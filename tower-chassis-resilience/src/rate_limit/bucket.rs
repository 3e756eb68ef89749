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
#[path = "bucket_tests.rs"]
mod tests;
