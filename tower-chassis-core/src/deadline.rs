//! When a call must be over: absolute in the process, relative on the wire.

use std::time::Duration;

use tokio::time::Instant;

/// The instant by which a call must be over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// At an instant.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// `after` from `now`. A time too far away to be told is as far as the clock reaches (30 years).
    #[must_use]
    pub fn after(now: Instant, after: Duration) -> Self {
        const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
        Self(now + after.min(FAR))
    }

    /// The instant.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }

    /// What is left at `now`; `None` when it has passed.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    /// Reads a `grpc-timeout` value: up to eight digits and one of `H M S m u n`.
    #[must_use]
    pub fn parse_grpc_timeout(value: &str) -> Option<Duration> {
        let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let amount: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(amount * 3600),
            "M" => Duration::from_secs(amount * 60),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    }

    /// Writes a duration as a `grpc-timeout` value: the finest unit that fits eight digits, rounded down,
    /// so that never more is promised than is left.
    #[must_use]
    pub fn grpc_timeout(left: Duration) -> String {
        const MAX: u128 = 99_999_999;
        let units = [
            (left.as_nanos(), 'n'),
            (left.as_micros(), 'u'),
            (left.as_millis(), 'm'),
            (u128::from(left.as_secs()), 'S'),
            (u128::from(left.as_secs() / 60), 'M'),
        ];
        match units.into_iter().find(|(amount, _)| *amount <= MAX) {
            Some((amount, unit)) => format!("{amount}{unit}"),
            None => format!("{}H", u128::from(left.as_secs() / 3600).min(MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grpc_timeout_table() {
        for (text, value) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("0m", Some(Duration::ZERO)),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100000000n", None),
            ("", None),
            ("5", None),
            ("m", None),
            ("5x", None),
            ("-5m", None),
            ("5é", None),
        ] {
            assert_eq!(Deadline::parse_grpc_timeout(text), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_round_trip_never_grows(nanos in any::<u64>()) {
            let left = Duration::from_nanos(nanos);
            let back = Deadline::parse_grpc_timeout(&Deadline::grpc_timeout(left)).unwrap();
            prop_assert!(back <= left);
        }
    }
}
