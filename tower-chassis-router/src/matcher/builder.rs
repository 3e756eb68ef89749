//! Routes as they are registered.

use std::{collections::HashMap, fmt, sync::Arc};

use http::Method;

use super::{
    Matcher, freeze,
    key::{combine, key, spread},
    node::NONE,
};
use crate::pattern::{Pattern, Shape, Spec, Step};

/// Takes routes, and becomes a [`Matcher`]. See the [module](super) for the rules.
pub struct Builder<T> {
    pub(super) tree: Tree,
    pub(super) entries: Vec<Entry<T>>,
    pub(super) implicit_head: bool,
    pub(super) strict: bool,
}

/// The routes without their values.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    pub(super) texts: Vec<u8>,
    /// Indices of edges, by node and text.
    table: Vec<u32>,
    /// All shapes, those of a node as a list.
    pub(super) shapes: Vec<Shaped>,
    /// What is behind a shape of a node.
    known: HashMap<(u32, Arc<Spec>), u32>,
    /// The first entry of each leaf, and its last.
    pub(super) leaves: Vec<(u32, u32)>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The first and the last of its edges.
    pub(super) edges: (u32, u32),
    /// The first and the last of its shapes.
    pub(super) shapes: (u32, u32),
    pub(super) param: u32,
    /// Behind a catch-all.
    pub(super) rest: u32,
    pub(super) leaf: u32,
}

/// A static segment.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) node: u32,
    pub(super) key: u64,
    pub(super) text: (u32, u32),
    pub(super) child: u32,
    pub(super) next: u32,
}

/// A segment with parameters and text.
#[derive(Debug)]
pub(super) struct Shaped {
    pub(super) shape: Arc<Shape>,
    pub(super) child: u32,
    pub(super) next: u32,
}

/// A route.
pub(super) struct Entry<T> {
    /// None for any method.
    pub(super) method: Option<Method>,
    pub(super) value: Option<T>,
    pub(super) next: u32,
}

impl<T> Default for Builder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("routes", &self.entries.len())
            .field("implicit_head", &self.implicit_head)
            .field("strict", &self.strict)
            .finish()
    }
}

impl<T> Builder<T> {
    /// No routes; GET answers HEAD where there is no route for HEAD, and a route without the method is
    /// passed by.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tree: Tree::new(),
            entries: Vec::new(),
            implicit_head: true,
            strict: false,
        }
    }

    /// Whether GET answers HEAD where there is no route for HEAD. Default: it does.
    #[must_use]
    pub fn implicit_head(mut self, implicit: bool) -> Self {
        self.implicit_head = implicit;
        self
    }

    /// Whether the first place that matches a path decides, even if it has no route for the method. Default:
    /// it does not, and the search goes on: with `GET /users/me` and `PUT /users/{id}`, `PUT /users/me`
    /// is served by the latter.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
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
        let leaf = self.tree.leaf(pattern);
        let mut at = self
            .tree
            .leaves
            .get(leaf as usize)
            .map_or(NONE, |leaf| leaf.0);
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.method == method {
                return self
                    .entries
                    .get(at as usize)
                    .and_then(|entry| entry.value.as_ref())
                    .map_or(Ok(()), Err);
            }
            at = entry.next;
        }
        let new = self.entries.len() as u32;
        if let Some((first, last)) = self.tree.leaves.get_mut(leaf as usize) {
            match self.entries.get_mut(*last as usize) {
                Some(entry) => entry.next = new,
                None => *first = new,
            }
            *last = new;
        }
        self.entries.push(Entry {
            method,
            value: Some(value),
            next: NONE,
        });
        Ok(())
    }

    /// A value of the same shape as `pattern`; the one for any method, if there is one.
    pub fn occupant(&self, pattern: &Pattern) -> Option<&T> {
        let leaf = self.tree.find(pattern)?;
        let (first, _) = *self.tree.leaves.get(leaf as usize)?;
        let mut at = first;
        let mut found = self.entries.get(at as usize)?;
        while let Some(entry) = self.entries.get(at as usize) {
            if entry.method.is_none() {
                found = entry;
            }
            at = entry.next;
        }
        found.value.as_ref()
    }

    /// Makes a table that can be searched.
    #[must_use]
    pub fn build(self) -> Matcher<T> {
        freeze::freeze(self)
    }
}

impl Tree {
    fn new() -> Self {
        Self {
            nodes: vec![Node::new()],
            ..Self::default()
        }
    }

