//! From the text of a pattern to its segments.

use super::{Hole, Pattern, PatternError, PatternErrorKind as Kind, Segment};
use crate::{expression::Expression, percent};

/// What one expression may take when compiled.
const EXPRESSION_LIMIT: usize = 256 << 10;

pub(super) fn parse(text: &str) -> Result<Pattern, PatternError> {
    Parser::default()
        .run(text)
        .map_err(|(kind, offset)| PatternError::new(kind, text, offset))
}

#[derive(Default)]
struct Parser {
    segments: Vec<Segment>,
    segment: Segment,
    names: Vec<Box<str>>,
    catch_all: bool,
    /// Where the first expression of this segment stands.
    expression_at: Option<usize>,
}

impl Parser {
    fn run(mut self, text: &str) -> Result<Pattern, (Kind, usize)> {
        let bytes = text.as_bytes();
        match bytes.first() {
            None => return Err((Kind::EmptyPattern, 0)),
            Some(b'/') => {}
            Some(_) => return Err((Kind::NoLeadingSlash, 0)),
        }
        let mut at = 1;
        while let Some((unit, taken)) = percent::unit(bytes, at) {
            at = match bytes.get(at) {
                Some(b'/') => {
                    self.end_segment()?;
                    at + 1
                }
                Some(b'{') => self.param(text, at)?,
                Some(b'}') => return Err((Kind::UnopenedParam, at)),
                Some(b'*') => {
                    self.catch_all("*", at, at + 1, text.len())?;
                    at + 1
                }
                _ => {
                    match self.segment.holes.last_mut() {
                        Some(hole) => hole.then.push(unit),
                        None => self.segment.prefix.push(unit),
                    }
                    at + taken
                }
            };
        }
        self.end_segment()?;
        Ok(Pattern {
            text: text.into(),
            segments: self.segments.into(),
            names: self.names.into(),
            catch_all: self.catch_all,
        })
    }

    /// Reads the parameter whose brace opens at `open`; gives the place behind it.
    fn param(&mut self, text: &str, open: usize) -> Result<usize, (Kind, usize)> {
        let close = closing_brace(text.as_bytes(), open).ok_or((Kind::UnclosedParam, open))?;
        let inside = text.get(open + 1..close).unwrap_or_default();
        if let Some(name) = inside.strip_prefix('*') {
            self.catch_all(name, open, close + 1, text.len())?;
            return Ok(close + 1);
        }
        self.apart(open)?;
        let (name, expression) = match inside.split_once(':') {
            Some((name, expression)) => (name, Some(expression)),
            None => (inside, None),
        };
        self.name(name, open)?;
        let test = match expression {
            None => None,
            Some(written) => {
                self.expression_at.get_or_insert(open);
                // `{id:}` is an expression that accepts anything.
                let compiled = if written.is_empty() {
                    "(?s).*"
                } else {
                    written
                };
                let compiled = Expression::new(compiled, EXPRESSION_LIMIT)
                    .map_err(|source| (Kind::InvalidRegex { source }, open + 2 + name.len()))?;
                Some((written.into(), compiled))
            }
        };
        self.segment.holes.push(Hole {
            test,
            then: Vec::new(),
        });
        Ok(close + 1)
    }

    fn catch_all(
        &mut self,
        name: &str,
        at: usize,
        end: usize,
        len: usize,
    ) -> Result<(), (Kind, usize)> {
        if end != len {
            return Err((Kind::WildcardNotLast, at));
        }
        self.apart(at)?;
        if name == "*" {
            self.names.push(name.into())
        } else {
            self.name(name, at)?
        }
        self.catch_all = true;
        Ok(())
    }

    /// Refuses what directly follows a parameter.
    fn apart(&self, at: usize) -> Result<(), (Kind, usize)> {
        match self.segment.holes.last() {
            Some(hole) if hole.then.is_empty() => Err((Kind::AdjacentParams, at)),
            _ => Ok(()),
        }
    }

    fn name(&mut self, name: &str, at: usize) -> Result<(), (Kind, usize)> {
        if name.is_empty() {
            return Err((Kind::EmptyParamName, at));
        }
        if name.contains(['{', '}', '/', '*']) {
            return Err((Kind::InvalidParamName, at));
        }
        if self.names.iter().any(|known| **known == *name) {
            return Err((Kind::DuplicateParam { name: name.into() }, at));
        }
        self.names.push(name.into());
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), (Kind, usize)> {
        let segment = std::mem::take(&mut self.segment);
        if let Some(at) = self.expression_at.take()
            && (segment.holes.len() > 1 || self.catch_all)
        {
            return Err((Kind::RegexNotAlone, at));
        }
        self.segments.push(segment);
        Ok(())
    }
}

fn closing_brace(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}
