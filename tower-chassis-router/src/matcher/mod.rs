//! A table of routes, without any I/O: which of them serves a method and a path.
//!
//! Routes are kept in an order and tried in it; the first one that matches the path and has the method
//! wins. Segment by segment the order is
//!
//! 1. static text,
//! 2. a parameter with an expression: followed by a text first, else to the end of the segment,
//! 3. a parameter: followed by a text first, else to the end of the segment,
//! 4. a catch-all,
//!
//! and in the order of registration where these are equal. A pattern that ends goes before those that
//! continue it. The names of parameters do not matter: `/p/{id}` and `/p/{slug}` are one place with two
//! spellings.
//!
//! ```
//! use http::Method;
//! use tower_chassis_router::{matcher::{Captures, Matcher, Outcome}, pattern::Pattern};
//!
//! let mut matcher = Matcher::new();
//! matcher.insert(&Pattern::parse("/users/{id}").unwrap(), Some(Method::GET), "one").unwrap();
//! matcher.insert(&Pattern::parse("/users/me").unwrap(), Some(Method::PUT), "me").unwrap();
//!
//! let mut captures = Captures::new();
//! // `/users/me` is more specific, but only serves PUT.
//! let found = matcher.find(&Method::GET, "/users/me", 0, &mut captures);
//! assert!(matches!(found, Outcome::Found { value: &"one", .. }));
//! assert_eq!(matcher.allow("/users/me", 0), "GET, HEAD, PUT");
//! ```

mod captures;
mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use http::Method;

pub use self::captures::Captures;
use self::order::{Order, Rank};
use crate::pattern::Pattern;

/// A table of routes with a value for each method. See the [module](self) for the order.
#[derive(Debug)]
pub struct Matcher<T> {
    leaves: BTreeMap<Rank, Leaf<T>>,
    order: Order,
    implicit_head: bool,
}

/// All routes of one shape.
#[derive(Debug)]
struct Leaf<T> {
    pattern: Pattern,
    methods: Vec<(Method, T)>,
    any: Option<T>,
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

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Matcher<T> {
    /// A table without routes, in which GET answers HEAD where there is no route for HEAD.
    #[must_use]
    pub fn new() -> Self {
        Self {
            leaves: BTreeMap::new(),
            order: Order::default(),
            implicit_head: true,
        }
    }

    /// Whether GET answers HEAD where there is no route for HEAD. Default: it does.
    #[must_use]
    pub fn implicit_head(mut self, implicit: bool) -> Self {
        self.implicit_head = implicit;
        self
    }

    /// Adds a route for `method`, or for every method that has no route of its own at this place.
    ///
    /// # Errors
    ///
    /// The value that the same method and place already has; the new value is dropped.
    pub fn insert(
        &mut self,
        pattern: &Pattern,
        method: Option<Method>,
        value: T,
    ) -> Result<(), &T> {
        let leaf = self
            .leaves
            .entry(self.order.rank(pattern))
            .or_insert_with(|| Leaf {
                pattern: pattern.clone(),
                methods: Vec::new(),
                any: None,
            });
        let taken = match &method {
            None => leaf.any.is_some(),
            Some(method) => leaf.of(method).is_some(),
        };
        match (method, taken) {
            (None, false) => leaf.any = Some(value),
            (Some(method), false) => leaf.methods.push((method, value)),
            (None, true) => return leaf.any.as_ref().map_or(Ok(()), Err),
            (Some(method), true) => return leaf.of(&method).map_or(Ok(()), Err),
        }
        Ok(())
    }

    /// A value of the same shape as `pattern`; the one for any method, if there is one.
    pub(crate) fn occupant(&mut self, pattern: &Pattern) -> Option<&T> {
        let leaf = self.leaves.get(&self.order.rank(pattern))?;
        leaf.any
            .as_ref()
            .or_else(|| leaf.methods.first().map(|(_, value)| value))
    }

    /// Searches a route for `method` and the part of `path` that starts at byte `at`; what it captures
    /// is added to `captures`. Allocates nothing up to sixteen captures, unless an expression sees an
    /// escaped value.
    pub fn find<'a>(
        &'a self,
        method: &Method,
        path: &str,
        at: usize,
        captures: &mut Captures,
    ) -> Outcome<'a, T> {
        let mut outcome = Outcome::NotFound;
        if path.len() > usize::from(u16::MAX) {
            return outcome;
        }
        let kept = captures.len();
        for leaf in self.leaves.values() {
            if !leaf.pattern.matches(path, at, captures) {
                continue;
            }
            if let Some(value) = leaf.serves(method, self.implicit_head) {
                return Outcome::Found { value };
            }
            outcome = Outcome::MethodNotAllowed;
            captures.truncate(kept);
        }
        outcome
    }

    /// The value of an `Allow` header: the methods of all routes that match the path, sorted, without
    /// repeats.
    #[must_use]
    pub fn allow(&self, path: &str, at: usize) -> String {
        let mut captures = Captures::new();
        let mut methods = Vec::new();
        for leaf in self.leaves.values() {
            if !leaf.pattern.matches(path, at, &mut captures) {
                continue;
            }
            captures.truncate(0);
            methods.extend(leaf.methods.iter().map(|(method, _)| method.as_str()));
        }
        if self.implicit_head && methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        methods.dedup();
        methods.join(", ")
    }
}

impl<T> Leaf<T> {
    fn of(&self, method: &Method) -> Option<&T> {
        self.methods
            .iter()
            .find(|(known, _)| known == method)
            .map(|(_, value)| value)
    }

    fn serves(&self, method: &Method, implicit_head: bool) -> Option<&T> {
        self.of(method)
            .or_else(|| {
                if implicit_head && *method == Method::HEAD {
                    self.of(&Method::GET)
                } else {
                    None
                }
            })
            .or(self.any.as_ref())
    }
}
