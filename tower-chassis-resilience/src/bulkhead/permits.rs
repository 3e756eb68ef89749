//! A limit on what is in use at once, with a queue for those who come when nothing is free.
//!
//! While permits are free or nobody waits, they are in the [`Stripes`], and the lock is not touched.
//! Who finds none closes the stripes under the lock and gathers what is there; from then on
//! everybody comes to the lock, so that between "none is free" and "queued" no permit passes
//! unseen. The stripes open again when nobody waits.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Waker,
};

use tokio::time::Instant;

use super::{
    codel::Discipline,
    queue::{Next, Place, Queue},
    stripes::{Stripes, Take},
};

/// Below so many permits for each stripe, all of them are in one word.
const PER_STRIPE: usize = 4;

/// What became of one who wants a permit.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// It has one, and must [release](Permits::release) it.
    Permit,
    /// It waits until that instant at the most, and must [leave](Permits::leave).
    Queued(Place, Instant),
    /// Neither a permit nor a place is free.
    Full,
    /// No permit is free, and its deadline has passed.
    Late,
}

/// One who may have to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comer {
    pub(crate) now: Instant,
    /// When its caller has no use for an answer any more.
    pub(crate) deadline: Option<Instant>,
    pub(crate) discipline: Discipline,
}

/// Permits. `at` is a number of the calling thread, any one: it says which stripe is tried first.
#[derive(Debug)]
pub(crate) struct Permits {
    stripes: Stripes,
    width: usize,
    limit: AtomicU32,
    places: AtomicU32,
    queued: AtomicU32,
    /// The stripes are closed for more than a moment, and no place is free.
    full: AtomicBool,
    slow: Mutex<Slow>,
}

/// What is behind the lock.
#[derive(Debug)]
struct Slow {
    /// Free permits are in the stripes, `free` is 0, and nobody waits.
    open: bool,
    /// Nobody is let in, whatever is free.
    shut: bool,
    /// Free permits while the stripes are closed. Below zero after the limit was lowered: so many
    /// must come back before one is handed out.
    free: i64,
    queue: Queue,
}

impl Permits {
    /// So many permits and places to wait, over so many stripes at the most.
    pub(crate) fn new(limit: u32, places: u32, width: usize) -> Self {
        let permits = Self {
            stripes: Stripes::new(width),
            width: width.next_power_of_two(),
            limit: AtomicU32::new(0),
            places: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            full: AtomicBool::new(false),
            slow: Mutex::new(Slow {
                open: false,
                shut: false,
                free: 0,
                queue: Queue::new(),
            }),
        };
        permits.apply(limit, places, 0, Instant::now);
        permits
    }

    /// Takes a permit, or a place in the queue; `comer` is asked if no permit is free.
    #[inline]
    pub(crate) fn enter(&self, at: usize, comer: impl FnOnce() -> Comer) -> Entry {
        match self.stripes.take(at) {
            Take::Permit => Entry::Permit,
            Take::Empty if self.places.load(Relaxed) == 0 => Entry::Full,
            Take::Closed if self.full.load(Acquire) => Entry::Full,
            _ => self.enter_slowly(at, &comer()),
        }
    }

    #[cold]
    fn enter_slowly(&self, at: usize, comer: &Comer) -> Entry {
        let mut slow = self.lock();
        self.gather(&mut slow);
        // Not past those who wait, to whom what is free is just being handed over.
        let entry = if slow.shut {
            Entry::Full
        } else if slow.free > 0 && slow.queue.is_empty() {
            slow.free -= 1;
            Entry::Permit
        } else if comer.deadline.is_some_and(|deadline| deadline <= comer.now) {
            Entry::Late
        } else if slow.queue.len() < self.places.load(Relaxed) as usize {
            let Comer {
                now,
                deadline,
                discipline,
            } = comer;
            let (place, until) = slow.queue.join(*now, *deadline, discipline);
            Entry::Queued(place, until)
        } else {
            Entry::Full
        };
        self.publish(&mut slow, at);
        entry
    }

    /// Gives a permit back, to the next who waits; `now` is asked if somebody does.
    #[inline]
    pub(crate) fn release(&self, at: usize, now: impl Fn() -> Instant) {
        if !self.stripes.give(at) {
            self.release_slowly(at, now);
        }
    }

    #[cold]
    fn release_slowly(&self, at: usize, now: impl Fn() -> Instant) {
        let mut slow = self.lock();
        // Under the lock they do not close again.
        if slow.open && self.stripes.give(at) {
            return;
        }
        slow.free += 1;
        self.hand_over(slow, at, now);
    }

    /// Whether the wait of `place` is over, because a permit was granted to it or never will be; if not, `waker` is
    /// woken when it is. `place` must [leave](Self::leave) in any case.
    pub(crate) fn poll(&self, place: &Place, waker: &Waker) -> bool {
        let mut waker = Some(waker.clone());
        // `waker` is dropped after the lock: with the last one goes its task, and that may wait here.
        self.lock().queue.poll(place, &mut waker)
    }

