//! A table of routes, frozen: flat arrays that refer to each other by index.

use std::sync::Arc;

use http::Method;

use super::{
    exact::Exact,
    filed::Filed,
    key::{Segment, TOLD},
    methods::{ANY, GET, HEAD, OTHER},
};
use crate::pattern::Shape;

/// No index.
pub(super) const NONE: u32 = u32::MAX;

/// What stands behind a segment: a node, or a leaf alone if nothing continues it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child(u32);

impl Child {
    pub(super) const NONE: Self = Self(NONE);
    const LEAF: u32 = 1 << 31;

    pub(super) const fn node(index: u32) -> Self {
        Self(index)
    }

    pub(super) const fn leaf(index: u32) -> Self {
        Self(index | Self::LEAF)
    }

    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The leaf, if it is one and nothing else.
    #[inline(always)]
    pub(super) fn only_leaf(self) -> Option<u32> {
        (self.0 & Self::LEAF != 0).then_some(self.0 & !Self::LEAF)
    }

    #[inline(always)]
    pub(super) const fn index(self) -> u32 {
        self.0
    }
}

/// The way to a child. Tells where static text goes on from there, so that a search along such text does not wait
/// for the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) child: Child,
    /// Where the slots of the node start, [`NONE`] if there are none; and how they are [found](Segment::place).
    pub(super) slots: u32,
    pub(super) shift: u8,
    /// Whether anything but static text may come next.
    pub(super) alternatives: bool,
}

impl Link {
    pub(super) const NONE: Self = Self::end(Child::NONE);

    pub(super) const fn leaf(leaf: u32) -> Self {
        Self::end(Child::leaf(leaf))
    }

    const fn end(child: Child) -> Self {
        Self {
            child,
            slots: NONE,
            shift: 63,
            alternatives: false,
        }
    }

    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self.child.is_none()
    }

    /// How many slots it has, if it has any.
    #[inline(always)]
    pub(super) const fn size(self) -> u32 {
        1 << (63 - self.shift)
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::NONE
    }
}

/// Where a search stands behind a segment: what may come next but static text.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Behind a plain parameter.
    pub(super) param: Link,
    /// Of the route that ends here.
    pub(super) leaf: u32,
    /// Of [`More`].
    pub(super) more: u32,
    /// The leaves at or below this node.
    pub(super) leaves: (u32, u32),
    /// All their methods.
    pub(super) methods: u16,
}

/// A static segment and what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The length of the text if the words tell it, else the index of the text behind [`TOLD`]; [`NONE`] for a free
    /// slot.
    pub(super) text: u32,
    pub(super) link: Link,
}

/// What few nodes have: segments of text and parameters in the order in which they are tried, and what
/// takes the rest of the path, which is tried last.
#[derive(Debug, Default)]
pub(super) struct More {
    pub(super) mixed: Box<[(Arc<Shape>, Link)]>,
    pub(super) rest: Option<u32>,
}

/// Routes of one shape: their methods, and where their values start; those of the methods with a bit come
/// in the order of the bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) methods: u16,
    pub(super) first: u32,
}

/// The table without its values.
#[derive(Debug, Default)]
pub(super) struct Trie {
    pub(super) root: Link,
    pub(super) nodes: Vec<Node>,
    pub(super) slots: Vec<Slot>,
    /// Static segments that two words do not tell.
    pub(super) texts: Vec<Box<[u8]>>,
    pub(super) more: Vec<More>,
    pub(super) leaves: Vec<Leaf>,
    /// Leaf, method and value of the routes for [`OTHER`] methods, by leaf.
    pub(super) others: Vec<(u32, Method, u32)>,
    pub(super) exact: Exact,
    pub(super) filed: Filed,
    pub(super) implicit_head: bool,
    pub(super) strict: bool,
}

/// A method that is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) method: &'a Method,
    /// Its own bit.
    pub(super) bit: u16,
    /// That of everything that may serve it.
    pub(super) mask: u16,
}

