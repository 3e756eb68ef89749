//! One place where a service can be called.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};

use crate::live::Invalid;

/// An address with its weight and tags. Cheap to clone; equal when everything is equal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    id: Arc<str>,
    key: u64,
    address: Uri,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    weight: u32,
    tags: Arc<[(Arc<str>, Arc<str>)]>,
}

impl Endpoint {
    /// An endpoint of weight 1 without tags. The address is its id, until [`Endpoint::id`] gives another.
    ///
    /// # Errors
    /// The address is not `scheme://host:port`.
    pub fn new(address: &str) -> Result<Self, Invalid> {
        if address.contains('@') {
            // Not echoed: it would be in logs and pages.
            return Err(Invalid::new(
                "address",
                "must not carry a user or a password",
            ));
        }
        let why = || {
            Invalid::new(
                "address",
                format!("must be scheme://host:port, is {address:?}"),
            )
        };
        let uri: Uri = address.parse().map_err(|_| why())?;
        if uri.host().is_none_or(str::is_empty)
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(why());
        }
        let (scheme, authority) = uri
            .scheme()
            .cloned()
            .zip(uri.authority().cloned())
            .ok_or_else(why)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| why())?;
        let id: Arc<str> = address.trim_end_matches('/').into();
        Ok(Self {
            key: key(&id),
            id,
            address: uri,
            scheme,
            authority,
            host,
            weight: 1,
            tags: Arc::new([]),
        })
    }

    /// The same with an identity of its own, so that its state survives a change of address.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.id = id.into();
        self.key = key(&self.id);
        self
    }

    /// The same with another weight. 0 takes no traffic while any other endpoint can.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same with tags, by which traffic rules choose (`version: v2`).
    #[must_use]
    pub fn with_tags<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        mut self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.tags = tags
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        self
    }

    /// Its identity: state is kept by it while the set of endpoints changes.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The identity as one word, never 0, the same in every process of this build.
    #[must_use]
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// Scheme and authority.
    #[must_use]
    pub const fn address(&self) -> &Uri {
        &self.address
    }

    /// The scheme of its address.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The authority of its address.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The authority as a `Host` header.
    #[must_use]
    pub const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Its share of the traffic, relative to the others.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// Its tags.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.tags.iter().map(|(k, v)| (&**k, &**v))
    }

    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags().find(|(k, _)| *k == name).map(|(_, v)| v)
    }
}

fn key(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let endpoint = Endpoint::new("http://127.0.0.1:80")
            .unwrap()
            .with_tags([("version", "v1")]);
        assert_eq!(endpoint.tag("version"), Some("v1"));
        assert_eq!(&**endpoint.id(), "http://127.0.0.1:80");
        for bad in [
            "",
            "127.0.0.1:80",
            "http://",
            "http://a/b",
            "http://a?x",
            "http://a b",
            "http://user:secret@a",
        ] {
            assert!(Endpoint::new(bad).is_err(), "{bad}");
        }
    }
}
