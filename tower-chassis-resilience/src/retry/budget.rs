//! How many retries there may be: a share of the calls, and a few per second. Takes `now`, knows no tower.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{clock, live::Invalid};

use super::config::{check_min_per_second, check_ratio};

/// What a retry costs, in thousandths of a token: a ratio has three decimals and is exact.
const COST: u64 = 1_000;
/// The window is cut in slots, so that a deposit is good for nine to ten seconds.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);
/// The reserve never holds more than two seconds of its rate.
const BURST: u64 = 2_000_000_000;
/// The interval of a reserve that gives nothing.
const NEVER: u64 = u64::MAX;
const STRIPES: usize = 8;

/// Bounds what retries add to the load. Clones share it; hand one to several layers that call the same service.
///
/// Every original call puts `ratio` of a token in, a retry takes a whole one out, and what lies there for ten
/// seconds is lost. Beside it a reserve gives `min_per_second` tokens, two seconds' worth of them at once at
/// the most (and at least one). A retry that succeeds pays nothing back. So, for every pattern of calls:
///
/// `attempts <= originals * (1 + ratio) + min_per_second * elapsed + burst`
///
/// The idea is that of Finagle's and tower's budgets; unlike tower's, ratios are exact to 1/1000, taking a token is
/// one compare-and-swap on one number, and the window does not stretch.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    epoch: Instant,
    /// What a call puts in, in thousandths.
    share: AtomicU64,
    /// Nanoseconds between two tokens of the reserve.
    interval: AtomicU64,
    /// Everything that was ever put in: only grows.
    paid: Stripes,
    /// Everything that was ever taken out or lost: only grows, and is never above `paid`.
    gone: AtomicU64,
    /// The slot that runs, counted from `epoch`.
    slot: AtomicU64,
    /// `paid` as it was when a slot began, by its number modulo `SLOTS`.
    marks: Mutex<[u64; SLOTS]>,
    /// When the reserve will be full again, in nanoseconds since `epoch`.
    refilled: AtomicU64,
}

impl Budget {
    /// `ratio` retries per call (0 to 10, in steps of 0.001) and `min_per_second` more (0 to 1,000,000).
    ///
    /// # Errors
    /// One of them is out of its range.
    pub fn new(ratio: f64, min_per_second: f64) -> Result<Self, Invalid> {
        check_ratio("ratio", ratio)?;
        check_min_per_second("min_per_second", min_per_second)?;
        Ok(Self::valid(ratio, min_per_second, clock::now()))
    }

    pub(super) fn valid(ratio: f64, min_per_second: f64, now: Instant) -> Self {
        Self(Arc::new(Inner {
            epoch: now,
            share: AtomicU64::new(share(ratio)),
            interval: AtomicU64::new(interval(min_per_second)),
            paid: Stripes::default(),
            gone: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            marks: Mutex::new([0; SLOTS]),
            refilled: AtomicU64::new(0),
        }))
    }

    /// Changes the numbers. Tokens that are there stay: those of the reserve up to what it holds at the new rate.
    ///
    /// # Errors
    /// One of them is out of its range; the old ones stay.
    pub fn set(&self, ratio: f64, min_per_second: f64) -> Result<(), Invalid> {
        check_ratio("ratio", ratio)?;
        check_min_per_second("min_per_second", min_per_second)?;
        self.set_valid(ratio, min_per_second, clock::now());
        Ok(())
    }

    pub(super) fn set_valid(&self, ratio: f64, min_per_second: f64, now: Instant) {
        self.0.share.store(share(ratio), Ordering::Relaxed);
        self.0.set_interval(interval(min_per_second), now);
    }

    /// An original call is made.
    pub fn deposit(&self, now: Instant) {
        self.0.turn(now);
        self.0.paid.add(self.0.share.load(Ordering::Relaxed));
    }

    /// Takes a token for one retry; false if there is none.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        self.0.turn(now);
        self.0.take_saved() || self.0.take_reserve(now)
    }

    /// Whether there is a token now. Another call may take it first.
    #[must_use]
    pub fn is_funded(&self, now: Instant) -> bool {
        self.0.turn(now);
        self.0.saved() >= COST || self.0.reserve(now) >= 1
    }

    /// What is there.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        self.0.turn(now);
        BudgetSnapshot {
            saved: self.0.saved() as f64 / COST as f64,
            reserve: self.0.reserve(now),
        }
    }
}

impl Default for Budget {
    /// A fifth of the calls, and ten per second.
    fn default() -> Self {
        Self::valid(0.2, 10.0, clock::now())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("saved", &self.0.saved())
            .finish_non_exhaustive()
    }
}

