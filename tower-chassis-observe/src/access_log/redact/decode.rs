//! What is behind `%41`, `\u0041` and an address.

use std::borrow::Cow;

/// An address without user, query and fragment.
pub(super) fn address(address: &str) -> Cow<'_, str> {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let address = address.get(..end).unwrap_or_default();
    if !address.contains('@') {
        return Cow::Borrowed(address);
    }
    // There may be several: in a list of links, or one in the path of the other.
    let mut out = String::with_capacity(address.len());
    let mut rest = address;
    while let Some(host) = rest.find("//").map(|at| at + 2) {
        let (before, after) = rest.split_at(host);
        let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        out.push_str(before);
        out.push_str(&authority[host..]);
        rest = path;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// `%41` and `+`.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (digit(bytes.get(at)), digit(bytes.get(at + 1))) {
                (Some(high), Some(low)) => {
                    at += 2;
                    (high * 16 + low) as u8
                }
                _ => byte,
            },
            byte => byte,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// What a string of JSON says, without its quotes; what is no escape stays.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let mut ahead = chars.clone();
                let digits = (0..4).try_fold(0, |sum, _| {
                    let digit = ahead.next().and_then(|c| c.to_digit(16))?;
                    Some(sum * 16 + digit)
                });
                if let Some(digits) = digits {
                    out.push(char::from_u32(digits).unwrap_or(char::REPLACEMENT_CHARACTER));
                    chars = ahead;
                }
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    Cow::Owned(out)
}
