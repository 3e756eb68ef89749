//! Numbers of bytes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ParseError;

const UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

/// A number of bytes as users write it: `64KiB`, `2MiB`, `1MB`, or a plain number of bytes.
///
/// Units are `B`, `kB`/`KB`, `MB`, `GB`, `TB` (powers of 1000) and `KiB`, `MiB`, `GiB`, `TiB` (powers of
/// 1024), with or without a space. Less than 2⁶⁴.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes, or the largest `usize` if it does not fit.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl FromStr for ByteSize {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || {
            ParseError::new(format!(
                "not a size: {text:?}; write 64KiB, 2MiB or a number of bytes"
            ))
        };
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit.trim_start())
            .ok_or_else(wrong)?;
        if number.is_empty() {
            return Err(wrong());
        }
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor));
        bytes
            .map(Self)
            .ok_or_else(|| ParseError::new("more bytes than 64 bits can count"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS
            .iter()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 64KiB, 2MiB or a number of bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(n))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<ByteSize, E> {
        u64::try_from(n)
            .map(ByteSize)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(n), &self))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a field of an integer type as a [`ByteSize`]: `#[serde(with = "tower_chassis_core::config::byte_size")]`.
pub mod byte_size {
    use super::{ByteSize, Deserialize, Deserializer, Serialize, Serializer, de};

    /// Reads what a [`ByteSize`] reads.
    ///
    /// # Errors
    ///
    /// Those of [`ByteSize`], and a size that the field's type cannot hold.
    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let size = ByteSize::deserialize(deserializer)?.get();
        T::try_from(size).map_err(|_| de::Error::custom("more bytes than this setting can hold"))
    }

    /// Writes what a [`ByteSize`] writes.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer, T: Copy + TryInto<u64>>(
        size: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        ByteSize((*size).try_into().unwrap_or(u64::MAX)).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes, written) in [
            ("64KiB", 65_536, "64KiB"),
            ("2MiB", 2_097_152, "2MiB"),
            ("1MB", 1_000_000, "1MB"),
            ("1 kB", 1_000, "1KB"),
            ("1500", 1_500, "1500B"),
            ("0", 0, "0B"),
            ("1024", 1_024, "1KiB"),
            ("3GiB", 3_221_225_472, "3GiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(
                (size.0, size.to_string().as_str()),
                (bytes, written),
                "{text}"
            );
        }
        for (text, reason) in [
            (
                "",
                "not a size: \"\"; write 64KiB, 2MiB or a number of bytes",
            ),
            (
                "KiB",
                "not a size: \"KiB\"; write 64KiB, 2MiB or a number of bytes",
            ),
            (
                "1.5MiB",
                "not a size: \"1.5MiB\"; write 64KiB, 2MiB or a number of bytes",
            ),
            (
                "1Mb",
                "not a size: \"1Mb\"; write 64KiB, 2MiB or a number of bytes",
            ),
            (
                "-1",
                "not a size: \"-1\"; write 64KiB, 2MiB or a number of bytes",
            ),
            ("99999999TiB", "more bytes than 64 bits can count"),
            ("99999999999999999999", "more bytes than 64 bits can count"),
        ] {
            assert_eq!(
                text.parse::<ByteSize>().unwrap_err().to_string(),
                reason,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
    }
}
