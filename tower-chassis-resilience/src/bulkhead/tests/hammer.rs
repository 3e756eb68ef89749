//! Permits under threads that do what they can to get one too many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::permits::{Entry, Permits},
    comer,
};

const THREADS: usize = 8;
const LIMITS: [u32; 4] = [1, 3, 4, 100];
const WIDTHS: [usize; 3] = [1, 2, 16];
/// Who is not woken for so long never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts who is inside, and how many were at the most.
#[derive(Default)]
struct Inside {
    now: AtomicU32,
    most: AtomicU32,
}

impl Inside {
    fn pass(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> u32 {
        self.most.load(Ordering::SeqCst)
    }
}

/// All permits are there, and not one more.
fn assert_whole(permits: &Permits, limit: u32) {
    assert_eq!((permits.in_use(), permits.queued()), (0, 0));
    for at in 0..limit {
        assert_eq!(permits.enter(at as usize, comer), Entry::Permit);
    }
    assert_eq!(permits.enter(0, comer), Entry::Full);
    assert_eq!(permits.in_use(), limit);
}

/// Each thread runs `body` with its number.
fn on_threads(body: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for at in 0..THREADS {
            let body = &body;
            scope.spawn(move || body(at));
        }
    });
}

#[test]
fn never_more_than_the_limit_and_all_permits_come_back() {
    for limit in LIMITS {
        for width in WIDTHS {
            let permits = Permits::new(limit, 0, width);
            let (inside, passed) = (Inside::default(), AtomicU32::new(0));
            on_threads(|at| {
                for round in 0..5_000 {
                    if permits.enter(at, comer) == Entry::Permit {
                        inside.pass();
                        passed.fetch_add(1, Ordering::Relaxed);
                        // Half of them end on another thread than they began on.
                        permits.release(at + round % 2, Instant::now);
                    }
                }
            });
            assert!(inside.most() <= limit, "{} of {limit}", inside.most());
            assert!(passed.into_inner() > 0);
            assert_whole(&permits, limit);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Comes in, waits if it must, and leaves without a permit after `patience` looks.
fn pass(permits: &Permits, inside: &Inside, at: usize, patience: usize) -> bool {
    let place = match permits.enter(at, comer) {
        Entry::Permit => {
            inside.pass();
            permits.release(at, Instant::now);
            return true;
        }
        Entry::Queued(place, _) => place,
        Entry::Full | Entry::Late => return false,
    };
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut looks = 0;
    while looks < patience && !permits.poll(&place, &waker) {
        looks += 1;
        if patience == usize::MAX {
            let parked = Instant::now();
            thread::park_timeout(PATIENCE);
            assert!(parked.elapsed() < PATIENCE, "not woken");
        } else {
            thread::yield_now();
        }
    }
    let granted = permits.leave(place, at);
    if granted {
        inside.pass();
        permits.release(at, Instant::now);
    }
    granted
}

#[test]
fn all_who_wait_are_woken() {
    for limit in LIMITS {
        for width in WIDTHS {
            let permits = Permits::new(limit, THREADS as u32, width);
            let inside = Inside::default();
            on_threads(|at| {
                for _ in 0..2_000 {
                    assert!(pass(&permits, &inside, at, usize::MAX));
                }
            });
            assert!(inside.most() <= limit, "{} of {limit}", inside.most());
            permits.apply(limit, 0, 0, Instant::now);
            assert_whole(&permits, limit);
        }
    }
}

#[test]
fn who_leaves_the_queue_takes_nothing_along() {
    for limit in [1, 3, 4] {
        let permits = Permits::new(limit, 4, 2);
        let (inside, passed) = (Inside::default(), AtomicU32::new(0));
        on_threads(|at| {
            for round in 0..5_000 {
                let passed_now = pass(&permits, &inside, at, round % 4);
                passed.fetch_add(u32::from(passed_now), Ordering::Relaxed);
            }
        });
        assert!(inside.most() <= limit, "{} of {limit}", inside.most());
        assert!(passed.into_inner() > 0);
        permits.apply(limit, 0, 0, Instant::now);
        assert_whole(&permits, limit);
    }
}

#[test]
fn a_limit_that_changes_all_the_time_loses_nothing() {
    let permits = Permits::new(40, THREADS as u32, 4);
    let inside = Inside::default();
    on_threads(|at| {
        for round in 0..2_000 {
            if at == 0 {
                // Below and above the number from which permits are spread.
                permits.apply(
                    [1, 40, 15, 16, 3][round % 5],
                    THREADS as u32,
                    at,
                    Instant::now,
                );
                thread::yield_now();
            } else {
                assert!(pass(&permits, &inside, at, usize::MAX));
            }
        }
        if at == 0 {
            permits.apply(3, THREADS as u32, at, Instant::now);
        }
    });
    permits.apply(3, 0, 0, Instant::now);
    assert_whole(&permits, 3);
}

/// Who had permits when the limit fell keeps them; nobody gets one until there are fewer.
#[test]
fn a_lower_limit_holds_from_the_moment_it_is_set() {
    for (high, low) in [(3, 1), (40, 2), (40, 20)] {
        let permits = Permits::new(high, THREADS as u32, 4);
        let inside = Inside::default();
        on_threads(|at| {
            for _ in 0..500 {
                assert!(pass(&permits, &inside, at, usize::MAX));
            }
        });
        permits.apply(low, THREADS as u32, 0, Instant::now);
        let inside = Inside::default();
        on_threads(|at| {
            for _ in 0..500 {
                assert!(pass(&permits, &inside, at, usize::MAX));
            }
        });
        assert!(inside.most() <= low, "{} of {low}", inside.most());
    }
}
