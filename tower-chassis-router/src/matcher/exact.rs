//! Paths that are known as a whole.
//!
//! A route of static text alone goes before all others, so a path that is its text need not be walked. The
//! lengths of these texts are known, and nearly no other path pays for more than looking at its own. What
//! does not fit in here is found by its segments.

use super::key::{load, spread};

/// Texts from this length on are not kept.
const LENGTHS: usize = 256;
/// How far a text may be from its place.
const REACH: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Exact {
    lengths: [u64; LENGTHS / 64],
    slots: Vec<Slot>,
    texts: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    mark: u32,
    /// 0 for a free slot.
    len: u32,
    text: u32,
    leaf: u32,
}

impl Exact {
    /// Of texts and leaves.
    pub(super) fn new(routes: &[(Vec<u8>, u32)]) -> Self {
        let mut exact = Self::default();
        let size = (routes.len() * 2).next_power_of_two();
        if routes.is_empty() {
            return exact;
        }
        exact.slots = vec![Slot::default(); size];
        for (text, leaf) in routes {
            if text.len() >= LENGTHS || text.is_empty() {
                continue;
            }
            let mark = mark(text, 0);
            let free = (0..REACH.min(size))
                .map(|step| (mark as usize + step) & (size - 1))
                .find(|at| exact.slots.get(*at).is_some_and(|slot| slot.len == 0));
            if let Some(slot) = free.and_then(|at| exact.slots.get_mut(at)) {
                *slot = Slot {
                    mark,
                    len: text.len() as u32,
                    text: exact.texts.len() as u32,
                    leaf: *leaf,
                };
                exact.texts.extend_from_slice(text);
                if let Some(word) = exact.lengths.get_mut(text.len() / 64) {
                    *word |= 1 << (text.len() % 64);
                }
            }
        }
        exact.texts.shrink_to_fit();
        exact
    }

    /// The leaf of the route that is `path` from `at` on.
    #[inline(always)]
    pub(super) fn find(&self, path: &[u8], at: usize) -> Option<u32> {
        let len = path.len().wrapping_sub(at);
        let lengths = self.lengths.get(len / 64)?;
        if lengths >> (len % 64) & 1 == 0 {
            return None;
        }
        self.look(path, at)
    }

    #[inline]
    fn look(&self, path: &[u8], at: usize) -> Option<u32> {
        let rest = path.get(at..)?;
        let mark = mark(path, at);
        let mask = self.slots.len().wrapping_sub(1);
        for step in 0..REACH {
            let slot = self.slots.get((mark as usize + step) & mask)?;
            if slot.mark == mark && slot.len as usize == rest.len() {
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

/// Of up to 24 bytes of the text: its ends and its middle.
#[inline(always)]
fn mark(path: &[u8], at: usize) -> u32 {
    let len = path.len() - at;
    let (first, middle, last) = if len < 8 {
        (load(path, at), 0, 0)
    } else {
        (
            load(path, at),
            load(path, at + len / 2 - 4),
            load(path, path.len() - 8),
        )
    };
    spread(
        first.rotate_left(29)
            ^ middle.wrapping_mul(0xd6e8_feb8_6659_fd93)
            ^ last.wrapping_mul(0xa076_1d64_78bd_642f).rotate_left(31)
            ^ len as u64,
    )
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
        let exact = Exact::new(&routes);
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
}
