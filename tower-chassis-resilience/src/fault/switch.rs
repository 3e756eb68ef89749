//! All that a call reads where no fault is armed: two flags, and a count of policies above them.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Some rule is armed.
const ARMED: u64 = 1;
/// Nothing is to happen, whatever is armed.
const KILLED: u64 = 2;
/// A policy came.
const VERSION: u64 = 4;

#[derive(Debug)]
pub(super) struct Switch(AtomicU64);

/// The switch as a call saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen(u64);

impl Switch {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether anything may happen to a call. One load.
    pub(super) fn armed(&self) -> Option<Seen> {
        let seen = self.0.load(Acquire);
        (seen & (ARMED | KILLED) == ARMED).then_some(Seen(seen))
    }

    /// Another policy is there to be read.
    pub(super) fn applied(&self, armed: bool) {
        self.set(|old| {
            let flags = (old & KILLED) | u64::from(armed);
            (old & !(ARMED | KILLED)).wrapping_add(VERSION) | flags
        });
    }

    /// The rules that were seen are all over: calls need not look at them any more. Another policy that came since
    /// stays armed.
    pub(super) fn disarm(&self, seen: Seen) {
        let _ = self
            .0
            .compare_exchange(seen.0, seen.0 & !ARMED, AcqRel, Relaxed);
    }

    pub(super) fn kill(&self) {
        self.0.fetch_or(KILLED, AcqRel);
    }

    pub(super) fn restore(&self) {
        self.0.fetch_and(!KILLED, AcqRel);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.0.load(Acquire) & KILLED != 0
    }

    fn set(&self, change: impl Fn(u64) -> u64) {
        let change = |old| Some(change(old));
        // Never fails: there is always something to put there.
        let _ = self.0.fetch_update(AcqRel, Relaxed, change);
    }
}
