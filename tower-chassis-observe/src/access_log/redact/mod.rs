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
//! | holds one of these | `token`, `secret`, `password`, `passwd`, `passphrase`, `passcode`, `apikey`, `accesskey`, `privatekey`, `signingkey`, `signature`, `credential`, `authorization`, `cookie`, `session`, `csrf`, `xsrf`, `jwt`, `assertion`, `samlresponse`, `codeverifier`, `encryptionkey`, `masterkey`, `sharedkey`, `cardnumber` |
//! | is one of these | `auth`, `baggage`, `cvc`, `cvv`, `key`, `otp`, `pass`, `pin`, `pwd`, `sid`, `sig` |
//! | has one of these as a word (`user[pin]`, `cardCvc`) | `cvc`, `cvv`, `otp`, `pin`, `pwd` |
//! | ends with one of these as a word (`x-auth`) | `auth`, `pass`, `sid`, `sig` |
//!
//! [`Redact::and`] adds to the first row. A secret value is [`MASK`], whatever it was; of `Authorization` the scheme stays.
//! A value that its `HeaderValue` calls sensitive is masked whatever its name.
//! Of headers that hold an address (`Referer`, `Location`, …) the user, the query and the fragment go.
//! What looks like a JWT (`eyJ…`, with a point) is masked wherever it stands. An address in a value of an address, and so on, is read
//! too, however often it is encoded.
//!
//! # Limits
//! A secret under a harmless name is not found: `{"name":"password","value":"x"}`, the `code` of OAuth (add it, if no other
//! `code` is to be read: `.and(["code"])`), a path of `/reset/{code}`. Show such
//! paths by their template, and such bodies not at all.

mod decode;
mod kind;
mod names;
mod scan;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use http::{HeaderName, HeaderValue};

pub(super) use self::kind::{Kind, essence};
use self::{
    decode::decoded,
    names::{ADDRESSES, folded, is_secret, scheme},
    scan::Scan,
};

/// What stands in place of a secret.
pub const MASK: &str = "***";

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
        is_secret(name, &self.more)
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

    /// A header as it came, which may be marked as a secret.
    pub(crate) fn value<'a>(&self, name: &HeaderName, value: &'a HeaderValue) -> Cow<'a, [u8]> {
        match value.is_sensitive() {
            true => Cow::Borrowed(MASK.as_bytes()),
            false => self.header(name.as_str(), value.as_bytes()),
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

    /// A path without what is secret in it: parameters (`/a;jsessionid=x/b`, `/token=x`), the user of an address
    /// (`/get/https://me:x@host`), what looks like a JWT.
    #[must_use]
    pub fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        // What most paths do not have; a JWT begins with `eyJ`.
        let odd = |byte: u8| matches!(byte, b';' | b'=' | b'%' | b'@' | b'J');
        if !path.bytes().any(odd) {
            return Cow::Borrowed(path);
        }
        let path = decode::address(path);
        let segments = path
            .split('/')
            .map(|segment| match segment.bytes().any(odd) {
                true => Cow::Owned(self.query(segment)),
                false => Cow::Borrowed(segment),
            });
        Cow::Owned(segments.collect::<Vec<_>>().join("/"))
    }

    /// An address without its user, its query and its fragment.
    #[must_use]
    pub fn address<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match decode::address(text) {
            Cow::Borrowed(text) => self.path(text),
            Cow::Owned(text) => Cow::Owned(self.path(&text).into_owned()),
        }
    }

    /// An address to be followed: without its user and its fragment, the query without secrets.
    #[cfg(feature = "vcr")]
    pub(crate) fn followed(&self, text: &str) -> String {
        let (whole, _) = text.split_once('#').unwrap_or((text, ""));
        let mut out = self.address(whole).into_owned();
        if let Some((_, query)) = whole.split_once('?') {
            out.push('?');
            out.push_str(&self.query(query));
        }
        out
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
        let mut scan = Scan::new(self, text, nested);
        scan.run();
        scan.masked()
    }
}
