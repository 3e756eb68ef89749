//! Events: the bounded queue of a subscriber, and the set of those who listen.

#[path = "../../../tower-chassis-core/src/events/hub.rs"]
mod hub;
#[path = "../../../tower-chassis-core/src/events/queue.rs"]
mod queue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use self::{
    hub::Hub,
    queue::{Queue, Taken},
};
use crate::explore;

/// Wakes a thread. A wake that is lost leaves the model in a deadlock, which loom reports.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What `poll` gives, waited for as a task does.
fn wait<T>(mut poll: impl FnMut(&Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let cx = Context::from_waker(&waker);
    loop {
        match poll(&cx) {
            Poll::Ready(ready) => return ready,
            Poll::Pending => thread::park(),
        }
    }
}

/// What was received, by its number, and how many were missed.
#[derive(Default)]
struct Account {
    received: Vec<u32>,
    missed: u64,
}

impl Account {
    fn note(&mut self, taken: Taken<u32>) {
        match taken {
            Taken::Item(item) => self.received.push(item),
            Taken::Missed(count) => self.missed += count,
        }
    }

    fn total(&self) -> u64 {
        self.received.len() as u64 + self.missed
    }

    /// The items of one writer, who counts by one from `first`, are in their order.
    fn keeps_order(&self, writer: impl Fn(u32) -> bool) -> bool {
        let mut of_one = self.received.iter().filter(|item| writer(**item));
        let mut last = 0;
        of_one.all(|item| std::mem::replace(&mut last, *item) < *item)
    }
}

/// Who waits is woken, by an item and by the end.
pub fn a_waiting_reader_is_woken() {
    explore(|| {
        let queue = Arc::new(Queue::new(4));
        let writer = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            writer.push(1);
            writer.close();
        });
        assert_eq!(wait(|cx| queue.poll(cx)), Some(Taken::Item(1)));
        assert_eq!(wait(|cx| queue.poll(cx)), None);
        thread.join().unwrap();
    });
}

/// Two writers overflow a queue while it is read: what is received and what is missed is what was written.
pub fn received_and_missed_is_all() {
    explore(|| {
        let queue = Arc::new(Queue::new(1));
        let writers = [10, 20].map(|first| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.push(first + 1);
                queue.push(first + 2);
            })
        });
        let mut account = Account::default();
        if let Ok(taken) = queue.take() {
            account.note(taken);
        }
        for writer in writers {
            writer.join().unwrap();
        }
        while let Ok(taken) = queue.take() {
            account.note(taken);
        }
        assert_eq!(account.total(), 4);
        assert!(account.keeps_order(|item| item < 20) && account.keeps_order(|item| item > 20));
        assert!(
            matches!(account.received.last(), Some(12 | 22)),
            "the newest of one of them is there"
        );
    });
}

/// A reader that is told of a gap was told of everything before it, and gets everything after it.
pub fn a_gap_is_told_in_its_place() {
    explore(|| {
        let queue = Arc::new(Queue::new(2));
        let writer = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            for item in 1..=4_u32 {
                writer.push(item);
            }
            writer.close();
        });
        let mut next = 1;
        while let Some(taken) = wait(|cx| queue.poll(cx)) {
            match taken {
                Taken::Item(item) => {
                    assert_eq!(u64::from(item), next);
                    next += 1;
                }
                Taken::Missed(count) => next += count,
            }
        }
        assert_eq!(next, 5);
        thread.join().unwrap();
    });
}

/// The last owner emits and goes: the reader has what it emitted, and then the end.
pub fn the_last_owner_ends_the_stream_after_its_last_word() {
    explore(|| {
        let hub = Arc::new(Hub::default());
        let stream = Hub::subscribe(&hub, 2, None);
        let owner = Arc::clone(&hub);
        drop(hub);
        let thread = thread::spawn(move || {
            owner.send(|| 1_u32);
            drop(owner);
        });
        assert_eq!(wait(|cx| stream.poll(cx)), Some(Taken::Item(1)));
        assert_eq!(wait(|cx| stream.poll(cx)), None);
        thread.join().unwrap();
    });
}

/// A stream that leaves while something is emitted takes nothing from the one that stays.
pub fn a_stream_that_leaves_takes_nothing_from_others() {
    explore(|| {
        let hub = Arc::new(Hub::default());
        let (leaves, stays) = (Hub::subscribe(&hub, 1, None), Hub::subscribe(&hub, 1, None));
        let thread = thread::spawn(move || drop(leaves));
        hub.send(|| 1);
        thread.join().unwrap();
        assert_eq!(stays.take(), Ok(Taken::Item(1)));
        assert_eq!(hub.len(), 1);
        drop(stays);
        hub.send(|| unreachable!("nobody listens"));
        assert_eq!(hub.len(), 0);
    });
}

/// Two who subscribe at once are both in, whoever leaves meanwhile; each has what was emitted after it came.
pub fn two_who_come_at_once_are_both_in() {
    explore(|| {
        let hub = Arc::new(Hub::default());
        let leaves = Hub::subscribe(&hub, 1, None);
        let other = Arc::clone(&hub);
        let thread = thread::spawn(move || Hub::subscribe(&other, 1, None));
        let mine = Hub::subscribe(&hub, 1, None);
        drop(leaves);
        hub.send(|| 1);
        assert_eq!(mine.take(), Ok(Taken::Item(1)));
        let theirs = thread.join().unwrap();
        let early = theirs.take().is_ok();
        hub.send(|| 2);
        assert_eq!(theirs.take(), Ok(Taken::Item(2)), "early: {early}");
        assert_eq!(hub.len(), 2);
    });
}

/// A message is made while the last one who listens leaves: it is made once at the most, and nobody is left.
pub fn the_last_one_leaves_while_something_is_sent() {
    explore(|| {
        let hub = Arc::new(Hub::default());
        let stream = Hub::subscribe(&hub, 1, None);
        let made = Arc::new(AtomicUsize::new(0));
        let (other, count) = (Arc::clone(&hub), Arc::clone(&made));
        let thread = thread::spawn(move || {
            other.send(|| count.fetch_add(1, Relaxed) as u32);
        });
        drop(stream);
        thread.join().unwrap();
        assert!(made.load(Relaxed) <= 1);
        assert_eq!(hub.len(), 0);
        hub.send(|| unreachable!("nobody listens"));
    });
}

/// One comes while the only other one leaves: whatever is sent afterwards reaches it.
pub fn one_comes_while_the_last_one_leaves() {
    explore(|| {
        let hub = Arc::new(Hub::default());
        let leaves = Hub::subscribe(&hub, 1, None);
        let other = Arc::clone(&hub);
        let thread = thread::spawn(move || Hub::subscribe(&other, 1, None));
        drop(leaves);
        let comes = thread.join().unwrap();
        hub.send(|| 1);
        assert_eq!(comes.take(), Ok(Taken::Item(1)));
        assert_eq!(hub.len(), 1);
    });
}
