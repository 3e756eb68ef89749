//! What one bucket's number means: by the generic cell rate algorithm, or as a sliding window.
//!
//! GCRA: the number is the theoretical arrival time (TAT), when the next call would arrive if all calls
//! so far had come at the exact rate, in nanoseconds since a start. A call is allowed if that is not
//! further ahead than a burst, and moves it on by one interval. A number that has passed is a full bucket and
//! carries no information.
//!
//! Sliding window: the number is a window of time, the calls in it, and those in the one before it, which count
//! by the share of it that is less than a window ago.

/// How long a call is early that will never be allowed.
pub(super) const NEVER: u64 = u64::MAX;

/// How many bits a number has.
pub(super) const BITS: u32 = 59;
const MOST: u64 = (1 << BITS) - 1;

// Sliding window: id:19 | now:20 | before:20. Of windows so many ago that the id comes again, a stale count may
// be taken for a fresh one: that limits too much, never too little, and for a window or `LATE` at the most.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const ID: u64 = (1 << (BITS - 2 * COUNT_BITS)) - 1;
/// How long ago a time may have been read, in nanoseconds: ten seconds.
const LATE: u64 = 10_000_000_000;

/// The most calls that a sliding window counts.
pub(super) const MOST_IN_A_WINDOW: u32 = 1_000_000;

/// An algorithm with its numbers; times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    Gcra {
        /// The time that one call uses up.
        interval: u64,
        burst: u32,
    },
    Window {
        length: u64,
        limit: u32,
    },
}

/// What is left of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    pub(super) remaining: u32,
    /// When nothing of what was used counts any more (GCRA), or the window ends.
    pub(super) reset: u64,
}

impl Rule {
    pub(super) const fn new(interval: u64, burst: u32) -> Self {
        Self::Gcra { interval, burst }
    }

    /// The number after a call of so much `cost` at `now`, and how long it must wait before it is made, which is at the
    /// most `patience`. Or how long it is too early.
    #[inline]
    pub(super) fn admit(
        self,
        state: u64,
        now: u64,
        cost: u32,
        patience: u64,
    ) -> Result<(u64, u64), u64> {
        match self {
            Self::Gcra { interval, burst } => {
                if cost > burst {
                    return Err(NEVER);
                }
                if cost == 0 {
                    return Ok((state, 0));
                }
                let tat = state.max(now);
                let tat = tat.saturating_add(interval.saturating_mul(cost.into()));
                let earliest = tat.saturating_sub(interval.saturating_mul(burst.into()));
                let wait = earliest.saturating_sub(now);
                if wait > patience {
                    return Err(wait);
                }
                Ok((tat.min(MOST), wait))
            }
            Self::Window { length, limit } => {
                if cost > limit {
                    return Err(NEVER);
                }
                let at = At::of(state, now, length);
                let calls = at.now + u64::from(cost);
                let used = at.used(length) + u128::from(cost) * u128::from(length);
                if cost == 0 || used <= u128::from(limit) * u128::from(length) {
                    return Ok((At { now: calls, ..at }.pack(), 0));
                }
                Err(at.wait(length, limit, cost))
            }
        }
    }

    /// The number before a call of so much `cost` that was the last one.
    pub(super) const fn take_back(self, state: u64, cost: u32) -> u64 {
        match self {
            Self::Gcra { interval, .. } => {
                state.saturating_sub(interval.saturating_mul(cost as u64))
            }
            Self::Window { .. } => state,
        }
    }

    /// The number after so many more calls, allowed or not.
    pub(super) const fn give(self, state: u64, calls: u32) -> u64 {
        match self {
            Self::Gcra { interval, .. } => {
                state.saturating_add(interval.saturating_mul(calls as u64))
            }
            Self::Window { .. } => state,
        }
    }

    /// The number that a bucket has from which so many calls have just been taken, if `state` says less.
    pub(super) fn at_least(self, state: u64, now: u64, calls: u64) -> u64 {
        match self {
            Self::Gcra { interval, .. } => {
                state.max(now.saturating_add(interval.saturating_mul(calls)).min(MOST))
            }
            Self::Window { .. } => state,
        }
    }

