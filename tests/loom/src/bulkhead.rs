//! The bulkhead: its stripes, and its permits with a queue.

#[path = "../../../tower-chassis-resilience/src/bulkhead/codel.rs"]
mod codel;
#[path = "../../../tower-chassis-resilience/src/bulkhead/permits.rs"]
mod permits;
#[path = "../../../tower-chassis-resilience/src/bulkhead/queue.rs"]
mod queue;
#[path = "../../../tower-chassis-resilience/src/bulkhead/stripes.rs"]
mod stripes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Wake, Waker},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use self::{
    codel::Discipline,
    permits::{Comer, Entry, Permits},
    queue::Place,
    stripes::{Stripes, Take},
};
use crate::explore;

/// Two stripes that share `free` permits, the first having one more if they are odd.
fn stripes(free: u32) -> Arc<Stripes> {
    let stripes = Stripes::new(2);
    stripes.spread(true);
    stripes.open(free, 0);
    Arc::new(stripes)
}

/// Permits of two stripes, of which `free` are free. From eight on they are spread.
fn permits(limit: u32, free: u32, places: u32) -> Arc<Permits> {
    let permits = Permits::new(limit, places, 2);
    for _ in free..limit {
        assert_eq!(enter(&permits, 0), Entry::Permit);
    }
    Arc::new(permits)
}

/// One who comes now and has an hour.
fn comer() -> Comer {
    Comer {
        now: Instant::now(),
        deadline: None,
        discipline: Discipline {
            max_wait: Duration::from_secs(3_600),
            target: None,
            interval: Duration::from_secs(3_600),
            newest_first: false,
        },
    }
}

fn enter(permits: &Permits, at: usize) -> Entry {
    permits.enter(at, comer)
}

fn wait(permits: &Permits, at: usize) -> Place {
    match enter(permits, at) {
        Entry::Queued(place, _) => place,
        entry => panic!("{entry:?}"),
    }
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Two who take the only permit of two stripes, from either side, and end elsewhere than they began: never both
/// have it, and it is there in the end.
pub fn stealing_makes_no_permit() {
    explore(|| {
        let stripes = stripes(1);
        let taken = Arc::new(AtomicU32::new(0));
        let pass = |stripes: &Stripes, taken: &AtomicU32, at| {
            if stripes.take(at) == Take::Permit {
                assert_eq!(taken.fetch_add(1, Relaxed), 0, "over the limit");
                taken.fetch_sub(1, Relaxed);
                assert!(stripes.give(at + 1));
            }
        };
        let other = (Arc::clone(&stripes), Arc::clone(&taken));
        let thread = thread::spawn(move || {
            pass(&other.0, &other.1, 1);
            pass(&other.0, &other.1, 1);
        });
        pass(&stripes, &taken, 0);
        pass(&stripes, &taken, 0);
        thread.join().unwrap();
        assert_eq!(stripes.free(), 1);
    });
}

/// What is taken, given back and gathered at the same time adds up.
pub fn gathering_loses_no_permit() {
    explore(|| {
        let stripes = stripes(2);
        assert_eq!(stripes.take(0), Take::Permit);
        let (taker, giver) = (Arc::clone(&stripes), Arc::clone(&stripes));
        let taker = thread::spawn(move || taker.take(0) == Take::Permit);
        let giver = thread::spawn(move || giver.give(1));
        let gathered = stripes.close();
        let taken = u32::from(taker.join().unwrap());
        let given = u32::from(giver.join().unwrap());
        assert_eq!(gathered + taken, 1 + given);
        assert_eq!(stripes.take(0), Take::Closed);
    });
}

/// The last permit of eight is taken by one of two, whichever stripe it is in, and comes back.
pub fn the_last_permit_is_taken_once() {
    for free_at in [0, 1] {
        explore(move || {
            let permits = permits(8, 0, 0);
            permits.release(free_at, Instant::now);
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || enter(&other, 1) == Entry::Permit);
            let mine = enter(&permits, 0) == Entry::Permit;
            let theirs = thread.join().unwrap();
            assert!(mine ^ theirs, "{mine} {theirs}");
            permits.release(0, Instant::now);
            assert_eq!(enter(&permits, 1), Entry::Permit);
            assert_eq!(permits.in_use(), 8);
        });
    }
}