    /// The leaf of a pattern, made if it is not there.
    fn leaf(&mut self, pattern: &Pattern) -> u32 {
        let mut at = 0;
        for step in pattern.steps() {
            at = match self.child(at, step) {
                Some(child) => child,
                None => self.add(at, step),
            };
        }
        let new = self.leaves.len() as u32;
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return NONE;
        };
        if node.leaf == NONE {
            node.leaf = new;
            self.leaves.push((NONE, NONE));
        }
        node.leaf
    }

    fn find(&self, pattern: &Pattern) -> Option<u32> {
        let mut at = 0;
        for step in pattern.steps() {
            at = self.child(at, step)?;
        }
        self.nodes
            .get(at as usize)
            .map(|node| node.leaf)
            .filter(|leaf| *leaf != NONE)
    }

    fn child(&self, at: u32, step: Step<'_>) -> Option<u32> {
        let node = self.nodes.get(at as usize)?;
        let child = match step {
            Step::Static(text) => {
                let key = key(text);
                let mask = self.table.len().wrapping_sub(1);
                let mut slot = mark(at, key) & mask;
                loop {
                    let edge = self.edges.get(*self.table.get(slot)? as usize)?;
                    if edge.node == at && edge.key == key && self.text(edge) == Some(text) {
                        return Some(edge.child);
                    }
                    slot = (slot + 1) & mask;
                }
            }
            Step::Param => node.param,
            Step::Rest => node.rest,
            Step::Shaped(_) if node.shapes.0 == NONE => NONE,
            Step::Shaped(shape) => *self.known.get(&(at, Arc::clone(&shape.spec)))?,
        };
        (child != NONE).then_some(child)
    }

    /// Those of a node, from its first on.
    pub(super) fn edges(&self, first: u32) -> impl Iterator<Item = &Edge> {
        let edge = |at: u32| self.edges.get(at as usize);
        std::iter::successors(edge(first), move |last| edge(last.next))
    }

    pub(super) fn text(&self, edge: &Edge) -> Option<&[u8]> {
        self.texts.get(edge.text.0 as usize..edge.text.1 as usize)
    }

    fn add(&mut self, at: u32, step: Step<'_>) -> u32 {
        let child = self.nodes.len() as u32;
        self.nodes.push(Node::new());
        let Some(node) = self.nodes.get_mut(at as usize) else {
            return child;
        };
        match step {
            Step::Static(text) => {
                let edge = self.edges.len() as u32;
                match self.edges.get_mut(node.edges.1 as usize) {
                    Some(last) => last.next = edge,
                    None => node.edges.0 = edge,
                }
                node.edges.1 = edge;
                let start = self.texts.len() as u32;
                self.texts.extend_from_slice(text);
                self.edges.push(Edge {
                    node: at,
                    key: key(text),
                    text: (start, self.texts.len() as u32),
                    child,
                    next: NONE,
                });
                self.enter(edge);
            }
            Step::Param => node.param = child,
            Step::Rest => node.rest = child,
            Step::Shaped(shape) => {
                let new = self.shapes.len() as u32;
                match self.shapes.get_mut(node.shapes.1 as usize) {
                    Some(last) => last.next = new,
                    None => node.shapes.0 = new,
                }
                node.shapes.1 = new;
                self.shapes.push(Shaped {
                    shape: Arc::clone(shape),
                    child,
                    next: NONE,
                });
                self.known.insert((at, Arc::clone(&shape.spec)), child);
            }
        }
        child
    }

    fn enter(&mut self, edge: u32) {
        if self.edges.len() * 2 > self.table.len() {
            let size = (self.edges.len() * 4).next_power_of_two().max(64);
            self.table = vec![NONE; size];
            for known in 0..edge {
                self.put(known);
            }
        }
        self.put(edge);
    }

    fn put(&mut self, edge: u32) {
        let mask = self.table.len().wrapping_sub(1);
        let Some(mut at) = self
            .edges
            .get(edge as usize)
            .map(|edge| mark(edge.node, edge.key) & mask)
        else {
            return;
        };
        while let Some(slot) = self.table.get_mut(at) {
            if *slot == NONE {
                *slot = edge;
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

impl Node {
    const fn new() -> Self {
        Self {
            edges: (NONE, NONE),
            shapes: (NONE, NONE),
            param: NONE,
            rest: NONE,
            leaf: NONE,
        }
    }
}

fn mark(node: u32, key: u64) -> usize {
    spread(combine([key, u64::from(node), 0])) as usize
}
