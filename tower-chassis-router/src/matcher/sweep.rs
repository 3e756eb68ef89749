//! The second phase of a search: all alternatives, but only those that can lead somewhere.
//!
//! A depth-first walk in the order of precedence, which enters a node only if a [candidate](super::filed) is
//! at or below it. Each node has one place in the path, so none is entered twice. The walk also notes which
//! methods the routes have that match the path: a miss is told from a 405 without walking again.

use super::{
    Captures, Found,
    filed::Candidates,
    key::{Segment, Slashes},
    methods::OTHER,
    node::{Link, Node, Trie, Wanted},
    small::Small,
};

/// A walk over the table with one path.
pub(super) struct Sweep<'a> {
    trie: &'a Trie,
    path: &'a [u8],
    /// The segments of the path, as far as patterns reach.
    segments: Small<Segment, 16>,
    /// Whether the last of these ends the path.
    whole: bool,
    /// Whether the path has escapes.
    escaped: bool,
    candidates: Candidates<'a>,
    #[cfg(any(test, debug_assertions))]
    entered: std::collections::HashSet<(u32, usize)>,
}

/// A node on the way, and which of its alternatives comes next.
#[derive(Clone, Copy, Default)]
struct Frame {
    link: Link,
    next: u32,
    captures: u32,
}

/// What is looked for at the leaves.
trait Visit {
    /// Whether a subtree with these methods is worth a look.
    fn wants(&self, methods: u16) -> bool;
    /// At a leaf that matches the path; true ends the walk.
    fn leaf(&mut self, trie: &Trie, leaf: u32) -> bool;
}

struct First<'a> {
    wanted: Wanted<'a>,
    found: Found,
}

impl Visit for First<'_> {
    fn wants(&self, methods: u16) -> bool {
        self.found == Found::Nothing || methods & self.wanted.mask != 0
    }

    fn leaf(&mut self, trie: &Trie, leaf: u32) -> bool {
        self.found = match trie.serves(leaf, self.wanted) {
            Some(value) => Found::Value(value),
            None => Found::OtherMethods,
        };
        trie.strict || matches!(self.found, Found::Value(_))
    }
}

/// Each leaf that can add a method.
struct All<F> {
    seen: u16,
    each: F,
}

impl<F: FnMut(u32)> Visit for All<F> {
    fn wants(&self, methods: u16) -> bool {
        methods & (!self.seen | OTHER) != 0
    }

    fn leaf(&mut self, trie: &Trie, leaf: u32) -> bool {
        self.seen |= trie
            .leaves
            .get(leaf as usize)
            .map_or(0, |leaf| leaf.methods);
        (self.each)(leaf);
        trie.strict
    }
}

impl<'a> Sweep<'a> {
    /// The first segment starts at `start`.
    pub(super) fn new(trie: &'a Trie, path: &'a [u8], start: usize) -> Self {
        let mut segments = Small::default();
        let mut at = start;
        let mut whole = false;
        let mut slashes = Slashes::new::<false>(path, start);
        while segments.len() <= trie.filed.depth() {
            // In canonical form there is always an end.
            let end = slashes.as_mut().and_then(Slashes::end::<false>);
            let end = end.unwrap_or(path.len());
            segments.push(Segment::new(path, at, end));
            at = end + 1;
            if end == path.len() {
                whole = true;
                break;
            }
        }
        let candidates = trie.filed.candidates(segments.as_slice(), whole);
        Self {
            trie,
            path,
            segments,
            whole,
            escaped: memchr::memchr(b'%', path).is_some(),
            candidates,
            #[cfg(any(test, debug_assertions))]
            entered: Default::default(),
        }
    }

    pub(super) fn search(&mut self, wanted: Wanted<'_>, captures: &mut Captures) -> Found {
        let kept = captures.len();
        let mut first = First {
            wanted,
            found: Found::Nothing,
        };
        self.walk(&mut first, captures);
        if !matches!(first.found, Found::Value(_)) {
            captures.truncate(kept);
        }
        first.found
    }

