//! A bounded queue that never makes its writers wait: what it could not keep it counts.
//!
//! Knows neither events nor tasks beyond a waker. The lock is held for a push or a pop, and neither a waker
//! nor the drop of an item runs under it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// So many places are made at once; more when they are needed.
const AT_FIRST: usize = 64;

/// What a queue hands out, in the order in which it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Taken<T> {
    Item(T),
    /// So many items were here, and made room for newer ones.
    Missed(u64),
}

/// Why nothing was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nothing {
    Yet,
    Evermore,
}

pub(super) struct Queue<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// Those that were missed are older than those that are here: the oldest goes first.
    missed: u64,
    items: VecDeque<T>,
    waker: Option<Waker>,
    closed: bool,
}

impl<T> Queue<T> {
    /// Holds up to `capacity` items, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            state: Mutex::new(State {
                missed: 0,
                items: VecDeque::with_capacity(capacity.min(AT_FIRST)),
                waker: None,
                closed: false,
            }),
        }
    }

    /// Adds an item, in place of the oldest if it is full.
    pub(super) fn push(&self, item: T) {
        let mut state = self.lock();
        let oldest = if state.items.len() < self.capacity {
            None
        } else {
            state.missed += 1;
            state.items.pop_front()
        };
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        drop(oldest);
    }

    /// Nothing will come any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next one, if it is there.
    pub(super) fn take(&self) -> Result<Taken<T>, Nothing> {
        self.lock().take()
    }

    /// The next one, or `None` after the last. `Pending` once it will wake the task.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Taken<T>>> {
        let mut state = self.lock();
        match state.take() {
            Ok(taken) => Poll::Ready(Some(taken)),
            Err(Nothing::Evermore) => Poll::Ready(None),
            Err(Nothing::Yet) => {
                let known = state.waker.as_ref();
                let old = if known.is_some_and(|waker| waker.will_wake(cx.waker())) {
                    None
                } else {
                    state.waker.replace(cx.waker().clone())
                };
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }

    /// How many items wait.
    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Result<Taken<T>, Nothing> {
        if self.missed > 0 {
            return Ok(Taken::Missed(std::mem::take(&mut self.missed)));
        }
        match self.items.pop_front() {
            Some(item) => Ok(Taken::Item(item)),
            None if self.closed => Err(Nothing::Evermore),
            None => Err(Nothing::Yet),
        }
    }
}