    /// What is left.
    pub(super) fn standing(self, state: u64, now: u64) -> Standing {
        match self {
            Self::Gcra { interval, burst } => {
                let debt = state.saturating_sub(now);
                let room = interval.saturating_mul(burst.into()).saturating_sub(debt);
                Standing {
                    remaining: (room / interval.max(1)).min(burst.into()) as u32,
                    reset: debt,
                }
            }
            Self::Window { length, limit } => {
                let at = At::of(state, now, length);
                let used = at.used(length).div_ceil(u128::from(length.max(1)));
                Standing {
                    remaining: u128::from(limit).saturating_sub(used) as u32,
                    reset: length - at.elapsed,
                }
            }
        }
    }

    /// How many calls are allowed at once, and the time in which as many are allowed again.
    pub(super) const fn quota(self) -> (u32, u64) {
        match self {
            Self::Gcra { interval, burst } => (burst, interval.saturating_mul(burst as u64)),
            Self::Window { length, limit } => (limit, length),
        }
    }

    /// From when on the number carries no information.
    pub(super) fn idle_at(self, state: u64, now: u64) -> u64 {
        match self {
            Self::Gcra { .. } => state,
            Self::Window { length, .. } => {
                let at = At::of(state, now, length);
                let windows = match (at.now, at.before) {
                    (0, 0) => return now,
                    (0, _) => 1,
                    _ => 2,
                };
                now + (length * windows).saturating_sub(at.elapsed)
            }
        }
    }

    /// The number under this rule that leaves the same share of the bucket as `state` did under
    /// `old`. Never less than an empty bucket.
    pub(super) fn rescale(self, old: Self, state: u64, now: u64) -> u64 {
        if self == old {
            return state;
        }
        if let (
            Self::Window { length, limit },
            Self::Window {
                length: same,
                limit: was,
            },
        ) = (self, old)
            && length == same
        {
            let at = At::of(state, now, length);
            let scale = |count: u64| {
                (count * u64::from(limit))
                    .div_ceil(was.max(1).into())
                    .min(limit.into())
            };
            return At {
                now: scale(at.now),
                before: scale(at.before),
                ..at
            }
            .pack();
        }
        let (mut used, mut of) = old.share(state, now);
        while of > u128::from(u64::MAX) {
            used = used.div_ceil(2);
            of /= 2;
        }
        let share = |whole: u64| {
            (used * u128::from(whole))
                .div_ceil(of.max(1))
                .min(whole.into())
        };
        match self {
            Self::Gcra { interval, burst } => {
                let window = interval.saturating_mul(burst.into());
                now.saturating_add(share(window) as u64).min(MOST)
            }
            Self::Window { length, limit } => At {
                now: share(limit.into()) as u64,
                ..At::empty(now, length)
            }
            .pack(),
        }
    }

    /// What is used, and of how much.
    fn share(self, state: u64, now: u64) -> (u128, u128) {
        match self {
            Self::Gcra { interval, burst } => (
                state.saturating_sub(now).into(),
                interval.saturating_mul(burst.into()).into(),
            ),
            Self::Window { length, limit } => (
                At::of(state, now, length).used(length),
                u128::from(limit) * u128::from(length),
            ),
        }
    }
}

/// A sliding window at a time.
#[derive(Clone, Copy)]
struct At {
    id: u64,
    /// How much of it is over.
    elapsed: u64,
    now: u64,
    before: u64,
}

impl At {
    fn empty(now: u64, length: u64) -> Self {
        let length = length.max(1);
        Self {
            id: (now / length) & ID,
            elapsed: now % length,
            now: 0,
            before: 0,
        }
    }

