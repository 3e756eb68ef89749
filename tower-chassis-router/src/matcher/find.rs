//! The first phase of a search: the first alternative at each place, and no way back.
//!
//! Nearly all paths end here. Where an alternative was passed by and the way is a dead end, the
//! [sweep](super::sweep) decides.

use super::{
    Captures,
    key::{Segment, Slashes},
    node::{Link, NONE, Node, Trie, Wanted},
    sweep::Sweep,
};

/// What is known of a method and a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The index of a value.
    Value(u32),
    OtherMethods,
    Nothing,
    /// The path has escapes, and is not in canonical form.
    Escaped,
}

impl Trie {
    /// Searches `path` from `at` on. It is in canonical form, or `RAW`.
    #[inline]
    pub(super) fn find<const RAW: bool>(
        &self,
        wanted: Wanted<'_>,
        path: &[u8],
        at: usize,
        captures: &mut Captures,
    ) -> Found {
        // A path that equals a text in canonical form is in that form.
        if let Some(leaf) = self.exact.find(path, at) {
            match self.serves(leaf, wanted) {
                Some(value) => return Found::Value(value),
                None if self.strict => return Found::OtherMethods,
                None => {}
            }
        }
        let Some(start) = start(path, at) else {
            return Found::Nothing;
        };
        let kept = captures.len();
        match self.greedy::<RAW>(wanted, path, start, captures) {
            Ok(found @ Found::Value(_)) => found,
            Ok(found) => {
                captures.truncate(kept);
                found
            }
            Err(()) => {
                captures.truncate(kept);
                self.sweep::<RAW>(wanted, path, start, captures)
            }
        }
    }

    #[cold]
    fn sweep<const RAW: bool>(
        &self,
        wanted: Wanted<'_>,
        path: &[u8],
        start: usize,
        captures: &mut Captures,
    ) -> Found {
        if RAW && memchr::memchr(b'%', path).is_some() {
            return Found::Escaped;
        }
        Sweep::new(self, path, start).search(wanted, captures)
    }

    /// An error where another alternative may do better. A function of its own, with registers of its own.
    #[inline(never)]
    pub(super) fn greedy<const RAW: bool>(
        &self,
        wanted: Wanted<'_>,
        path: &[u8],
        mut at: usize,
        captures: &mut Captures,
    ) -> Result<Found, ()> {
        let mut choice = false;
        let dead_end = |choice, found| if choice { Err(()) } else { Ok(found) };
        let Some(mut slashes) = Slashes::new::<RAW>(path, at) else {
            return Ok(Found::Escaped);
        };
        let mut link = self.root;
        loop {
            let Some(end) = slashes.end::<RAW>() else {
                return Ok(Found::Escaped);
            };
            // Where no text may come, none is looked at.
            let mut next = if link.slots == NONE {
                Link::NONE
            } else {
                self.step(link, path, &Segment::new(path, at, end))
            };
            let mut rest = false;
            if next.is_none() {
                let Some(node) = self.node(link.child) else {
                    return dead_end(choice, Found::Nothing);
                };
                if node.more == NONE {
                    if node.param.is_none() || (at == end && end == path.len()) {
                        return dead_end(choice, Found::Nothing);
                    }
                    captures.push(at, end);
                    next = node.param;
                } else {
                    match self.greedy_more::<RAW>(node, path, (at, end), captures) {
                        None => return dead_end(choice, Found::Nothing),
                        Some(taken) => {
                            choice |= taken.choice;
                            rest = taken.rest;
                            next = taken.link;
                        }
                    }
                }
            } else {
                choice |= link.alternatives;
            }
            if rest || end == path.len() {
                let Some(leaf) = self.leaf(next.child) else {
                    return dead_end(choice, Found::Nothing);
                };
                return match self.serves(leaf, wanted) {
                    Some(value) => Ok(Found::Value(value)),
                    None if self.strict => Ok(Found::OtherMethods),
                    None => dead_end(choice, Found::OtherMethods),
                };
            }
            link = next;
            at = end + 1;
        }
    }

    /// The first of what few nodes have. Out of line, so that all others do not pay for it.
    #[inline(never)]
    fn greedy_more<const RAW: bool>(
        &self,
        node: &Node,
        path: &[u8],
        (start, end): (usize, usize),
        captures: &mut Captures,
    ) -> Option<Taken> {
        let more = self.more.get(node.more as usize)?;
        let param = !node.param.is_none();
        for (index, (shape, link)) in more.mixed.iter().enumerate() {
            if shape.eat(path, (start, end), !RAW, captures) {
                let last = index + 1 == more.mixed.len();
                return Some(Taken {
                    link: *link,
                    rest: shape.spec.open,
                    choice: !last || param || more.rest.is_some(),
                });
            }
        }
        if param && (start < end || end < path.len()) {
            captures.push(start, end);
            return Some(Taken {
                link: node.param,
                rest: false,
                choice: more.rest.is_some(),
            });
        }
        let leaf = more.rest?;
        captures.push(start, path.len());
        Some(Taken {
            link: Link::leaf(leaf),
            rest: true,
            choice: false,
        })
    }
}

struct Taken {
    link: Link,
    /// Whether it took all of the path.
    rest: bool,
    choice: bool,
}

/// Where the first segment starts. A rest of no bytes is that of a mount that was asked for by its own
/// name, and is `/`.
#[inline(always)]
pub(super) fn start(path: &[u8], at: usize) -> Option<usize> {
    if path.get(at) == Some(&b'/') {
        Some(at + 1)
    } else {
        (at == path.len() && at > 0).then_some(at)
    }
}
