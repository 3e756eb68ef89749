//! From routes as they were registered to flat arrays in the order of precedence.

use std::sync::Arc;

use http::Method;

use super::{
    Builder, Matcher,
    builder::{Entry, Shaped, Tree},
    exact::Exact,
    filed::{Card, Filed, Literal},
    key::{Segment, TOLD},
    methods::{ANY, OTHER, bit},
    node::{Child, Leaf, Link, More, NONE, Node, Slot, Trie},
    order::order,
};

pub(super) fn freeze<T>(builder: Builder<T>) -> Matcher<T> {
    let Builder {
        tree,
        mut entries,
        implicit_head,
        strict,
    } = builder;
    let mut freezer = Freezer::new(&tree);
    let mut values = Vec::with_capacity(entries.len());
    let mut own = Vec::new();
    freezer.number(&mut |trie, first, leaf| {
        own.clear();
        take(&mut entries, first, leaf, trie, &mut own, &mut values);
    });
    freezer.nodes();
    let mut trie = freezer.finish();
    trie.implicit_head = implicit_head;
    trie.strict = strict;
    Matcher { trie, values }
}

/// Moves the values of a leaf to where it expects them.
fn take<T>(
    entries: &mut [Entry<T>],
    first: u32,
    leaf: u32,
    trie: &mut Trie,
    own: &mut Vec<(u16, u32)>,
    values: &mut Vec<T>,
) {
    let start = values.len() as u32;
    let mut at = first;
    while let Some(entry) = entries.get(at as usize) {
        own.push((entry.method.as_ref().map_or(ANY, bit), at));
        at = entry.next;
    }
    own.sort_unstable();
    let mut methods = 0;
    for (bit, at) in own.iter().copied() {
        let Some(entry) = entries.get_mut(at as usize) else {
            continue;
        };
        let Some(value) = entry.value.take() else {
            continue;
        };
        methods |= bit;
        if bit == OTHER {
            let method: Method = entry.method.take().unwrap_or_default();
            trie.others.push((leaf, method, values.len() as u32));
        }
        values.push(value);
    }
    trie.leaves.push(Leaf {
        methods,
        first: start,
    });
}

/// A node of the tree, and what is known of it by now.
#[derive(Clone, Debug)]
struct Place {
    parent: u32,
    link: Link,
    leaves: (u32, u32),
    methods: u16,
}

struct Freezer<'a> {
    tree: &'a Tree,
    trie: Trie,
    places: Vec<Place>,
    /// Nodes of the tree in the order of the walk.
    walked: Vec<u32>,
    /// The shapes of those that have any, in the order of precedence.
    orders: Vec<(u32, Vec<u32>)>,
    cards: Vec<Card>,
    literals: Vec<Literal>,
    /// Texts of routes without parameters: where each ends in `whole`, and its leaf.
    exact: Vec<(usize, u32)>,
    whole: Vec<u8>,
}

enum Step {
    Enter { node: u32, parent: u32, way: Way },
    Leave(u32),
}

/// How a node is reached from its parent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Root,
    Static(u32),
    /// Anything else; whether it takes the rest.
    Other(bool),
}

impl<'a> Freezer<'a> {
    fn new(tree: &'a Tree) -> Self {
        let place = Place {
            parent: NONE,
            link: Link::NONE,
            leaves: (0, 0),
            methods: 0,
        };
        Self {
            tree,
            trie: Trie::default(),
            places: vec![place; tree.nodes.len()],
            walked: Vec::with_capacity(tree.nodes.len()),
            orders: Vec::new(),
            cards: Vec::with_capacity(tree.leaves.len()),
            literals: Vec::new(),
            exact: Vec::new(),
            whole: Vec::new(),
        }
    }

