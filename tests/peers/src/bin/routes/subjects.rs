//! Who is compared, behind one trait. Each gets the same shapes and the same paths, and is asked for its value and its
//! captures. Ours is asked for a method as well.

use std::hint::black_box;

use http::Method;
use tower_chassis_router::{
    matcher::{Captures, Matcher, Outcome},
    pattern::Pattern,
};

/// A table of routes, `{name}` for parameters.
pub trait Subject: Sized + 'static {
    const NAME: &'static str;

    /// None if it refuses one of the routes.
    fn build(routes: &[String]) -> Option<Self>;

    /// The number of the route and how many captures there are.
    fn find(&self, path: &str) -> Option<(usize, usize)>;
}

pub struct Ours(Matcher<usize>);

impl Subject for Ours {
    const NAME: &'static str = "tower-chassis";

    fn build(routes: &[String]) -> Option<Self> {
        let mut builder = Matcher::builder();
        for (index, route) in routes.iter().enumerate() {
            let pattern = Pattern::parse(route).ok()?;
            builder.insert(&pattern, Some(Method::GET), index).ok()?;
        }
        Some(Self(builder.build()))
    }

    #[inline(always)]
    fn find(&self, path: &str) -> Option<(usize, usize)> {
        let mut captures = Captures::new();
        match self.0.find(&Method::GET, path, 0, &mut captures) {
            Outcome::Found { value } => Some((*value, black_box(&captures).len())),
            _ => None,
        }
    }
}

pub struct Matchit(matchit::Router<usize>);

impl Subject for Matchit {
    const NAME: &'static str = "matchit";

    fn build(routes: &[String]) -> Option<Self> {
        let mut router = matchit::Router::new();
        for (index, route) in routes.iter().enumerate() {
            router.insert(route.as_str(), index).ok()?;
        }
        Some(Self(router))
    }

    #[inline(always)]
    fn find(&self, path: &str) -> Option<(usize, usize)> {
        let found = self.0.at(path).ok()?;
        Some((*found.value, black_box(&found.params).len()))
    }
}

pub struct PathTree(path_tree::PathTree<usize>);

impl Subject for PathTree {
    const NAME: &'static str = "path-tree";

    fn build(routes: &[String]) -> Option<Self> {
        let mut tree = path_tree::PathTree::new();
        for (index, route) in routes.iter().enumerate() {
            let _ = tree.insert(&route.replace('{', ":").replace('}', ""), index);
        }
        Some(Self(tree))
    }

    #[inline(always)]
    fn find(&self, path: &str) -> Option<(usize, usize)> {
        let (value, found) = self.0.find(path)?;
        Some((*value, black_box(&found).raws.len()))
    }
}

pub struct Wayfind(wayfind::Router<usize>);

impl Subject for Wayfind {
    const NAME: &'static str = "wayfind";

    fn build(routes: &[String]) -> Option<Self> {
        let mut builder = wayfind::RouterBuilder::new();
        for (index, route) in routes.iter().enumerate() {
            builder
                .insert(&route.replace('{', "<").replace('}', ">"), index)
                .ok()?;
        }
        Some(Self(builder.build()))
    }

    #[inline(always)]
    fn find(&self, path: &str) -> Option<(usize, usize)> {
        let found = self.0.search(path)?;
        Some((*found.data(), black_box(found.parameters()).len()))
    }
}
