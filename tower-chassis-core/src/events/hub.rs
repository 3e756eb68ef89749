//! Who listens: the set of listeners and queues, and how a message reaches them.
//!
//! Generic over the message and without a clock, a task or a log, so that the models of `tests/loom` run it
//! as it is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;

use super::queue::{Nothing, Queue, Taken};

/// Everybody who hears a `T`. Dropped, it ends the queues.
pub(super) struct Hub<T> {
    /// At least the number of ears, so that whoever finds 0 need not look.
    count: AtomicUsize,
    ears: ArcSwap<Vec<Ear<T>>>,
}

struct Listener<T> {
    panicked: AtomicBool,
    hear: Box<dyn Fn(&T) + Send + Sync>,
}

/// Whether a message is for a queue.
pub(super) type Wanted<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

enum Ear<T> {
    Listener(Arc<Listener<T>>),
    /// With what it wants, if that is not all.
    Queue(Arc<Queue<T>>, Option<Arc<Wanted<T>>>),
}

impl<T> Clone for Ear<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Listener(listener) => Self::Listener(Arc::clone(listener)),
            Self::Queue(queue, wanted) => Self::Queue(Arc::clone(queue), wanted.clone()),
        }
    }
}

impl<T> Default for Hub<T> {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            ears: ArcSwap::default(),
        }
    }
}

impl<T: Clone> Hub<T> {
    /// Calls `hear` with every message from now on.
    pub(super) fn listen(&self, hear: Box<dyn Fn(&T) + Send + Sync>) {
        self.add(Ear::Listener(Arc::new(Listener {
            panicked: AtomicBool::new(false),
            hear,
        })));
    }

    /// Queues every message from now on, or those that are wanted.
    pub(super) fn subscribe(
        this: &Arc<Self>,
        capacity: usize,
        wanted: Option<Wanted<T>>,
    ) -> Subscription<T> {
        let queue = Arc::new(Queue::new(capacity));
        this.add(Ear::Queue(Arc::clone(&queue), wanted.map(Arc::new)));
        Subscription {
            queue,
            hub: Arc::downgrade(this),
        }
    }

    fn add(&self, ear: Ear<T>) {
        self.count.fetch_add(1, Relaxed);
        self.ears.rcu(|old| {
            let mut new = Vec::with_capacity(old.len() + 1);
            new.extend_from_slice(old);
            new.push(ear.clone());
            new
        });
    }

    /// Sends what `make` makes to everybody who listens, if there is anybody. True if a listener panicked that
    /// had not panicked before.
    pub(super) fn send(&self, make: impl FnOnce() -> T) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        let ears = self.ears.load();
        if ears.is_empty() {
            return false;
        }
        let message = make();
        let mut panicked = false;
        for ear in ears.iter() {
            // The task that reports has nothing to do with those who listen.
            let heard = catch_unwind(AssertUnwindSafe(|| match ear {
                Ear::Listener(listener) => (listener.hear)(&message),
                Ear::Queue(queue, wanted) => {
                    if wanted.as_ref().is_none_or(|wanted| wanted(&message)) {
                        queue.push(message.clone());
                    }
                }
            }));
            if let Err(payload) = heard {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                panicked |= match ear {
                    Ear::Listener(listener) => !listener.panicked.swap(true, Relaxed),
                    Ear::Queue(..) => false,
                };
            }
        }
        panicked
    }
}

impl<T> Hub<T> {
    fn remove(&self, queue: &Arc<Queue<T>>) {
        let is_it =
            |ear: &&Ear<T>| matches!(ear, Ear::Queue(there, _) if Arc::ptr_eq(there, queue));
        self.ears.rcu(|old| {
            old.iter()
                .filter(|ear| !is_it(ear))
                .cloned()
                .collect::<Vec<_>>()
        });
        // After the removal: the count is never too small.
        self.count.fetch_sub(1, Relaxed);
    }

    /// Whether anybody listens, or did a moment ago.
    pub(super) fn is_heard(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// How many listen.
    pub(super) fn len(&self) -> usize {
        self.ears.load().len()
    }
}

impl<T> Drop for Hub<T> {
    fn drop(&mut self) {
        for ear in self.ears.load().iter() {
            if let Ear::Queue(queue, _) = ear {
                queue.close();
            }
        }
    }
}

/// A queue that a hub fills. Dropped, it leaves the hub.
pub(super) struct Subscription<T> {
    queue: Arc<Queue<T>>,
    hub: Weak<Hub<T>>,
}

impl<T> Subscription<T> {
    pub(super) fn take(&self) -> Result<Taken<T>, Nothing> {
        self.queue.take()
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Taken<T>>> {
        self.queue.poll(cx)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.remove(&self.queue);
        }
    }
}
