//! Those who wait for a permit, in order. A plain list: its owner locks it.

use std::{mem, task::Waker};

use tokio::time::Instant;

use super::codel::Discipline;

const NONE: u32 = u32::MAX;

/// Kept over, so that a queue that is short each time does not allocate each time.
const KEPT: usize = 1_024;

/// A place in a queue. It must be handed back with [`Queue::leave`].
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Place(u32);

/// Whose turn it is, and what wakes it, unless nobody is to be woken. It keeps its place until it leaves, and
/// counts no more.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is granted a permit.
    Granted(Option<Waker>),
    /// Its time is up: it gets none.
    Late(Option<Waker>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waits,
    Granted,
    Dropped,
}

#[derive(Debug)]
struct Node {
    waker: Option<Waker>,
    since: Instant,
    until: Instant,
    state: State,
    /// The neighbours; for a vacant node, `after` is the next vacant one.
    before: u32,
    after: u32,
}

/// First in, first out, or the newest first while the queue stands; a waiter may leave from anywhere. Every
/// operation takes constant time.
///
/// Wakers are foreign code, so none is dropped or woken here: that is for the caller, outside of the
/// lock.
#[derive(Debug)]
pub(crate) struct Queue {
    nodes: Vec<Node>,
    /// When it is a standing one, if it is not empty before.
    stands: Option<Instant>,
    newest_first: bool,
    first: u32,
    last: u32,
    vacant: u32,
    /// How many wait, and how many places are held: by them and by those who were granted a permit
    /// and have not come for it.
    len: u32,
    held: u32,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            stands: None,
            newest_first: false,
            first: NONE,
            last: NONE,
            vacant: NONE,
            len: 0,
            held: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When the first of those who wait began to.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.nodes.get(self.first as usize).map(|node| node.since)
    }

    /// Whether it has not been empty for the interval.
    pub(crate) fn stands(&self, now: Instant) -> bool {
        self.len > 0 && self.stands.is_some_and(|stands| now >= stands)
    }

    /// A place at the end for one that begins to wait at `since`, and until when it may.
    pub(crate) fn join(
        &mut self,
        since: Instant,
        deadline: Option<Instant>,
        discipline: &Discipline,
    ) -> (Place, Instant) {
        let stands = match self.stands {
            Some(stands) if self.len > 0 => stands,
            _ => *self.stands.insert(discipline.stands(since)),
        };
        self.newest_first = discipline.newest_first;
        let until = discipline.until(since, stands);
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let node = Node {
            waker: None,
            since,
            until,
            state: State::Waits,
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
        (Place(index), until)
    }

    /// Whose turn it is.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Next> {
        let next = if self.newest_first && self.stands(now) {
            self.last
        } else {
            self.first
        };
        (next != NONE).then(|| {
            if now < self.node(next).until {
                Next::Granted(self.end(next, State::Granted))
            } else {
                Next::Late(self.end(next, State::Dropped))
            }
        })
    }

    /// Lets go of the first, without a permit.
    pub(crate) fn turn_away(&mut self) -> Option<Option<Waker>> {
        let first = self.first;
        (first != NONE).then(|| self.end(first, State::Dropped))
    }

    /// Whether the wait of `place` is over. If not, `waker` is what wakes it, and the one before comes back in it.
    pub(crate) fn poll(&mut self, place: &Place, waker: &mut Option<Waker>) -> bool {
        let node = self.node(place.0);
        let over = node.state != State::Waits;
        if !over {
            mem::swap(&mut node.waker, waker);
        }
        over
    }

    /// Gives the place up: whether a permit was granted to it, and its waker.
    pub(crate) fn leave(&mut self, place: Place) -> (bool, Option<Waker>) {
        let Place(index) = place;
        if self.node(index).state == State::Waits {
            self.unlink(index);
        }
        let vacant = mem::replace(&mut self.vacant, index);
        let node = self.node(index);
        node.after = vacant;
        let left = (node.state == State::Granted, node.waker.take());
        self.held -= 1;
        if self.held == 0 && self.nodes.len() > KEPT {
            *self = Self::new();
        }
        left
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.nodes.capacity()
    }

    fn end(&mut self, index: u32, state: State) -> Option<Waker> {
        self.unlink(index);
        let node = self.node(index);
        node.state = state;
        node.waker.take()
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