impl Trie {
    pub(super) fn wanted<'a>(&self, method: &'a Method) -> Wanted<'a> {
        let bit = super::methods::bit(method);
        let get = if bit == HEAD && self.implicit_head {
            GET
        } else {
            0
        };
        Wanted {
            method,
            bit,
            mask: bit | get | ANY,
        }
    }

    #[inline(always)]
    pub(super) fn node(&self, child: Child) -> Option<&Node> {
        self.nodes.get(child.index() as usize)
    }

    /// What is behind `segment` as static text.
    #[inline(always)]
    pub(super) fn step(&self, link: Link, path: &[u8], segment: &Segment) -> Link {
        if link.slots == NONE {
            return Link::NONE;
        }
        let is = |slot: &Slot| {
            slot.first == segment.first
                && slot.last == segment.last
                && if segment.len() <= TOLD {
                    slot.text as usize == segment.len()
                } else {
                    self.is_text(slot, path, segment)
                }
        };
        if link.size() == 1 {
            // Where to look does not depend on the text, so nothing waits for it.
            let only = self.slots.get(link.slots as usize).filter(|slot| is(slot));
            return only.map_or(Link::NONE, |slot| slot.link);
        }
        let mut at = segment.place(u32::from(link.shift));
        loop {
            let Some(slot) = self.slots.get((link.slots + at) as usize) else {
                return Link::NONE;
            };
            if is(slot) {
                return slot.link;
            }
            if slot.text == NONE {
                return Link::NONE;
            }
            at = (at + 1) & (link.size() - 1);
        }
    }

    #[inline(never)]
    fn is_text(&self, slot: &Slot, path: &[u8], segment: &Segment) -> bool {
        let index = (slot.text as usize).checked_sub(TOLD + 1);
        let text = index.and_then(|index| self.texts.get(index));
        text.map(|text| &**text) == path.get(segment.start..segment.end)
    }

    /// The value of a leaf that serves a method.
    #[inline(always)]
    pub(super) fn serves(&self, leaf: u32, wanted: Wanted<'_>) -> Option<u32> {
        let found = self.leaves.get(leaf as usize)?;
        if found.methods & wanted.bit & !OTHER != 0 {
            return Some(found.value(wanted.bit));
        }
        if found.methods & wanted.mask == 0 {
            return None;
        }
        self.serves_otherwise(leaf, found, wanted)
    }

    #[cold]
    fn serves_otherwise(&self, leaf: u32, found: &Leaf, wanted: Wanted<'_>) -> Option<u32> {
        if wanted.bit == OTHER
            && let Some((_, _, value)) = self.others(leaf).find(|other| other.1 == *wanted.method)
        {
            return Some(*value);
        }
        [wanted.mask & GET, ANY]
            .into_iter()
            .find(|bit| found.methods & bit != 0)
            .map(|bit| found.value(bit))
    }

    /// The methods of a leaf.
    pub(super) fn methods(&self, leaf: u32) -> u16 {
        self.leaves
            .get(leaf as usize)
            .map_or(0, |leaf| leaf.methods)
    }

    /// The routes of a leaf for methods without a bit.
    pub(super) fn others(&self, leaf: u32) -> impl Iterator<Item = &(u32, Method, u32)> {
        let start = self.others.partition_point(|other| other.0 < leaf);
        let rest = self.others.get(start..).unwrap_or_default();
        rest.iter().take_while(move |other| other.0 == leaf)
    }

    /// The leaves at or below a child, and their methods.
    pub(super) fn below(&self, child: Child) -> ((u32, u32), u16) {
        match child.only_leaf() {
            Some(leaf) => ((leaf, leaf + 1), self.methods(leaf)),
            None => self
                .node(child)
                .map_or(((0, 0), 0), |node| (node.leaves, node.methods)),
        }
    }

    /// The leaf of a path that ends behind a segment.
    #[inline(always)]
    pub(super) fn leaf(&self, child: Child) -> Option<u32> {
        match child.only_leaf() {
            Some(leaf) => Some(leaf),
            None => self
                .node(child)
                .map(|node| node.leaf)
                .filter(|leaf| *leaf != NONE),
        }
    }
}

impl Leaf {
    #[inline(always)]
    fn value(&self, bit: u16) -> u32 {
        match self.methods & (bit - 1) {
            0 => self.first,
            before => self.first + before.count_ones(),
        }
    }
}
