//! Regular expressions of patterns and rules: anchored as a whole, linear in time, limited in size.

mod automaton;
mod class;

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::{ParserBuilder, hir::Hir};

pub(crate) use self::automaton::{Automaton, Unfit};
use self::class::Class;

/// An expression that must match a whole value.
#[derive(Clone)]
pub(crate) struct Expression(Kind);

#[derive(Clone)]
enum Kind {
    /// Bytes of one class, so and so many: needs no engine.
    Class(Box<Class>),
    Regex(Regex),
}

impl Expression {
    /// Compiles `text`. Classes such as `\d` are ASCII, unless the expression can only be read as
    /// Unicode.
    pub(crate) fn new(text: &str, size_limit: usize) -> Result<Self, regex::Error> {
        // By itself: `a)|(b` is only a valid expression inside of our brackets.
        let unicode = match parse(text, false) {
            Some(hir) => match Class::of(&hir) {
                Some(class) => return Ok(Self(Kind::Class(Box::new(class)))),
                None => false,
            },
            None => true,
        };
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .unicode(unicode)
                .size_limit(size_limit)
                .build()
        };
        if unicode {
            compile(text)?;
        }
        compile(&format!("^(?:{text})$")).map(|regex| Self(Kind::Regex(regex)))
    }

    #[inline]
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match &self.0 {
            Kind::Class(class) => class.matches(value),
            Kind::Regex(regex) => regex.is_match(value),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Class(class) => class.fmt(f),
            Kind::Regex(regex) => write!(f, "/{regex}/"),
        }
    }
}

/// Reads `text`, with ASCII or Unicode classes.
fn parse(text: &str, unicode: bool) -> Option<Hir> {
    ParserBuilder::new()
        .unicode(unicode)
        .utf8(false)
        .build()
        .parse(text)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{Expression, Kind};

    fn expression(text: &str) -> Expression {
        Expression::new(text, 1 << 16).unwrap()
    }

    /// chi puts `^` and `$` around the text, so that `cat|dog` accepts `catx`.
    #[test]
    fn an_alternation_is_anchored_as_a_whole() {
        let pets = expression("cat|dog");
        assert!(pets.matches(b"cat") && pets.matches(b"dog"));
        assert!(!pets.matches(b"catx") && !pets.matches(b"xdog"));
    }

    #[test]
    fn an_expression_cannot_leave_its_brackets() {
        assert!(Expression::new("a)|(b", 1 << 16).is_err());
    }

    #[test]
    fn classes_are_ascii_where_possible() {
        assert!(!expression(r"\d+").matches("٣".as_bytes()));
        assert!(expression(r"\p{L}+").matches("straße".as_bytes()));
    }

    #[test]
    fn one_class_needs_no_engine() {
        for (text, yes, no) in [
            ("[0-9]+", "07", "0a"),
            ("^[0-9]{4}$", "2024", "202"),
            ("(?:[a-c])*", "", "d"),
            ("([a-c]{1,2})", "ab", "abc"),
            ("a?", "a", "aa"),
            (".", "x", ""),
            ("x{3,}", "xxxx", "xx"),
            ("(?i)a+", "aA", "b"),
        ] {
            let expression = expression(text);
            assert!(matches!(expression.0, Kind::Class(_)), "{text}");
            assert!(expression.matches(yes.as_bytes()), "{text} {yes}");
            assert!(!expression.matches(no.as_bytes()), "{text} {no}");
        }
        for text in ["ab", "a|bc", "[a-c]+$x", "(?:[0-9]{2}){2}", r"\b[a-z]+"] {
            assert!(matches!(expression(text).0, Kind::Regex(_)), "{text}");
        }
    }

    #[test]
    fn size_is_limited() {
        assert!(Expression::new("(?:a{100}){100}", 10 << 10).is_err());
    }
}
