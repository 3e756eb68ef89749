//! How many retries there may be: a share of the calls and a few per second, and a share of those under way.
//! Takes `now`, knows no tower.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{clock, striped::here};

use super::{cells::Cells, config::BudgetPolicy};

/// What a retry costs, in thousandths of a token: a ratio has three decimals and is exact.
const COST: u64 = 1_000;
/// The window is cut in slots of a second, so that a deposit is good for nine to ten.
const SLOTS: usize = 10;
/// The reserve never holds more than two seconds of its rate.
const BURST: u64 = 2_000_000_000;
/// The interval of a reserve that gives nothing.
const NEVER: u64 = u64::MAX;

/// Bounds what retries and hedges add to the load. Clones share it; hand one to several layers that call the same
/// service.
///
/// Two bounds, and a retry must pass both:
///
/// * **Tokens.** Every original call puts `ratio` of one in, a retry takes a whole one out, and what lies there for
///   ten seconds is lost. Beside it a reserve gives `min_per_second` tokens, two seconds' worth of them at once at
///   the most (and at least one). A retry that succeeds pays nothing back. So, for every pattern of calls:
///   `attempts <= originals * (1 + ratio) + min_per_second * elapsed + burst`.
/// * **Retries under way.** Never more than `in_flight_ratio` of the calls that are under way, and `min_in_flight`
///   however few there are. It holds a service that has become slow, where retries pile up before the tokens are
///   used.
///
/// The idea of the tokens is that of Finagle's and tower's budgets, the second bound is Envoy's; unlike tower's, ratios
/// are exact to 1/1000, taking a token is one compare-and-swap on one number, and the window does not stretch.
///
/// # For a layer of your own
/// Where two layers of one stack share a budget, only the outer one deposits.
/// ```
/// use tokio::time::Instant;
/// use tower_chassis_resilience::retry::{Budget, BudgetPolicy};
///
/// let budget = Budget::new(&BudgetPolicy::default());
/// // Held until the call is over, with all of its attempts.
/// let call = budget.deposit(Instant::now());
/// // Held until the attempt is over. None: it must not be made.
/// let attempt = budget.try_withdraw(Instant::now());
/// assert!(attempt.is_some());
/// # drop((attempt, call));
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    epoch: Instant,
    /// What a call puts in, in thousandths.
    share: AtomicU64,
    /// Nanoseconds between two tokens of the reserve.
    interval: AtomicU64,
    /// What was put in, and the calls under way.
    cells: Cells,
    /// Everything that was ever taken out or lost: only grows, and is never above what was put in.
    gone: AtomicU64,
    /// The slot that runs, counted from `epoch`.
    slot: AtomicU64,
    /// What had been put in when a slot began, by its number modulo `SLOTS`.
    marks: Mutex<[u64; SLOTS]>,
    /// When the reserve will be full again, in nanoseconds since `epoch`.
    refilled: AtomicU64,
    /// Thousandths of the calls under way that may be retries.
    part: AtomicU64,
    /// How many retries may be under way however few calls are.
    floor: AtomicU64,
    /// The retries under way.
    retries: AtomicU64,
    /// There was no token when somebody last looked.
    drained: AtomicBool,
}

impl Budget {
    /// A budget of its own.
    #[must_use]
    pub fn new(policy: &BudgetPolicy) -> Self {
        Self::at(policy, clock::now())
    }

    pub(super) fn at(policy: &BudgetPolicy, now: Instant) -> Self {
        let config = policy.config();
        Self(Arc::new(Inner {
            epoch: now,
            share: AtomicU64::new(thousandths(config.ratio)),
            interval: AtomicU64::new(interval(config.min_per_second)),
            cells: Cells::default(),
            gone: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            marks: Mutex::new([0; SLOTS]),
            refilled: AtomicU64::new(0),
            part: AtomicU64::new(thousandths(config.in_flight_ratio)),
            floor: AtomicU64::new(config.min_in_flight.into()),
            retries: AtomicU64::new(0),
            drained: AtomicBool::new(true),
        }))
    }

    /// Changes the numbers. Tokens that are there stay: those of the reserve up to what it holds at the new rate. So
    /// do retries that are under way.
    pub fn set(&self, policy: &BudgetPolicy) {
        self.set_at(policy, clock::now());
    }

    pub(super) fn set_at(&self, policy: &BudgetPolicy, now: Instant) {
        let (inner, config) = (&*self.0, policy.config());
        let share = thousandths(config.ratio);
        inner.share.store(share, Ordering::Relaxed);
        let part = thousandths(config.in_flight_ratio);
        inner.part.store(part, Ordering::Relaxed);
        let floor = config.min_in_flight.into();
        inner.floor.store(floor, Ordering::Relaxed);
        inner.set_interval(interval(config.min_per_second), now);
        inner.drained.store(true, Ordering::Relaxed);
    }

    /// An original call is made: it pays its share, and is under way until what is returned is dropped.
    #[must_use = "the call counts as under way until this is dropped"]
    pub fn deposit(&self, now: Instant) -> Deposit {
        self.0.turn(now);
        self.0
            .cells
            .enter(here(), self.0.share.load(Ordering::Relaxed));
        Deposit(self.clone())
    }

