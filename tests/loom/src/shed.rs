//! The counts of levels, and since when a service is not ready.

#[path = "../../../tower-chassis-resilience/src/shed/seen.rs"]
mod seen;
#[path = "../../../tower-chassis-resilience/src/shed/unready.rs"]
mod unready;

use std::{sync::Arc, thread};

use self::{seen::Seen, unready::Unready};
use crate::explore;

/// What is counted while others take is taken once, by one of them or afterwards.
pub fn a_call_is_taken_once() {
    explore(|| {
        let seen = Arc::new(Seen::new(2));
        seen.add(0, 1);
        let (one, two) = (Arc::clone(&seen), Arc::clone(&seen));
        let adds = thread::spawn(move || {
            one.add(0, 1);
            one.add(1, 1);
        });
        let takes = thread::spawn(move || two.take());
        let mine = seen.take();
        adds.join().unwrap();
        let other = takes.join().unwrap();
        let [none, after] = seen.take();
        assert_eq!(
            (mine[1] + other[1] + after, mine[0] + other[0] + none),
            (3, 0)
        );
        assert_eq!(seen.count(0..2), 0);
    });
}

/// Two who find it unready at once begin one wait, with the time of one of them.
pub fn a_wait_begins_once() {
    explore(|| {
        let unready = Arc::new(Unready::new());
        let other = Arc::clone(&unready);
        let thread = thread::spawn(move || other.pending(10, 100));
        let mine = unready.pending(11, 100);
        let other = thread.join().unwrap();
        assert!(mine == other && [10, 11].contains(&mine), "{mine} {other}");
        assert_eq!(unready.pending(50, 100), mine);
    });
}

/// One is ready while another is not: who asks later has a wait of its own or that of the other, never an older one.
pub fn who_was_ready_ends_the_wait() {
    explore(|| {
        let unready = Arc::new(Unready::new());
        unready.pending(1, 100);
        let other = Arc::clone(&unready);
        let thread = thread::spawn(move || other.ready());
        let during = unready.pending(20, 100);
        thread.join().unwrap();
        assert!([1, 20].contains(&during));
        let after = unready.pending(30, 100);
        assert!([20, 30].contains(&after), "{after}");
    });
}
