//! Rules as they are written down.

use http::Method;
use tower_chassis_core::invocation::OnEmpty;

/// Sends the requests that it matches to parts of a service, by weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in its policy. A rule keeps its turns as long as it keeps its name.
    pub name: String,
    /// What it asks of a request. Default: nothing, it matches all.
    pub matches: Matches,
    /// Where requests go. The weights must add up to more than 0.
    pub to: Vec<Destination>,
    /// What happens when a destination has no usable endpoint. Default: the whole service serves.
    pub on_empty: OnEmpty,
}

impl Rule {
    /// A rule that matches every request.
    #[must_use]
    pub fn new(name: impl Into<String>, to: impl IntoIterator<Item = Destination>) -> Self {
        Self {
            name: name.into(),
            to: to.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Also asks for this header.
    #[must_use]
    pub fn header(mut self, header: HeaderMatch) -> Self {
        self.matches.headers.push(header);
        self
    }

    /// Also allows this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.matches.methods.push(method);
        self
    }

    /// Also asks for a path below `prefix`.
    #[must_use]
    pub fn path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.matches.path_prefix = Some(prefix.into());
        self
    }

    /// What happens when a destination has no usable endpoint.
    #[must_use]
    pub fn on_empty(mut self, on_empty: OnEmpty) -> Self {
        self.on_empty = on_empty;
        self
    }
}

/// What a rule asks of a request: all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// Each of these headers.
    pub headers: Vec<HeaderMatch>,
    /// One of these methods; any if there are none.
    pub methods: Vec<Method>,
    /// This path, or one below it: `/api` (or `/api/`) matches `/api` and `/api/x`, not `/apix`.
    pub path_prefix: Option<String>,
}

/// What a rule asks of a header. Of several values of one name, one must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The name, in any case.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

impl HeaderMatch {
    /// `name` has this value.
    #[must_use]
    pub fn exact(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: ValueMatch::Exact(value.into()),
        }
    }

    /// The value of `name` starts with this.
    #[must_use]
    pub fn prefix(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: ValueMatch::Prefix(value.into()),
        }
    }

    /// The value of `name` matches this expression as a whole.
    #[must_use]
    pub fn regex(name: impl Into<String>, expression: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: ValueMatch::Regex(expression.into()),
        }
    }

    /// `name` is there.
    #[must_use]
    pub fn present(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: ValueMatch::Present,
        }
    }
}

/// What the value of a header must be. Case matters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueMatch {
    /// This value.
    Exact(String),
    /// A value that starts with this.
    Prefix(String),
    /// A value that matches this expression as a whole. Linear in time, 10 KiB compiled at most.
    Regex(String),
    /// Any value.
    Present,
}

/// A part of a service and its weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The tags that its endpoints have. None: the whole service.
    pub tags: Vec<(String, String)>,
    /// Its share, relative to the other weights of the rule.
    pub weight: u32,
}

impl Destination {
    /// The endpoints that have all of `tags`.
    #[must_use]
    pub fn new<N: Into<String>, V: Into<String>>(
        tags: impl IntoIterator<Item = (N, V)>,
        weight: u32,
    ) -> Self {
        Self {
            tags: tags
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            weight,
        }
    }
}
