//! Regular expressions of patterns and rules: anchored as a whole, linear in time, limited in size.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// An expression that must match a whole value.
#[derive(Clone)]
pub(crate) struct Expression(Regex);

impl Expression {
    /// Compiles `text`. Classes such as `\d` are ASCII, unless the expression can only be read as
    /// Unicode.
    pub(crate) fn new(text: &str, size_limit: usize) -> Result<Self, regex::Error> {
        let compile = |text: &str, unicode: bool| {
            RegexBuilder::new(text)
                .unicode(unicode)
                .size_limit(size_limit)
                .build()
        };
        // By itself first: `a)|(b` is only a valid expression inside of our brackets.
        let unicode = match compile(text, false) {
            Ok(_) => false,
            Err(_) => compile(text, true).map(|_| true)?,
        };
        compile(&format!("^(?:{text})$"), unicode).map(Self)
    }

    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Expression;

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
    fn size_is_limited() {
        assert!(Expression::new("(?:a{100}){100}", 10 << 10).is_err());
    }
}