    /// [`deposit`](Self::deposit) without the guard, [`leave`](Self::leave) ends it; and
    /// [`is_funded`](Self::is_funded). It reads the clock only now and then: some of what was paid in since counts as
    /// older than it is, so is lost earlier, and a token may be said to be there that is gone.
    #[inline]
    pub(crate) fn enter(&self, now: impl FnOnce() -> Instant) -> bool {
        let thread = here();
        let due = self.0.cells.is_due(thread);
        let looks = due || self.0.drained.load(Ordering::Relaxed);
        let now = looks.then(now);
        if let Some(now) = now {
            self.0.look(thread, now);
        }
        let share = self.0.share.load(Ordering::Relaxed);
        self.0.cells.enter(thread, share);
        now.is_none_or(|now| self.fund(now))
    }

    /// [`is_funded`](Self::is_funded), noted for who comes next.
    #[cold]
    fn fund(&self, now: Instant) -> bool {
        let funded = self.is_funded(now);
        if self.0.drained.load(Ordering::Relaxed) == funded {
            self.0.drained.store(!funded, Ordering::Relaxed);
        }
        funded
    }

    #[inline]
    pub(crate) fn leave(&self) {
        self.0.cells.leave(here());
    }

    /// Takes what one retry or hedge needs, a token and a place among those under way, or nothing at all. The place
    /// is free again when what is returned is dropped; the token is spent.
    #[must_use]
    pub fn try_withdraw(&self, now: Instant) -> Option<Withdrawal> {
        self.0.turn(now);
        // The place first: it can be given back.
        let withdrawal = self.0.take_place().then(|| Withdrawal(self.clone()))?;
        if self.0.take_saved() || self.0.take_reserve(now) {
            return Some(withdrawal);
        }
        self.0.drained.store(true, Ordering::Relaxed);
        None
    }

    /// Whether there is a token now. Another call may take it first, and there may be no place.
    #[must_use]
    pub fn is_funded(&self, now: Instant) -> bool {
        // The reserve first: that is two loads.
        self.0.has_reserve(now) || {
            self.0.turn(now);
            self.0.saved() >= COST
        }
    }

    /// What is there.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> BudgetSnapshot {
        self.0.turn(now);
        BudgetSnapshot {
            saved: self.0.saved() as f64 / COST as f64,
            reserve: self.0.reserve(now),
            calls: self.0.cells.calls(),
            retries: self.0.retries.load(Ordering::Relaxed),
            places: self.0.places(),
        }
    }
}

impl Default for Budget {
    /// That of [`BudgetConfig`](super::BudgetConfig)'s defaults.
    fn default() -> Self {
        Self::new(&BudgetPolicy::default())
    }
}

/// An original call under way. Dropped when it is over, however it ended.
#[derive(Debug)]
pub struct Deposit(Budget);

impl Drop for Deposit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A retry or a hedge under way: its place in a [`Budget`]. Dropped when it is over, or was not made after all.
#[derive(Debug)]
pub struct Withdrawal(Budget);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.0.retries.fetch_sub(1, Ordering::Release);
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
    /// Calls under way. Calls that begin or end meanwhile may be missed.
    pub calls: u64,
    /// Retries under way.
    pub retries: u64,
    /// How many there may be, with so many calls.
    pub places: u64,
}

/// The ratio is in range, so the cast loses no more than the fraction; so in `interval`.
fn thousandths(ratio: f64) -> u64 {
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
        let slot = self.since(now).as_secs();
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
        let paid = self.cells.paid();
        for begun in (last + 1..=slot).rev().take(SLOTS) {
            marks[begun as usize % SLOTS] = paid;
        }
        // The oldest slot that still counts is SLOTS - 1 before this one.
        let floor = marks[(slot as usize + 1) % SLOTS];
        self.gone.fetch_max(floor, Ordering::Relaxed);
        self.slot.store(slot, Ordering::Release);
    }

    #[cold]
    fn look(&self, thread: usize, now: Instant) {
        self.turn(now);
        let millis = self.since(now).as_millis();
        self.cells.looked(thread, millis as u64);
    }

    fn saved(&self) -> u64 {
        // In this order: `paid` may grow in between, which shows too little and never too much.
        let paid = self.cells.paid();
        paid.saturating_sub(self.gone.load(Ordering::Relaxed))
    }

    fn take_saved(&self) -> bool {
        let paid = self.cells.paid();
        let take = |gone: u64| gone.checked_add(COST).filter(|gone| *gone <= paid);
        self.gone
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// How many retries may be under way.
    fn places(&self) -> u64 {
        let part = self.part.load(Ordering::Relaxed);
        let part = self.cells.calls().saturating_mul(part) / 1_000;
        part.max(self.floor.load(Ordering::Relaxed))
    }

    fn take_place(&self) -> bool {
        // Counting the calls takes a while, and few retries need it.
        let mut places = self.floor.load(Ordering::Relaxed);
        let mut taken = self.retries.load(Ordering::Relaxed);
        loop {
            if taken >= places {
                places = self.places();
                if taken >= places {
                    return false;
                }
            }
            match self.retries.compare_exchange_weak(
                taken,
                taken + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => taken = now,
            }
        }
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

    fn has_reserve(&self, now: Instant) -> bool {
        let interval = self.interval.load(Ordering::Acquire);
        interval != NEVER
            && left(
                self.refilled.load(Ordering::Relaxed),
                self.nanos(now),
                interval,
            ) >= interval
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
        if interval != NEVER {
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
