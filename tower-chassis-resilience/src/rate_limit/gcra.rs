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

/// A rule that is read without a lock and never half. Two slots: the one that is written is not the
/// one that is read.
#[derive(Debug)]
struct Current {
    version: AtomicU64,
    slots: [(AtomicU64, AtomicU64); 2],
}

impl Current {
    fn new(rule: Rule) -> Self {
        let current = Self {
            version: AtomicU64::new(0),
            slots: Default::default(),
        };
        current.set(rule);
        current
    }

    /// For one writer at a time.
    fn set(&self, rule: Rule) {
        let next = self.version.load(Relaxed) + 1;
        let (interval, tolerance) = &self.slots[next as usize & 1];
        // A reader that sees what follows sees that its slot is no longer the current one.
        fence(Release);
        interval.store(rule.interval, Relaxed);
        tolerance.store(rule.tolerance, Relaxed);
        self.version.store(next, Release);
    }

    fn get(&self) -> Rule {
        loop {
            let version = self.version.load(Acquire);
            let (interval, tolerance) = &self.slots[version as usize & 1];
            let rule = Rule {
                interval: interval.load(Relaxed),
                tolerance: tolerance.load(Relaxed),
            };
            fence(Acquire);
            if self.version.load(Relaxed) == version {
                return rule;
            }
        }
    }
}

/// One bucket for all callers, without a lock.
#[derive(Debug)]
pub(super) struct Bucket {
    tat: AtomicU64,
    rule: Current,
}

impl Bucket {
    pub(super) fn new(rule: Rule) -> Self {
        Self {
            tat: AtomicU64::new(0),
            rule: Current::new(rule),
        }
    }

    /// Takes one call, or says in how many nanoseconds the next one is allowed.
    pub(super) fn take(&self, now: u64) -> Result<(), u64> {
        let mut tat = self.tat.load(Relaxed);
        loop {
            let next = self.rule.get().check(tat, now)?;
            match self.tat.compare_exchange_weak(tat, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => tat = seen,
            }
        }
    }

    /// Puts another rule in force and keeps the share of the bucket that is left. For one writer at
    /// a time.
    pub(super) fn apply(&self, rule: Rule, now: u64) {
        let old = self.rule.get();
        if old == rule {
            return;
        }
        self.rule.set(rule);
        let mut tat = self.tat.load(Relaxed);
        while let Err(seen) =
            self.tat
                .compare_exchange_weak(tat, rule.rescale(old, tat, now), Relaxed, Relaxed)
        {
            tat = seen;
        }
    }
}
