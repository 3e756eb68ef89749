//! Paths that are known as a whole.
//!
//! A route of static text alone goes before all others, so a path that is its text need not be walked. A filter of
//! bits, by the length and the last bytes of the text, tells nearly all other paths, for a word of memory. What
//! does not fit in here is found by its segments.

use super::key::{combine, load, place};

/// How far a text may be from its place.
const REACH: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Exact {
    /// Bits of the texts that are kept, [`place`]d with a shift; none if there are no texts.
    filter: Box<[u64]>,
    filter_shift: u32,
    shift: u32,
    slots: Box<[Slot]>,
    texts: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    mark: u32,
    /// Where the text starts, and its length: 0 for a free slot.
    text: u32,
    len: u32,
    leaf: u32,
}

impl Exact {
    /// Of routes: where the text of each ends in `texts`, and its leaf.
    pub(super) fn new(routes: &[(usize, u32)], texts: Vec<u8>) -> Self {
        let size = (routes.len() * 2).next_power_of_two();
        let bits = (routes.len() * 8).next_power_of_two().max(64);
        let mut exact = Self {
            shift: 63 - size.trailing_zeros(),
            filter_shift: 63 - bits.trailing_zeros(),
            ..Self::default()
        };
        if routes.is_empty() {
            return exact;
        }
        exact.slots = vec![Slot::default(); size].into();
        exact.filter = vec![0; bits / 64].into();
        exact.texts = texts.into();
        let mut start = 0;
        for (end, leaf) in routes {
            exact.add(start, *end, *leaf);
            start = *end;
        }
        exact
    }

    fn add(&mut self, start: usize, end: usize, leaf: u32) {
        let Some(text) = self.texts.get(start..end) else {
            return;
        };
        let tail = tail(text, 0);
        let key = key(text, 0, tail);
        let mask = self.slots.len() as u32 - 1;
        let free = (0..REACH.min(mask + 1))
            .map(|step| ((place(key, self.shift) + step) & mask) as usize)
            .find(|at| self.slots.get(*at).is_some_and(|slot| slot.len == 0));
        if let Some(slot) = free.and_then(|at| self.slots.get_mut(at)) {
            *slot = Slot {
                mark: key as u32,
                text: start as u32,
                len: (end - start) as u32,
                leaf,
            };
            let bit = place(tail, self.filter_shift);
            if let Some(word) = self.filter.get_mut((bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
        }
    }

    /// The leaf of the route that is `path` from `at` on.
    #[inline(always)]
    pub(super) fn find(&self, path: &[u8], at: usize) -> Option<u32> {
        if self.filter.is_empty() || at >= path.len() {
            return None;
        }
        let tail = tail(path, at);
        let bit = place(tail, self.filter_shift);
        let word = self.filter.get((bit / 64) as usize)?;
        if word >> (bit % 64) & 1 == 0 {
            return None;
        }
        self.look(path, at, tail)
    }

    #[inline]
    fn look(&self, path: &[u8], at: usize, tail: u64) -> Option<u32> {
        let rest = path.get(at..)?;
        let key = key(path, at, tail);
        let mask = (self.slots.len() as u32).wrapping_sub(1);
        for step in 0..REACH {
            let at = (place(key, self.shift) + step) & mask;
            let slot = self.slots.get(at as usize)?;
            if slot.mark == key as u32 && slot.len as usize == rest.len() {
                let text = slot.text as usize;
                if self.texts.get(text..text + rest.len()) == Some(rest) {
                    return Some(slot.leaf);
                }
            }
            if slot.len == 0 {
                return None;
            }
        }
        None
    }
}

/// The last bytes and the length.
#[inline(always)]
fn tail(path: &[u8], at: usize) -> u64 {
    let len = path.len() - at;
    let last = load(path, if len < 8 { at } else { path.len() - 8 });
    last ^ (len as u64).rotate_right(8)
}

/// Of up to 24 bytes of the text: its ends and its middle.
#[inline(always)]
fn key(path: &[u8], at: usize, tail: u64) -> u64 {
    let len = path.len() - at;
    let middle = if len < 8 {
        0
    } else {
        load(path, at + len / 2 - 4)
    };
    combine([load(path, at), middle, tail])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found() {
        let routes: Vec<_> = (0..500)
            .map(|index| {
                let tail = "x".repeat(index % 40);
                (format!("/{index}/{tail}").into_bytes(), index as u32)
            })
            .chain([(b"/".to_vec(), 500), (vec![b'y'; 300], 501)])
            .collect();
        let mut texts = Vec::new();
        let ends: Vec<_> = routes
            .iter()
            .map(|(text, leaf)| {
                texts.extend_from_slice(text);
                (texts.len(), *leaf)
            })
            .collect();
        let exact = Exact::new(&ends, texts);
        let kept = routes
            .iter()
            .filter(|(text, leaf)| match exact.find(text, 0) {
                Some(found) => {
                    assert_eq!(found, *leaf);
                    let prefixed = [b"/pre", text.as_slice()].concat();
                    assert_eq!(exact.find(&prefixed, 4), Some(*leaf));
                    true
                }
                None => false,
            });
        assert!(kept.count() > 490);
        assert_eq!(exact.find(b"/1/y", 0), None);
        assert_eq!(exact.find(b"", 0), None);
        assert_eq!(Exact::default().find(b"/", 0), None);
    }

    /// The hash is open, so that a path of the same could be made.
    #[test]
    fn a_mark_is_not_a_text() {
        let mut exact = Exact::new(&[(4, 7)], b"/aaa".to_vec());
        assert_eq!(exact.find(b"/aaa", 0), Some(7));
        let other = b"/bbb";
        exact.filter.fill(u64::MAX);
        for slot in &mut exact.slots {
            slot.mark = key(other, 0, tail(other, 0)) as u32;
            (slot.text, slot.len) = (0, 4);
        }
        assert_eq!(exact.find(other, 0), None);
    }
}
