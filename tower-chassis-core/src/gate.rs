//! A gate that a breaker shuts and a balancer sees.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Whether calls may pass: open, or shut until an instant. Clones share it.
///
/// It opens by itself when its time comes, so nobody has to be awake for the first probe to pass.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Word>);

#[derive(Debug)]
struct Word {
    epoch: Instant,
    /// Microseconds since `epoch` until which it is shut; 0 is open.
    until: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Word {
            epoch: Instant::now(),
            until: AtomicU64::new(0),
        }))
    }

    /// Shuts it until `at`.
    pub fn shut_until(&self, at: Instant) {
        let micros = at.saturating_duration_since(self.0.epoch).as_micros();
        self.0.until.store(
            u64::try_from(micros).unwrap_or(u64::MAX).max(1),
            Ordering::Release,
        );
    }

    /// Shuts it until it is opened.
    pub fn shut(&self) {
        self.0.until.store(u64::MAX, Ordering::Release);
    }

    /// Opens it.
    pub fn open(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// Whether a call may pass at `now`. One load when it is open.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        match self.0.until.load(Ordering::Acquire) {
            0 => true,
            u64::MAX => false,
            until => now.saturating_duration_since(self.0.epoch).as_micros() >= u128::from(until),
        }
    }

    /// How long it stays shut; `None` when it is open or shut without an end.
    #[must_use]
    pub fn opens_in(&self, now: Instant) -> Option<Duration> {
        match self.0.until.load(Ordering::Acquire) {
            0 | u64::MAX => None,
            until => {
                let at = self.0.epoch + Duration::from_micros(until);
                Some(at.saturating_duration_since(now)).filter(|left| !left.is_zero())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_by_itself() {
        let gate = Gate::new();
        assert!(gate.is_open(Instant::now()));
        gate.shut_until(Instant::now() + Duration::from_secs(1));
        assert!(!gate.is_open(Instant::now()));
        assert_eq!(gate.opens_in(Instant::now()), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(gate.is_open(Instant::now()));
        gate.shut();
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert!(!gate.is_open(Instant::now()));
        gate.open();
        assert!(gate.is_open(Instant::now()));
    }
}
