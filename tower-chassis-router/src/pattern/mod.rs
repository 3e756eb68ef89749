//! Patterns of paths: their grammar, and whether a path matches one.
//!
//! ```text
//! pattern  = "/" *( static | param | regexp ) [ "*" | "{*" name "}" ]
//! param    = "{" name "}"
//! regexp   = "{" name ":" expression "}"        braces inside of the expression must balance
//! ```
//!
//! | pattern | matches | does not match |
//! |---|---|---|
//! | `/users/{id}` | `/users/7` (`id` = `7`) | `/users/`, `/users/7/`, `/users/7/x` |
//! | `/users/{id:[0-9]+}` | `/users/7` | `/users/x`, `/users/7x` |
//! | `/{file}.{ext}` | `/photos.tar.gz` (`photos`, `tar.gz`) | `/photos` |
//! | `/{day:[0-9]+-[0-9]+}-{slug}` | `/05-12-a-b` (`05-12`, `a-b`) | `/5-a` |
//! | `/img-{n}.png` | `/img-3.png`, `/img-.png` | `/img-3.gif` |
//! | `/files/*` | `/files/` (`*` = nothing), `/files/a/b` | `/files` |
//! | `/files/{*rest}` | the same, read as `rest` | |
//! | `/api*` | `/api`, `/apix/y` | `/ap` |
//!
//! * A path is compared byte by byte, in its raw form, split at its slashes: `/a` is not `/a/`, `//a`
//!   is not `/a`, and `%2F` separates nothing. Escapes are compared by what they mean (`/%61` is `/a`,
//!   `%c3` is `%C3`).
//! * A parameter never spans a slash. Captures are leftmost and shortest. A parameter that ends the
//!   pattern takes at least one byte; one inside of it may be empty (an expression is asked).
//! * An expression must match the whole value, which it sees percent-decoded. It is linear in time and
//!   limited in size. `\d` and its like are ASCII.
//! * There is no escape for a literal `{`, `}` or `*`: write `%7B`, `%7D`, `%2A` (and the latter only
//!   matches the escaped form).

mod engine;
mod error;
mod parse;
mod segment;
mod shape;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

pub use self::error::{PatternError, PatternErrorKind};
use self::{segment::Segment, shape::Hole};
pub(crate) use self::{
    segment::Step,
    shape::{Shape, Spec},
};
use crate::{matcher::Captures, percent};

/// A compiled pattern. See the [module](self) for the grammar.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    segments: Box<[Segment]>,
    /// Where the names stand in the text.
    names: Box<[(u32, u32)]>,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    ///
    /// The first fault of the text, with its place.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        parse::parse(text)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in the order of the text; a bare catch-all is `*`.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|(start, end)| {
            self.text
                .get(*start as usize..*end as usize)
                .unwrap_or_default()
        })
    }

    /// Whether it ends with a catch-all.
    pub fn is_catch_all(&self) -> bool {
        self.steps().last().is_some_and(Step::is_open)
    }

    /// Whether `path` matches as a whole, from byte `at` on. What it captures is added to `captures`,
    /// which is left as it was where the path does not match. A rest of no bytes counts as `/`; a path that is too
    /// long for `http` does not match.
    ///
    /// ```
    /// use tower_chassis_router::{matcher::Captures, pattern::Pattern};
    ///
    /// let pattern = Pattern::parse("/users/{id}").unwrap();
    /// let mut captures = Captures::new();
    /// assert!(pattern.matches("/api/users/7", 4, &mut captures));
    /// assert_eq!(captures.get(0), Some((11, 12)));
    /// assert!(!pattern.matches("/users/", 0, &mut captures));
    /// ```
    pub fn matches(&self, path: &str, at: usize, captures: &mut Captures) -> bool {
        let kept = captures.len();
        let rest = path.as_bytes().get(at..);
        let Some(rest) = rest.filter(|_| path.len() <= usize::from(u16::MAX)) else {
            return false;
        };
        let matched = match percent::canonical(rest) {
            Cow::Borrowed(_) => self.walk(path.as_bytes(), at, captures),
            Cow::Owned(form) => {
                // Positions are those of the whole path.
                let whole = [path.as_bytes().get(..at).unwrap_or_default(), &form].concat();
                let matched = self.walk(&whole, at, captures);
                percent::restore(path.as_bytes(), at, captures, kept);
                matched
            }
        };
        if matched.is_none() {
            captures.truncate(kept);
        }
        matched.is_some()
    }

    /// The same in canonical form. `captures` are not cleared where it does not match.
    fn walk(&self, path: &[u8], at: usize, captures: &mut Captures) -> Option<()> {
        // The rest of a mount that was asked for by its own name has no bytes, and is `/`.
        let mut at = if at == path.len() && at > 0 {
            at
        } else {
            eat_slash(path, at)?
        };
        for (index, step) in self.steps().enumerate() {
            if index > 0 {
                at = eat_slash(path, at)?;
            }
            let rest = path.get(at..)?;
            let end = memchr::memchr(b'/', rest).map_or(path.len(), |slash| at + slash);
            if !step.eat(path, at, end, captures) {
                return None;
            }
            if step.is_open() {
                return Some(());
            }
            at = end;
        }
        (at == path.len()).then_some(())
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.segments.iter().map(|segment| segment.step(&self.text))
    }
}

/// One step of a segment; precedence is decided by these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Token {
    Byte(u8),
    /// The tail is the byte behind the parameter, none where it ends its segment.
    Expression {
        text: Box<str>,
        tail: Option<u8>,
    },
    Param {
        tail: Option<u8>,
    },
    CatchAll,
}

fn eat_slash(path: &[u8], at: usize) -> Option<usize> {
    (path.get(at) == Some(&b'/')).then_some(at + 1)
}
