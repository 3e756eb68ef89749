//! Since when an inner service is not ready.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the clones of a service know together of whether their inner ones are ready. Times are in nanoseconds.
#[derive(Debug)]
pub(super) struct Unready {
    /// Since when none was found ready. 0: one was.
    since: AtomicU64,
    /// When one was last found not to be.
    seen: AtomicU64,
}

impl Unready {
    pub(super) fn new() -> Self {
        Self {
            since: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }

    /// One is ready.
    #[inline]
    pub(super) fn ready(&self) {
        // Others write only while none is ready: the line is not taken from anybody.
        if self.since.load(Relaxed) != 0 {
            self.since.store(0, Relaxed);
        }
    }

    /// One is not, at `now`, which is not 0. Since when that is so: if nobody has asked for twice `max`, since now, because nobody knows what was
    /// between.
    pub(super) fn pending(&self, now: u64, max: u64) -> u64 {
        let since = self.since.load(Relaxed);
        let silent = now.saturating_sub(self.seen.load(Relaxed)) > max.saturating_mul(2);
        self.seen.store(now, Relaxed);
        if since != 0 && !silent {
            return since;
        }
        match self.since.compare_exchange(since, now, Relaxed, Relaxed) {
            Ok(_) | Err(0) => now,
            Err(other) => other,
        }
    }
}

#[cfg(all(test, not(chassis_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_since_when() {
        let unready = Unready::new();
        assert_eq!(unready.pending(10, 100), 10);
        assert_eq!(unready.pending(60, 100), 10);
        // As long as somebody asks, and be it late.
        assert_eq!(unready.pending(260, 100), 10);
        // Ready for one is ready.
        unready.ready();
        assert_eq!(unready.pending(270, 100), 270);
        // Nobody asked: nobody knows.
        assert_eq!(unready.pending(471, 100), 471);
        assert_eq!(unready.pending(u64::MAX, u64::MAX), 471);
    }
}
