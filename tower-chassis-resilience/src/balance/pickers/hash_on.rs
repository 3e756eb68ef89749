use std::{fmt, io::Write, sync::Arc};

use tower_chassis_core::{Carrier, live::Invalid};
use twox_hash::XxHash64;

/// A part of a request that decides where it goes, for the pickers that hash.
///
/// ```
/// use tower_chassis_resilience::balance::{HashOn, Ring};
///
/// // By user; by address where nobody is logged in.
/// let ring = Ring::new().hash_on([HashOn::header("x-user").terminal(), HashOn::client()]);
/// ```
///
/// In a configuration it is `client`, `path`, or a map such as `{ header: x-user, terminal: true }`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashOn {
    of: Of,
    terminal: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Of {
    Header(Box<str>),
    Cookie(Box<str>),
    Client,
    Path,
    Query(Box<str>),
    Meta(Box<str>),
}

impl HashOn {
    const fn new(of: Of) -> Self {
        Self {
            of,
            terminal: false,
        }
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(name: &str) -> Self {
        Self::new(Of::Header(name.to_ascii_lowercase().into()))
    }

    /// The value of a cookie, of the first header of them.
    #[must_use]
    pub fn cookie(name: &str) -> Self {
        Self::new(Of::Cookie(name.into()))
    }

    /// The IP address of the client, as the [invocation](tower_chassis_core::Invocation::client) knows it.
    #[must_use]
    pub const fn client() -> Self {
        Self::new(Of::Client)
    }

    /// The path.
    #[must_use]
    pub const fn path() -> Self {
        Self::new(Of::Path)
    }

    /// The first value of a query parameter, as it is written.
    #[must_use]
    pub fn query(name: &str) -> Self {
        Self::new(Of::Query(name.into()))
    }

    /// Metadata of a protocol, by the very name.
    #[must_use]
    pub fn meta(name: &str) -> Self {
        Self::new(Of::Meta(name.into()))
    }

    /// What comes later does not count if this, or what came before, is there.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    fn hash(&self, call: &dyn Carrier, of: fn(&[u8]) -> u64) -> Option<u64> {
        let of_text = |text: &str| of(text.as_bytes());
        match &self.of {
            Of::Header(name) | Of::Meta(name) => call.meta(name).map(of_text),
            Of::Cookie(name) => {
                pair(call.meta("cookie")?.split(';').map(str::trim), name).map(of_text)
            }
            Of::Path => call.path().map(of_text),
            Of::Query(name) => pair(call.query()?.split('&'), name).map(of_text),
            Of::Client => {
                let ip = call.invocation()?.client()?.ip().to_canonical();
                // As text, as others hash it; 45 is the longest.
                let mut text = [0; 48];
                let mut left = &mut text[..];
                write!(left, "{ip}").ok()?;
                let end = 48 - left.len();
                text.get(..end).map(of)
            }
        }
    }

    pub(in crate::balance) fn check(&self) -> Result<(), Invalid> {
        let (field, name) = match &self.of {
            Of::Header(name) => {
                if name.parse::<http::HeaderName>().is_err() {
                    return Err(Invalid::new("header", "must be a name of a header"));
                }
                return Ok(());
            }
            Of::Cookie(name) => ("cookie", name),
            Of::Query(name) => ("query", name),
            Of::Meta(name) => ("meta", name),
            Of::Client | Of::Path => return Ok(()),
        };
        if name.is_empty() {
            return Err(Invalid::new(field, "must not be empty"));
        }
        Ok(())
    }
}

fn pair<'a>(mut pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for HashOn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HashOnVisitor)
    }
}

#[cfg(feature = "config")]
struct HashOnVisitor;

#[cfg(feature = "config")]
impl<'de> serde::de::Visitor<'de> for HashOnVisitor {
    type Value = HashOn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client, path, or a map such as { header: x-user }")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<HashOn, E> {
        match word {
            "client" => Ok(HashOn::client()),
            "path" => Ok(HashOn::path()),
            _ => Err(E::unknown_variant(
                word,
                &[
                    "client",
                    "path",
                    "{ header: .. }",
                    "{ cookie: .. }",
                    "{ query: .. }",
                    "{ meta: .. }",
                ],
            )),
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<HashOn, A::Error> {
        use serde::{Deserialize, de::Error};

        #[derive(Default, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Written {
            header: Option<String>,
            cookie: Option<String>,
            query: Option<String>,
            meta: Option<String>,
            client: bool,
            path: bool,
            terminal: bool,
        }

        let written = Written::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let named = [
            written.header.as_deref().map(HashOn::header),
            written.cookie.as_deref().map(HashOn::cookie),
            written.query.as_deref().map(HashOn::query),
            written.meta.as_deref().map(HashOn::meta),
            written.client.then(HashOn::client),
            written.path.then(HashOn::path),
        ];
        let mut named = named.into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(on), None) if written.terminal => Ok(on.terminal()),
            (Some(on), None) => Ok(on),
            _ => Err(A::Error::custom(
                "must have one of header, cookie, query, meta, client, path",
            )),
        }
    }
}

/// What a request is hashed by.
#[derive(Clone)]
pub(super) enum Source {
    On(Arc<[HashOn]>),
    By(Arc<dyn Fn(&dyn Carrier) -> Option<u64> + Send + Sync>),
}

impl Default for Source {
    fn default() -> Self {
        Self::On(Arc::new([HashOn::client()]))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(parts) => parts.fmt(f),
            Self::By(_) => f.write_str("By(..)"),
        }
    }
}

impl Source {
    pub(super) fn on(parts: impl IntoIterator<Item = HashOn>) -> Self {
        Self::On(parts.into_iter().collect())
    }

    pub(super) fn hash(&self, call: &dyn Carrier, of: fn(&[u8]) -> u64) -> Option<u64> {
        let parts = match self {
            Self::By(by) => return by(call),
            Self::On(parts) => parts,
        };
        let mut hash: Option<u64> = None;
        for part in &**parts {
            if let Some(next) = part.hash(call, of) {
                hash = Some(hash.map_or(next, |hash| hash.rotate_left(1) ^ next));
            }
            if part.terminal && hash.is_some() {
                break;
            }
        }
        hash
    }
}

pub(super) fn xxh(text: &[u8]) -> u64 {
    XxHash64::oneshot(0, text)
}
