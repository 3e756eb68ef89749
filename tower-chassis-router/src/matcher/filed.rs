//! Which routes a path can match, before any node is entered.
//!
//! Each route is filed under one of its static segments: how many segments the route has, which of them it
//! is, its text. The segments of a path then name a short list each; routes without static segments are filed
//! by their length. Catch-alls are of any length.
//!
//! There are two files, and a candidate is in both: in one each route is under the segment that is the rarest
//! in the table, which leaves few; in the other under its last, as the walk sees the first ones by itself.
//!
//! Texts are known by their hashes: where two share one, a route is a candidate that need not be, and the
//! walk finds out.

use std::ops::Range;

use super::{
    key::{Segment, combine, spread},
    small::Small,
};

/// The files of a table.
#[derive(Debug, Default)]
pub(super) struct Filed {
    depth: usize,
    rarest: File,
    last: File,
}

#[derive(Debug, Default)]
struct File {
    /// Mark of a segment and where its list starts in `lists`; a start of 0 is a free slot.
    slots: Vec<(u32, u32)>,
    /// Lists of leaves in ascending order, each behind its length.
    lists: Vec<u32>,
    /// By number of segments (catch-alls have none): the lists of routes without static segments.
    by_length: Vec<u32>,
}

/// A static segment of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal {
    pub(super) place: usize,
    pub(super) key: u64,
}

/// What a route has to be filed by.
#[derive(Debug, Default)]
pub(super) struct Card {
    pub(super) segments: usize,
    pub(super) open: bool,
    /// Where its literals end in the list of all.
    pub(super) literals: usize,
}

impl Filed {
    /// Files routes in the order of their leaves.
    pub(super) fn new(cards: &[Card], literals: &[Literal]) -> Self {
        let depth = cards.iter().map(|card| card.segments).max().unwrap_or(0);
        let length = |card: &Card| if card.open { 0 } else { card.segments };
        let mut routes = Vec::with_capacity(cards.len());
        let mut marks = Vec::with_capacity(literals.len());
        let mut start = 0;
        for card in cards {
            let own = literals.get(start..card.literals).unwrap_or_default();
            marks.extend(own.iter().map(|literal| mark(length(card), *literal)));
            routes.push((length(card), start..card.literals));
            start = card.literals;
        }
        let mut counts = Counts::new(marks.len());
        marks.iter().for_each(|mark| counts.add(*mark));
        // Of equals the last, for the same reason.
        let rarest = |own: &[u32]| {
            own.iter()
                .rev()
                .min_by_key(|mark| counts.get(**mark))
                .copied()
        };
        let last = |own: &[u32]| own.last().copied();
        Self {
            depth,
            rarest: File::new(depth, &routes, &marks, rarest),
            last: File::new(depth, &routes, &marks, last),
        }
    }

    /// The number of segments of the longest pattern.
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// The leaves that a path of these segments may match. `whole` if there are no more segments.
    pub(super) fn candidates(&self, segments: &[Segment], whole: bool) -> Candidates<'_> {
        let mut marks: Small<_, 16> = Small::default();
        for (place, segment) in segments.iter().enumerate() {
            let key = segment.key();
            let literal = Literal { place, key };
            let closed = if whole {
                mark(segments.len(), literal)
            } else {
                0
            };
            marks.push((mark(0, literal), closed));
        }
        let length = if whole { segments.len() } else { 0 };
        Candidates {
            rarest: self.rarest.open(length, marks.as_slice()),
            last: self.last.open(length, marks.as_slice()),
            next: 0,
        }
    }
}

impl File {
    /// `choose` gives the mark under which a route is filed.
    fn new(
        depth: usize,
        routes: &[(usize, Range<usize>)],
        marks: &[u32],
        choose: impl Fn(&[u32]) -> Option<u32>,
    ) -> Self {
        let mut cards = Vec::with_capacity(routes.len());
        let mut by_length = vec![Vec::new(); depth + 1];
        for (leaf, (length, own)) in (0_u64..).zip(routes) {
            match choose(marks.get(own.clone()).unwrap_or_default()) {
                Some(mark) => cards.push(u64::from(mark) << 32 | leaf),
                None => by_length
                    .get_mut(*length)
                    .into_iter()
                    .for_each(|list| list.push(leaf as u32)),
            }
        }
        cards.sort_unstable();
        let lists = cards.chunk_by(|one, other| one >> 32 == other >> 32);
        let slots = (lists.clone().count() * 3 / 2 + 1).next_power_of_two();
        let mut file = Self {
            slots: vec![(0, 0); slots],
            lists: vec![0],
            ..Self::default()
        };
        for list in lists {
            let mark = list.first().map_or(0, |card| (card >> 32) as u32);
            let start = file.list(list.iter().map(|card| *card as u32));
            let mut at = mark as usize & (slots - 1);
            while let Some(slot) = file.slots.get_mut(at) {
                if slot.1 == 0 {
                    *slot = (mark, start);
                    break;
                }
                at = (at + 1) & (slots - 1);
            }
        }
        for list in by_length {
            let start = file.list(list.into_iter());
            file.by_length.push(start);
        }
        file.lists.shrink_to_fit();
        file
    }

    fn list(&mut self, leaves: impl ExactSizeIterator<Item = u32>) -> u32 {
        if leaves.len() == 0 {
            return 0;
        }
        let start = self.lists.len() as u32;
        self.lists.push(leaves.len() as u32);
        self.lists.extend(leaves);
        start
    }