/// Between "none is free" and "queued" no permit passes unseen.
pub fn a_release_is_not_missed_by_one_who_joins_the_queue() {
    for limit in [1, 8] {
        explore(move || {
            let permits = permits(limit, 0, 1);
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || other.release(1, Instant::now));
            let woken = Arc::new(Woken::default());
            let place = match enter(&permits, 0) {
                Entry::Permit => None,
                Entry::Queued(place, _) => Some(place),
                Entry::Full | Entry::Late => panic!("a place is free"),
            };
            let at_once = place
                .as_ref()
                .is_none_or(|place| permits.poll(place, &Waker::from(Arc::clone(&woken))));
            thread.join().unwrap();
            assert!(at_once || woken.0.load(Relaxed) == 1, "not woken");
            assert!(place.is_none_or(|place| permits.leave(place, 0)));
            assert_eq!((permits.in_use(), permits.queued()), (limit, 0));
        });
    }
}

/// The last place of the queue is taken by one of two.
pub fn the_last_place_is_taken_once() {
    explore(|| {
        let permits = permits(1, 0, 1);
        let other = Arc::clone(&permits);
        let thread = thread::spawn(move || enter(&other, 1));
        let entries = [enter(&permits, 0), thread.join().unwrap()];
        assert!(entries.contains(&Entry::Full), "{entries:?}");
        assert_eq!(permits.queued(), 1);
    });
}

/// A permit that is released while somebody waits is not taken by one who comes.
pub fn nobody_gets_past_one_who_waits() {
    for limit in [1, 8] {
        explore(move || {
            let permits = permits(limit, 0, 2);
            let first = wait(&permits, 0);
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || enter(&other, 1));
            permits.release(0, Instant::now);
            let second = match thread.join().unwrap() {
                Entry::Queued(place, _) => place,
                entry => panic!("{entry:?}"),
            };
            assert!(permits.leave(first, 0));
            permits.release(1, Instant::now);
            assert!(permits.leave(second, 0));
        });
    }
}

/// A waiter that leaves just when its turn comes passes the permit on to the next.
pub fn a_permit_is_passed_on_by_one_who_leaves() {
    for limit in [1, 8] {
        explore(move || {
            let permits = permits(limit, 0, 2);
            let (first, second) = (wait(&permits, 0), wait(&permits, 1));
            let woken = Arc::new(Woken::default());
            assert!(!permits.poll(&second, &Waker::from(Arc::clone(&woken))));
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || {
                if other.leave(first, 1) {
                    other.release(1, Instant::now);
                }
            });
            permits.release(0, Instant::now);
            thread.join().unwrap();
            assert_eq!(woken.0.load(Relaxed), 1);
            assert!(permits.leave(second, 0));
            permits.release(0, Instant::now);
            assert_eq!((permits.in_use(), permits.queued()), (limit - 1, 0));
        });
    }
}

/// Two who leave while one permit is handed over leave it free, and the stripes open.
pub fn a_permit_that_nobody_waits_for_any_more_is_free() {
    explore(|| {
        let permits = permits(1, 0, 1);
        let place = wait(&permits, 0);
        let other = Arc::clone(&permits);
        let thread = thread::spawn(move || {
            if other.leave(place, 1) {
                other.release(1, Instant::now);
            }
        });
        permits.release(0, Instant::now);
        thread.join().unwrap();
        assert!(permits.any(0));
        assert_eq!(enter(&permits, 0), Entry::Permit);
    });
}

