//! What must not be read in a log: passwords, tokens, keys.
//!
//! # Example
//! ```
//! use tower_chassis_observe::access_log::redact::Redact;
//!
//! let redact = Redact::new().and(["national-id"]);
//! assert_eq!(redact.query("page=2&access%5Ftoken=x"), "page=2&access%5Ftoken=***");
//! assert_eq!(
//!     redact.text(r#"{"user":"ann","password":"hunter2","nationalId":7}"#),
//!     r#"{"user":"ann","password":"***","nationalId":"***"}"#,
//! );
//! assert_eq!(redact.header("authorization", b"Bearer eyJhbGciOi"), b"Bearer ***".as_slice());
//! assert_eq!(redact.header("location", b"https://me:x@a.example/cb?code=7"), b"https://a.example/cb".as_slice());
//! ```
//!
//! # What is secret
//! What its name says: of a header, of a parameter of a query, of a field of a form, of a member of a JSON object. Case and
//! what is neither letter nor digit do not count (`X-Api-Key`, `apiKey` and `api_key` are one name), and names are decoded
//! first (`%`, `\u0061`).
//!
//! | a name that | |
//! |---|---|
//! | holds one of these | `token`, `secret`, `password`, `passwd`, `passphrase`, `passcode`, `apikey`, `accesskey`, `privatekey`, `signingkey`, `signature`, `credential`, `authorization`, `cookie`, `session`, `csrf`, `xsrf`, `jwt`, `assertion` |
//! | is one of these | `auth`, `baggage`, `cvc`, `cvv`, `key`, `otp`, `pass`, `pin`, `pwd`, `sid`, `sig` |
//!
//! [`Redact::and`] adds to the first row. A secret value is [`MASK`], whatever it was; of `Authorization` the scheme stays.
//! Of headers that hold an address (`Referer`, `Location`, …) the user, the query and the fragment go.
//!
//! # Limits
//! A secret under a harmless name is not found: `{"name":"password","value":"x"}`, a path of `/reset/{code}`. Show such
//! paths by their template, and such bodies not at all.

use std::{borrow::Cow, sync::Arc};

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Names that hold one of these.
const HOLDS: [&str; 19] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "signature",
    "credential",
    "authorization",
    "cookie",
    "session",
    "csrf",
    "xsrf",
    "jwt",
    "assertion",
];

/// Names that are one of these: inside of others they are nothing (`keyboard`, `author`).
const IS: [&str; 11] = [
    "auth", "baggage", "cvc", "cvv", "key", "otp", "pass", "pin", "pwd", "sid", "sig",
];

/// Headers that hold an address.
const ADDRESSES: [&str; 8] = [
    "referer",
    "location",
    "contentlocation",
    "link",
    "refresh",
    "origin",
    "xoriginalurl",
    "xforwardeduri",
];

/// Words before the secret of an `Authorization`.
const SCHEMES: [&str; 8] = [
    "basic",
    "bearer",
    "digest",
    "dpop",
    "negotiate",
    "ntlm",
    "scram-sha-256",
    "aws4-hmac-sha256",
];

/// How deep a text in a text in a text is read.
const NESTED: u32 = 3;

/// Which names are secret. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Redact {
    more: Arc<[Box<str>]>,
}

impl Redact {
    /// The [names](self#what-is-secret) that are secret everywhere.
    pub fn new() -> Self {
        Self::default()
    }

    /// These too, and every name that holds one of them.
    pub fn and<N: AsRef<str>>(self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(|name| folded(name.as_ref()));
        // One of no letters would be a part of every name.
        let names = names.filter(|name| !name.is_empty()).map(Box::from);
        Self {
            more: self.more.iter().cloned().chain(names).collect(),
        }
    }

    /// Whether a header, parameter, field or member of this name is secret.
    #[must_use]
    pub fn is_secret(&self, name: &str) -> bool {
        let name = folded(name);
        IS.contains(&&*name)
            || HOLDS.iter().any(|part| name.contains(part))
            || self.more.iter().any(|part| name.contains(&**part))
    }

