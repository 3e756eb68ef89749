//! The meter of the adaptive limit: what threads add to a window, and the limit that comes of it.

#[path = "../../../tower-chassis-resilience/src/adaptive/decision.rs"]
mod decision;
#[path = "../../../tower-chassis-resilience/src/adaptive/limit/mod.rs"]
mod limit;

pub use decision::Reason;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use self::limit::{Controller, Histogram, MILLIS, Meter, Settings};
use crate::explore;

/// As in the layer's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    Gradient,
    Aimd,
}

/// What permits are to a layer: whatever was applied last is in force.
#[derive(Default)]
struct Applied(Mutex<u32>);

fn meter(start: u32) -> Arc<Meter> {
    let settings = Settings {
        algorithm: Algorithm::Aimd,
        min: 1,
        max: 1_000,
        start,
        tolerance: 1.5,
        slow: u64::MAX,
    };
    Arc::new(Meter::new(Controller::new(settings, 7)))
}

/// As `Shared::push` of the layer.
fn push(meter: &Meter, applied: &Applied) {
    loop {
        let limit = meter.limit();
        *applied.0.lock().unwrap() = limit;
        if meter.limit() == limit {
            return;
        }
    }
}

/// A call that fails: it is looked at by whoever has the lock.
fn fail(meter: &Meter, applied: &Applied, began: u64, now: u64) {
    meter.overloaded(began);
    meter.turn(now, |_| push(meter, applied));
}

/// What two threads add while a third takes is taken once, now or later.
pub fn a_sample_is_taken_once() {
    explore(|| {
        let histogram = Arc::new(Histogram::new());
        let other = Arc::clone(&histogram);
        let thread = thread::spawn(move || {
            other.add(5 * MILLIS);
            other.add(5 * MILLIS);
        });
        histogram.add(5 * MILLIS);
        let first = histogram.take(0).samples;
        thread.join().unwrap();
        assert_eq!(first + histogram.take(0).samples, 3);
    });
}

/// Of two calls that fail at once, under one limit or one after the other, none is left for later.
pub fn a_failure_is_not_missed() {
    for began in [0, 20] {
        explore(move || {
            let (meter, applied) = (meter(100), Arc::new(Applied(Mutex::new(100))));
            let other = (Arc::clone(&meter), Arc::clone(&applied));
            let thread = thread::spawn(move || fail(&other.0, &other.1, 0, 10));
            fail(&meter, &applied, began, 30);
            thread.join().unwrap();
            let limit = meter.limit();
            assert_eq!(*applied.0.lock().unwrap(), limit);
            if began == 0 {
                assert_eq!(limit, 90);
            }
            meter.turn(40, |change| panic!("left over: {change:?}"));
        });
    }
}

/// Of two changes the later one is in force, whoever was the last to apply his.
pub fn the_last_limit_is_in_force() {
    explore(|| {
        let (meter, applied) = (meter(100), Arc::new(Applied(Mutex::new(100))));
        let other = (Arc::clone(&meter), Arc::clone(&applied));
        let thread = thread::spawn(move || {
            other.0.with(|control| control.force(Some((7, u64::MAX))));
            push(&other.0, &other.1);
        });
        fail(&meter, &applied, 0, 10);
        thread.join().unwrap();
        assert_eq!(meter.limit(), 7);
        assert_eq!(*applied.0.lock().unwrap(), 7);
    });
}

/// Two who find a window over: one shows it to the controller, and the other goes.
pub fn a_window_is_seen_once() {
    explore(|| {
        let meter = meter(20);
        for _ in 0..20 {
            meter.answered(0, 5 * MILLIS, || 20);
        }
        let grown = Arc::new(AtomicU32::new(0));
        let other = (Arc::clone(&meter), Arc::clone(&grown));
        let now = 1_100 * MILLIS;
        let thread = thread::spawn(move || {
            other.0.turn(now, |_| {
                other.1.fetch_add(1, Relaxed);
            });
        });
        meter.turn(now, |_| {
            grown.fetch_add(1, Relaxed);
        });
        thread.join().unwrap();
        assert_eq!((meter.limit(), grown.load(Relaxed)), (21, 1));
    });
}
