//! HTTP methods as labels: the known ones by name, all others as one.

use http::Method;

const NAMES: [&str; KnownMethod::COUNT] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
    "_OTHER",
];

/// A method, or `_OTHER`: whoever sends the requests must not be able to make labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KnownMethod(u8);

impl KnownMethod {
    /// How many there are.
    pub(crate) const COUNT: usize = 11;
    const OTHER: Self = Self(Self::COUNT as u8 - 1);

    /// Its index, below [`COUNT`](Self::COUNT).
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The label.
    pub(crate) const fn label(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// The first word of a span's name.
    pub(crate) fn span_name(self) -> &'static str {
        if self == Self::OTHER {
            "HTTP"
        } else {
            self.label()
        }
    }
}

impl From<&Method> for KnownMethod {
    fn from(method: &Method) -> Self {
        Self(match method.as_str() {
            "GET" => 0,
            "HEAD" => 1,
            "POST" => 2,
            "PUT" => 3,
            "DELETE" => 4,
            "CONNECT" => 5,
            "OPTIONS" => 6,
            "TRACE" => 7,
            "PATCH" => 8,
            "QUERY" => 9,
            _ => return Self::OTHER,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_methods_keep_their_name_others_share_one() {
        for name in NAMES {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(KnownMethod::from(&method).label(), name);
        }
        for other in ["get", "BREW", "PROPFIND"] {
            let method = KnownMethod::from(&Method::from_bytes(other.as_bytes()).unwrap());
            assert_eq!((method.label(), method.span_name()), ("_OTHER", "HTTP"));
        }
    }
}
