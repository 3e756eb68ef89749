//! Text of strangers on a terminal.

use std::fmt::{self, Write as _};

/// Writes a text on one line and without control characters.
///
/// A key, a path or a value may hold anything; none of it may move the cursor of whoever reads a fault.
pub(super) struct Printable<'a>(pub(super) &'a str);

/// Characters that a terminal obeys or that turn the direction of the text around.
pub(super) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if is_unprintable(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, shown) in [
            ("plain ünïcode", "plain ünïcode"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{1b}[31m\u{9b}", "\\u{1b}[31m\\u{9b}"),
            ("a\u{202e}b", "a\\u{202e}b"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }
}
