//! Settings that are pushed into running state.

#[path = "../../../tower-chassis-core/src/live.rs"]
mod cell;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use self::cell::{Invalid, Live, Validate};
use crate::explore;

#[derive(Clone)]
struct Limit(u64);

impl Validate for Limit {
    fn validate(&self) -> Result<(), Invalid> {
        if self.0 == 0 {
            Err(Invalid::new("limit", "must be above 0"))
        } else {
            Ok(())
        }
    }
}

fn apply(state: &AtomicU64, limit: &Limit) {
    state.store(limit.0, Relaxed);
}

/// What is in force and what was pushed last are the same, whoever set it.
pub fn two_writers_leave_one_value() {
    explore(|| {
        let live = Live::new(Limit(1));
        let state = Arc::new(AtomicU64::new(0));
        live.bind(&state, apply);
        let other = live.clone();
        let thread = thread::spawn(move || other.set(Limit(2)).unwrap());
        live.set(Limit(3)).unwrap();
        assert!(live.set(Limit(0)).is_err());
        thread.join().unwrap();
        assert_eq!((state.load(Relaxed), live.version()), (live.load().0, 2));
    });
}

/// A layer that is bound while the value changes gets the new one, at once or by the push.
pub fn a_binding_misses_no_change() {
    explore(|| {
        let live = Live::new(Limit(1));
        let other = live.clone();
        let thread = thread::spawn(move || other.set(Limit(2)).unwrap());
        let state = Arc::new(AtomicU64::new(0));
        live.bind(&state, apply);
        thread.join().unwrap();
        assert_eq!((state.load(Relaxed), live.load().0), (2, 2));
    });
}

/// Changes in place of two writers add up.
pub fn no_change_in_place_is_lost() {
    explore(|| {
        let live = Live::new(Limit(1));
        let other = live.clone();
        let thread = thread::spawn(move || other.update(|limit| limit.0 += 1).unwrap());
        live.update(|limit| limit.0 += 1).unwrap();
        thread.join().unwrap();
        assert_eq!((live.load().0, live.version()), (3, 2));
    });
}

/// When a change returns, every state that is bound has it, or a later one, and they end with the same.
pub fn a_change_that_returned_is_everywhere() {
    explore(|| {
        let live = Live::new(Limit(1));
        let states = [0, 0].map(|_| Arc::new(AtomicU64::new(0)));
        for state in &states {
            live.bind(state, apply);
        }
        let change = |live: &Live<Limit>, states: &[Arc<AtomicU64>; 2]| {
            let mut mine = 0;
            live.update(|limit| {
                limit.0 += 1;
                mine = limit.0;
            })
            .unwrap();
            for state in states {
                assert!(state.load(Relaxed) >= mine);
            }
        };
        let (other, theirs) = (live.clone(), states.clone());
        let thread = thread::spawn(move || change(&other, &theirs));
        change(&live, &states);
        thread.join().unwrap();
        for state in &states {
            assert_eq!(state.load(Relaxed), 3);
        }
    });
}

/// A state that is dropped while a value is pushed to it is gone afterwards, and the one beside it has the
/// value.
pub fn a_state_that_is_dropped_unbinds() {
    explore(|| {
        let live = Live::new(Limit(1));
        let (goes, stays) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        live.bind(&goes, apply);
        live.bind(&stays, apply);
        let gone = Arc::downgrade(&goes);
        let thread = thread::spawn(move || {
            // A look, so that there are two moments to go at.
            let seen = goes.load(Relaxed);
            drop(goes);
            seen
        });
        live.set(Limit(2)).unwrap();
        assert_eq!(stays.load(Relaxed), 2);
        assert!(matches!(thread.join().unwrap(), 1 | 2));
        assert!(gone.upgrade().is_none(), "nothing holds it");
        live.set(Limit(3)).unwrap();
        assert_eq!(stays.load(Relaxed), 3);
    });
}
