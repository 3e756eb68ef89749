//! A list that needs no allocation while it is short.

/// At first in place, beyond `N` on the heap.
#[derive(Debug)]
pub(super) struct Small<T, const N: usize> {
    len: usize,
    inline: [T; N],
    heap: Vec<T>,
}

impl<T: Copy + Default, const N: usize> Default for Small<T, N> {
    fn default() -> Self {
        Self {
            len: 0,
            inline: [T::default(); N],
            heap: Vec::new(),
        }
    }
}

impl<T: Copy + Default, const N: usize> Small<T, N> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, item: T) {
        if let Some(slot) = self.inline.get_mut(self.len) {
            *slot = item;
        } else {
            if self.len == N {
                self.heap.clear();
                self.heap.extend_from_slice(&self.inline);
            }
            self.heap.truncate(self.len);
            self.heap.push(item);
        }
        self.len += 1;
    }

    pub(super) fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    pub(super) fn as_slice(&self) -> &[T] {
        let items = if self.len > N {
            &*self.heap
        } else {
            &self.inline
        };
        items.get(..self.len).unwrap_or_default()
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        let items = if self.len > N {
            &mut *self.heap
        } else {
            &mut self.inline
        };
        items.get_mut(..self.len).unwrap_or_default()
    }

    pub(super) fn get(&self, index: usize) -> Option<T> {
        self.as_slice().get(index).copied()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.as_mut_slice().last_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::Small;

    #[test]
    fn it_grows_and_shrinks_over_its_edge() {
        let mut list: Small<usize, 3> = Small::default();
        let mut plain = Vec::new();
        for round in 0..40 {
            if round % 7 < 4 {
                list.push(round);
                plain.push(round);
            } else {
                list.pop();
                plain.pop();
            }
            assert_eq!(list.as_slice(), plain);
            if let Some(last) = list.last_mut() {
                *last += 100;
                *plain.last_mut().unwrap() += 100;
            }
        }
    }
}
