//! Why a pattern was refused.

use std::{error::Error, fmt};

/// A pattern that cannot be read: what is wrong, in which pattern, at which byte.
///
/// Its text shows the place:
///
/// ```
/// use tower_chassis_router::pattern::Pattern;
///
/// let error = Pattern::parse("/users/{id").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "parameter is not closed by `}`\n  /users/{id\n         ^",
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PatternError {
    kind: PatternErrorKind,
    pattern: Box<str>,
    offset: usize,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PatternErrorKind {
    /// The pattern has no text at all.
    EmptyPattern,
    /// The pattern does not start with `/`.
    NoLeadingSlash,
    /// A `{` has no `}` that closes it; braces inside of an expression must balance.
    UnclosedParam,
    /// A `}` closes nothing. A literal brace is written as `%7B` or `%7D`.
    UnopenedParam,
    /// Something follows a catch-all.
    WildcardNotLast,
    /// No request asks for this host: it has a scheme, a port or a path, or a character that hosts have not.
    InvalidHost,
    /// A catch-all of a host is not the whole of its first label.
    WildcardInHost,
    /// The expression of a parameter cannot be compiled, or is too large.
    InvalidRegex {
        /// What the expression's parser says.
        source: regex::Error,
    },
    /// One name stands twice in one pattern.
    DuplicateParam {
        /// The name.
        name: Box<str>,
    },
    /// A parameter or named catch-all has no name.
    EmptyParamName,
    /// A name holds one of `{`, `}`, `/`, `*`, `:`; a catch-all takes no expression.
    InvalidParamName,
    /// Two parameters, or a parameter and a catch-all, with nothing between them.
    AdjacentParams,
    /// An expression that looks at what is around it (`\b`, `(?m)^`) shares its segment with another parameter
    /// or a catch-all. `^` and `$` say nothing new, and are fine.
    RegexBoundary,
}

impl PatternError {
    pub(crate) fn new(kind: PatternErrorKind, pattern: &str, offset: usize) -> Self {
        Self {
            kind,
            pattern: pattern.into(),
            offset,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> &PatternErrorKind {
        &self.kind
    }

    /// The whole pattern, as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The byte of the pattern where the fault starts.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for PatternErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPattern => f.write_str("pattern is empty, the shortest is `/`"),
            Self::NoLeadingSlash => f.write_str("pattern does not start with `/`"),
            Self::UnclosedParam => f.write_str("parameter is not closed by `}`"),
            Self::UnopenedParam => {
                f.write_str("`}` closes nothing, a literal one is written as `%7D`")
            }
            Self::WildcardNotLast => f.write_str("a catch-all must be the last of a pattern"),
            Self::InvalidHost => {
                f.write_str("no request has such a host, which is a name or an address alone")
            }
            Self::WildcardInHost => {
                f.write_str("a catch-all of a host must be the whole of its first label")
            }
            Self::InvalidRegex { .. } => f.write_str("expression cannot be compiled"),
            Self::DuplicateParam { name } => {
                write!(f, "parameter `{name}` stands twice in one pattern")
            }
            Self::EmptyParamName => f.write_str("parameter has no name"),
            Self::InvalidParamName => {
                f.write_str("a parameter's name cannot hold `{`, `}`, `/` or `*`, nor a catch-all's `:`")
            }
            Self::AdjacentParams => {
                f.write_str("nothing separates this from the parameter before it")
            }
            Self::RegexBoundary => f.write_str(
                "an expression beside another parameter or a catch-all cannot look at what is around it",
            ),
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self
            .pattern
            .get(..self.offset)
            .unwrap_or_default()
            .chars()
            .count();
        write!(f, "{}\n  {}\n  {:before$}^", self.kind, self.pattern, "")
    }
}

impl Error for PatternError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            PatternErrorKind::InvalidRegex { source } => Some(source),
            _ => None,
        }
    }
}