    /// Walks the tree in the order of precedence and numbers nodes and leaves. `take` is called for each leaf
    /// with its first entry and its number.
    fn number(&mut self, take: &mut dyn FnMut(&mut Trie, u32, u32)) {
        let tree = self.tree;
        let mut steps = vec![Step::Enter {
            node: 0,
            parent: NONE,
            way: Way::Root,
        }];
        // The way from the root: the static segments, and whether there was anything else.
        let mut way: Vec<Way> = Vec::new();
        let (mut nodes, mut slots) = (0, 0);
        while let Some(step) = steps.pop() {
            let (index, parent, entered) = match step {
                Step::Enter { node, parent, way } => (node, parent, way),
                Step::Leave(index) => {
                    self.leave(index);
                    way.pop();
                    continue;
                }
            };
            let Some(node) = tree.nodes.get(index as usize) else {
                continue;
            };
            way.push(entered);
            let leaf = self.trie.leaves.len() as u32;
            if let Some((first, _)) = tree.leaves.get(node.leaf as usize) {
                take(&mut self.trie, *first, leaf);
                self.card(&way, leaf);
            }
            let has_children = node.edges.0 != NONE
                || node.shapes.0 != NONE
                || node.param != NONE
                || node.rest != NONE;
            let link = if has_children || index == 0 {
                let size = table_size(tree.edges(node.edges.0).count());
                nodes += 1;
                slots += size;
                Link {
                    child: Child::node(nodes - 1),
                    slots: if size == 0 { NONE } else { slots - size },
                    shift: 63 - size.checked_ilog2().unwrap_or(0) as u8,
                    alternatives: node.param != NONE || node.shapes.0 != NONE || node.rest != NONE,
                }
            } else {
                Link::leaf(leaf)
            };
            let methods = match self.trie.leaves.get(leaf as usize) {
                Some(leaf) if node.leaf != NONE => leaf.methods,
                _ => 0,
            };
            if let Some(place) = self.places.get_mut(index as usize) {
                *place = Place {
                    parent,
                    link,
                    leaves: (leaf, leaf),
                    methods,
                };
            }
            self.walked.push(index);
            steps.push(Step::Leave(index));
            let enter = |node, way| Step::Enter {
                node,
                parent: index,
                way,
            };
            // The last that is pushed is the first that is walked.
            let first = steps.len();
            let mut edge = node.edges.0;
            while let Some(found) = tree.edges.get(edge as usize) {
                steps.push(enter(found.child, Way::Static(edge)));
                edge = found.next;
            }
            if node.shapes.0 != NONE {
                let shapes: Vec<_> = self.shapes(node.shapes.0).collect();
                let tokens: Vec<_> = shapes
                    .iter()
                    .map(|(_, shaped)| shaped.shape.spec.tokens())
                    .collect();
                let order = order(&tokens);
                let sorted = order.iter().filter_map(|index| shapes.get(*index));
                let sorted: Vec<u32> = sorted
                    .map(|(index, shaped)| {
                        steps.push(enter(shaped.child, Way::Other(shaped.shape.spec.open)));
                        *index
                    })
                    .collect();
                self.orders.push((index, sorted));
            }
            if node.param != NONE {
                steps.push(enter(node.param, Way::Other(false)));
            }
            if node.rest != NONE {
                steps.push(enter(node.rest, Way::Other(true)));
            }
            if let Some(children) = steps.get_mut(first..) {
                children.reverse();
            }
        }
    }

