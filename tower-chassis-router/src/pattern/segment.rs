//! What stands between two slashes of a pattern.

use super::Token;
use crate::{
    expression::Expression,
    matcher::Captures,
    percent::{Unit, decode, eat, unit},
};

/// A text, then holes, each followed by a text (an empty one only behind the last hole).
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) prefix: Vec<Unit>,
    pub(crate) holes: Vec<Hole>,
}

/// A parameter inside of a segment.
#[derive(Clone, Debug)]
pub(crate) struct Hole {
    /// The expression as it was written, and compiled.
    pub(crate) test: Option<(Box<str>, Expression)>,
    pub(crate) then: Vec<Unit>,
}

impl Segment {
    /// Matches `path[at..end]` as a whole.
    pub(super) fn eat(
        &self,
        path: &[u8],
        at: usize,
        end: usize,
        ends_pattern: bool,
        captures: &mut Captures,
    ) -> Option<()> {
        let Some((last, inner)) = self.holes.split_last() else {
            return (eat(path, at, end, &self.prefix)? == end).then_some(());
        };
        let at = self.eat_inner(inner, path, at, end, captures)?;
        // From its first unit on, only one place lets the last text end where the segment ends.
        let value_end = if last.then.is_empty() {
            end
        } else {
            find(path, at, end, |place| {
                eat(path, place, end, &last.then) == Some(end)
            })?
        };
        if ends_pattern && last.then.is_empty() && value_end == at {
            return None;
        }
        last.accept(path, at, value_end, captures)
    }

    /// Matches a start of `path[at..end]`; gives the place behind it.
    pub(super) fn eat_open(
        &self,
        path: &[u8],
        at: usize,
        end: usize,
        captures: &mut Captures,
    ) -> Option<usize> {
        self.eat_inner(&self.holes, path, at, end, captures)
    }

    /// Each hole ends at the first place where its text is found. That is exact, because what follows
    /// such a text is again a hole (or anything at all), which takes whatever a later place would have
    /// skipped.
    fn eat_inner(
        &self,
        holes: &[Hole],
        path: &[u8],
        at: usize,
        end: usize,
        captures: &mut Captures,
    ) -> Option<usize> {
        let mut at = eat(path, at, end, &self.prefix)?;
        for hole in holes {
            let value_end = find(path, at, end, |place| {
                eat(path, place, end, &hole.then).is_some()
            })?;
            hole.accept(path, at, value_end, captures)?;
            at = eat(path, value_end, end, &hole.then)?;
        }
        Some(at)
    }

    pub(super) fn tokens(&self, tokens: &mut Vec<Token>) {
        tokens.extend(self.prefix.iter().copied().map(Token::Unit));
        for hole in &self.holes {
            let tail = hole.then.first().copied();
            tokens.push(match &hole.test {
                Some((text, _)) => Token::Expression {
                    text: text.clone(),
                    tail,
                },
                None => Token::Param { tail },
            });
            tokens.extend(hole.then.iter().copied().map(Token::Unit));
        }
    }
}

impl Hole {
    fn accept(&self, path: &[u8], start: usize, end: usize, captures: &mut Captures) -> Option<()> {
        let value = path.get(start..end)?;
        if self
            .test
            .as_ref()
            .is_some_and(|(_, expression)| !expression.matches(&decode(value)))
        {
            return None;
        }
        captures.push(start, end);
        Some(())
    }
}

/// The first place of `at..=end`, unit by unit, that is `wanted`.
fn find(path: &[u8], mut at: usize, end: usize, wanted: impl Fn(usize) -> bool) -> Option<usize> {
    while !wanted(at) {
        at += unit(path.get(..end)?, at)?.1;
    }
    Some(at)
}