    /// Gives a place up. `true` if a permit was granted to it: it is the caller's now.
    pub(crate) fn leave(&self, place: Place, at: usize) -> bool {
        let mut slow = self.lock();
        let (granted, waker) = slow.queue.leave(place);
        self.publish(&mut slow, at);
        drop(slow);
        drop(waker);
        granted
    }

    /// Puts other numbers in force. What is in use stays in use, who waits goes on waiting.
    pub(crate) fn apply(&self, limit: u32, places: u32, at: usize, now: impl Fn() -> Instant) {
        let mut slow = self.lock();
        self.gather(&mut slow);
        slow.free += i64::from(limit) - i64::from(self.limit.load(Relaxed));
        self.limit.store(limit, Relaxed);
        self.places.store(places, Relaxed);
        self.stripes
            .spread(limit as usize >= PER_STRIPE * self.width);
        self.hand_over(slow, at, now);
    }

    /// From now on nobody is let in, and who waits is turned away. What is in use stays in use.
    pub(crate) fn shut(&self, at: usize) {
        let mut slow = self.lock();
        self.gather(&mut slow);
        slow.shut = true;
        loop {
            let away = slow.queue.turn_away();
            self.publish(&mut slow, at);
            let Some(waker) = away else { return };
            drop(slow);
            if let Some(waker) = waker {
                waker.wake();
            }
            slow = self.lock();
            if !slow.shut {
                return;
            }
        }
    }

    /// Ends [`shut`](Self::shut). Who was not turned away yet goes on waiting.
    pub(crate) fn open(&self, at: usize, now: impl Fn() -> Instant) {
        let mut slow = self.lock();
        slow.shut = false;
        self.hand_over(slow, at, now);
    }

    /// Forgets what was of one limit, before the next: that it was shut, how its queue went. Nobody may wait.
    pub(crate) fn forget(&self, at: usize) {
        let mut slow = self.lock();
        slow.shut = false;
        slow.queue = Queue::new();
        self.publish(&mut slow, at);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.lock().shut
    }

    /// Whether one who came now would get a permit.
    #[inline]
    pub(crate) fn any(&self, at: usize) -> bool {
        self.stripes.any(at)
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> u32 {
        self.queued.load(Relaxed)
    }

    /// When the first of those who wait began to.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.lock().queue.oldest()
    }

    /// How many permits are in use, those included that were granted and not yet come for. Exact
    /// with one stripe in use; else permits that move at this instant may count twice or not at all.
    pub(crate) fn in_use(&self) -> u32 {
        let slow = self.lock();
        let free = slow.free + i64::from(self.stripes.free());
        u32::try_from(i64::from(self.limit.load(Relaxed)) - free).unwrap_or(0)
    }

    /// About how many permits are in use, without the lock: all of them while somebody waits.
    pub(crate) fn busy(&self) -> u32 {
        self.limit().saturating_sub(self.stripes.free())
    }

    /// Over how many words the permits can be spread.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// How many places the queue has memory for.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.lock().queue.kept()
    }

    /// Gives what is free to those who wait, and turns away whose time is up before its turn.
    fn hand_over<'a>(
        &'a self,
        mut slow: MutexGuard<'a, Slow>,
        at: usize,
        now: impl Fn() -> Instant,
    ) {
        loop {
            let next = if slow.free > 0 && !slow.shut && !slow.queue.is_empty() {
                slow.queue.next(now())
            } else {
                None
            };
            slow.free -= i64::from(matches!(next, Some(Next::Granted(_))));
            self.publish(&mut slow, at);
            let Some(Next::Granted(waker) | Next::Late(waker)) = next else {
                return;
            };
            let more = slow.free > 0 && !slow.queue.is_empty();
            drop(slow);
            if let Some(waker) = waker {
                waker.wake();
            }
            if !more {
                return;
            }
            slow = self.lock();
        }
    }

    /// Closes the stripes.
    fn gather(&self, slow: &mut Slow) {
        if slow.open {
            slow.open = false;
            slow.free = i64::from(self.stripes.close());
        }
    }

    /// Opens the stripes if nobody waits, and says what there is to know without the lock.
    fn publish(&self, slow: &mut Slow, at: usize) {
        let queued = slow.queue.len() as u32;
        let open = queued == 0 && slow.free >= 0 && !slow.shut;
        self.queued.store(queued, Relaxed);
        // Before they open: who finds them closed for a moment later on must not read it as `full`.
        self.full.store(
            !open && (slow.shut || queued >= self.places.load(Relaxed)),
            Release,
        );
        if open && !slow.open {
            self.stripes.open(slow.free as u32, at);
            slow.free = 0;
            slow.open = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