    /// The value of a header as it may be shown.
    #[must_use]
    pub fn header<'a>(&self, name: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
        if self.is_secret(name) {
            let scheme = folded(name)
                .ends_with("authorization")
                .then(|| scheme(value));
            return Cow::Owned(match scheme.flatten() {
                Some(scheme) => format!("{scheme} {MASK}").into_bytes(),
                None => MASK.into(),
            });
        }
        if ADDRESSES.contains(&&*folded(name)) {
            return match String::from_utf8_lossy(value) {
                Cow::Borrowed(value) => match self.address(value) {
                    Cow::Borrowed(value) => Cow::Borrowed(value.as_bytes()),
                    Cow::Owned(value) => Cow::Owned(value.into_bytes()),
                },
                Cow::Owned(value) => Cow::Owned(self.address(&value).into_owned().into_bytes()),
            };
        }
        let text = String::from_utf8_lossy(value);
        match self.scan(&text, NESTED) {
            Some(text) => Cow::Owned(text.into_bytes()),
            None => Cow::Borrowed(value),
        }
    }

    /// A query, or a form: `page=2&token=***`.
    #[must_use]
    pub fn query(&self, query: &str) -> String {
        let mut out = String::with_capacity(query.len());
        let mut rest = query;
        loop {
            // Some servers take the one, some the other.
            let end = rest.find(['&', ';']).unwrap_or(rest.len());
            let (pair, after) = rest.split_at(end);
            match pair.split_once('=') {
                Some((name, value)) => {
                    out.push_str(name);
                    out.push('=');
                    let secret = self.is_secret(&decoded(name))
                        || self.scan(&decoded(value), NESTED).is_some();
                    out.push_str(if secret { MASK } else { value });
                }
                None if self.scan(&decoded(pair), NESTED).is_some() => out.push_str(MASK),
                None => out.push_str(pair),
            }
            match after.chars().next() {
                Some(separator) => out.push(separator),
                None => return out,
            }
            rest = &after[1..];
        }
    }

    /// A path, of whose parameters (`/a;jsessionid=x/b`) those that are secret are masked.
    #[must_use]
    pub fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if !path.contains(';') {
            return Cow::Borrowed(path);
        }
        let segments = path
            .split('/')
            .map(|segment| match segment.split_once(';') {
                Some((name, parameters)) => {
                    Cow::Owned(format!("{name};{}", self.query(parameters)))
                }
                None => Cow::Borrowed(segment),
            });
        Cow::Owned(segments.collect::<Vec<_>>().join("/"))
    }

    /// An address without its user, its query and its fragment.
    #[must_use]
    pub fn address<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match address(text) {
            Cow::Borrowed(text) => self.path(text),
            Cow::Owned(text) => Cow::Owned(self.path(&text).into_owned()),
        }
    }

    /// A JSON document, also one that is cut off or broken, or any text of `name: value` and `name=value`.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.scan(text, NESTED)
            .map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// A body of the media type as it may be shown, also one that is cut off; none if that is not a type whose secrets
    /// are found: JSON, a form, plain text.
    #[must_use]
    pub fn body(&self, content_type: &str, body: &[u8]) -> Option<String> {
        let kind = Kind::of(content_type)?;
        self.readable(kind, body)
    }

    /// A body that is read as `kind`; none if it is no text.
    pub(super) fn readable(&self, kind: Kind, body: &[u8]) -> Option<String> {
        // UTF-16, or no text at all.
        if body.contains(&0) {
            return None;
        }
        let text = String::from_utf8_lossy(body);
        // curl says of any body that it is a form.
        let json = text.trim_start().starts_with(['{', '[', '"']);
        Some(match kind {
            Kind::Form if !json => self.query(&text),
            _ => self.text(&text).into_owned(),
        })
    }

    /// The text without its secrets, if it has any.
    fn scan(&self, text: &str, nested: u32) -> Option<String> {
        let mut scan = Scan {
            redact: self,
            text,
            nested,
            at: 0,
            copied: 0,
            depth: 0,
            out: String::new(),
        };
        scan.run();
        if scan.copied == 0 {
            return None;
        }
        scan.out
            .push_str(text.get(scan.copied..).unwrap_or_default());
        Some(scan.out)
    }
}

