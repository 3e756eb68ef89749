//! A table of routes, without any I/O: which of them serves a method and a path.
//!
//! ```
//! use http::Method;
//! use tower_chassis_router::{matcher::{Captures, Matcher, Outcome}, pattern::Pattern};
//!
//! let mut routes = Matcher::builder();
//! routes.insert(&Pattern::parse("/users/{id}").unwrap(), Some(Method::GET), "one").unwrap();
//! routes.insert(&Pattern::parse("/users/me").unwrap(), Some(Method::PUT), "me").unwrap();
//! let matcher = routes.build();
//!
//! let mut captures = Captures::new();
//! // `/users/me` is more specific, but only serves PUT.
//! let found = matcher.find(&Method::GET, "/users/me", 0, &mut captures);
//! assert!(matches!(found, Outcome::Found { value: &"one" }));
//! assert_eq!(captures.get(0), Some((7, 9)));
//! assert_eq!(matcher.allow("/users/me", 0), "GET, HEAD, PUT");
//! ```
//!
//! # Rules
//!
//! Of the grammar (see [`pattern`](crate::pattern)):
//!
//! * **R1** A pattern starts with `/`, and so does a path. Both are split at their slashes; a path matches if it
//!   has as many segments as the pattern and each matches.
//! * **R2** Text is compared byte by byte, with case. `/a` is not `/a/`, and `//a` is not `/a`.
//! * **R3** `{name}` takes any bytes of its segment, and never a slash.
//! * **R4** A parameter that ends the path takes at least one byte. Any other may be empty, if it is plain or
//!   its expression accepts nothing.
//! * **R5** `{name:expression}` takes what the expression matches as a whole: `cat|dog` does not take `catx`. The
//!   expression is asked about the empty value, too, and never sees a slash. `{name:}` takes anything.
//! * **R6** Several parameters and texts may stand in one segment, also behind and beside expressions. Of all ways
//!   to split a segment, the one counts in which the first value is shortest, then the second, and so on: where
//!   a text stands more than once, all its places are tried.
//! * **R7** `*` and `{*name}` end a pattern and take the rest of the path, which may be nothing: `/files/*` matches
//!   `/files/`, not `/files`. They may follow a text: `/api*` matches `/api` and `/apix/y`.
//! * **R8** Braces of an expression balance. Two parameters, or a parameter and a catch-all, have a text between
//!   them. No name stands twice in a pattern. An expression beside another parameter does not look at what is
//!   around it (`\b`).
//! * **R9** A path is compared as it came, by what its escapes mean: `%61` is `a`, `%c3` is `%C3`, but `%2F`
//!   separates nothing and `%3A` is not `:`. A `%` that escapes nothing is `%25`. Expressions see the decoded value.
//! * **R10** A rest of the path of no bytes, as below a mount that was asked for by its own name, is `/`.
//!
//! Of precedence:
//!
//! * **R11** Decided from the left, segment by segment. The first route in the order that matches the path and serves
//!   the method wins, whatever was tried before.
//! * **R12** At one place: static text, then what begins with the longer text before its first parameter, then
//!   expressions, then plain parameters, then catch-alls.
//! * **R13** Among expressions, as among parameters, those with a text behind them go first; then, as among
//!   equals, the order of registration counts.
//! * **R14** What ends goes before what continues it, and a parameter's text decides before what is behind it.
//! * **R15** The names of parameters make no place: `/p/{id}` and `/p/{slug}` are one. A method is registered once at a
//!   place.
//!
//! Of methods:
//!
//! * **R16** A route without the method is passed by, and the search goes on; with [`strict`](Builder::strict) the
//!   first place that matches the path decides.
//! * **R17** If routes match the path and none serves the method, that is a 405; its `Allow` names the methods of
//!   all that match, sorted, each once.
//! * **R18** GET answers HEAD at a place without HEAD, if [`implicit_head`](Builder::implicit_head).
//! * **R19** A route for any method answers what its place has no route for. Methods need no registry and are compared
//!   with case.
//!
//! # How it works
//!
//! A trie of segments. Each node has a hash table of the static segments that may come next, and an ordered list of
//! what else may. A search reads the path word by word and takes the first alternative at each node. Nearly always
//! that is the route. If not, and another alternative was passed by, a second walk tries all of them in order, but
//! enters only nodes with a candidate below: each route is filed under its rarest static segment, and the segments of
//! the path name the files. Routes without parameters are also known as a whole.
//!
//! # Cost
//!
//! A search reads the path once or twice, and allocates nothing up to sixteen captures, unless the path has escapes, or
//! patterns or the path have more than sixteen segments and the first walk fails, or an expression beside another
//! parameter is large or its segment long. A miss costs at most the number of
//! routes that share their rarest static segment with the path, times their depth; never more than the nodes of the
//! table, each of which is entered at most once by either walk. Building is linear in the text of the patterns.