    fn of(state: u64, now: u64, length: u64) -> Self {
        let empty = Self::empty(now, length);
        let stored = state >> (2 * COUNT_BITS) & ID;
        let (current, before) = (state >> COUNT_BITS & COUNT, state & COUNT);
        match empty.id.wrapping_sub(stored) & ID {
            0 => Self {
                now: current,
                before,
                ..empty
            },
            1 => Self {
                before: current,
                ..empty
            },
            // A time that was read earlier: as it was at the start of the window that is on. What seems to be much
            // later than now is of so long ago that the ids have come round.
            ago if ID - ago < (LATE / length.max(1)).clamp(1, ID / 2) => Self {
                id: stored,
                elapsed: 0,
                now: current,
                before,
            },
            _ => empty,
        }
    }

    /// No count is above [`MOST_IN_A_WINDOW`].
    const fn pack(self) -> u64 {
        self.id << (2 * COUNT_BITS) | self.now << COUNT_BITS | self.before
    }

    /// The calls that count, each as long as a window.
    fn used(self, length: u64) -> u128 {
        u128::from(self.before) * u128::from(length - self.elapsed)
            + u128::from(self.now) * u128::from(length)
    }

    /// The time after which a call that is too early is allowed, if no other comes.
    fn wait(self, length: u64, limit: u32, cost: u32) -> u64 {
        // When `count` calls of the window before leave room for `room`; at once if there are none.
        let when = |count: u64, room: u64| {
            let stay = (u128::from(room) * u128::from(length)).checked_div(count.into());
            let stay = stay.and_then(|stay| u64::try_from(stay).ok());
            length.saturating_sub(stay.unwrap_or(u64::MAX))
        };
        let room = u64::from(limit) - u64::from(cost);
        match room.checked_sub(self.now) {
            Some(left) => when(self.before, left).saturating_sub(self.elapsed),
            None => length - self.elapsed + when(self.now, room),
        }
        .max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Rule = Rule::Window {
        length: 100,
        limit: 10,
    };

    const fn window(length: u64, limit: u32) -> Rule {
        Rule::Window { length, limit }
    }

    /// In window 5, so many calls in it and so many in the one before.
    const fn counts(now: u64, before: u64) -> u64 {
        At {
            id: 5,
            elapsed: 0,
            now,
            before,
        }
        .pack()
    }

    fn left(rule: Rule, state: u64, now: u64) -> u32 {
        rule.standing(state, now).remaining
    }

    #[test]
    fn a_window_stands_until_it_ends() {
        for (now, remaining, reset) in [
            (500, 2, 100),
            (530, 3, 70),
            (599, 6, 1),
            (600, 7, 100),
            (650, 8, 50),
        ] {
            let standing = WINDOW.standing(counts(3, 5), now);
            assert_eq!(standing, Standing { remaining, reset }, "{now}");
        }
        assert_eq!(WINDOW.standing(counts(3, 9), 500).remaining, 0);
    }

    #[test]
    fn a_number_is_idle_when_nothing_of_it_counts() {
        for (state, now, idle) in [
            (counts(0, 0), 530, 530),
            (counts(0, 1), 530, 600),
            (counts(1, 0), 530, 700),
            (counts(1, 1), 599, 700),
            // The one before, by now; and one of long ago.
            (counts(1, 1), 600, 700),
            (counts(0, 1), 600, 600),
            (counts(1, 1), 700, 700),
        ] {
            assert_eq!(WINDOW.idle_at(state, now), idle, "{state:x} {now}");
        }
        assert_eq!(Rule::new(10, 5).idle_at(77, 5), 77);
    }

    /// What seems to be later than that is of so long ago that the ids have come round.
    #[test]
    fn a_time_may_have_been_read_ten_seconds_ago() {
        const SECOND: u64 = 1_000_000_000;
        for (length, most) in [(SECOND, 10), (60 * SECOND, 1), (1, ID / 2)] {
            let at = 3 * ID + 100;
            let used = At {
                now: 4,
                before: 3,
                ..At::empty(at * length, length)
            };
            let left = |ago: u64| left(window(length, 10), used.pack(), (at - ago) * length);
            assert_eq!((left(0), left(1), left(most)), (3, 3, 3), "{length}");
            assert_eq!(left(most + 1), 10, "{length}");
        }
    }

    #[test]
    fn another_limit_keeps_the_share_of_both_windows() {
        assert_eq!(
            window(100, 100).rescale(WINDOW, counts(3, 4), 500),
            counts(30, 40)
        );
        assert_eq!(
            window(100, 5).rescale(WINDOW, counts(3, 4), 500),
            counts(2, 2)
        );
        // What was too much before stays within the limit.
        assert_eq!(
            window(100, 5).rescale(WINDOW, counts(30, 11), 500),
            counts(5, 5)
        );
        assert_eq!(
            window(100, 7).rescale(window(100, 0), counts(1, 0), 500),
            counts(7, 0)
        );
    }

    #[test]
    fn another_rule_keeps_the_share_that_is_left() {
        let gcra = Rule::new(10, 20);
        // 3 + 4 * 70 / 100 of 10.
        let state = gcra.rescale(WINDOW, counts(3, 4), 530);
        assert_eq!(state, 530 + 116);
        assert_eq!(gcra.rescale(WINDOW, counts(0, 0), 530), 530);
        assert_eq!(left(WINDOW, WINDOW.rescale(gcra, 530 + 116, 530), 530), 4);
        assert_eq!(left(WINDOW, WINDOW.rescale(gcra, 529, 530), 530), 10);
        assert_eq!(left(WINDOW, WINDOW.rescale(gcra, 5_000, 530), 530), 0);
        assert_eq!(Rule::new(5, 20).rescale(gcra, 530 + 116, 530), 530 + 58);
        assert_eq!(
            Rule::new(5, 20).rescale(Rule::new(0, 0), 531, 530),
            530 + 100
        );
        // The same one changes nothing, not even a debt that callers wait for.
        assert_eq!(gcra.rescale(gcra, 5_000, 530), 5_000);
        // In the window of now, also where its id has more bits than there are.
        let late = (ID + 7) * 200 + 50;
        let state = window(200, 10).rescale(gcra, late + 100, late);
        assert_eq!(
            (state >> (2 * COUNT_BITS), state >> COUNT_BITS & COUNT),
            (6, 5)
        );
    }

    #[test]
    fn a_window_holds_as_many_calls_as_a_rule_may_allow() {
        let full = u64::from(MOST_IN_A_WINDOW);
        let rule = window(100, MOST_IN_A_WINDOW);
        let (state, _) = rule.admit(counts(0, 0), 500, MOST_IN_A_WINDOW, 0).unwrap();
        assert_eq!(state, counts(full, 0));
        assert_eq!(rule.admit(state, 500, 0, 0), Ok((state, 0)));
        assert_eq!(rule.admit(state, 500, 1, 0), Err(101));
        let (state, _) = rule.admit(state, 600, 0, 0).unwrap();
        assert_eq!(At::of(state, 600, 100).before, full);
        assert_eq!(state >> (2 * COUNT_BITS), 6);
    }

    #[test]
    fn shares_of_numbers_that_are_very_large() {
        let day = 86_400_000_000_000;
        let large = window(day, MOST_IN_A_WINDOW);
        let used = At {
            now: 500_000,
            ..At::empty(day, day)
        };
        for (to, state) in [
            (Rule::new(1 << 10, 1 << 10), day + (1 << 19)),
            (Rule::new(1 << 43, 1 << 20), MOST),
        ] {
            assert_eq!(to.rescale(large, used.pack(), day), state);
        }
    }

    /// What fits into a word is the most that a bucket owes.
    #[test]
    fn a_number_has_its_bits_and_no_more() {
        assert_eq!(MOST.count_ones(), BITS);
        let slow = Rule::new(1 << 57, 100);
        assert_eq!(slow.admit(MOST - 1, 0, 1, NEVER - 1), Ok((MOST, 0)));
        assert_eq!(slow.at_least(0, MOST - 1, 1), MOST);
        assert_eq!(slow.rescale(Rule::new(1, 1), MOST, MOST - 1), MOST);
    }
}
