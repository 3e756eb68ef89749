//! Spans that wait to be sent.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::AcqRel},
};

use tokio::sync::{Notify, mpsc};

use super::{deliver::Counts, message::Item};

/// Where spans are put: it never blocks, and what finds no room is counted.
pub(super) struct Queue {
    items: mpsc::Sender<Item>,
    /// From how many on the worker is woken before its time.
    batch: usize,
    /// Rings when a batch is there: the worker does not wake for each span.
    pub(super) bell: Notify,
    rung: AtomicBool,
    pub(super) counts: Arc<Counts>,
}

impl Queue {
    pub(super) fn new(room: usize, batch: usize) -> (Self, mpsc::Receiver<Item>) {
        let (items, received) = mpsc::channel(room);
        let queue = Self {
            items,
            batch,
            bell: Notify::new(),
            rung: AtomicBool::new(false),
            counts: Arc::default(),
        };
        (queue, received)
    }

    pub(super) fn put(&self, item: Item) {
        self.counts.offered(1);
        if self.items.try_send(item).is_err() {
            self.counts.lose(1);
            return;
        }
        if self.waiting() >= self.batch && !self.rung.swap(true, AcqRel) {
            self.bell.notify_one();
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.items.max_capacity() - self.items.capacity()
    }

    /// The worker is awake: what comes from now on may ring again.
    pub(super) fn heard(&self) {
        // Not a store: what was put before somebody found that it had been rung must be seen.
        self.rung.swap(false, AcqRel);
    }
}
