//! What serde says, kept in parts until the path is known.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

use super::super::{path::Step, secrecy};

/// A text longer than this is cut when it is quoted.
const MAX_QUOTED: usize = 60;

/// An error on its way from the value to the root.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) kind: Kind,
    /// The innermost step first.
    pub(super) steps: Vec<Step>,
    /// Raised by something that nobody wrote.
    pub(super) stand_in: bool,
    /// About the key and not about what stands behind it.
    pub(super) on_key: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Missing(&'static str),
    UnknownField {
        field: String,
        accepted: &'static [&'static str],
    },
    UnknownVariant {
        variant: String,
        accepted: &'static [&'static str],
    },
    Type {
        found: Found,
        expected: String,
    },
    Custom(String),
}

impl Kind {
    /// Whether it speaks of a whole, parts of which may have been left out.
    pub(super) fn may_be_consequence(&self) -> bool {
        matches!(self, Self::Custom(_))
    }
}

/// What was found, in words that may and in words that must not show it.
#[derive(Debug)]
pub(super) struct Found {
    kind: &'static str,
    shown: Option<String>,
}

impl Found {
    pub(super) fn words(&self, secret: bool) -> &str {
        match &self.shown {
            Some(shown) if !secret => shown,
            _ => self.kind,
        }
    }

    /// Whether quotes would make it a string.
    pub(super) fn is_unquoted(&self) -> bool {
        matches!(self.kind, "a boolean" | "an integer" | "a number")
    }
}

impl From<Unexpected<'_>> for Found {
    fn from(found: Unexpected<'_>) -> Self {
        let (kind, shown) = match found {
            Unexpected::Bool(b) => ("a boolean", Some(b.to_string())),
            Unexpected::Unsigned(n) => ("an integer", Some(n.to_string())),
            Unexpected::Signed(n) => ("an integer", Some(n.to_string())),
            // Debug keeps the point: 3.0 is not what a type that wants an integer was given 3 for.
            Unexpected::Float(n) => ("a number", Some(format!("{n:?}"))),
            Unexpected::Char(c) => ("a string", Some(quoted(c.encode_utf8(&mut [0; 4])))),
            Unexpected::Str(text) => ("a string", Some(quoted(text))),
            Unexpected::Bytes(_) => ("bytes", None),
            Unexpected::Unit | Unexpected::Option => ("nothing", None),
            Unexpected::Seq => ("a list", None),
            Unexpected::Map | Unexpected::NewtypeStruct | Unexpected::StructVariant => {
                ("a map", None)
            }
            Unexpected::Enum | Unexpected::UnitVariant => ("a name", None),
            Unexpected::NewtypeVariant | Unexpected::TupleVariant => {
                ("a name with something behind it", None)
            }
            Unexpected::Other(other) => ("something else", Some(other.to_owned())),
        };
        Self { kind, shown }
    }
}

/// A text in quotes, cut, and without the password of a URL.
pub(super) fn quoted(text: &str) -> String {
    let text = secrecy::without_userinfo(text);
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("\"{}…\"", text.get(..end).unwrap_or_default()),
        None => format!("\"{text}\""),
    }
}

impl Error {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            steps: Vec::new(),
            stand_in: false,
            on_key: false,
        }
    }

    /// A value of a kind that is not wanted.
    pub(super) fn found(found: Unexpected<'_>, expected: impl Into<String>) -> Self {
        Self::new(Kind::Type {
            found: found.into(),
            expected: expected.into(),
        })
    }

    /// One step nearer to the root.
    pub(super) fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Raised while the key was read.
    pub(super) fn at_key(mut self, step: Step) -> Self {
        // An unknown key is a matter of the map.
        if !matches!(self.kind, Kind::UnknownField { .. }) {
            self.on_key = self.steps.is_empty();
            self.steps.push(step);
        }
        self
    }

    /// Raised by the stand-in for a field; whatever is inside of it was made up.
    pub(super) fn in_stand_in(mut self, step: Step) -> Self {
        self.steps = vec![step];
        self.stand_in = true;
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Missing(field) => write!(f, "missing required key \"{field}\""),
            Kind::UnknownField { field, .. } => write!(f, "unknown key \"{field}\""),
            Kind::UnknownVariant { variant, .. } => write!(f, "unknown value \"{variant}\""),
            Kind::Type { found, expected } => {
                write!(f, "expected {expected}, found {}", found.words(false))
            }
            Kind::Custom(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Kind::Custom(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::found(found, words(&expected.to_string()))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::found(found, words(&expected.to_string()))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        // Something may have been left out of a list; then its length is a consequence.
        Self::custom(format_args!(
            "expected {}, found {length}",
            words(&expected.to_string())
        ))
    }

    fn unknown_variant(variant: &str, accepted: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownVariant {
            variant: variant.to_owned(),
            accepted,
        })
    }

    fn unknown_field(field: &str, accepted: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownField {
            field: field.to_owned(),
            accepted,
        })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        // The tree has each key once: this is a key and its alias.
        Self::custom(format_args!("\"{field}\" is given twice, under two names"))
    }
}

/// What a type expects, in the words of a file and not in those of a programming language.
fn words(expected: &str) -> String {
    let same = match expected {
        "u64" | "usize" | "u128" => "an integer of at least 0",
        "i64" | "isize" | "i128" => "an integer",
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "i8" => "an integer from -128 to 127",
        "i16" => "an integer from -32768 to 32767",
        "i32" => "an integer from -2147483648 to 2147483647",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a borrowed string" | "a string" | "path string" => "a string",
        "a sequence" | "a set" => "a list",
        "unit" => "nothing",
        _ if expected.starts_with("a nonzero ") => "an integer other than 0",
        _ if expected.starts_with("struct ") || expected.contains("tagged enum ") => "a map",
        _ if expected.starts_with("tuple ") => "a list",
        other => other,
    };
    same.to_owned()
}
