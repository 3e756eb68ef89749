//! Parts of a whole.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::ParseError;

/// A part of a whole, from 0 to 1. Never NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Ratio(f64);

impl Ratio {
    /// The part, from 0 to 1.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Ratio {
    type Error = ParseError;

    fn try_from(part: f64) -> Result<Self, ParseError> {
        if (0.0..=1.0).contains(&part) {
            Ok(Self(part))
        } else {
            Err(ParseError::new(format!("must be from 0 to 1, not {part}")))
        }
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer)?
            .try_into()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_not_more_than_the_whole() {
        for part in [0.0, 0.5, 1.0] {
            assert_eq!(Ratio::try_from(part).unwrap().get(), part);
        }
        for (part, reason) in [
            (1.5, "must be from 0 to 1, not 1.5"),
            (-0.1, "must be from 0 to 1, not -0.1"),
            (f64::NAN, "must be from 0 to 1, not NaN"),
            (f64::INFINITY, "must be from 0 to 1, not inf"),
        ] {
            assert_eq!(Ratio::try_from(part).unwrap_err().to_string(), reason);
        }
    }
}
