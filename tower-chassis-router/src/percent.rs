//! Percent escapes: one form for all paths that mean the same, and decoding what was captured.
//!
//! Two paths that differ only in how they escape the same text are the same path (RFC 3986, 6.2.2). A
//! text is read as *units*: one octet, and whether it stands for itself or is data that must be escaped.
//! `/%61`, `/a` are the same unit; `/` and `%2F` are not.
//!
//! The canonical form of a text writes each unit as a byte, but for data that would be taken for syntax:
//! that stays escaped, with capital digits. So a text without `%` is in canonical form already, a slash
//! always separates, and equal bytes are equal units.

use std::borrow::Cow;

use crate::matcher::Captures;

/// One octet of a path; [`ESCAPED`] is set where it cannot stand for itself.
pub(crate) type Unit = u16;

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

/// The canonical form of `text`. A `%` that escapes nothing is `%25`.
pub(crate) fn canonical(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len() + 2);
    let mut at = 0;
    while let Some((unit, taken)) = unit(text, at) {
        at += taken;
        out.extend_from_slice(written(unit).as_slice());
    }
    Cow::Owned(out)
}

/// Where the captures from `kept` on, which point into the canonical form of `raw`, stand in `raw`; both
/// are offset by `at`.
pub(crate) fn restore(raw: &[u8], at: usize, captures: &mut Captures, kept: usize) {
    let (mut place, mut canonical) = (at, at);
    let mut seek = |wanted: usize| {
        while canonical < wanted
            && let Some((unit, taken)) = unit(raw, place)
        {
            place += taken;
            canonical += written(unit).as_slice().len();
        }
        place
    };
    for index in kept..captures.len() {
        if let Some((start, end)) = captures.get(index) {
            let start = seek(start);
            captures.set(index, start, seek(end));
        }
    }
}

/// Whether a unit of the canonical text `bytes` starts at `at`.
pub(crate) fn aligned(bytes: &[u8], at: usize) -> bool {
    let back = |back: usize| at.checked_sub(back).and_then(|at| bytes.get(at));
    // In front of the slash there may be anything.
    back(1) != Some(&b'%') && (back(2) != Some(&b'%') || back(1) == Some(&b'/'))
}

/// The octet of the unit at `at` of a canonical text, and how many bytes it takes.
pub(crate) fn octet(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    unit(bytes, at).map(|(unit, taken)| ((unit & 0xff) as u8, taken))
}

/// One unit in canonical form.
struct Written {
    bytes: [u8; 3],
    len: usize,
}

impl Written {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn written(unit: Unit) -> Written {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let octet = (unit & 0xff) as u8;
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or_default();
    if unit & ESCAPED != 0 && (octet == b'%' || stands_for_itself(octet)) {
        Written {
            bytes: [b'%', digit(octet >> 4), digit(octet & 15)],
            len: 3,
        }
    } else {
        Written {
            bytes: [octet, 0, 0],
            len: 1,
        }
    }
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

/// `pchar` of RFC 3986, and the slash.
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
        assert!(!same("a%25b", "a%b0"));
    }

    #[test]
    fn the_canonical_form_is_one_for_all_spellings() {
        for (text, expected) in [
            ("/plain", "/plain"),
            ("/%61%7E%c3%9f", "/a~\u{df}"),
            ("/a%20b%7b", "/a b{"),
            ("/a%2fb%3a%25", "/a%2Fb%3A%25"),
            ("/100%/%zz%4", "/100%25/%25zz%254"),
            ("/%%33A", "/%253A"),
        ] {
            let form = canonical(text.as_bytes());
            assert_eq!(form, expected.as_bytes(), "{text}");
            assert_eq!(canonical(&form), form, "{text}");
            assert!(units(text).eq(units(expected)), "{text}");
        }
    }

    #[test]
    fn captures_are_found_again_in_the_text() {
        let raw = "/x/%61b/%2f%7e/100%/z";
        let form = canonical(raw.as_bytes()).into_owned();
        assert_eq!(form, b"/x/ab/%2F~/100%25/z");
        let mut captures = Captures::new();
        captures.push(0, 1);
        for (start, end) in [(1, 2), (3, 5), (6, 10), (11, 17), (18, 19), (19, 19)] {
            captures.push(start, end);
        }
        restore(raw.as_bytes(), 0, &mut captures, 1);
        let texts: Vec<_> = (1..captures.len())
            .filter_map(|index| captures.get(index))
            .map(|(start, end)| &raw[start..end])
            .collect();
        assert_eq!(texts, ["x", "%61b", "%2f%7e", "100%", "z", ""]);
        assert_eq!(captures.get(0), Some((0, 1)));
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
