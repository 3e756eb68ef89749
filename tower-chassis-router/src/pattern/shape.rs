//! Segments with more than one parameter or none, each with the means that fits it.
//!
//! | a segment of | is matched by |
//! |---|---|
//! | one parameter between texts | comparing both texts |
//! | several plain parameters | searching the text behind each, from the left |
//! | several, at least one with an expression | the [`engine`](super::engine) |
//!
//! All of these are linear in the segment, and find the split whose first capture is shortest, then the
//! second, and so on.

use std::sync::Arc;

use super::{Token, engine::Engine};
use crate::{
    expression::{Expression, Unfit},
    matcher::Captures,
    percent::{aligned, decode},
};

/// What a segment consists of, in canonical form. Segments of equal specifications match the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Spec {
    pub(crate) prefix: Vec<u8>,
    pub(crate) holes: Vec<Hole>,
    /// Whether a catch-all is behind all of it.
    pub(crate) open: bool,
}

/// A parameter inside of a segment, and the text behind it: an empty one only at the end of the segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hole {
    pub(crate) expression: Option<Box<str>>,
    pub(crate) then: Vec<u8>,
}

impl Spec {
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let mut tokens = Vec::new();
        tokens.extend(self.prefix.iter().copied().map(Token::Byte));
        for hole in &self.holes {
            let tail = hole.then.first().copied();
            tokens.push(match &hole.expression {
                Some(text) => Token::Expression {
                    text: text.clone(),
                    tail,
                },
                None => Token::Param { tail },
            });
            tokens.extend(hole.then.iter().copied().map(Token::Byte));
        }
        if self.open {
            tokens.push(Token::CatchAll);
        }
        tokens
    }
}

/// A [`Spec`] and how it is matched.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) spec: Arc<Spec>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    One(Option<Expression>),
    Many,
    Engine(Engine),
}

impl Shape {
    /// `expressions` are those of the holes, compiled.
    pub(super) fn new(
        spec: Spec,
        mut expressions: Vec<Option<Expression>>,
        size_limit: usize,
    ) -> Result<Self, Unfit> {
        let plain = spec.holes.iter().all(|hole| hole.expression.is_none());
        let kind = if spec.holes.len() == 1 && !spec.open {
            Kind::One(expressions.pop().flatten())
        } else if plain {
            Kind::Many
        } else {
            Kind::Engine(Engine::new(&spec, size_limit)?)
        };
        Ok(Self {
            spec: Arc::new(spec),
            kind,
        })
    }

    /// Matches `path[at..end]`, and for an open one all that follows; leaves `captures` as they were if it
    /// does not match.
    pub(crate) fn eat(&self, path: &[u8], at: usize, end: usize, captures: &mut Captures) -> bool {
        let kept = captures.len();
        let matched = self.walk(path, at, end, captures).is_some();
        if !matched {
            captures.truncate(kept);
        }
        matched
    }

    fn walk(&self, path: &[u8], at: usize, end: usize, captures: &mut Captures) -> Option<()> {
        let segment = path.get(at..end)?;
        if !segment.starts_with(&self.spec.prefix) {
            return None;
        }
        let start = at + self.spec.prefix.len();
        match &self.kind {
            Kind::One(test) => {
                let stop = self.stop(path, start, end)?;
                if let Some(test) = test
                    && !test.matches(&decode(path.get(start..stop)?))
                {
                    return None;
                }
                captures.push(start, stop);
            }
            Kind::Many => {
                let (inner, stop) = if self.spec.open {
                    (self.spec.holes.as_slice(), end)
                } else {
                    let (_, inner) = self.spec.holes.split_last()?;
                    (inner, self.stop(path, start, end)?)
                };
                let mut start = start;
                // The first place of each text is as good as any: what is behind it is again a
                // parameter, which takes whatever a later place would have skipped.
                for hole in inner {
                    let found = find(path, start, stop, &hole.then)?;
                    captures.push(start, found);
                    start = found + hole.then.len();
                }
                if self.spec.open {
                    captures.push(start, path.len());
                } else if start == stop && self.ends_open(stop, path) {
                    return None;
                } else {
                    captures.push(start, stop);
                }
            }
            Kind::Engine(engine) => engine.eat(&self.spec, path, start, end, captures)?,
        }
        Some(())
    }

    /// Where the last parameter of a closed segment ends.
    fn stop(&self, path: &[u8], start: usize, end: usize) -> Option<usize> {
        let suffix = &self.spec.holes.last()?.then;
        let stop = end
            .checked_sub(suffix.len())
            .filter(|stop| *stop >= start)?;
        if path.get(stop..end)? != suffix || !aligned(path, stop) {
            return None;
        }
        (stop > start || self.spec.holes.len() > 1 || !self.ends_open(stop, path)).then_some(stop)
    }

    /// Whether a parameter that ends here ends the path: then it takes at least one byte.
    fn ends_open(&self, stop: usize, path: &[u8]) -> bool {
        stop == path.len()
            && self
                .spec
                .holes
                .last()
                .is_some_and(|hole| hole.then.is_empty())
    }
}

/// The first place of `text` in `path[start..end]`.
fn find(path: &[u8], mut start: usize, end: usize, text: &[u8]) -> Option<usize> {
    let (first, rest) = text.split_first()?;
    loop {
        let place = start + memchr::memchr(*first, path.get(start..end)?)?;
        start = place + 1;
        if path.get(start..end)?.starts_with(rest) && aligned(path, place) {
            return Some(place);
        }
    }
}