    fn open(&self, length: usize, marks: &[(u32, u32)]) -> Lists<'_> {
        let mut lists = Lists {
            lists: &self.lists,
            open: Small::default(),
            next: 0,
        };
        let of_length = |length| self.by_length.get(length).copied().unwrap_or_default();
        lists.add(of_length(0));
        if length > 0 {
            lists.add(of_length(length));
        }
        for (any, closed) in marks {
            lists.add(self.start(*any));
            if length > 0 {
                lists.add(self.start(*closed));
            }
        }
        lists
    }

    /// The list of a mark, 0 if there is none.
    fn start(&self, mark: u32) -> u32 {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = mark as usize & mask;
        while let Some((found, start)) = self.slots.get(at) {
            if *start == 0 || *found == mark {
                return *start;
            }
            at = (at + 1) & mask;
        }
        0
    }
}

fn mark(length: usize, literal: Literal) -> u32 {
    let place = (literal.place as u64) << 32 | length as u64;
    spread(combine([literal.key, place, 0]))
}

/// How often marks occur.
struct Counts(Vec<(u32, u32)>);

impl Counts {
    fn new(most: usize) -> Self {
        Self(vec![(0, 0); (most * 2).next_power_of_two()])
    }

    /// Where a mark is or may be.
    fn place(&self, mark: u32) -> usize {
        let mask = self.0.len() - 1;
        let mut at = mark as usize & mask;
        while self
            .0
            .get(at)
            .is_some_and(|(known, count)| *count > 0 && *known != mark)
        {
            at = (at + 1) & mask;
        }
        at
    }

    fn add(&mut self, mark: u32) {
        let at = self.place(mark);
        if let Some((known, count)) = self.0.get_mut(at) {
            *known = mark;
            *count += 1;
        }
    }

    fn get(&self, mark: u32) -> u32 {
        self.0.get(self.place(mark)).map_or(0, |(_, count)| *count)
    }
}

/// Leaves in ascending order that are in both files.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    rarest: Lists<'a>,
    last: Lists<'a>,
    next: u32,
}

impl Candidates<'_> {
    /// The first candidate from `leaf` on, beyond all leaves if there is none. To be asked in ascending
    /// order.
    pub(super) fn seek(&mut self, leaf: u32) -> u32 {
        if self.next > leaf {
            return self.next;
        }
        let mut leaf = leaf;
        loop {
            let one = self.rarest.seek(leaf);
            let other = self.last.seek(one);
            if one == other {
                self.next = one;
                return one;
            }
            leaf = other;
        }
    }
}

/// Leaves in ascending order, from several lists.
#[derive(Debug)]
struct Lists<'a> {
    lists: &'a [u32],
    open: Small<(u32, u32), 16>,
    next: u32,
}

impl Lists<'_> {
    fn add(&mut self, start: u32) {
        let count = self.lists.get(start as usize).copied().unwrap_or_default();
        if count > 0 {
            self.open.push((start + 1, start + 1 + count));
        }
    }

    fn seek(&mut self, leaf: u32) -> u32 {
        if self.next > leaf {
            return self.next;
        }
        let mut next = u32::MAX;
        for (at, end) in self.open.as_mut_slice() {
            let rest = self
                .lists
                .get(*at as usize..*end as usize)
                .unwrap_or_default();
            let passed = match rest.first() {
                Some(first) if *first < leaf => rest.partition_point(|known| *known < leaf),
                _ => 0,
            };
            *at += passed as u32;
            if let Some(first) = rest.get(passed) {
                next = next.min(*first);
            }
        }
        self.next = next;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(path: &str) -> Vec<Segment> {
        let mut at = 1;
        let mut all = Vec::new();
        while at <= path.len() {
            let segment = Segment::read(path.as_bytes(), at);
            all.push(segment);
            at = segment.end + 1;
        }
        all
    }

    #[test]
    fn a_route_is_filed_under_its_rarest_segment() {
        let routes = ["/a/x/{}", "/a/x/y", "/a/{}/{}", "/{}/{}/{}", "/a/*", "/*"];
        let mut literals = Vec::new();
        let cards: Vec<_> = routes
            .iter()
            .map(|route| {
                let open = route.ends_with('*');
                let mut count = 0;
                for (place, text) in route[1..].split('/').enumerate() {
                    count += 1;
                    if text != "{}" && text != "*" {
                        let key = Segment::read(text.as_bytes(), 0).key();
                        literals.push(Literal { place, key });
                    }
                }
                Card {
                    segments: count,
                    open,
                    literals: literals.len(),
                }
            })
            .collect();
        let filed = Filed::new(&cards, &literals);
        assert_eq!(filed.depth(), 3);
        let candidates = |path: &str| {
            let segments = segments(path);
            let whole = segments.len() <= 3;
            let mut candidates = filed.candidates(&segments[..segments.len().min(4)], whole);
            let mut all = Vec::new();
            let mut at = 0;
            while candidates.seek(at) != u32::MAX {
                at = candidates.seek(at);
                all.push(at);
                at += 1;
            }
            all
        };
        assert_eq!(candidates("/a/x/y"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(candidates("/a/x/z"), [0, 2, 3, 4, 5]);
        assert_eq!(candidates("/b/z/z"), [3, 5]);
        assert_eq!(candidates("/b/z"), [5]);
        assert_eq!(candidates("/a/x/y/z/z"), [4, 5]);
    }
}
