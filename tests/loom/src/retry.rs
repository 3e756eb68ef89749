//! The budget of the retries.

#[path = "../../../tower-chassis-resilience/src/retry/budget.rs"]
mod budget;
#[path = "../../../tower-chassis-resilience/src/retry/config.rs"]
mod config;

use std::{thread, time::Duration};

use tokio::time::Instant;

use self::budget::Budget;
use crate::explore;

/// What is paid for once is spent once.
pub fn a_token_is_spent_once() {
    explore(|| {
        let now = Instant::now();
        let budget = Budget::new(1.0, 0.0).unwrap();
        budget.deposit(now);
        let other = budget.clone();
        let thread = thread::spawn(move || other.withdraw(now));
        let mine = budget.withdraw(now);
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
    });
}

/// The reserve gives no token twice either.
pub fn the_reserve_is_spent_once() {
    explore(|| {
        let now = Instant::now();
        // Two seconds' worth, and at least one.
        let budget = Budget::new(0.0, 0.5).unwrap();
        let other = budget.clone();
        let thread = thread::spawn(move || other.withdraw(now));
        let mine = budget.withdraw(now);
        let theirs = thread.join().unwrap();
        assert!(mine ^ theirs, "{mine} {theirs}");
    });
}

/// A deposit that meets the turn of the window is neither doubled nor does it bring back what was lost.
pub fn a_turn_of_the_window_makes_no_token() {
    explore(|| {
        let now = Instant::now();
        let budget = Budget::new(1.0, 0.0).unwrap();
        budget.deposit(now);
        let later = now + Duration::from_secs(60);
        let other = budget.clone();
        let thread = thread::spawn(move || other.deposit(later));
        let mine = usize::from(budget.withdraw(later));
        thread.join().unwrap();
        let rest = usize::from(budget.withdraw(later)) + usize::from(budget.withdraw(later));
        assert!(mine + rest <= 1, "{mine} {rest}");
    });
}

/// A change of the rate that meets a withdrawal neither doubles the token that is there nor loses it.
pub fn a_change_of_the_rate_makes_no_token() {
    explore(|| {
        let now = Instant::now();
        let budget = Budget::valid(0.0, 0.5, now);
        let other = budget.clone();
        let thread = thread::spawn(move || other.set_valid(0.0, 1.0, now));
        let twice = || usize::from(budget.withdraw(now)) + usize::from(budget.withdraw(now));
        let mine = twice();
        thread.join().unwrap();
        let rest = twice();
        assert_eq!(mine + rest, 1, "{mine} {rest}");
    });
}