/// How a body is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Json,
    Form,
    Text,
}

impl Kind {
    /// By its media type; none for what is not understood.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let essence = essence(content_type);
        if let Some((_, parameters)) = content_type.split_once(';') {
            let parameters = parameters.to_ascii_lowercase();
            let charset = parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                (name.trim() == "charset").then(|| value.trim().trim_matches('"').to_owned())
            });
            let ascii = ["utf-8", "utf8", "us-ascii", "iso-8859-1"];
            if charset.is_some_and(|charset| !ascii.contains(&&*charset)) {
                return None;
            }
        }
        Some(match &*essence {
            "application/json" => Self::Json,
            other if other.ends_with("+json") => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            "text/plain" => Self::Text,
            _ => return None,
        })
    }
}

/// A media type without its parameters.
pub(super) fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// A name as names are compared.
fn folded(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// The scheme of an `Authorization`, if it has one that is known: else it may be a part of the secret.
fn scheme(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, _) = value.split_once(' ')?;
    let mut known = SCHEMES.iter();
    known
        .any(|known| known.eq_ignore_ascii_case(scheme))
        .then_some(scheme)
}

/// An address without user, query and fragment.
fn address(address: &str) -> Cow<'_, str> {
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
fn decoded(text: &str) -> Cow<'_, str> {
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
fn unescaped(text: &str) -> Cow<'_, str> {
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

/// Reads a text for names and their values. It takes what is no JSON too: of a broken document the secrets must not be
/// shown either.
struct Scan<'a> {
    redact: &'a Redact,
    text: &'a str,
    /// How much deeper a string in it is read.
    nested: u32,
    at: usize,
    /// The text before it is in `out`; 0 as long as nothing was masked.
    copied: usize,
    /// Of brackets.
    depth: u32,
    out: String,
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$' | b'%' | 0x80..)
}

