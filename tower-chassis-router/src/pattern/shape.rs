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
    /// does not match. `escaped` if the path may have escapes.
    pub(crate) fn eat(
        &self,
        path: &[u8],
        (at, end): (usize, usize),
        escaped: bool,
        captures: &mut Captures,
    ) -> bool {
        let Some(segment) = path.get(at..end) else {
            return false;
        };
        if !starts_with(segment, &self.spec.prefix) {
            return false;
        }
        let start = at + self.spec.prefix.len();
        let text = Text {
            path,
            start,
            end,
            escaped,
        };
        if let Kind::One(test) = &self.kind {
            // No captures to take back.
            let Some(stop) = self.stop(text) else {
                return false;
            };
            let value = || path.get(start..stop).unwrap_or_default();
            let fits = match test {
                None => true,
                Some(test) if escaped => test.matches(&decode(value())),
                Some(test) => test.matches(value()),
            };
            if fits {
                captures.push(start, stop);
            }
            return fits;
        }
        let kept = captures.len();
        let matched = match &self.kind {
            Kind::Engine(engine) => engine.eat(&self.spec, path, start, end, captures),
            _ => self.eat_many(text, captures),
        };
        if matched.is_none() {
            captures.truncate(kept);
        }
        matched.is_some()
    }

    fn eat_many(&self, text: Text<'_>, captures: &mut Captures) -> Option<()> {
        let (inner, stop) = if self.spec.open {
            (self.spec.holes.as_slice(), text.end)
        } else {
            let (_, inner) = self.spec.holes.split_last()?;
            (inner, self.stop(text)?)
        };
        let mut start = text.start;
        // The first place of each text is as good as any: what is behind it is again a parameter, which
        // takes whatever a later place would have skipped.
        for hole in inner {
            let found = text.find(start, stop, &hole.then)?;
            captures.push(start, found);
            start = found + hole.then.len();
        }
        if self.spec.open {
            captures.push(start, text.path.len());
        } else if start == stop && self.ends_open(stop, text.path) {
            return None;
        } else {
            captures.push(start, stop);
        }
        Some(())
    }

    /// Where the last parameter of a closed segment ends.
    fn stop(&self, text: Text<'_>) -> Option<usize> {
        let suffix = &self.spec.holes.last()?.then;
        let stop = text
            .end
            .checked_sub(suffix.len())
            .filter(|stop| *stop >= text.start)?;
        if suffix.is_empty() {
            let empty = stop == text.start && self.spec.holes.len() == 1;
            return (!(empty && stop == text.path.len())).then_some(stop);
        }
        (starts_with(text.path.get(stop..)?, suffix) && text.aligned(stop)).then_some(stop)
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

/// What is left of a segment behind its prefix.
#[derive(Clone, Copy)]
struct Text<'a> {
    path: &'a [u8],
    start: usize,
    end: usize,
    escaped: bool,
}

impl Text<'_> {
    fn aligned(self, at: usize) -> bool {
        !self.escaped || aligned(self.path, at)
    }

    /// The first place of `text` in `path[start..end]`.
    fn find(self, mut start: usize, end: usize, text: &[u8]) -> Option<usize> {
        let (first, rest) = text.split_first()?;
        loop {
            let within = self.path.get(start..end)?;
            let place = start + position(within, *first)?;
            start = place + 1;
            if starts_with(self.path.get(start..end)?, rest) && self.aligned(place) {
                return Some(place);
            }
        }
    }
}

/// Few bytes are faster looked at than handed to a function.
const FEW: usize = 16;

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    if prefix.len() > FEW {
        return text.starts_with(prefix);
    }
    text.len() >= prefix.len() && text.iter().zip(prefix).all(|(one, other)| one == other)
}

fn position(text: &[u8], byte: u8) -> Option<usize> {
    let (few, rest) = text.split_at(text.len().min(FEW));
    few.iter().position(|known| *known == byte).or_else(|| {
        if rest.is_empty() {
            return None;
        }
        memchr::memchr(byte, rest).map(|place| FEW + place)
    })
}
