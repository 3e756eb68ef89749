//! Those who wait for a permit, in order. A plain list: its owner locks it.

use std::{mem, task::Waker};

use tokio::time::Instant;

const NONE: u32 = u32::MAX;

/// Kept over, so that a queue that is short each time does not allocate each time.
const KEPT: usize = 1_024;

/// A place in a queue. It must be handed back with [`Queue::leave`].
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Place(u32);

#[derive(Debug)]
struct Node {
    waker: Option<Waker>,
    since: Instant,
    granted: bool,
    /// The neighbours; for a vacant node, `after` is the next vacant one.
    before: u32,
    after: u32,
}

/// First in, first out; a waiter may leave from anywhere. Every operation takes constant time.
///
/// Wakers are foreign code, so none is dropped or woken here: that is for the caller, outside of the
/// lock.
#[derive(Debug)]
pub(super) struct Queue {
    nodes: Vec<Node>,
    first: u32,
    last: u32,
    vacant: u32,
    /// How many wait, and how many places are held: by them and by those who were granted a permit
    /// and have not come for it.
    len: usize,
    held: usize,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            first: NONE,
            last: NONE,
            vacant: NONE,
            len: 0,
            held: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When the first of those who wait began to.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.nodes.get(self.first as usize).map(|node| node.since)
    }

    /// A place at the end for one that begins to wait at `since`.
    pub(super) fn join(&mut self, since: Instant) -> Place {
        let node = Node {
            waker: None,
            since,
            granted: false,
            before: self.last,
            after: NONE,
        };
        let index = self.vacant;
        let index = if index == NONE {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let vacant = mem::replace(self.node(index), node);
            self.vacant = vacant.after;
            index
        };
        match self.last {
            NONE => self.first = index,
            last => self.node(last).after = index,
        }
        self.last = index;
        self.len += 1;
        self.held += 1;
        Place(index)
    }

    /// Grants a permit to the first; what wakes it, unless nobody waits. It keeps its place until it
    /// leaves, and counts no more.
    pub(super) fn grant(&mut self) -> Option<Option<Waker>> {
        let first = self.first;
        (first != NONE).then(|| {
            self.unlink(first);
            let node = self.node(first);
            node.granted = true;
            node.waker.take()
        })
    }

    /// Whether a permit was granted to `place`. If not, `waker` is what wakes it, and the one before
    /// comes back in it.
    pub(super) fn poll(&mut self, place: &Place, waker: &mut Option<Waker>) -> bool {
        let node = self.node(place.0);
        if !node.granted {
            mem::swap(&mut node.waker, waker);
        }
        node.granted
    }

    /// Gives the place up: whether a permit was granted to it, and its waker.
    pub(super) fn leave(&mut self, place: Place) -> (bool, Option<Waker>) {
        let Place(index) = place;
        if !self.node(index).granted {
            self.unlink(index);
        }
        let vacant = mem::replace(&mut self.vacant, index);
        let node = self.node(index);
        node.after = vacant;
        let left = (node.granted, node.waker.take());
        self.held -= 1;
        if self.held == 0 && self.nodes.len() > KEPT {
            *self = Self::new();
        }
        left
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.nodes.capacity()
    }

    fn unlink(&mut self, index: u32) {
        let Node { before, after, .. } = *self.node(index);
        match before {
            NONE => self.first = after,
            before => self.node(before).after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.node(after).before = before,
        }
        self.len -= 1;
    }

    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize]
    }
}
