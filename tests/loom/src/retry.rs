//! The budget of the retries.

#[path = "../../../tower-chassis-resilience/src/retry/budget.rs"]
mod budget;
#[path = "../../../tower-chassis-resilience/src/retry/cells.rs"]
mod cells;
#[path = "../../../tower-chassis-resilience/src/retry/config.rs"]
mod config;

use std::{
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use self::{
    budget::Budget,
    config::{BudgetConfig, BudgetPolicy},
};
use crate::explore;

fn policy(ratio: f64, min_per_second: f64, min_in_flight: u32) -> BudgetPolicy {
    let config = BudgetConfig {
        ratio,
        min_per_second,
        in_flight_ratio: 0.0,
        min_in_flight,
    };
    BudgetPolicy::try_from(config).unwrap()
}

fn budget(ratio: f64, min_per_second: f64) -> Budget {
    Budget::new(&policy(ratio, min_per_second, 9))
}

/// A retry that is over at once.
fn take(budget: &Budget, now: Instant) -> bool {
    budget.try_withdraw(now).is_some()
}

/// What is paid for once is spent once.
pub fn a_token_is_spent_once() {
    explore(|| {
        let now = Instant::now();
        let budget = budget(1.0, 0.0);
        drop(budget.deposit(now));
        let other = budget.clone();
        let thread = thread::spawn(move || take(&other, now));
        let mine = take(&budget, now);
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
    });
}

/// Two calls that begin at once are both paid, and both under way until they end.
pub fn no_deposit_is_lost() {
    explore(|| {
        let now = Instant::now();
        let budget = budget(1.0, 0.0);
        let other = budget.clone();
        let thread = thread::spawn(move || other.deposit(now));
        let mine = budget.deposit(now);
        let theirs = thread.join().unwrap();
        let there = budget.snapshot(now);
        assert_eq!((there.saved, there.calls), (2.0, 2));
        drop((mine, theirs));
        assert_eq!(budget.snapshot(now).calls, 0);
    });
}

/// The reserve gives no token twice either.
pub fn the_reserve_is_spent_once() {
    explore(|| {
        let now = Instant::now();
        // Two seconds' worth, and at least one.
        let budget = budget(0.0, 0.5);
        let other = budget.clone();
        let thread = thread::spawn(move || take(&other, now));
        let mine = take(&budget, now);
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
    });
}

/// A deposit that meets the turn of the window is neither doubled nor does it bring back what was lost.
pub fn a_turn_of_the_window_makes_no_token() {
    explore(|| {
        let now = Instant::now();
        let budget = budget(1.0, 0.0);
        drop(budget.deposit(now));
        let later = now + Duration::from_secs(60);
        let other = budget.clone();
        let thread = thread::spawn(move || drop(other.deposit(later)));
        let mine = usize::from(take(&budget, later));
        thread.join().unwrap();
        let rest = usize::from(take(&budget, later)) + usize::from(take(&budget, later));
        assert!(mine + rest <= 1, "{mine} {rest}");
    });
}

/// A change of the rate that meets a withdrawal neither doubles the token that is there nor loses it.
pub fn a_change_of_the_rate_makes_no_token() {
    explore(|| {
        let now = Instant::now();
        let budget = Budget::at(&policy(0.0, 0.5, 9), now);
        let other = budget.clone();
        let thread = thread::spawn(move || other.set_at(&policy(0.0, 1.0, 9), now));
        let twice = || usize::from(take(&budget, now)) + usize::from(take(&budget, now));
        let mine = twice();
        thread.join().unwrap();
        let rest = twice();
        assert_eq!(mine + rest, 1, "{mine} {rest}");
    });
}

/// The last place is never held twice, and who finds no token gives it back.
pub fn the_last_place_is_held_once() {
    explore(|| {
        let now = Instant::now();
        let one_place = Budget::new(&policy(0.0, 1.0, 1));
        let held = Arc::new(AtomicUsize::new(0));
        let hold = move |budget: &Budget, held: &AtomicUsize| {
            let place = budget.try_withdraw(now);
            if place.is_some() {
                assert_eq!(held.fetch_add(1, Ordering::Relaxed), 0);
                held.fetch_sub(1, Ordering::Relaxed);
            }
            place.is_some()
        };
        let (other, theirs) = (one_place.clone(), Arc::clone(&held));
        let thread = thread::spawn(move || hold(&other, &theirs));
        let mine = hold(&one_place, &held);
        let theirs = thread.join().unwrap();
        assert!(mine || theirs);
        let there = one_place.snapshot(now);
        let taken = u64::from(mine) + u64::from(theirs);
        assert_eq!((there.retries, there.reserve), (0, 2 - taken));
    });
}
