//! What stands between two slashes of a pattern.

use std::sync::Arc;

use super::Shape;
use crate::matcher::Captures;

/// One segment as a pattern keeps it.
#[derive(Clone, Debug)]
pub(super) enum Segment {
    /// Text that stands in the pattern as it is matched.
    Written(u32, u32),
    /// Text with escapes, in canonical form.
    Canonical(Box<[u8]>),
    Param,
    Rest,
    Shaped(Arc<Shape>),
}

/// One segment, in canonical form. An open one is the last of its pattern and ends with a catch-all.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// Text alone.
    Static(&'a [u8]),
    /// One plain parameter and nothing else.
    Param,
    /// A catch-all and nothing else.
    Rest,
    /// Anything else.
    Shaped(&'a Arc<Shape>),
}

impl Segment {
    /// `text` is that of the pattern.
    pub(super) fn step<'a>(&'a self, text: &'a str) -> Step<'a> {
        match self {
            Self::Written(start, end) => Step::Static(
                text.as_bytes()
                    .get(*start as usize..*end as usize)
                    .unwrap_or_default(),
            ),
            Self::Canonical(text) => Step::Static(text),
            Self::Param => Step::Param,
            Self::Rest => Step::Rest,
            Self::Shaped(shape) => Step::Shaped(shape),
        }
    }
}

impl Step<'_> {
    /// Matches `path[at..end]` as a whole, and for an open one whatever follows.
    pub(super) fn eat(self, path: &[u8], at: usize, end: usize, captures: &mut Captures) -> bool {
        match self {
            Self::Static(text) => path.get(at..end) == Some(text),
            Self::Param if at == end && end == path.len() => false,
            Self::Param => {
                captures.push(at, end);
                true
            }
            Self::Rest => {
                captures.push(at, path.len());
                true
            }
            Self::Shaped(shape) => shape.eat(path, (at, end), true, captures),
        }
    }

    pub(super) fn is_open(self) -> bool {
        match self {
            Self::Static(_) | Self::Param => false,
            Self::Rest => true,
            Self::Shaped(shape) => shape.spec.open,
        }
    }
}
