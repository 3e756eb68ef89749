//! Where the captures of a match stand in the path.

/// How many captures need no allocation.
const INLINE: usize = 16;

/// The byte ranges that a match captured, in the order of the patterns. The first sixteen are kept in
/// place.
///
/// Ranges are of 16 bits: `http` refuses longer paths, and so does the [`Matcher`](super::Matcher).
#[derive(Clone, Debug, Default)]
pub struct Captures {
    len: usize,
    inline: [(u16, u16); INLINE],
    spill: Vec<(u16, u16)>,
}

impl Captures {
    /// No captures.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            len: 0,
            inline: [(0, 0); INLINE],
            spill: Vec::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The range of the capture `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let range = match self.inline.get(index) {
            Some(range) => range,
            None => self.spill.get(index - INLINE)?,
        };
        Some((usize::from(range.0), usize::from(range.1)))
    }

    /// Nobody looks at longer paths than 16 bits can tell.
    #[inline]
    pub(crate) fn push(&mut self, start: usize, end: usize) {
        debug_assert!(
            start <= end && end <= usize::from(u16::MAX),
            "{start}..{end}"
        );
        let range = (start as u16, end as u16);
        match self.inline.get_mut(self.len) {
            Some(slot) => *slot = range,
            None => self.spill.push(range),
        }
        self.len += 1;
    }

    pub(crate) fn set(&mut self, index: usize, start: usize, end: usize) {
        let slot = match self.inline.get_mut(index) {
            Some(slot) => Some(slot),
            None => self.spill.get_mut(index - INLINE),
        };
        if let Some(slot) = slot {
            *slot = (start as u16, end as u16);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(usize, usize)> {
        let last = self.get(self.len.checked_sub(1)?);
        self.truncate(self.len - 1);
        last
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.spill.truncate(self.len.saturating_sub(INLINE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_sixteen_spill() {
        let mut captures = Captures::new();
        for at in 0..20 {
            captures.push(at, at + 1);
        }
        assert_eq!(captures.get(15), Some((15, 16)));
        assert_eq!(captures.get(19), Some((19, 20)));
        assert_eq!(captures.pop(), Some((19, 20)));
        captures.truncate(3);
        captures.push(7, 9);
        assert_eq!(
            (captures.len(), captures.get(3), captures.get(4)),
            (4, Some((7, 9)), None)
        );
    }
}
