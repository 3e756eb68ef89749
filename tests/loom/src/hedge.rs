//! The histogram behind a hedge's delay.

#[path = "../../../tower-chassis-resilience/src/hedge/latency.rs"]
mod latency;

use std::{sync::Arc, thread};

use self::latency::{Latency, NEVER, REFRESH, Rule, WINDOW, WINDOWS};
use crate::explore;

const QUICK: u64 = 0;

/// The upper edge of the quick ones, if there are so many samples.
fn with(min_samples: u32) -> Rule {
    Rule {
        share: 999_900,
        min_samples,
        floor: 0,
        ceiling: NEVER - 1,
    }
}

fn counted(latency: &Latency, now: u64, samples: u32) -> bool {
    latency.look_up(now, with(samples)) != NEVER
}

/// Two threads that count in one bucket both count, also where the bucket holds an old window and both begin it anew.
pub fn a_bucket_begins_anew_once() {
    explore(|| {
        let latency = Arc::new(Latency::with_octaves(0));
        latency.record(QUICK, 0);
        latency.record(QUICK, 0);
        let turn = WINDOW * WINDOWS as u64;
        let other = Arc::clone(&latency);
        let thread = thread::spawn(move || other.record(QUICK, turn));
        latency.record(QUICK, turn);
        thread.join().unwrap();
        assert!(counted(&latency, turn, 2) && !counted(&latency, turn, 3));
    });
}

/// Who comes late takes nothing from the window that has begun meanwhile, and brings nothing back.
pub fn a_late_writer_changes_nothing() {
    explore(|| {
        let latency = Arc::new(Latency::with_octaves(0));
        latency.record(QUICK, 0);
        let turn = WINDOW * WINDOWS as u64;
        let other = Arc::clone(&latency);
        let thread = thread::spawn(move || other.record(QUICK, 0));
        latency.record(QUICK, turn);
        thread.join().unwrap();
        assert!(counted(&latency, turn, 1) && !counted(&latency, turn, 2));
    });
}

/// Who reads while a window begins sees what was there before or after, and no more than both.
pub fn a_reader_sees_no_more_than_there_is() {
    explore(|| {
        let latency = Arc::new(Latency::with_octaves(0));
        latency.record(QUICK, 0);
        let turn = WINDOW * WINDOWS as u64;
        let other = Arc::clone(&latency);
        let thread = thread::spawn(move || other.record(QUICK, turn));
        assert!(!counted(&latency, turn, 2));
        // The oldest that counts at that time is the window after the first.
        assert!(!counted(&latency, turn - 1, 2));
        thread.join().unwrap();
        assert!(counted(&latency, turn, 1));
    });
}

/// Of two that come when it is due, one looks it up.
pub fn one_looks_it_up() {
    explore(|| {
        let latency = Arc::new(Latency::with_octaves(0));
        latency.record(QUICK, 0);
        let ask = |latency: &Latency| {
            let mut asked = 0;
            latency.delay(REFRESH, || {
                asked += 1;
                with(1)
            });
            asked
        };
        let other = Arc::clone(&latency);
        let thread = thread::spawn(move || ask(&other));
        let mine = ask(&latency);
        assert_eq!(mine + thread.join().unwrap(), 1);
        let unasked = || -> Rule { unreachable!("it is not due") };
        assert_ne!(latency.delay(REFRESH, unasked), NEVER);
    });
}
