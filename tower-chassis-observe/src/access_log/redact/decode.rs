//! What is behind `%41`, `\u0041` and an address.

use std::borrow::Cow;

/// An address without user, query and fragment.
pub(super) fn address(address: &str) -> Cow<'_, str> {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let address = address.get(..end).unwrap_or_default();
    let Some(host) = address.find("//").map(|at| at + 2) else {
        return Cow::Borrowed(address);
    };
    let (scheme, rest) = address.split_at(host);
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest
        .get(..authority)
        .and_then(|authority| authority.rfind('@'))
    {
        Some(at) => Cow::Owned(format!("{scheme}{}", &rest[at + 1..])),
        None => Cow::Borrowed(address),
    }
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
