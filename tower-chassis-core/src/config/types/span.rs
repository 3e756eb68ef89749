//! Lengths of time.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ParseError;

/// The units, the largest first, in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A hundred years: whatever adds it to a clock does not overflow.
const LONGEST: u128 = 100 * 365 * 24 * 3_600_000_000_000;

/// A length of time as users write it: `250ms`, `1s`, `1m30s`, `1.5s`, `0s`.
///
/// Units are `ns`, `us`, `ms`, `s`, `m` and `h`, each at most once and the largest first. A number without
/// a unit is refused, since nobody can tell whether it means seconds. At most a hundred years.
///
/// For a field of type [`Duration`] see [`duration`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// The length of time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(length: Duration) -> Self {
        Self(length)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || {
            ParseError::new(format!(
                "not a duration: {text:?}; write 250ms, 1s or 1m30s"
            ))
        };
        let mut rest = text.trim();
        let mut units = UNITS.iter();
        let mut total: u128 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
            let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
            if unit.is_empty() && after.is_empty() && !number.is_empty() {
                return Err(ParseError::new(format!(
                    "a duration needs a unit; write {text}s or {text}ms"
                )));
            }
            // `find` goes on where it stopped, so that no unit comes twice or after a smaller one.
            let (_, nanos) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            total = nanoseconds(number, *nanos)
                .ok_or_else(wrong)?
                .and_then(|part| total.checked_add(part))
                .filter(|&total| total <= LONGEST)
                .ok_or_else(|| ParseError::new("longer than a hundred years"))?;
            rest = after;
        }
        let (seconds, nanos) = (total / 1_000_000_000, total % 1_000_000_000);
        // Both fit because of LONGEST.
        Ok(Self(Duration::new(
            seconds.try_into().unwrap_or(u64::MAX),
            nanos.try_into().unwrap_or_default(),
        )))
    }
}

fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

/// `None` if it is no number, `Some(None)` if it is too large.
fn nanoseconds(number: &str, unit: u128) -> Option<Option<u128>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * unit / scale;
    Some(
        whole
            .parse::<u128>()
            .ok()
            .and_then(|whole| whole.checked_mul(unit)?.checked_add(part)),
    )
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_nanos();
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, nanos) in UNITS {
            if left >= nanos {
                write!(f, "{}{name}", left / nanos)?;
                left %= nanos;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 250ms, 1s or 1m30s")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Span, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Span, E> {
        self.visit_str(&n.to_string())
    }

    fn visit_f64<E: de::Error>(self, n: f64) -> Result<Span, E> {
        self.visit_str(&n.to_string())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// For a field of type [`Duration`] that is written like a [`Span`]:
/// `#[serde(with = "tower_chassis_core::config::duration")]`.
pub mod duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, Span};

    /// Reads what a [`Span`] reads.
    ///
    /// # Errors
    ///
    /// Those of [`Span`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Span::deserialize(deserializer).map(Span::get)
    }

    /// Writes what a [`Span`] writes.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        Span(*length).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, nanos, written) in [
            ("250ms", 250_000_000, "250ms"),
            ("1s", 1_000_000_000, "1s"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("0s", 0, "0s"),
            ("0ms", 0, "0s"),
            ("1.5s", 1_500_000_000, "1s500ms"),
            ("2h0m1ns", 7_200_000_000_001, "2h1ns"),
            ("10us", 10_000, "10us"),
            (" 1s ", 1_000_000_000, "1s"),
            ("876000h", 3_153_600_000_000_000_000, "876000h"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(
                (span.0.as_nanos(), span.to_string().as_str()),
                (nanos, written),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_says_so() {
        for (text, reason) in [
            ("5", "a duration needs a unit; write 5s or 5ms"),
            ("1s5", "a duration needs a unit; write 1s5s or 1s5ms"),
            ("", "not a duration: \"\"; write 250ms, 1s or 1m30s"),
            ("1d", "not a duration: \"1d\"; write 250ms, 1s or 1m30s"),
            ("1s1m", "not a duration: \"1s1m\"; write 250ms, 1s or 1m30s"),
            ("1s1s", "not a duration: \"1s1s\"; write 250ms, 1s or 1m30s"),
            ("-1s", "not a duration: \"-1s\"; write 250ms, 1s or 1m30s"),
            (".5s", "not a duration: \".5s\"; write 250ms, 1s or 1m30s"),
            (
                "1..5s",
                "not a duration: \"1..5s\"; write 250ms, 1s or 1m30s",
            ),
            ("1 s", "not a duration: \"1 s\"; write 250ms, 1s or 1m30s"),
            ("s", "not a duration: \"s\"; write 250ms, 1s or 1m30s"),
            ("876001h", "longer than a hundred years"),
            (
                "99999999999999999999999999999999999999999h",
                "longer than a hundred years",
            ),
        ] {
            assert_eq!(
                text.parse::<Span>().unwrap_err().to_string(),
                reason,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(nanos in 0..u64::MAX / 8) {
            let span = Span(Duration::from_nanos(nanos));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn any_text_is_a_duration_or_not(text in "[0-9.hmsun -]{0,12}|.*") {
            let _ = text.parse::<Span>();
        }
    }
}
