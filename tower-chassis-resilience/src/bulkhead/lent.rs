//! Permits that outlive their limit.
//!
//! A call that holds a permit must be able to give it back whoever has gone by then. Were it to keep its limit for that, it
//! would count itself in and out of those who use it, which costs as much as the permit does. So the permits of a limit
//! are lent to it: they are never freed, and when it is gone and nothing of them is in use any more the next limit has
//! them. There is memory for as many limits as there were at one time.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tower_chassis_core::{clock, striped::here};

use super::permits::Permits;

/// Permits, and when they were made.
#[derive(Debug)]
pub struct Core {
    pub(super) permits: Permits,
    pub(super) made: Instant,
}

/// Permits as a limit has them, until it is dropped.
#[derive(Debug)]
pub(super) struct Lent(&'static Core);

/// Those that no limit has: in one word, and over several.
static IDLE: [Mutex<VecDeque<&'static Core>>; 2] = [const { Mutex::new(VecDeque::new()) }; 2];

/// How many are looked at before new ones are made: of some, calls may still hold some.
const LOOKS: usize = 4;

impl Lent {
    /// So many permits and places to wait, over so many stripes at the most: one, or as many as there are cores.
    pub(super) fn new(limit: u32, places: u32, stripes: usize) -> Self {
        let core = idle(stripes).unwrap_or_else(|| {
            Box::leak(Box::new(Core {
                permits: Permits::new(limit, places, stripes),
                made: clock::now(),
            }))
        });
        core.permits.apply(limit, places, here(), clock::now);
        Self(core)
    }

    /// As calls have them.
    #[inline]
    pub(super) const fn core(&self) -> &'static Core {
        self.0
    }
}

impl Deref for Lent {
    type Target = Permits;
    #[inline]
    fn deref(&self) -> &Permits {
        &self.0.permits
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Who waits has the limit, so nobody does.
        self.0.permits.forget(here());
        lock(self.0.permits.width()).push_back(self.0);
    }
}

/// Permits that no limit has, all of them free.
fn idle(stripes: usize) -> Option<&'static Core> {
    let mut idle = lock(stripes);
    for _ in 0..LOOKS.min(idle.len()) {
        let core = idle.pop_front()?;
        if core.permits.in_use() == 0 {
            return Some(core);
        }
        idle.push_back(core);
    }
    None
}

fn lock(stripes: usize) -> MutexGuard<'static, VecDeque<&'static Core>> {
    let idle = &IDLE[usize::from(stripes > 1)];
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_of_which_some_are_in_use_are_not_lent_again() {
        let lent = Lent::new(2, 0, 1);
        let core = lent.core();
        assert!(core.permits.any(0));
        let taken = core.permits.enter(0, || unreachable!());
        assert_eq!(taken, super::super::permits::Entry::Permit);
        drop(lent);
        // More than there can be of others: these would be among them.
        let others: Vec<_> = (0..2_000).map(|_| Lent::new(2, 0, 1)).collect();
        assert!(others.iter().all(|lent| !std::ptr::eq(lent.core(), core)));
        core.permits.release(0, clock::now);
        drop(others);
    }
}