/// What a [`Budget`] held at an instant.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// Retries that calls have paid for, in parts of one.
    pub saved: f64,
    /// Retries that the reserve would give at once.
    pub reserve: u64,
}

/// What a call puts in. The ratio is in range, so the cast loses no more than the fraction; so in `interval`.
fn share(ratio: f64) -> u64 {
    (ratio * 1_000.0).round() as u64
}

fn interval(min_per_second: f64) -> u64 {
    if min_per_second > 0.0 {
        (1e9 / min_per_second).ceil() as u64
    } else {
        NEVER
    }
}

/// What a full reserve holds, in nanoseconds of its rate: at least one token.
const fn full(interval: u64) -> u64 {
    if interval > BURST { interval } else { BURST }
}

/// What is left of the reserve, in nanoseconds of its rate.
const fn left(refilled: u64, now: u64, interval: u64) -> u64 {
    full(interval).saturating_sub(refilled.saturating_sub(now))
}

impl Inner {
    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// Enters the slot of `now` and forgets what was paid in before the window.
    fn turn(&self, now: Instant) {
        let slot = self.since(now).as_secs() / SLOT.as_secs();
        if slot <= self.slot.load(Ordering::Acquire) {
            return;
        }
        // Once a second. One turns, the others go on with the old slot for that instant, which loses no token
        // and makes none.
        let Ok(mut marks) = self.marks.try_lock() else {
            return;
        };
        let last = self.slot.load(Ordering::Relaxed);
        if slot <= last {
            return;
        }
        let paid = self.paid.sum();
        for begun in (last + 1..=slot).rev().take(SLOTS) {
            marks[begun as usize % SLOTS] = paid;
        }
        // The oldest slot that still counts is SLOTS - 1 before this one.
        let floor = marks[(slot as usize + 1) % SLOTS];
        self.gone.fetch_max(floor, Ordering::Relaxed);
        self.slot.store(slot, Ordering::Release);
    }

    fn saved(&self) -> u64 {
        // In this order: `paid` may grow in between, which shows too little and never too much.
        let paid = self.paid.sum();
        paid.saturating_sub(self.gone.load(Ordering::Relaxed))
    }

    fn take_saved(&self) -> bool {
        let paid = self.paid.sum();
        let take = |gone: u64| gone.checked_add(COST).filter(|gone| *gone <= paid);
        self.gone
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// The reserve as one instant: a token moves it on by an interval, the clock overtakes it.
    fn take_reserve(&self, now: Instant) -> bool {
        let (now, interval) = (self.nanos(now), self.interval.load(Ordering::Acquire));
        let take = |refilled: u64| {
            let next = refilled.max(now).checked_add(interval)?;
            (next <= now.saturating_add(full(interval))).then_some(next)
        };
        interval != NEVER
            && self
                .refilled
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
    }

    fn reserve(&self, now: Instant) -> u64 {
        let (now, interval) = (self.nanos(now), self.interval.load(Ordering::Acquire));
        if interval == NEVER {
            return 0;
        }
        left(self.refilled.load(Ordering::Relaxed), now, interval) / interval
    }

    /// As many tokens as before, in the nanoseconds of another rate. A reserve that gave nothing begins empty.
    fn set_interval(&self, interval: u64, now: Instant) {
        // Whoever else changes it waits.
        let _marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        // In between it gives nothing. Who read the old interval before takes one token at most, at its price.
        let old = self.interval.swap(NEVER, Ordering::Relaxed);
        if interval != old && interval != NEVER {
            let now = self.nanos(now);
            let rescale = |refilled| {
                // What gave nothing has nothing left.
                let left = if old == NEVER {
                    0
                } else {
                    left(refilled, now, old)
                };
                let left = u128::from(left) * u128::from(interval) / u128::from(old);
                let left = left.min(u128::from(full(interval))) as u64;
                Some(now.saturating_add(full(interval) - left))
            };
            // It always finds what to store.
            let _ = self
                .refilled
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rescale);
        }
        self.interval.store(interval, Ordering::Release);
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(self.since(now).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A sum that threads add to without meeting each other.
#[derive(Default)]
struct Stripes([Stripe; STRIPES]);

#[derive(Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

impl Stripes {
    fn add(&self, amount: u64) {
        thread_local! {
            static HERE: u8 = const { 0 };
        }
        // Each thread has its own copy at its own address; the high bits of the product mix all of it.
        let here = HERE.with(|here| std::ptr::from_ref(here).addr() as u64);
        let stripe = here.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61;
        self.0[stripe as usize % STRIPES]
            .0
            .fetch_add(amount, Ordering::Relaxed);
    }

    fn sum(&self) -> u64 {
        self.0
            .iter()
            .map(|stripe| stripe.0.load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}
