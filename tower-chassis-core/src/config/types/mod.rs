//! Values that users write as text.

mod ratio;
mod secret;
mod size;
mod span;

pub use self::{
    ratio::Ratio,
    secret::{Secret, SecretError},
    size::{ByteSize, byte_size},
    span::{Span, duration},
};

use std::fmt;

/// A text that is not what its type wants. Displays as the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl ParseError {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}
