//! What a client sent, made harmless.

use std::fmt::Write as _;

/// A value of a text line: as it is if it is plain, else in quotes and escaped.
pub(crate) fn text(out: &mut String, value: &[u8]) {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    match std::str::from_utf8(value) {
        Ok("") => out.push_str("\"\""),
        // Alone it would mean that there is none.
        Ok("-") => out.push_str("\"-\""),
        Ok(value) if value.bytes().all(|byte| plain(&byte)) => out.push_str(value),
        _ => {
            out.push('"');
            for chunk in value.utf8_chunks() {
                for c in chunk.valid().chars() {
                    match c {
                        '"' => out.push_str("\\\""),
                        '\\' => out.push_str("\\\\"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        c if is_dangerous(c) => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
                        c => out.push(c),
                    }
                }
                for byte in chunk.invalid() {
                    _ = write!(out, "\\x{byte:02x}");
                }
            }
            out.push('"');
        }
    }
}

/// What JSON takes as it is.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// A JSON string of a text, with its quotes.
pub(super) fn json_str(out: &mut String, value: &str) {
    out.push('"');
    json_str_inside(out, value);
    out.push('"');
}

/// A piece of one. What is a text need not be looked at again to be one.
pub(super) fn json_str_inside(out: &mut String, value: &str) {
    if value.bytes().all(is_plain) {
        out.push_str(value);
    } else {
        json_inside(out, value.as_bytes());
    }
}

/// A JSON string, with its quotes.
pub(crate) fn json(out: &mut String, value: &[u8]) {
    out.push('"');
    json_inside(out, value);
    out.push('"');
}

/// A piece of a JSON string.
pub(super) fn json_inside(out: &mut String, value: &[u8]) {
    if value.iter().all(|&byte| is_plain(byte))
        && let Ok(value) = std::str::from_utf8(value)
    {
        out.push_str(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                // All of them are in the first plane: one escape is enough.
                c if is_dangerous(c) => _ = write!(out, "\\u{:04x}", u32::from(c)),
                c => out.push(c),
            }
        }
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// As web servers write it in a line of fields: what is no printable ASCII, `"` and `\` are escaped. A field that is
/// `bare`, without quotes around it, has no spaces either.
pub(super) fn common(out: &mut String, value: &[u8], bare: bool) {
    // Alone it would mean that there is none.
    if value == b"-" || (bare && value.is_empty()) {
        out.push_str(if value.is_empty() { "\"\"" } else { "\\x2d" });
        return;
    }
    for &byte in value {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' ' if bare => out.push_str("\\x20"),
            b' '..=b'~' => out.push(char::from(byte)),
            byte => _ = write!(out, "\\x{byte:02x}"),
        }
    }
}

/// Controls (a terminal obeys those of C0 and C1), breaks of lines, and what turns the direction of text.
pub(crate) fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTEMPTS: [(&[u8], &str); 12] = [
        (b"/users/7", "/users/7"),
        (b"", r#""""#),
        (b"-", r#""-""#),
        (b"a b", r#""a b""#),
        (b"x\" class=success", r#""x\" class=success""#),
        (b"a\\", r#""a\\""#),
        (
            b"a\r\ntime=2024 client=::1",
            r#""a\r\ntime=2024 client=::1""#,
        ),
        (
            b"\x1b[31mred\x1b[0m\x07",
            r#""\u{1b}[31mred\u{1b}[0m\u{7}""#,
        ),
        ("\u{9b}31m\u{7f}".as_bytes(), r#""\u{9b}31m\u{7f}""#),
        (
            "grün \u{202e}gpj.exe\u{2028}".as_bytes(),
            r#""grün \u{202e}gpj.exe\u{2028}""#,
        ),
        ("a\u{61c}b".as_bytes(), r#""a\u{61c}b""#),
        (b"caf\xe9\xff", r#""caf\xe9\xff""#),
    ];

    #[test]
    fn text_is_escaped() {
        for (value, escaped) in ATTEMPTS {
            let mut out = String::new();
            text(&mut out, value);
            assert_eq!(out, escaped, "{value:?}");
        }
    }

    #[test]
    fn json_reads_back_and_holds_no_control() {
        for (value, _) in ATTEMPTS {
            let mut out = String::new();
            json(&mut out, value);
            assert!(!out.chars().any(is_dangerous), "{out}");
            assert_eq!(
                serde_json::from_str::<String>(&out).unwrap(),
                String::from_utf8_lossy(value)
            );
        }
    }
}
