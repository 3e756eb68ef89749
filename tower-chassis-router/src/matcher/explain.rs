//! Why a path is served by the route that serves it. Looks at all routes.

use http::Method;

use super::{
    Captures, Matcher, canonical,
    find::start,
    key::Segment,
    methods::{ANY, named},
    node::{Link, NONE, Trie},
};

/// A place of a table, and what came of it. Made by [`Matcher::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried<'a, T> {
    /// The value that serves the method, else the first of the place.
    pub value: &'a T,
    /// The methods of the place; none for any.
    pub methods: Vec<Option<Method>>,
    /// What came of it.
    pub verdict: Verdict,
}

/// Why a route serves a request or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It serves it.
    Serves,
    /// It would, but another goes first.
    Later,
    /// It matches the path, but does not have the method.
    Method,
    /// A segment of the path, counted from 0, does not match.
    Segment(usize),
    /// The path ends before the pattern does.
    PathEnds,
    /// The path goes on where the pattern ends.
    PathContinues,
}

impl<T> Matcher<T> {
    /// All places in the order in which they are tried, and why each is or is not the one. Not for each
    /// request: this looks at the whole table.
    #[must_use]
    pub fn explain(&self, method: &Method, path: &str, at: usize) -> Vec<Tried<'_, T>> {
        let bytes = canonical(path.as_bytes(), at);
        let mut verdicts = vec![Verdict::Segment(0); self.trie.leaves.len()];
        let wanted = self.trie.wanted(method);
        if path.len() <= usize::from(u16::MAX)
            && let Some(start) = start(&bytes, at)
        {
            Walk {
                trie: &self.trie,
                path: &bytes,
                verdicts: &mut verdicts,
            }
            .walk(start);
        }
        let mut decided = false;
        let leaves = (0..).zip(verdicts).filter_map(|(leaf, mut verdict)| {
            let serving = self.trie.serves(leaf, wanted);
            if verdict == Verdict::Serves {
                verdict = match serving {
                    None if !(decided && self.trie.strict) => Verdict::Method,
                    Some(_) if !decided => Verdict::Serves,
                    _ => Verdict::Later,
                };
                decided |= serving.is_some() || self.trie.strict;
            }
            self.tried(leaf, serving, verdict)
        });
        leaves.collect()
    }

    fn tried(&self, leaf: u32, serving: Option<u32>, verdict: Verdict) -> Option<Tried<'_, T>> {
        let mask = self.trie.methods(leaf);
        let others = self.trie.others(leaf);
        let any = (mask & ANY != 0).then_some(None);
        let methods = named(mask)
            .chain(others.map(|(_, method, _)| method.clone()))
            .map(Some)
            .chain(any)
            .collect();
        let first = self.trie.leaves.get(leaf as usize)?.first;
        Some(Tried {
            value: self.values.get(serving.unwrap_or(first) as usize)?,
            methods,
            verdict,
        })
    }
}

struct Walk<'a> {
    trie: &'a Trie,
    path: &'a [u8],
    verdicts: &'a mut [Verdict],
}

impl Walk<'_> {
    fn walk(&mut self, start: usize) {
        let mut open = vec![(self.trie.root, start, 0)];
        while let Some((place, at, depth)) = open.pop() {
            let Some(node) = self.trie.node(place.child) else {
                continue;
            };
            let segment = Segment::read(self.path, at);
            let end = segment.end == self.path.len();
            let mut children = Vec::new();
            let slots = match place.slots {
                NONE => &[][..],
                first => {
                    let slots = first as usize..(first + place.size()) as usize;
                    self.trie.slots.get(slots).unwrap_or_default()
                }
            };
            let hit = self.trie.step(place, self.path, &segment);
            for slot in slots.iter().filter(|slot| slot.text != NONE) {
                children.push((slot.link, slot.link == hit, false));
            }
            let more = self.trie.more.get(node.more as usize);
            for (shape, link) in more.map_or(&[][..], |more| &more.mixed) {
                let matches = shape.eat(self.path, (at, segment.end), true, &mut Captures::new());
                children.push((*link, matches, shape.spec.open));
            }
            if !node.param.is_none() {
                children.push((node.param, segment.len() > 0 || !end, false));
            }
            if let Some(rest) = more.and_then(|more| more.rest) {
                children.push((Link::leaf(rest), true, true));
            }
            for (link, matches, open_end) in children {
                let ((first, last), _) = self.trie.below(link.child);
                let below = self.verdicts.get_mut(first as usize..last as usize);
                let own = self.trie.leaf(link.child);
                let verdict = match (matches, end) {
                    (false, _) => Verdict::Segment(depth),
                    (true, false) => Verdict::PathContinues,
                    (true, true) => Verdict::PathEnds,
                };
                below.unwrap_or_default().fill(verdict);
                if let Some(verdict) = own.and_then(|leaf| self.verdicts.get_mut(leaf as usize))
                    && matches
                    && (end || open_end)
                {
                    *verdict = Verdict::Serves;
                }
                if matches && !end && link.child.only_leaf().is_none() {
                    open.push((link, segment.end + 1, depth + 1));
                }
            }
        }
    }
}