/// While the limit goes up, also from one word to many, nobody is refused who would have had a permit under the
/// old one.
pub fn a_higher_limit_refuses_nobody() {
    for (old, new) in [(1, 2), (7, 8)] {
        explore(move || {
            let permits = permits(old, 1, 0);
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || enter(&other, 1));
            permits.apply(new, 0, 0, Instant::now);
            assert_eq!(thread.join().unwrap(), Entry::Permit);
            assert_eq!(permits.in_use(), old);
            for _ in old..new {
                assert_eq!(enter(&permits, 1), Entry::Permit);
            }
            assert_eq!(enter(&permits, 1), Entry::Full);
        });
    }
}

/// While the limit goes down, also from many words to one, what is taken and given back adds up, and from then
/// on the lower one holds.
pub fn a_lower_limit_holds() {
    for (old, new) in [(2, 1), (8, 7)] {
        explore(move || {
            let permits = permits(old, 1, 0);
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || {
                let got = enter(&other, 1) == Entry::Permit;
                other.release(0, Instant::now);
                got
            });
            permits.apply(new, 0, 0, Instant::now);
            let got = u32::from(thread.join().unwrap());
            assert_eq!(permits.in_use(), old - 2 + got);
            for _ in permits.in_use()..new {
                assert_eq!(enter(&permits, 1), Entry::Permit);
            }
            assert_eq!(enter(&permits, 0), Entry::Full);
            assert_eq!(permits.in_use(), new);
        });
    }
}

/// A higher limit and a release that meet wake all for whom there are permits.
pub fn a_higher_limit_wakes_who_waits() {
    explore(|| {
        let permits = permits(1, 0, 2);
        let places = [wait(&permits, 0), wait(&permits, 0)];
        let woken = Arc::new(Woken::default());
        for place in &places {
            assert!(!permits.poll(place, &Waker::from(Arc::clone(&woken))));
        }
        let other = Arc::clone(&permits);
        let thread = thread::spawn(move || other.release(1, Instant::now));
        permits.apply(2, 2, 0, Instant::now);
        thread.join().unwrap();
        assert_eq!(woken.0.load(Relaxed), 2);
        for place in places {
            assert!(permits.leave(place, 0));
        }
        assert_eq!(permits.in_use(), 2);
    });
}

/// One who comes while a higher limit is handed out, one permit after another, is behind those who wait.
pub fn nobody_gets_past_while_a_higher_limit_is_handed_out() {
    explore(|| {
        let permits = permits(1, 0, 3);
        let places = [wait(&permits, 0), wait(&permits, 0)];
        let other = Arc::clone(&permits);
        let thread = thread::spawn(move || enter(&other, 1));
        permits.apply(3, 3, 0, Instant::now);
        let last = match thread.join().unwrap() {
            Entry::Queued(place, _) => place,
            entry => panic!("{entry:?}"),
        };
        for place in places {
            assert!(permits.leave(place, 0));
        }
        assert!(!permits.leave(last, 0));
        assert_eq!((permits.in_use(), permits.queued()), (3, 0));
    });
}

/// While it is shut nobody gets in, who waits is turned away, and no permit is lost.
pub fn a_shut_one_lets_nobody_in_and_loses_no_permit() {
    for limit in [1, 8] {
        explore(move || {
            let permits = permits(limit, 0, 1);
            let place = wait(&permits, 0);
            let woken = Arc::new(Woken::default());
            assert!(!permits.poll(&place, &Waker::from(Arc::clone(&woken))));
            let other = Arc::clone(&permits);
            let thread = thread::spawn(move || other.release(1, Instant::now));
            permits.shut(0);
            thread.join().unwrap();
            assert_eq!(woken.0.load(Relaxed), 1, "granted or turned away");
            let granted = u32::from(permits.leave(place, 0));
            assert_eq!(enter(&permits, 1), Entry::Full);
            permits.open(0, Instant::now);
            assert_eq!(permits.in_use(), limit - 1 + granted);
            let left = enter(&permits, 1) == Entry::Permit;
            assert!(left ^ (granted == 1));
        });
    }
}
