use std::sync::Arc;

/// A part of a service: the endpoints that have all of these tags.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subset {
    tags: Vec<(Arc<str>, Arc<str>)>,
    on_empty: OnEmpty,
}

/// What happens when a subset has no usable endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnEmpty {
    /// The whole service serves the call.
    #[default]
    Any,
    /// The call is refused.
    Refuse,
}

impl Subset {
    /// The endpoints that have all of `tags`.
    pub fn new<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        tags: impl IntoIterator<Item = (K, V)>,
        on_empty: OnEmpty,
    ) -> Self {
        Self {
            tags: tags
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            on_empty,
        }
    }

    /// Whether an endpoint belongs to it.
    #[must_use]
    pub fn contains(&self, endpoint: &crate::Endpoint) -> bool {
        self.tags
            .iter()
            .all(|(name, value)| endpoint.tag(name) == Some(value))
    }

    /// The tags.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.tags.iter().map(|(k, v)| (&**k, &**v))
    }

    /// What happens when it has no usable endpoint.
    #[must_use]
    pub const fn on_empty(&self) -> OnEmpty {
        self.on_empty
    }
}
