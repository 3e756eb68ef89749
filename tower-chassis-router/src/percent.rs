//! Percent escapes: comparing them without rewriting the path, and decoding what was captured.
//!
//! Two paths that differ only in how they escape the same text are the same path (RFC 3986, 6.2.2).
//! Instead of rewriting each path, a path is read as *units*: one octet, and whether it stands for
//! itself or is data that must be escaped. `/%61`, `/a` are the same unit; `/` and `%2F` are not.

use std::borrow::Cow;

/// One octet of a path; [`ESCAPED`] is set where it cannot stand for itself.
pub(crate) type Unit = u16;

/// The unit of a slash that separates segments.
pub(crate) const SLASH: Unit = b'/' as Unit;

const ESCAPED: Unit = 0x100;

/// The unit that starts at `at`, and how many bytes it takes. `None` at the end.
pub(crate) fn unit(bytes: &[u8], at: usize) -> Option<(Unit, usize)> {
    let byte = *bytes.get(at)?;
    if byte == b'%'
        && let (Some(high), Some(low)) = (hex(bytes, at + 1), hex(bytes, at + 2))
    {
        let octet = high << 4 | low;
        return Some((
            if unreserved(octet) {
                Unit::from(octet)
            } else {
                Unit::from(octet) | ESCAPED
            },
            3,
        ));
    }
    Some((
        if stands_for_itself(byte) {
            Unit::from(byte)
        } else {
            Unit::from(byte) | ESCAPED
        },
        1,
    ))
}

/// All units of `text`.
pub(crate) fn units(text: &str) -> impl Iterator<Item = Unit> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (unit, taken) = unit(text.as_bytes(), at)?;
        at += taken;
        Some(unit)
    })
}

/// Eats `literal` at `at`, not reading past `end`; gives the place behind it.
pub(crate) fn eat(bytes: &[u8], mut at: usize, end: usize, literal: &[Unit]) -> Option<usize> {
    let bytes = bytes.get(..end)?;
    for wanted in literal {
        let (found, taken) = unit(bytes, at)?;
        if found != *wanted {
            return None;
        }
        at += taken;
    }
    Some(at)
}

/// Decodes all escapes of `raw`; a `%` without two hexadecimal digits stays as it is.
pub(crate) fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'%') {
        return Cow::Borrowed(raw);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some((unit, taken)) = unit(raw, at) {
        decoded.push((unit & 0xff) as u8);
        at += taken;
    }
    Cow::Owned(decoded)
}

fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    match *bytes.get(at)? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986, the slash, and a `%` that escapes nothing.
fn stands_for_itself(byte: u8) -> bool {
    unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
                | b'%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: &str, right: &str) -> bool {
        units(left).eq(units(right))
    }

    #[test]
    fn escapes_of_unreserved_octets_are_those_octets() {
        assert!(same("a%62c", "abc"));
        assert!(same("%7Euser", "~user"));
    }

    #[test]
    fn the_case_of_escapes_does_not_matter() {
        assert!(same("%c3%9f", "%C3%9F"));
        assert!(same("ß", "%C3%9F"));
        assert!(same("a b", "a%20b"));
    }

    #[test]
    fn escapes_of_reserved_octets_stay_apart() {
        assert!(!same("a%2Fb", "a/b"));
        assert!(!same("a%3Ab", "a:b"));
        assert!(!same("a%25b", "a%b"));
    }

    #[test]
    fn a_broken_escape_is_text() {
        assert_eq!(decode(b"100%"), &b"100%"[..]);
        assert_eq!(decode(b"%zz%4"), &b"%zz%4"[..]);
        assert_eq!(decode(b"%41%zz"), &b"A%zz"[..]);
    }

    #[test]
    fn what_has_no_escape_is_borrowed() {
        assert!(matches!(decode(b"plain"), Cow::Borrowed(_)));
        assert_eq!(decode(b"a%2Fb"), &b"a/b"[..]);
    }
}
