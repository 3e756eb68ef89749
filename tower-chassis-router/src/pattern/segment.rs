//! What stands between two slashes of a pattern.

use std::sync::Arc;

use super::Shape;
use crate::matcher::Captures;

/// One segment, in canonical form. An open one is the last of its pattern and ends with a catch-all.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// Text alone.
    Static(Box<[u8]>),
    /// One plain parameter and nothing else.
    Param,
    /// A catch-all and nothing else.
    Rest,
    /// Anything else.
    Shaped(Arc<Shape>),
}

impl Segment {
    /// Matches `path[at..end]` as a whole, and for an open one whatever follows.
    pub(super) fn eat(&self, path: &[u8], at: usize, end: usize, captures: &mut Captures) -> bool {
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
            Self::Shaped(shape) => shape.eat(path, at, end, captures),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Static(_) | Self::Param => false,
            Self::Rest => true,
            Self::Shaped(shape) => shape.spec.open,
        }
    }
}
