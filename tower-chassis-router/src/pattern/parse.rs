//! From the text of a pattern to its segments.

use std::sync::Arc;

use super::{Hole, Pattern, PatternError, PatternErrorKind as Kind, Segment, Shape, Spec};
use crate::{
    expression::{Expression, Unfit},
    percent,
};

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
    /// The segment that is being read.
    spec: Spec,
    expressions: Vec<Option<Expression>>,
    /// Where its first expression stands.
    expression_at: Option<usize>,
    names: Vec<(u32, u32)>,
    /// Whether there is nothing left to read.
    complete: bool,
}

impl Parser {
    fn run(mut self, text: &str) -> Result<Pattern, (Kind, usize)> {
        let bytes = text.as_bytes();
        match bytes.first() {
            None => return Err((Kind::EmptyPattern, 0)),
            Some(b'/') => {}
            Some(_) => return Err((Kind::NoLeadingSlash, 0)),
        }
        self.segments
            .reserve_exact(bytes.iter().filter(|byte| **byte == b'/').count());
        let mut at = self.plain(text, 1)?;
        while let Some(byte) = bytes.get(at) {
            at = match byte {
                b'/' => {
                    self.end_segment()?;
                    self.plain(text, at + 1)?
                }
                b'{' => self.param(text, at)?,
                b'}' => return Err((Kind::UnopenedParam, at)),
                b'*' => {
                    self.catch_all(text, (at, at + 1), at, at + 1)?;
                    at + 1
                }
                _ => self.literal(bytes, at),
            };
        }
        if !self.complete {
            self.end_segment()?;
        }
        Ok(Pattern {
            text: text.into(),
            segments: self.segments.into(),
            names: self.names.into(),
        })
    }

    /// Reads segments that are one plain parameter, or text without escapes; gives the start of one that is
    /// neither. They need no memory of their own.
    fn plain(&mut self, text: &str, mut at: usize) -> Result<usize, (Kind, usize)> {
        let bytes = text.as_bytes();
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let param = rest.first() == Some(&b'{');
            let special = |byte: &u8| {
                matches!(byte, b'/' | b'}' | b'*')
                    || *byte == if param { b':' } else { b'{' }
                    || *byte == b'%'
            };
            let mut len = rest.iter().position(special).unwrap_or(rest.len());
            if param && rest.get(len) == Some(&b'}') {
                len += 1;
            } else if param {
                return Ok(at);
            }
            let last = len == rest.len();
            if !last && rest.get(len) != Some(&b'/') {
                return Ok(at);
            }
            if param {
                self.name(text, (at + 1, at + len - 1), at)?;
            }
            self.segments.push(if param {
                Segment::Param
            } else {
                Segment::Written(at as u32, (at + len) as u32)
            });
            at += len + 1;
            if last {
                self.complete = true;
                return Ok(at);
            }
        }
    }

    /// Reads text up to something else; gives the place behind it.
    fn literal(&mut self, bytes: &[u8], at: usize) -> usize {
        let rest = bytes.get(at..).unwrap_or_default();
        let special = |byte: &u8| matches!(byte, b'/' | b'{' | b'}' | b'*');
        let len = rest.iter().position(special).unwrap_or(rest.len());
        let literal = percent::canonical(rest.get(..len).unwrap_or_default());
        match self.spec.holes.last_mut() {
            Some(hole) => hole.then.extend_from_slice(&literal),
            None => self.spec.prefix.extend_from_slice(&literal),
        }
        at + len
    }

    /// Reads the parameter whose brace opens at `open`; gives the place behind it.
    fn param(&mut self, text: &str, open: usize) -> Result<usize, (Kind, usize)> {
        let close = closing_brace(text.as_bytes(), open).ok_or((Kind::UnclosedParam, open))?;
        let inside = text.get(open + 1..close).unwrap_or_default();
        if inside.starts_with('*') {
            self.catch_all(text, (open + 2, close), open, close + 1)?;
            return Ok(close + 1);
        }
        self.apart(open)?;
        let (name, expression) = match inside.split_once(':') {
            Some((name, expression)) => (name, Some(expression)),
            None => (inside, None),
        };
        self.name(text, (open + 1, open + 1 + name.len()), open)?;
        let compiled = match expression {
            None => None,
            Some(written) => {
                self.expression_at.get_or_insert(open);
                // `{id:}` is an expression that accepts anything.
                let compiled = Expression::new(anything(written), EXPRESSION_LIMIT)
                    .map_err(|source| (Kind::InvalidRegex { source }, open + 2 + name.len()))?;
                Some(compiled)
            }
        };
        self.expressions.push(compiled);
        self.spec.holes.push(Hole {
            expression: expression.map(|written| anything(written).into()),
            then: Vec::new(),
        });
        Ok(close + 1)
    }

    /// `name` is where its name stands, `at` and `end` where it does.
    fn catch_all(
        &mut self,
        text: &str,
        name: (usize, usize),
        at: usize,
        end: usize,
    ) -> Result<(), (Kind, usize)> {
        if end != text.len() {
            return Err((Kind::WildcardNotLast, at));
        }
        self.apart(at)?;
        if text.get(at..end) == Some("*") {
            self.names.push((name.0 as u32, name.1 as u32));
        } else {
            self.name(text, name, at)?;
        }
        self.spec.open = true;
        Ok(())
    }

    /// Refuses what directly follows a parameter.
    fn apart(&self, at: usize) -> Result<(), (Kind, usize)> {
        match self.spec.holes.last() {
            Some(hole) if hole.then.is_empty() => Err((Kind::AdjacentParams, at)),
            _ => Ok(()),
        }
    }

    fn name(&mut self, text: &str, place: (usize, usize), at: usize) -> Result<(), (Kind, usize)> {
        let of = |start: usize, end: usize| text.get(start..end).unwrap_or_default();
        let name = of(place.0, place.1);
        if name.is_empty() {
            return Err((Kind::EmptyParamName, at));
        }
        if name.contains(['{', '}', '/', '*', ':']) {
            return Err((Kind::InvalidParamName, at));
        }
        let mut known = self.names.iter();
        if known.any(|known| of(known.0 as usize, known.1 as usize) == name) {
            return Err((Kind::DuplicateParam { name: name.into() }, at));
        }
        self.names.push((place.0 as u32, place.1 as u32));
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), (Kind, usize)> {
        let spec = std::mem::take(&mut self.spec);
        let expressions = std::mem::take(&mut self.expressions);
        let expression_at = self.expression_at.take();
        let segment = match (&*spec.holes, spec.open) {
            ([], false) => Segment::Canonical(spec.prefix.into()),
            ([], true) if spec.prefix.is_empty() => Segment::Rest,
            ([hole], false)
                if spec.prefix.is_empty() && hole.then.is_empty() && hole.expression.is_none() =>
            {
                Segment::Param
            }
            _ => {
                let shape = Shape::new(spec, expressions, EXPRESSION_LIMIT).map_err(|unfit| {
                    let kind = match unfit {
                        Unfit::Boundary => Kind::RegexBoundary,
                        Unfit::Large => Kind::InvalidRegex {
                            source: regex::Error::CompiledTooBig(EXPRESSION_LIMIT),
                        },
                    };
                    (kind, expression_at.unwrap_or_default())
                })?;
                Segment::Shaped(Arc::new(shape))
            }
        };
        self.segments.push(segment);
        Ok(())
    }
}

/// The expression that was written, or one that accepts anything.
fn anything(written: &str) -> &str {
    if written.is_empty() {
        "(?s).*"
    } else {
        written
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
