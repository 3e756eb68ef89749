//! Segments in which an expression stands beside another parameter.
//!
//! Captures must be shortest from the left, but an expression may not accept the shortest. So the places at
//! which each parameter may end are found from the right: those from which the rest of the segment matches.
//! Then each parameter takes, from the left, the first of these that it accepts. That is one pass over the
//! segment in each direction for each parameter, whatever the expressions are.

use super::shape::Spec;
use crate::{
    expression::{Automaton, Unfit},
    matcher::Captures,
    percent::{aligned, octet},
};

/// How many words of places need no allocation.
const INLINE: usize = 64;

/// The expressions of the parameters of a segment.
#[derive(Debug)]
pub(super) struct Engine(Vec<Option<Automaton>>);

/// Part of a path, in canonical form.
#[derive(Clone, Copy)]
struct Text<'a> {
    path: &'a [u8],
    start: usize,
    end: usize,
}

impl Engine {
    pub(super) fn new(spec: &Spec, size_limit: usize) -> Result<Self, Unfit> {
        let compiled = spec.holes.iter().map(|hole| {
            let text = hole.expression.as_deref();
            text.map(|text| Automaton::new(text, size_limit))
                .transpose()
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Matches `path[start..end]`, in front of which the prefix was.
    pub(super) fn eat(
        &self,
        spec: &Spec,
        path: &[u8],
        start: usize,
        end: usize,
        captures: &mut Captures,
    ) -> Option<()> {
        let text = Text { path, start, end };
        let words = (end - start) / 64 + 1;
        let total = words * (self.0.len() + 1);
        let mut inline = [0; INLINE];
        let mut heap = Vec::new();
        let sets = match inline.get_mut(..total) {
            Some(inline) => inline,
            None => {
                heap.resize(total, 0);
                heap.as_mut_slice()
            }
        };
        let (starts, ends) = sets.split_at_mut(words);
        self.ends(spec, text, starts, ends);
        let mut at = start;
        for ((test, hole), ends) in self.0.iter().zip(&spec.holes).zip(ends.chunks(words)) {
            let stop = match test {
                None => start + next(ends, at - start)?,
                Some(automaton) => text.shortest(automaton, at, ends)?,
            };
            captures.push(at, stop);
            at = stop + hole.then.len();
        }
        if spec.open {
            captures.push(at, path.len());
        }
        Some(())
    }

    /// For each parameter the places at which it may end. `starts` are empty, and are where the one that is
    /// looked at may start.
    fn ends(&self, spec: &Spec, text: Text<'_>, starts: &mut [u64], ends: &mut [u64]) {
        let mut last = true;
        let holes = self.0.iter().zip(&spec.holes);
        for ((test, hole), ends) in holes.zip(ends.chunks_mut(starts.len())).rev() {
            let (len, closed) = (hole.then.len(), last && !spec.open);
            let mut place = text.start;
            if closed {
                // It ends where the segment does.
                place = place.max(text.end.saturating_sub(len));
            }
            while place + len <= text.end {
                let behind = place + len;
                let fits = if last {
                    spec.open || behind == text.end
                } else {
                    has(starts, behind - text.start)
                };
                if fits
                    && text.path.get(place..behind) == Some(&hole.then)
                    && aligned(text.path, place)
                {
                    set(ends, place - text.start);
                }
                place += 1;
                // A parameter that ends inside of the segment has a text behind it.
                if let (Some(first), Some(rest)) =
                    (hole.then.first(), text.path.get(place..text.end))
                {
                    match memchr::memchr(*first, rest) {
                        Some(next) => place += next,
                        None => break,
                    }
                }
            }
            // What ends the path takes at least one byte.
            let eats = last && !spec.open && hole.then.is_empty() && text.end == text.path.len();
            starts.fill(0);
            match test {
                None => text.any(eats, ends, starts),
                Some(automaton) => text.starts(automaton, eats, ends, starts),
            }
            last = false;
        }
    }
}

impl Text<'_> {
    /// The first of `ends` at which a value that starts at `at` is complete.
    fn shortest(self, automaton: &Automaton, mut at: usize, ends: &[u64]) -> Option<usize> {
        let mut run = automaton.forward.run();
        run.start();
        loop {
            if run.accepts() && has(ends, at - self.start) {
                return Some(at);
            }
            let (octet, taken) = octet(self.path.get(..self.end)?, at)?;
            if !run.step(octet) {
                return None;
            }
            at += taken;
        }
    }

    /// Where a value may start that ends at one of `ends`.
    fn starts(self, automaton: &Automaton, eats: bool, ends: &[u64], starts: &mut [u64]) {
        let mut run = automaton.backward.run();
        let mut at = self.end;
        loop {
            if has(ends, at - self.start) {
                run.start();
            }
            if run.accepts() && !(eats && at == self.end) {
                set(starts, at - self.start);
            }
            if at == self.start {
                return;
            }
            let escape = at
                .checked_sub(3)
                .filter(|escape| *escape >= self.start && self.path.get(*escape) == Some(&b'%'));
            at = escape.unwrap_or(at - 1);
            run.step(octet(self.path, at).map_or(0, |(octet, _)| octet));
        }
    }

    /// The same for a parameter that takes anything.
    fn any(self, eats: bool, ends: &[u64], starts: &mut [u64]) {
        let last = (self.start..=self.end)
            .rev()
            .find(|place| has(ends, place - self.start));
        let Some(last) = last else { return };
        for place in self.start..=last {
            if !(eats && place == self.end) {
                set(starts, place - self.start);
            }
        }
    }
}

fn has(places: &[u64], place: usize) -> bool {
    places
        .get(place / 64)
        .is_some_and(|word| word >> (place % 64) & 1 == 1)
}

fn set(places: &mut [u64], place: usize) {
    if let Some(word) = places.get_mut(place / 64) {
        *word |= 1 << (place % 64);
    }
}

/// The first place from `from` on.
fn next(places: &[u64], from: usize) -> Option<usize> {
    (from..places.len() * 64).find(|place| has(places, *place))
}