    /// How many nodes it entered.
    #[cfg(test)]
    pub(super) fn entered(&self) -> usize {
        self.entered.len()
    }

    /// The leaves that match the path, but for some that have no method which another did not have.
    pub(super) fn all(mut self, each: impl FnMut(u32)) {
        self.walk(&mut All { seen: 0, each }, &mut Captures::new());
    }

    fn walk(&mut self, visit: &mut impl Visit, captures: &mut Captures) {
        let trie = self.trie;
        let mut way: Small<Frame, 16> = Small::default();
        if trie.nodes.is_empty() || !self.worth(visit, trie.root) {
            return;
        }
        way.push(Frame {
            link: trie.root,
            next: 0,
            captures: captures.len() as u32,
        });
        while let Some(frame) = way.last_mut() {
            let at = *frame;
            frame.next += 1;
            let depth = way.len() - 1;
            captures.truncate(at.captures as usize);
            let (Some(node), Some(segment)) = (trie.node(at.link.child), self.segments.get(depth))
            else {
                way.pop();
                continue;
            };
            #[cfg(any(test, debug_assertions))]
            if at.next == 0 {
                let new = self.entered.insert((at.link.child.index(), segment.start));
                assert!(new, "a node is entered twice");
            }
            let step = self.alternative(at.link, node, at.next, &segment, visit, captures);
            let link = match step {
                Step::End => {
                    way.pop();
                    continue;
                }
                Step::Dead => continue,
                Step::Leaf(leaf) => {
                    if visit.leaf(trie, leaf) {
                        return;
                    }
                    continue;
                }
                Step::Node(link) => link,
            };
            if self.whole && depth + 1 == self.segments.len() {
                if let Some(leaf) = trie.leaf(link.child)
                    && visit.leaf(trie, leaf)
                {
                    return;
                }
            } else if link.child.only_leaf().is_none() {
                way.push(Frame {
                    link,
                    next: 0,
                    captures: captures.len() as u32,
                });
            }
        }
    }

    /// The alternative `next` of `node`: static text, then shapes, then a parameter, then the rest.
    fn alternative(
        &mut self,
        link: Link,
        node: &Node,
        next: u32,
        segment: &Segment,
        visit: &impl Visit,
        captures: &mut Captures,
    ) -> Step {
        if next == 0 {
            let link = self.trie.step(link, self.path, segment);
            return if !link.is_none() && self.worth(visit, link) {
                Step::Node(link)
            } else {
                Step::Dead
            };
        }
        let more = self.trie.more.get(node.more as usize);
        let mixed = more.map_or(&[][..], |more| &more.mixed);
        let next = next as usize - 1;
        if let Some((shape, link)) = mixed.get(next) {
            if !self.worth(visit, *link)
                || !shape.eat(
                    self.path,
                    (segment.start, segment.end),
                    self.escaped,
                    captures,
                )
            {
                return Step::Dead;
            }
            return match link.child.only_leaf() {
                Some(leaf) if shape.spec.open => Step::Leaf(leaf),
                _ => Step::Node(*link),
            };
        }
        if next == mixed.len() {
            let empty = segment.len() == 0 && segment.end == self.path.len();
            if node.param.is_none() || empty || !self.worth(visit, node.param) {
                return Step::Dead;
            }
            captures.push(segment.start, segment.end);
            return Step::Node(node.param);
        }
        if next == mixed.len() + 1
            && let Some(leaf) = more.and_then(|more| more.rest)
        {
            if !self.worth(visit, Link::leaf(leaf)) {
                return Step::Dead;
            }
            captures.push(segment.start, self.path.len());
            return Step::Leaf(leaf);
        }
        Step::End
    }

    /// Whether a candidate that is asked for is at or below a child. Children are asked about from the
    /// left to the right.
    fn worth(&mut self, visit: &impl Visit, link: Link) -> bool {
        let ((first, end), methods) = self.trie.below(link.child);
        visit.wants(methods) && self.candidates.seek(first) < end
    }
}

enum Step {
    /// No alternative is left.
    End,
    /// It does not match.
    Dead,
    Leaf(u32),
    Node(Link),
}
