//! When a call must be over: absolute in the process, relative on the wire.

use std::{fmt, ops::Deref, time::Duration};

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
    /// so that never more is promised than is left. No allocation.
    #[must_use]
    pub fn grpc_timeout(left: Duration) -> Relative {
        const MAX: u128 = 99_999_999;
        let units = [
            (left.as_nanos(), b'n'),
            (left.as_micros(), b'u'),
            (left.as_millis(), b'm'),
            (u128::from(left.as_secs()), b'S'),
            (u128::from(left.as_secs() / 60), b'M'),
        ];
        let hours = u128::from(left.as_secs() / 3600).min(MAX);
        let (amount, unit) = units
            .into_iter()
            .find(|(amount, _)| *amount <= MAX)
            .unwrap_or((hours, b'H'));
        // At most eight digits.
        Relative::new(amount as u64, Some(unit))
    }

    /// Reads whole milliseconds, as `x-request-timeout-ms` has them: digits and nothing else. A number that is
    /// too large is as large as can be.
    #[must_use]
    pub fn parse_millis(value: &str) -> Option<Duration> {
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Duration::from_millis(value.parse().unwrap_or(u64::MAX)))
    }

    /// Writes whole milliseconds, rounded down: less than one becomes `0`. No allocation.
    #[must_use]
    pub fn millis(left: Duration) -> Relative {
        Relative::new(u64::try_from(left.as_millis()).unwrap_or(u64::MAX), None)
    }
}

/// The text of a time that is left, as it goes over the wire. Made by [`Deadline::grpc_timeout`] and
/// [`Deadline::millis`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Relative {
    // Filled from the end: the digits of a u64 and a unit.
    text: [u8; LONGEST],
    begin: u8,
}

/// The most digits of a `u64`, and a unit.
const LONGEST: usize = 21;

impl Relative {
    fn new(mut amount: u64, unit: Option<u8>) -> Self {
        let mut text = [0; LONGEST];
        let mut begin = LONGEST;
        let mut put = |byte| {
            begin -= 1;
            text[begin] = byte;
        };
        if let Some(unit) = unit {
            put(unit);
        }
        loop {
            put(b'0' + (amount % 10) as u8);
            amount /= 10;
            if amount == 0 {
                break;
            }
        }
        Self {
            text,
            begin: begin as u8,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII was written.
        std::str::from_utf8(&self.text[usize::from(self.begin)..]).unwrap_or_default()
    }
}

impl Deref for Relative {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Relative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relative({self})")
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

    #[test]
    fn what_is_written_is_the_finest_unit_rounded_down() {
        for (left, grpc, millis) in [
            (Duration::ZERO, "0n", "0"),
            (Duration::from_nanos(99_999_999), "99999999n", "99"),
            (Duration::from_nanos(100_000_999), "100000u", "100"),
            (Duration::from_millis(100_000_999), "100000S", "100000999"),
            (
                Duration::from_secs(u64::MAX),
                "99999999H",
                "18446744073709551615",
            ),
        ] {
            assert_eq!(Deadline::grpc_timeout(left).as_str(), grpc);
            assert_eq!(Deadline::millis(left).to_string(), millis);
        }
    }

    #[test]
    fn milliseconds_are_digits_and_saturate() {
        for (text, value) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551616", Some(u64::MAX)),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5 ", None),
            ("5m", None),
            ("1.5", None),
            ("\u{665}", None),
        ] {
            let value = value.map(Duration::from_millis);
            assert_eq!(Deadline::parse_millis(text), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_round_trip_never_grows(nanos in any::<u64>()) {
            let left = Duration::from_nanos(nanos);
            let back = Deadline::parse_grpc_timeout(&Deadline::grpc_timeout(left)).unwrap();
            prop_assert!(back <= left);
            let back = Deadline::parse_millis(&Deadline::millis(left)).unwrap();
            prop_assert!(back <= left && left - back < Duration::from_millis(1));
        }
    }
}
