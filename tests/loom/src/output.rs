//! Outputs: the queue between those who write lines and the thread that writes them out.

#[path = "../../../tower-chassis-observe/src/output/queue.rs"]
mod queue;

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use self::queue::{Put, Queue, Task};
use crate::explore;

/// Writes everything, and never naps: a nap ends by itself, and must not be what saves us.
fn write_out(queue: &Queue) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        match queue.next(None, false) {
            Task::Write(chunk) => {
                written.extend_from_slice(&chunk.bytes);
                let lines = chunk.ends.len();
                queue.settle(chunk, lines);
            }
            Task::Flush(upto) => queue.flushed(upto),
            Task::Idle => unreachable!("it has nothing else to do"),
            Task::End => return written,
        }
    }
}

/// Two threads write while the queue is written out and closed: every line that was taken is written, once, and what
/// was not is counted.
pub fn what_is_taken_is_written() {
    explore(|| {
        let queue = Arc::new(Queue::new(2, 1_000));
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || write_out(&writer));
        let other = Arc::clone(&queue);
        let other = thread::spawn(move || other.put(b"b") != Put::Lost);
        let mut taken = u64::from(queue.put(b"a") != Put::Lost);
        taken += u64::from(other.join().unwrap());
        queue.close();
        let written = writer.join().unwrap();
        let counts = queue.counts();
        assert_eq!(written.len() as u64, taken * 2);
        assert_eq!(
            (counts.written, counts.failed, counts.lost),
            (taken, 0, 2 - taken)
        );
        assert_eq!(counts.waiting, 0);
    });
}

/// A full queue takes nothing, and takes again when there is room.
pub fn the_bound_holds() {
    explore(|| {
        let queue = Arc::new(Queue::new(1, 1_000));
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || write_out(&writer));
        let mut taken = 0;
        for _ in 0..2 {
            taken += u64::from(queue.put(b"a") != Put::Lost);
            assert!(queue.counts().waiting <= 1);
        }
        queue.close();
        writer.join().unwrap();
        let counts = queue.counts();
        assert!(taken >= 1);
        assert_eq!((counts.written, counts.lost), (taken, 2 - taken));
    });
}

/// One thread alone begins to write.
pub fn one_begins() {
    explore(|| {
        let queue = Arc::new(Queue::new(4, 1_000));
        let other = Arc::clone(&queue);
        let other = thread::spawn(move || other.put(b"b") == Put::First);
        let first = queue.put(b"a") == Put::First;
        assert!(first ^ other.join().unwrap());
    });
}

/// A line alone wakes a writer that sleeps, without a flush and without an end.
pub fn a_line_wakes_the_writer() {
    explore(|| {
        let queue = Arc::new(Queue::new(4, 1_000));
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || matches!(writer.next(None, false), Task::Write(_)));
        assert_ne!(queue.put(b"a"), Put::Lost);
        assert!(writer.join().unwrap());
    });
}

/// Wakes a thread. A wake that is lost leaves the model in a deadlock, which loom reports.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Who waits for a flush is woken when what was there is written.
pub fn a_flush_is_not_missed() {
    explore(|| {
        let queue = Arc::new(Queue::new(4, 1_000));
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || write_out(&writer));
        assert_ne!(queue.put(b"a"), Put::Lost);
        let ticket = queue.wait();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let cx = Context::from_waker(&waker);
        while let Poll::Pending = queue.poll_arrived(&ticket, &cx) {
            thread::park();
        }
        assert_eq!(queue.counts().written, 1);
        queue.close();
        writer.join().unwrap();
    });
}

/// A flush that is dropped leaves nothing behind, whoever else waits.
pub fn a_flush_that_leaves_takes_nobody_with_it() {
    explore(|| {
        let queue = Arc::new(Queue::new(4, 1_000));
        assert_ne!(queue.put(b"a"), Put::Lost);
        let writer = Arc::clone(&queue);
        let writer = thread::spawn(move || write_out(&writer));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let cx = Context::from_waker(&waker);
        let (leaves, stays) = (queue.wait(), queue.wait());
        let _ = queue.poll_arrived(&leaves, &cx);
        let _ = queue.poll_arrived(&stays, &cx);
        queue.leave(&leaves);
        while let Poll::Pending = queue.poll_arrived(&stays, &cx) {
            thread::park();
        }
        queue.close();
        writer.join().unwrap();
    });
}
