//! JSON by hand, for the answers that people and their tools read.

use std::fmt::Write as _;

/// A string, with its quotes.
pub(crate) fn text(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // Controls, and the two that break lines for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_reads_back_and_is_one_line() {
        for value in ["", "a", "\"\\\n\r\t\0", "grün \u{2028}\u{85}\u{1f600}"] {
            let mut out = String::new();
            super::text(&mut out, value);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), value);
            assert!(!out.contains(char::is_control));
        }
    }
}
