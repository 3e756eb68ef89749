//! One place where a service can be called.

use std::{fmt, sync::Arc};

use http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};
use twox_hash::XxHash64;

use crate::live::Invalid;

/// An address with what is known of it. One reference count to clone; equal when everything is equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    id: Arc<str>,
    key: u64,
    address: Uri,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    weight: u32,
    priority: u32,
    zone: Option<Arc<str>>,
    region: Option<Arc<str>>,
    hash_key: Option<Arc<str>>,
    tags: Arc<[(Arc<str>, Arc<str>)]>,
}

impl Endpoint {
    /// An endpoint of weight 1 and priority 0, without zone and tags. The address is its id, until
    /// [`with_id`](Self::with_id) gives another.
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
        Ok(Self(Arc::new(Inner {
            key: key(&id),
            id,
            address: uri,
            scheme,
            authority,
            host,
            weight: 1,
            priority: 0,
            zone: None,
            region: None,
            hash_key: None,
            tags: Arc::new([]),
        })))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The same with an identity of its own, so that its state survives a change of address.
    #[must_use]
    pub fn with_id(self, id: impl Into<Arc<str>>) -> Self {
        let id = id.into();
        self.with(|inner| {
            inner.key = key(&id);
            inner.id = id;
        })
    }

    /// The same with another weight. 0 takes no traffic while any other endpoint can.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        self.with(|inner| inner.weight = weight)
    }

    /// The same with another priority: 0 first, higher numbers are asked when lower ones cannot serve all.
    #[must_use]
    pub fn with_priority(self, priority: u32) -> Self {
        self.with(|inner| inner.priority = priority)
    }

    /// The same in a zone: a part of a region that may fail as a whole.
    #[must_use]
    pub fn with_zone(self, zone: impl Into<Arc<str>>) -> Self {
        let zone = zone.into();
        self.with(|inner| inner.zone = Some(zone))
    }

    /// The same in a region: zones that are near each other.
    #[must_use]
    pub fn with_region(self, region: impl Into<Arc<str>>) -> Self {
        let region = region.into();
        self.with(|inner| inner.region = Some(region))
    }

    /// The same with a text of its own for its place in hash rings and tables; default is the id. Who takes over
    /// another's text takes over its requests.
    #[must_use]
    pub fn with_hash_key(self, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        self.with(|inner| inner.hash_key = Some(text))
    }

    /// The same with these tags and no others, by which traffic rules choose (`version: v2`).
    #[must_use]
    pub fn with_tags<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        self,
        tags: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let tags = tags.into_iter();
        let tags = tags.map(|(k, v)| (k.into(), v.into())).collect();
        self.with(|inner| inner.tags = tags)
    }

    /// Its identity: state is kept by it while the set of endpoints changes.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.0.id
    }

    /// The identity as one word, never 0: XXH64 of the id, the same in every process and version.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.0.key
    }

    /// Scheme and authority.
    #[must_use]
    pub fn address(&self) -> &Uri {
        &self.0.address
    }

    /// The scheme of its address.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.0.scheme
    }

    /// The authority of its address.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// The authority as a `Host` header.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        &self.0.host
    }

    /// Its share of the traffic, relative to the others.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.0.weight
    }

    /// When it is asked: 0 first.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.0.priority
    }

    /// The zone where it runs, if that is known.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.0.zone.as_deref()
    }

    /// The region where it runs, if that is known.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.0.region.as_deref()
    }

    /// What its place in hash rings and tables is made of.
    #[must_use]
    pub fn hash_key(&self) -> &str {
        self.0.hash_key.as_deref().unwrap_or(&self.0.id)
    }

    /// Its tags.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.tags.iter().map(|(k, v)| (&**k, &**v))
    }

    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags().find(|(k, _)| *k == name).map(|(_, v)| v)
    }

    /// Whether it is the same value in memory: a cheap yes, and a no that says nothing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Endpoint");
        out.field("id", &self.0.id)
            .field("address", &self.0.address)
            .field("weight", &self.0.weight)
            .field("priority", &self.0.priority);
        if let Some(zone) = &self.0.zone {
            out.field("zone", zone);
        }
        if let Some(region) = &self.0.region {
            out.field("region", region);
        }
        out.field("tags", &self.0.tags).finish_non_exhaustive()
    }
}

fn key(id: &str) -> u64 {
    XxHash64::oneshot(0, id.as_bytes()).max(1)
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

    #[test]
    fn a_key_is_the_same_everywhere() {
        let key = |id: &str| {
            let endpoint = Endpoint::new("http://127.0.0.1:80").unwrap();
            endpoint.with_id(id).key()
        };
        assert_eq!(key(""), 0xef46_db37_51d8_e999);
        assert_eq!(key("http://10.0.0.1:80"), 0xd579_930e_9b4d_57b5);
    }

    #[test]
    fn a_change_is_of_the_copy() {
        let first = Endpoint::new("http://127.0.0.1:80").unwrap();
        let second = first.clone();
        assert!(first.is_same(&second) && first == second);
        let second = second.with_zone("a").with_priority(1).with_hash_key("x");
        assert!(!first.is_same(&second) && first != second);
        assert_eq!((first.zone(), first.priority()), (None, 0));
        assert_eq!(first.hash_key(), "http://127.0.0.1:80");
        assert_eq!((second.zone(), second.priority()), (Some("a"), 1));
        assert_eq!(second.hash_key(), "x");
    }
}
