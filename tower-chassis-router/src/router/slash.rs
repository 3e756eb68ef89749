//! Paths that differ from a route by their last slash alone.

use std::borrow::Cow;

use http::HeaderValue;

use crate::{matcher::Captures, percent};

/// What becomes of a path that only matches without its last slash, or only with one more. A path that
/// matches as it is never comes here; nor does a mount, whose prefix answers in both forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum TrailingSlash {
    /// Nothing: it is another path, and not found.
    #[default]
    Exact,
    /// `308 Permanent Redirect` to the path that matches, if it has the method; the query is kept. The
    /// `Location` is relative (`../a`, `./a/`): it never leaves the host, whatever the path, and it is right
    /// below a prefix that a proxy or another router took away.
    Redirect,
    /// Both are served as one.
    Both,
}

/// The other spelling of `path`, of which a router sees what is behind `at`.
pub(super) fn other(path: &str, at: usize) -> Option<Cow<'_, str>> {
    // Nothing, or the slash alone, is a router's root in either form.
    if path.len() <= at + 1 {
        return None;
    }
    match path.strip_suffix('/') {
        Some(shorter) => (shorter.len() > at).then_some(Cow::Borrowed(shorter)),
        None => Some(Cow::Owned(format!("{path}/"))),
    }
}

/// Where a client that asked for `path` finds its other spelling. None where it would not get there, because
/// its last segment means something else in a reference.
pub(super) fn location(path: &str, query: Option<&str>) -> Option<HeaderValue> {
    let (up, shorter, slash) = match path.strip_suffix('/') {
        Some(shorter) => ("../", shorter, ""),
        None => ("./", path, "/"),
    };
    let last = shorter.rsplit('/').next().unwrap_or_default();
    if matches!(&*percent::decode(last.as_bytes()), b"." | b"..") {
        return None;
    }
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    HeaderValue::try_from([up, last, slash, mark, query].concat()).ok()
}

/// Brings captures of the other spelling into `len` bytes.
pub(super) fn clip(captures: &mut Captures, len: usize) {
    let mut all: Vec<_> = std::iter::from_fn(|| captures.pop()).collect();
    all.reverse();
    for (start, end) in all {
        captures.push(start.min(len), end.min(len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_relative_and_keeps_the_query() {
        for (path, query, expected) in [
            ("/a", None, "./a/"),
            ("/a/", None, "../a"),
            ("/a/b/", Some("x=/y"), "../b?x=/y"),
            ("/a/b:c", Some(""), "./b:c/?"),
            ("//evil.example/", None, "../evil.example"),
            ("//evil.example", None, "./evil.example/"),
            ("/a//", None, "../"),
            ("/%2Fevil.example/", None, "../%2Fevil.example"),
        ] {
            let location = location(path, query).unwrap();
            assert_eq!(location.to_str().unwrap(), expected, "{path}");
        }
        for path in ["/a/..", "/a/../", "/a/%2e%2E/", "/."] {
            assert!(location(path, None).is_none(), "{path}");
        }
    }

    #[test]
    fn the_root_of_a_router_has_one_spelling() {
        assert_eq!(other("/", 0), None);
        assert_eq!(other("/a", 2), None);
        assert_eq!(other("/a/", 2), None);
        assert_eq!(other("/a/b/", 2).as_deref(), Some("/a/b"));
        assert_eq!(other("/a/b", 2).as_deref(), Some("/a/b/"));
    }
}