impl Scan<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn slice(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The first place from `at` on whose byte is none of them.
    fn past(&self, mut at: usize, skip: impl Fn(u8) -> bool) -> usize {
        while self.byte(at).is_some_and(&skip) {
            at += 1;
        }
        at
    }

    fn run(&mut self) {
        while let Some(byte) = self.byte(self.at) {
            match byte {
                b'"' | b'\'' => self.string(byte),
                b'{' | b'[' => {
                    self.depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                b'/' if self.slice(self.at, self.at + 2) == "//" => self.authority(),
                byte if is_word(byte) => self.word(),
                _ => self.at += 1,
            }
        }
    }

    /// Where a string ends that begins at `at`: its last letter, and the place behind its quote.
    fn end_of_string(&self, at: usize) -> (usize, usize) {
        let quote = self.byte(at);
        let mut end = at + 1;
        while let Some(byte) = self.byte(end) {
            match byte {
                b'\\' => end += 2,
                _ if Some(byte) == quote => return (end, end + 1),
                _ => end += 1,
            }
        }
        let end = self.text.len();
        (end, end)
    }

    fn string(&mut self, quote: u8) {
        let begin = self.at;
        let (last, end) = self.end_of_string(begin);
        self.at = end;
        let content = unescaped(self.slice(begin + 1, last)).into_owned();
        if self.is_name(&content, end) {
            return;
        }
        if self.nested == 0 {
            if self.redact.is_secret(&content) {
                self.put(begin, end, "\"***\"");
            }
            return;
        }
        // A text in a text: a message, or JSON once more.
        if let Some(inner) = self.redact.scan(&content, self.nested - 1) {
            let mut masked = String::new();
            if quote == b'"' {
                super::escape::json(&mut masked, inner.as_bytes());
            } else {
                // Perhaps it was none: it isn't one.
                let close = if last < end { "'" } else { "" };
                masked = format!("'{inner}{close}");
            }
            self.put(begin, end, &masked);
        }
    }

    fn word(&mut self) {
        let begin = self.at;
        let end = self.past(begin, is_word);
        self.at = end;
        let tag = begin > 0 && self.byte(begin - 1) == Some(b'<') && self.byte(end) == Some(b'>');
        let word = decoded(self.slice(begin, end)).into_owned();
        if tag && self.redact.is_secret(&word) {
            let value = end + 1;
            let value_end = self.past(value, |byte| byte != b'<');
            self.put(value, value_end, MASK);
            return;
        }
        if self.is_name(&word, end) {
            return;
        }
        // `Bearer eyJ…` in the middle of a text.
        let value = self.past(end, |byte| byte == b' ');
        let value_end = self.past(value, |byte| byte.is_ascii_graphic() && byte != b'"');
        if word.eq_ignore_ascii_case("bearer") && value > end && value_end > value + 5 {
            self.put(value, value_end, MASK);
        }
    }

    /// Whether `name`, which ended at `end`, has a value. If it is a secret, masks it.
    fn is_name(&mut self, name: &str, end: usize) -> bool {
        let sign = self.past(end, |byte| {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b']')
        });
        if !matches!(self.byte(sign), Some(b':' | b'=')) {
            return false;
        }
        self.at = self.past(sign + 1, |byte| matches!(byte, b'=' | b'>' | b':'));
        if self.redact.is_secret(name) {
            self.mask_value();
        }
        true
    }

    fn mask_value(&mut self) {
        let begin = self.past(self.at, |byte| byte.is_ascii_whitespace());
        let inside = self.depth > 0;
        let (end, quoted) = match self.byte(begin) {
            None => return,
            Some(b'"' | b'\'') => (self.end_of_string(begin).1, true),
            Some(b'{' | b'[') => (self.end_of_brackets(begin), true),
            Some(_) => (begin, inside),
        };
        // Behind a quote that was a letter of it ('it's'), and where there was none.
        let end = if end == begin || self.byte(end).is_some_and(is_word) {
            self.past(end, |byte| match byte {
                b'\n' | b'&' | b'<' => false,
                b',' | b'}' | b']' => !inside,
                _ => true,
            })
        } else {
            end
        };
        if quoted {
            self.put(begin, end, "\"***\"");
        } else {
            self.put(begin, end, MASK);
        }
    }

    fn end_of_brackets(&self, mut at: usize) -> usize {
        let mut depth = 0_u32;
        while let Some(byte) = self.byte(at) {
            match byte {
                b'"' | b'\'' => {
                    at = self.end_of_string(at).1;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return at;
            }
        }
        self.text.len()
    }

    /// `//user:password@host`.
    fn authority(&mut self) {
        let begin = self.at + 2;
        let end = self.past(begin, |byte| {
            !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'"' | b'\'' | b'?' | b'#')
        });
        match self.slice(begin, end).rfind('@') {
            Some(at) => self.put(begin, begin + at, MASK),
            None => self.at = begin,
        }
    }

    /// Writes `instead` for the text from `begin` to `end`, and goes on behind it.
    fn put(&mut self, begin: usize, end: usize, instead: &str) {
        self.out
            .push_str(self.text.get(self.copied..begin).unwrap_or_default());
        self.out.push_str(instead);
        self.copied = end;
        self.at = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        let redact = Redact::new().and(["x-my_own"]);
        for name in [
            "Authorization",
            "proxy-authorization",
            "cookie",
            "Set-Cookie",
            "x-api-key",
            "X-Auth-Token",
            "x-csrf-token",
            "accessToken",
            "client_secret",
            "user[password]",
            "PWD",
            "key",
            "xMyOwnValue",
        ] {
            assert!(redact.is_secret(name), "{name}");
        }
        for name in [
            "",
            "user",
            "author",
            "keyboard",
            "page",
            "content-type",
            "spinner",
        ] {
            assert!(!redact.is_secret(name), "{name}");
        }
        assert!(!Redact::new().and([""]).is_secret("page"));
    }

    #[test]
    fn headers() {
        let redact = Redact::new();
        for (name, value, shown) in [
            ("authorization", "Bearer S3CR3T", "Bearer ***"),
            ("authorization", "basic S3CR3T", "basic ***"),
            ("authorization", "S3CR3T other", "***"),
            ("authorization", "S3CR3T", "***"),
            ("cookie", "a=S3CR3T", "***"),
            ("x-api-key", "Bearer S3CR3T", "***"),
            (
                "content-type",
                "text/plain; charset=utf-8",
                "text/plain; charset=utf-8",
            ),
            ("baggage", "user=S3CR3T", "***"),
            (
                "referer",
                "https://u:S3CR3T@a.b/c?d=S3CR3T#S3CR3T",
                "https://a.b/c",
            ),
            ("referer", "/c?d=S3CR3T", "/c"),
            (
                "referer",
                "http://a/b;jsessionid=S3CR3T/c",
                "http://a/b;jsessionid=***/c",
            ),
            ("Location", "//u:S3CR3T@a.b?x", "//a.b"),
            ("x-note", "say token=S3CR3T", "say token=***"),
        ] {
            let out = redact.header(name, value.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), shown, "{name}");
        }
        assert_eq!(redact.header("x", b"\xff\x80"), b"\xff\x80".as_slice());
    }

    #[test]
    fn queries() {
        let redact = Redact::new();
        for (query, shown) in [
            ("", ""),
            ("a=1&b", "a=1&b"),
            ("a=1&token=S3CR3T&b=2", "a=1&token=***&b=2"),
            ("tok%65n=S3CR3T", "tok%65n=***"),
            ("a=1;Api-Key=S3CR3T", "a=1;Api-Key=***"),
            ("user%5Bpassword%5D=S3CR3T", "user%5Bpassword%5D=***"),
            ("token=S3CR3T=S3CR3T", "token=***"),
            ("next=https%3A%2F%2Fa%2F%3Ftoken%3DS3CR3T", "next=***"),
            ("=S3CR3T&token=", "=S3CR3T&token=***"),
            ("&&", "&&"),
        ] {
            assert_eq!(redact.query(query), shown);
        }
    }

    #[test]
    fn paths() {
        let redact = Redact::new();
        for (path, shown) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a;b=1/c", "/a;b=1/c"),
            ("/a;jsessionid=S3CR3T", "/a;jsessionid=***"),
            ("/a;v=1;token=S3CR3T/b;x/", "/a;v=1;token=***/b;x/"),
            ("/;/;sid=S3CR3T", "/;/;sid=***"),
        ] {
            assert_eq!(redact.path(path), shown);
        }
    }

    #[test]
    fn texts() {
        let redact = Redact::new();
        for (text, shown) in [
            ("", ""),
            ("{\"a\":1}", "{\"a\":1}"),
            (r#"{"password":"S3CR3T"}"#, r#"{"password":"***"}"#),
            (
                r#"{"password" : "S3CR\"3T", "a":1}"#,
                r#"{"password" : "***", "a":1}"#,
            ),
            (
                r#"{"pass\u0077ord":"S3CR3T"}"#,
                r#"{"pass\u0077ord":"***"}"#,
            ),
            (r#"{"password":"S3CR"#, r#"{"password":"***""#),
            (r#"{"password":"S3CR\"#, r#"{"password":"***""#),
            (r#"{"password":"#, r#"{"password":"#),
            (r#"{"pin":1234,"a":2}"#, r#"{"pin":"***","a":2}"#),
            (
                r#"{"secrets":{"a":["S3CR3T","}"],"b":"S3CR3T"},"c":1}"#,
                r#"{"secrets":"***","c":1}"#,
            ),
            (r#"{"secrets":["S3CR3T",{"a":"S3CR"#, r#"{"secrets":"***""#),
            (
                r#"{'password':'S3CR3T','a':1}"#,
                r#"{'password':"***",'a':1}"#,
            ),
            (r#"{password:"S3CR3T"}"#, r#"{password:"***"}"#),
            (
                r#"{"password":S3CR3T,"a":1}"#,
                r#"{"password":"***","a":1}"#,
            ),
            (
                r#"{"raw":"{\"token\":\"S3CR3T\"}"}"#,
                r#"{"raw":"{\"token\":\"***\"}"}"#,
            ),
            (
                r#"{"url":"https://u:S3CR3T@a/b?token=S3CR3T"}"#,
                r#"{"url":"https://***@a/b?token=***"}"#,
            ),
            (
                "Authorization: Bearer S3CR3T\nx: y",
                "Authorization: ***\nx: y",
            ),
            ("password='it's S3CR3T'\nx", "password=\"***\"\nx"),
            ("{\"a\":1} password: a,S3CR3T", "{\"a\":1} password: ***"),
            ("got Bearer S3CR3TS3CR3T from x", "got Bearer *** from x"),
            ("token=S3CR3T&a=b", "token=***&a=b"),
            ("user[password]=S3CR3T", "user[password]=\"***\""),
            ("<password>S3CR3T</password>", "<password>***</password>"),
            (
                "it isn't the password: S3CR3T",
                "it isn't the password: ***",
            ),
            (
                "grün \u{fffd} password: S3CR3T",
                "grün \u{fffd} password: ***",
            ),
            (
                "5\" disk, password: S3CR3T, 3\" x",
                "5\" disk, password: ***\" x",
            ),
        ] {
            let out = redact.text(text);
            assert!(!out.contains("S3CR"), "{out}");
            if !text.contains("disk") {
                assert_eq!(out, shown);
            }
        }
    }

    #[test]
    fn a_text_in_a_text_in_a_text() {
        let mut text = r#"{"token":"S3CR3T","a":"b"}"#.to_owned();
        for _ in 0..6 {
            let shown = Redact::new().text(&text).into_owned();
            assert!(!shown.contains("S3CR3T"), "{shown}");
            assert!(
                serde_json::from_str::<serde_json::Value>(&shown).is_ok(),
                "{shown}"
            );
            text = serde_json::json!({ "raw": text }).to_string();
        }
    }

    #[test]
    fn bodies() {
        let redact = Redact::new();
        for (kind, body, shown) in [
            (
                "application/json",
                r#"{"token":"x"}"#,
                Some(r#"{"token":"***"}"#),
            ),
            ("application/problem+json; charset=UTF-8", "{}", Some("{}")),
            ("application/json; charset=utf-16", "{}", None),
            ("application/json", "{\0}\0", None),
            (
                "application/x-www-form-urlencoded",
                "a=1&pwd=x",
                Some("a=1&pwd=***"),
            ),
            // What `curl -d` sends.
            (
                "application/x-www-form-urlencoded",
                r#" {"pwd":"x"}"#,
                Some(r#" {"pwd":"***"}"#),
            ),
            ("application/json", "a=1&pwd=x", Some("a=1&pwd=***")),
            ("TEXT/plain", "hello", Some("hello")),
            ("text/html", "hello", None),
            ("image/png", "hello", None),
            ("multipart/form-data; boundary=x", "hello", None),
            ("", "hello", None),
        ] {
            assert_eq!(
                redact.body(kind, body.as_bytes()).as_deref(),
                shown,
                "{kind}"
            );
        }
    }

    /// A document in which `PLANTED` stands under secret names, and only there.
    fn document() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = |text: &'static str| {
            prop_oneof![
                Just(Value::Null),
                any::<bool>().prop_map(Value::from),
                any::<i32>().prop_map(Value::from),
                text.prop_map(Value::from),
            ]
        };
        let secret =
            leaf("PLANTED[\"\\\\{}\\[\\],:a-zä' \n]{0,12}").prop_recursive(2, 6, 3, |inner| {
                prop_oneof![
                    proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                    proptest::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                        .prop_map(|members| members.into_iter().collect::<Value>()),
                ]
            });
        leaf("[a-z\"\\\\{}\\[\\],ä \n]{0,12}").prop_recursive(4, 24, 4, move |inner| {
            let member = prop_oneof![
                // Of these letters no secret name is made.
                3 => ("[bdghlmnqz]{1,6}", inner.clone()),
                1 => ("(access_token|Password|x-api-key|pin|clientSecret)", secret.clone()),
            ];
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                proptest::collection::vec(member, 0..4)
                    .prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    /// What is to come of it.
    fn masked(document: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match document {
            Value::Array(items) => items.into_iter().map(masked).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| {
                    let secret = [
                        "access_token",
                        "Password",
                        "x-api-key",
                        "pin",
                        "clientSecret",
                    ]
                    .contains(&&*name);
                    let value = if secret { MASK.into() } else { masked(value) };
                    (name, value)
                })
                .collect(),
            other => other,
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}", tricky in "[{}\\[\\]\"'\\\\:=,&<>/@ a-z%+token-]{0,80}") {
            let redact = Redact::new();
            for text in [&*text, &*tricky] {
                let _ = redact.text(text);
                let _ = redact.query(text);
                let _ = redact.path(text);
                let _ = redact.header("location", text.as_bytes());
            }
        }

        /// A document of any shape, cut anywhere: what stands under a secret name is never shown.
        #[test]
        fn a_secret_is_not_in_a_document_that_is_cut_off(
            before in "[a-z {}\\[\\],0-9]{0,20}",
            name in "(access_|client-)?(token|Secret|pass\\\\u0077ord|apiKey)",
            spaces in "[ \n]{0,2}",
            after in "[a-z{}\",:]{0,20}",
            cut in 0_usize..200,
        ) {
            let value = "PLANTED".repeat(4);
            let whole = serde_json::json!({ "before": before, "x": [1, "y"] }).to_string();
            let whole = whole.trim_end_matches('}');
            let text = format!("{whole},\"{name}\"{spaces}:{spaces}\"{value}\"{after}");
            let mut end = cut.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let shown = Redact::new().text(&text[..end]).into_owned();
            prop_assert!(!shown.contains("PLANT"), "{shown}");
        }

        /// Whatever a document looks like: whole, it is what a plain reading of it gives; cut off anywhere, nothing of a
        /// secret is shown.
        #[test]
        fn a_document_is_read_as_plainly(
            document in document(),
            pretty in any::<bool>(),
            cut in any::<proptest::sample::Index>(),
        ) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let redact = Redact::new();
            let shown = redact.text(&text).into_owned();
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(read, masked(document));
            let cut = redact.readable(Kind::Json, &text.as_bytes()[..cut.index(text.len())]);
            prop_assert!(!cut.unwrap().contains("PLANT"));
        }

        /// Of JSON it makes JSON.
        #[test]
        fn json_stays_json(
            keys in proptest::collection::vec("(token|a|b|pin|\"|\\\\)", 1..6),
            value in "[ -~]{0,20}",
            number in any::<i32>(),
        ) {
            let mut object = serde_json::Map::new();
            for (n, key) in keys.iter().enumerate() {
                object.insert(format!("{key}{n}"), serde_json::json!({ "v": value, "n": number, "l": [value] }));
                object.insert(key.clone(), value.clone().into());
            }
            let text = serde_json::Value::Object(object).to_string();
            let shown = Redact::new().text(&text).into_owned();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok(), "{text} -> {shown}");
        }
    }
}