mod builder;
mod captures;
mod exact;
mod explain;
mod filed;
mod find;
mod freeze;
mod key;
mod methods;
mod node;
mod order;
mod small;
mod sweep;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use http::Method;

pub use self::{
    builder::Builder,
    captures::Captures,
    explain::{Tried, Verdict},
};
use self::{
    find::{Found, start},
    methods::{GET, named},
    node::{Trie, Wanted},
    sweep::Sweep,
};
use crate::percent;

/// A table of routes with a value for each method. See the [module](self) for the rules.
pub struct Matcher<T> {
    trie: Trie,
    values: Vec<T>,
}

/// What a [`Matcher`] knows of a method and a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a, T> {
    /// A route serves it.
    Found {
        /// The value of the route.
        value: &'a T,
    },
    /// Routes match the path, but none of them has the method.
    MethodNotAllowed,
    /// No route matches the path.
    NotFound,
}

impl<T> fmt::Debug for Matcher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("routes", &self.values.len())
            .field("nodes", &self.trie.nodes.len())
            .finish_non_exhaustive()
    }
}

impl<T> Default for Matcher<T> {
    /// No routes.
    fn default() -> Self {
        Self::builder().build()
    }
}

impl<T> Matcher<T> {
    /// A table without routes, to which some can be added.
    #[must_use]
    pub fn builder() -> Builder<T> {
        Builder::new()
    }

    /// Searches a route for `method` and the part of `path` that starts at byte `at`; what it captures
    /// is added to `captures`, as places of `path`.
    #[inline]
    pub fn find<'a>(
        &'a self,
        method: &Method,
        path: &str,
        at: usize,
        captures: &mut Captures,
    ) -> Outcome<'a, T> {
        if path.len() > usize::from(u16::MAX) {
            return Outcome::NotFound;
        }
        let wanted = self.trie.wanted(method);
        let bytes = path.as_bytes();
        let mut found = self.trie.find::<true>(wanted, bytes, at, captures);
        if found == Found::Escaped {
            found = self.find_escaped(wanted, bytes, at, captures);
        }
        match found {
            Found::Value(value) => match self.values.get(value as usize) {
                Some(value) => Outcome::Found { value },
                None => Outcome::NotFound,
            },
            Found::OtherMethods => Outcome::MethodNotAllowed,
            Found::Nothing | Found::Escaped => Outcome::NotFound,
        }
    }

    #[cold]
    fn find_escaped(
        &self,
        wanted: Wanted<'_>,
        path: &[u8],
        at: usize,
        captures: &mut Captures,
    ) -> Found {
        let kept = captures.len();
        let form = canonical(path, at);
        let found = self.trie.find::<false>(wanted, &form, at, captures);
        percent::restore(path, at, captures, kept);
        found
    }

    /// The value of an `Allow` header: the methods of all routes that match the path, sorted, without
    /// repeats.
    #[must_use]
    pub fn allow(&self, path: &str, at: usize) -> String {
        let bytes = canonical(path.as_bytes(), at);
        let mut mask = 0;
        let mut methods = Vec::new();
        if path.len() <= usize::from(u16::MAX)
            && let Some(start) = start(&bytes, at)
        {
            Sweep::new(&self.trie, &bytes, start).all(|leaf| {
                mask |= self.trie.methods(leaf);
                let others = self.trie.others(leaf);
                methods.extend(others.map(|(_, method, _)| method.clone()));
            });
        }
        if self.trie.implicit_head && mask & GET != 0 {
            mask |= methods::HEAD;
        }
        methods.extend(named(mask));
        let mut methods: Vec<_> = methods.iter().map(Method::as_str).collect();
        methods.sort_unstable();
        methods.dedup();
        methods.join(", ")
    }
}

/// `path` with the part from `at` on in canonical form.
fn canonical(path: &[u8], at: usize) -> Cow<'_, [u8]> {
    let (head, rest) = path.split_at_checked(at).unwrap_or((path, &[]));
    match percent::canonical(rest) {
        Cow::Borrowed(_) => Cow::Borrowed(path),
        Cow::Owned(form) if head.is_empty() => Cow::Owned(form),
        Cow::Owned(form) => Cow::Owned([head, &form].concat()),
    }
}
