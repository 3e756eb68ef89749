//! How those who wait are treated: for how long they may, and who is next.
//!
//! The rules of a queue that keeps its delay short ("controlled delay"), in the form that Facebook's servers have
//! it (B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015): a queue that has not been empty for an `interval` is a
//! *standing* one. It absorbs no burst any more, it only makes every call late. While it stands, nobody waits for
//! longer than the `target`, and the newest may be served first: the oldest has the least left of what its caller
//! waits for.
//!
//! The form of K. Nichols and V. Jacobson ("Controlling Queue Delay", ACM Queue 10(5), 2012) looks at the least delay
//! of an interval instead. Newest first makes that short however long the queue is, so it cannot tell when to stop.
//!
//! Whoever waits keeps the queue from being empty. So on arrival it is known for how long one may wait: nothing
//! needs to be looked at again, and no task wakes for it.

use std::time::Duration;

use tokio::time::Instant;

/// Plain values, for one who joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Discipline {
    /// The longest wait.
    pub(crate) max_wait: Duration,
    /// The longest wait in a standing queue; no other than `max_wait` if `None`.
    pub(crate) target: Option<Duration>,
    /// For how long a standing queue has not been empty.
    pub(crate) interval: Duration,
    /// Serves the newest first while the queue stands. Else it is always the oldest.
    pub(crate) newest_first: bool,
}

impl Discipline {
    /// When a queue that got its first waiter at `since` will be a standing one.
    pub(crate) fn stands(&self, since: Instant) -> Instant {
        later(since, self.interval)
    }

    /// Until when one may wait who joins at `since` a queue that will [stand](Self::stands), or stands.
    pub(crate) fn until(&self, since: Instant, stands: Instant) -> Instant {
        let longest = later(since, self.max_wait);
        match self.target {
            Some(target) => longest.min(later(since, target).max(stands)),
            None => longest,
        }
    }
}

/// An instant that can be told from every other one, but for a time of some ages.
fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn in_a_standing_queue_one_waits_for_the_target_and_else_for_the_longest() {
        let since = Instant::now();
        let mut rule = Discipline {
            max_wait: 1_000 * MS,
            target: Some(5 * MS),
            interval: 100 * MS,
            newest_first: false,
        };
        // Who came first may wait until the queue stands.
        let stands = rule.stands(since);
        assert_eq!(stands, since + 100 * MS);
        for (joins, until) in [(0, 100), (94, 100), (95, 100), (96, 101), (300, 305)] {
            let until = since + until * MS;
            assert_eq!(rule.until(since + joins * MS, stands), until, "{joins}");
        }
        rule.max_wait = 50 * MS;
        assert_eq!(rule.until(since, stands), since + 50 * MS);
        rule.target = None;
        assert_eq!(rule.until(since + 300 * MS, stands), since + 350 * MS);
        // Past the end of time there is no later.
        rule.max_wait = Duration::MAX;
        assert_eq!(rule.until(since, stands), since);
    }
}
