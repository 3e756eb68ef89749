//! The time of day of what the monotonic clock has measured.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// The wall clock may be set; after so long it is asked again.
const ASK_AFTER: u64 = 60_000_000_000;

/// Where the two clocks meet. Nanoseconds, all of them.
struct Anchor {
    base: Instant,
    /// What the wall clock said at `base`, since 1970.
    wall: AtomicU64,
    /// Since `base`, when it is asked again.
    ask_at: AtomicU64,
}

static ANCHOR: OnceLock<Anchor> = OnceLock::new();

fn anchor() -> &'static Anchor {
    ANCHOR.get_or_init(|| Anchor {
        base: real_now(),
        wall: AtomicU64::new(since_1970()),
        ask_at: AtomicU64::new(ASK_AFTER),
    })
}

/// Also in a runtime whose time is paused, which would mislead the others of the process.
#[allow(
    clippy::disallowed_types,
    reason = "the wall clock is not paused either"
)]
fn real_now() -> Instant {
    std::time::Instant::now().into()
}

fn since_1970() -> u64 {
    nanos(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// Enough for 584 years.
fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// An instant, for who must tell one and means none. Does not read the clock.
pub(super) fn any() -> Instant {
    anchor().base
}

/// The time of day at `then`, told at `now`.
pub(super) fn at(then: Instant, now: Instant) -> SystemTime {
    let anchor = anchor();
    let passed = nanos(now.saturating_duration_since(anchor.base));
    let ask_at = anchor.ask_at.load(Relaxed);
    let next = passed.saturating_add(ASK_AFTER);
    if passed >= ask_at
        && anchor
            .ask_at
            .compare_exchange(ask_at, next, Relaxed, Relaxed)
            .is_ok()
    {
        let real = nanos(real_now().saturating_duration_since(anchor.base));
        anchor
            .wall
            .store(since_1970().saturating_sub(real), Relaxed);
    }
    let wall = UNIX_EPOCH + Duration::from_nanos(anchor.wall.load(Relaxed));
    match then.checked_duration_since(anchor.base) {
        Some(after) => wall + after,
        None => wall
            .checked_sub(anchor.base.duration_since(then))
            .unwrap_or(UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_now() {
        let began = Instant::now();
        let told = at(began, Instant::now());
        let wrong = SystemTime::now().duration_since(told).unwrap_or_default();
        assert!(wrong < Duration::from_secs(5), "{wrong:?}");
        // Before the clocks first met, and long after: the wall clock was asked again, and says the same.
        let before = at(began - Duration::from_secs(10), began);
        assert_eq!(
            told.duration_since(before).unwrap(),
            Duration::from_secs(10)
        );
        let hour = Duration::from_secs(3600);
        let later = at(began + hour, began + hour);
        let off = later.duration_since(told + hour).unwrap_or_default();
        assert!(off < Duration::from_secs(5), "{off:?}");
    }
}