    /// The shapes of a node as they were registered, with their numbers.
    fn shapes(&self, first: u32) -> impl Iterator<Item = (u32, &'a Shaped)> + use<'a> {
        let tree = self.tree;
        let mut at = first;
        std::iter::from_fn(move || {
            let shaped = tree.shapes.get(at as usize)?;
            Some((std::mem::replace(&mut at, shaped.next), shaped))
        })
    }

    fn leave(&mut self, index: u32) {
        let end = self.trie.leaves.len() as u32;
        let Some(place) = self.places.get_mut(index as usize) else {
            return;
        };
        place.leaves.1 = end;
        let (parent, methods) = (place.parent, place.methods);
        if let Some(parent) = self.places.get_mut(parent as usize) {
            parent.methods |= methods;
        }
    }

    /// Notes what a leaf can be found by.
    fn card(&mut self, way: &[Way], leaf: u32) {
        let start = self.whole.len();
        let mut whole = true;
        let segments = way.get(1..).unwrap_or_default();
        for (place, step) in segments.iter().enumerate() {
            let Way::Static(edge) = step else {
                whole = false;
                continue;
            };
            if let Some(edge) = self.tree.edges.get(*edge as usize) {
                let key = edge.key;
                self.literals.push(Literal { place, key });
                if whole {
                    self.whole.push(b'/');
                    self.whole
                        .extend_from_slice(self.tree.text(edge).unwrap_or_default());
                }
            }
        }
        if whole {
            self.exact.push((self.whole.len(), leaf));
        } else {
            self.whole.truncate(start);
        }
        self.cards.push(Card {
            segments: segments.len(),
            open: matches!(segments.last(), Some(Way::Other(true))),
            literals: self.literals.len(),
        });
    }

    fn link(&self, index: u32) -> Link {
        self.places
            .get(index as usize)
            .map_or(Link::NONE, |place| place.link)
    }

    /// Writes the nodes, children near their parents.
    fn nodes(&mut self) {
        let mut orders = std::mem::take(&mut self.orders).into_iter().peekable();
        for index in std::mem::take(&mut self.walked) {
            let shapes = orders
                .next_if(|(node, _)| *node == index)
                .map(|(_, order)| order);
            let (Some(node), Some(place)) = (
                self.tree.nodes.get(index as usize),
                self.places.get(index as usize).cloned(),
            ) else {
                continue;
            };
            if place.link.child.only_leaf().is_some() {
                continue;
            }
            self.slots(place.link, node.edges.0);
            let leaf = if node.leaf == NONE {
                NONE
            } else {
                place.leaves.0
            };
            let mixed: Box<[_]> = shapes
                .unwrap_or_default()
                .iter()
                .filter_map(|index| self.tree.shapes.get(*index as usize))
                .map(|shaped| (Arc::clone(&shaped.shape), self.link(shaped.child)))
                .collect();
            let rest = self
                .link(node.rest)
                .child
                .only_leaf()
                .filter(|_| node.rest != NONE);
            let more = if mixed.is_empty() && rest.is_none() {
                NONE
            } else {
                self.trie.more.push(More { mixed, rest });
                self.trie.more.len() as u32 - 1
            };
            self.trie.nodes.push(Node {
                param: self.link(node.param),
                leaf,
                more,
                leaves: place.leaves,
                methods: place.methods,
            });
        }
    }

    /// Writes the table of the static children of a node.
    fn slots(&mut self, node: Link, first: u32) {
        let tree = self.tree;
        if node.slots == NONE {
            return;
        }
        let start = node.slots as usize;
        let free = Slot {
            first: 0,
            last: 0,
            text: NONE,
            link: Link::NONE,
        };
        self.trie.slots.resize(start + node.size() as usize, free);
        for edge in tree.edges(first) {
            let text = tree.text(edge).unwrap_or_default();
            let segment = Segment::new(text, 0, text.len());
            let mut index = text.len();
            if index > TOLD {
                index = TOLD + 1 + self.trie.texts.len();
                self.trie.texts.push(text.into());
            }
            let slot = Slot {
                first: segment.first,
                last: segment.last,
                text: index as u32,
                link: self.link(edge.child),
            };
            let mut at = segment.place(u32::from(node.shift));
            while let Some(place) = self.trie.slots.get_mut(start + at as usize) {
                if place.text == NONE {
                    *place = slot;
                    break;
                }
                at = (at + 1) & (node.size() - 1);
            }
        }
    }

    fn finish(mut self) -> Trie {
        self.trie.root = self.link(0);
        self.trie.exact = Exact::new(&self.exact, self.whole);
        self.trie.filed = Filed::new(&self.cards, &self.literals);
        self.trie.nodes.shrink_to_fit();
        self.trie.slots.shrink_to_fit();
        self.trie.texts.shrink_to_fit();
        self.trie.more.shrink_to_fit();
        self.trie
    }
}

/// The slots for so many texts: at most half of them full, but one for one.
fn table_size(count: usize) -> u32 {
    match count {
        0 | 1 => count as u32,
        _ => (count as u32 * 2).next_power_of_two(),
    }
}
