//! The generic cell rate algorithm: one number per bucket.
//!
//! The number is the theoretical arrival time (TAT): when the next call would arrive if all calls
//! so far had come at the exact rate, in nanoseconds since a start. A call is allowed if it is not
//! earlier than that by more than the tolerance, and moves it on by one interval. A number that has
//! passed is a full bucket and carries no information.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// A rate and a burst, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    /// The time that one call uses up.
    interval: u64,
    /// How much earlier than at the exact rate a call may come: `interval * (burst - 1)`.
    tolerance: u64,
}

impl Rule {
    pub(super) const fn new(interval: u64, burst: u32) -> Self {
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.saturating_sub(1) as u64),
        }
    }

    /// The number after a call at `now`, or how long that call is too early.
    pub(super) fn check(self, tat: u64, now: u64) -> Result<u64, u64> {
        let earliest = tat.saturating_sub(self.tolerance);
        if now < earliest {
            Err(earliest - now)
        } else {
            Ok(tat.max(now).saturating_add(self.interval))
        }
    }

    /// The time in which an empty bucket fills up.
    const fn window(self) -> u64 {
        self.tolerance.saturating_add(self.interval)
    }

    /// The number under this rule that leaves the same share of the bucket as `tat` did under
    /// `old`. Never more than an empty bucket.
    pub(super) fn rescale(self, old: Self, tat: u64, now: u64) -> u64 {
        let debt = u128::from(tat.saturating_sub(now));
        if debt == 0 || self == old {
            return tat;
        }
        let window = u128::from(self.window());
        let debt = (debt * window)
            .div_ceil(u128::from(old.window().max(1)))
            .min(window);
        now.saturating_add(debt as u64)
    }
}

// tat:60 | version:4. A number is good for 36 years.
const VERSION_BITS: u32 = 4;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;

const fn pack(tat: u64, version: u64) -> u64 {
    let most = u64::MAX >> VERSION_BITS;
    (if tat > most { most } else { tat }) << VERSION_BITS | version & VERSION_MASK
}

/// One bucket for all callers, without a lock. The number and the version of the rule it stands under are
/// one word, so that a change of rule and the rescaling of the number are one step.
#[derive(Debug)]
pub(super) struct Bucket {
    word: AtomicU64,
    /// The rule of a version is in the slot of its lowest bit: the one that is written is not the one in force.
    slots: [(AtomicU64, AtomicU64); 2],
}

impl Bucket {
    pub(super) fn new(rule: Rule) -> Self {
        let bucket = Self {
            word: AtomicU64::new(0),
            slots: Default::default(),
        };
        bucket.write(0, rule);
        bucket
    }

    /// Takes one call, or says in how many nanoseconds the next one is allowed.
    pub(super) fn take(&self, now: u64) -> Result<(), u64> {
        let mut word = self.word.load(Acquire);
        loop {
            let (rule, version) = (self.read(word), word & VERSION_MASK);
            match rule.check(word >> VERSION_BITS, now) {
                Ok(tat) => match self.word.compare_exchange_weak(
                    word,
                    pack(tat, version),
                    Relaxed,
                    Acquire,
                ) {
                    Ok(_) => return Ok(()),
                    Err(seen) => word = seen,
                },
                Err(wait) => {
                    let seen = self.word.load(Acquire);
                    if seen & VERSION_MASK == version {
                        return Err(wait);
                    }
                    word = seen;
                }
            }
        }
    }

    /// Puts another rule in force and keeps the share of the bucket that is left. For one writer at
    /// a time.
    pub(super) fn apply(&self, rule: Rule, now: u64) {
        let mut word = self.word.load(Relaxed);
        let old = self.read(word);
        if old == rule {
            return;
        }
        let version = (word + 1) & VERSION_MASK;
        // A reader that sees what follows sees that its slot is no longer the one in force.
        fence(Release);
        self.write(version, rule);
        while let Err(seen) = self.word.compare_exchange_weak(
            word,
            pack(rule.rescale(old, word >> VERSION_BITS, now), version),
            Release,
            Relaxed,
        ) {
            word = seen;
        }
    }

    /// The rule under which `word` stands. Half of another one if there were two changes meanwhile: then the word is
    /// another one, too, and who looks after this sees it.
    fn read(&self, word: u64) -> Rule {
        let (interval, tolerance) = &self.slots[word as usize & 1];
        let rule = Rule {
            interval: interval.load(Relaxed),
            tolerance: tolerance.load(Relaxed),
        };
        fence(Acquire);
        rule
    }

    fn write(&self, version: u64, rule: Rule) {
        let (interval, tolerance) = &self.slots[version as usize & 1];
        interval.store(rule.interval, Relaxed);
        tolerance.store(rule.tolerance, Relaxed);
    }
}
