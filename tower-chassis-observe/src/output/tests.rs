//! The queue, step by step, beside a plain one.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use proptest::prelude::*;

use super::queue::{CHUNK, Counts, Put, Queue, Task};

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn write(queue: &Queue) -> Vec<u8> {
    match queue.next(None, true) {
        Task::Write(chunk) => {
            let bytes = chunk.bytes.clone();
            let lines = chunk.ends.len();
            queue.settle(chunk, lines);
            bytes
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flush_comes_before_what_was_put_later() {
    let queue = Queue::new(10, 1_000);
    queue.put(b"a");
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let cx = Context::from_waker(&waker);
    let ticket = queue.wait();
    assert!(queue.poll_arrived(&ticket, &cx).is_pending());
    assert_eq!(write(&queue), b"a\n");
    queue.put(b"b");
    let Task::Flush(upto) = queue.next(None, true) else {
        panic!("somebody waits for it");
    };
    queue.flushed(upto);
    assert!(woken.0.load(Ordering::Relaxed) && queue.poll_arrived(&ticket, &cx).is_ready());
    assert_eq!(write(&queue), b"b\n");
}

/// What may happen to a queue.
#[derive(Clone, Debug)]
enum Step {
    Put(usize),
    /// Writes a chunk, of which so many of a hundred lines are written.
    Work(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..400_usize).prop_map(Step::Put),
        1 => (CHUNK - 300..CHUNK + 300).prop_map(Step::Put),
        6 => prop_oneof![Just(100), 0..100_usize].prop_map(Step::Work),
        3 => Just(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("CHASSIS_LONG").is_some() { 4_096 } else { 256 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_does_what_a_plain_queue_does(
        steps in prop::collection::vec(step(), 0..100),
        lines in 1..40_usize,
        bytes in prop_oneof![100..2_000_usize, CHUNK..3 * CHUNK],
    ) {
        let queue = Queue::new(lines, bytes);
        let mut plain = VecDeque::<Vec<u8>>::new();
        let mut expected = Counts::default();
        let (mut taken, mut flushed) = (0_u64, 0_u64);
        let mut tickets = Vec::new();
        let cx = Context::from_waker(Waker::noop());
        for (nth, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(len) => {
                    let mut line = vec![nth as u8; len];
                    line.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = 0);
                    let put = queue.put(&line);
                    line.push(b'\n');
                    let used: usize = plain.iter().map(Vec::len).sum();
                    if plain.len() < lines && used + line.len() <= bytes {
                        prop_assert_eq!(put, if taken == 0 { Put::First } else { Put::Taken });
                        plain.push_back(line);
                        taken += 1;
                    } else {
                        prop_assert_eq!(put, Put::Lost);
                        expected.lost += 1;
                    }
                }
                Step::Work(share) => match queue.next(None, true) {
                    Task::Write(chunk) => {
                        let mut from = 0;
                        for end in &chunk.ends {
                            let line = plain.pop_front();
                            prop_assert_eq!(line.as_deref(), Some(&chunk.bytes[from..*end as usize]));
                            from = *end as usize;
                        }
                        prop_assert_eq!(from, chunk.bytes.len());
                        prop_assert!(from <= CHUNK || chunk.ends.len() == 1);
                        let written = chunk.ends.len() * share / 100;
                        expected.written += written as u64;
                        expected.failed += (chunk.ends.len() - written) as u64;
                        queue.settle(chunk, written);
                    }
                    Task::Flush(upto) => {
                        prop_assert_eq!(upto, expected.written + expected.failed);
                        flushed = upto;
                        queue.flushed(upto);
                    }
                    Task::Idle => prop_assert!(plain.is_empty() && flushed == taken),
                    Task::End => prop_assert!(false, "nobody has closed it"),
                },
                Step::Wait => tickets.push((queue.wait(), taken)),
            }
            for (ticket, until) in &tickets {
                prop_assert_eq!(queue.poll_arrived(ticket, &cx).is_ready(), flushed >= *until);
            }
            expected.waiting = plain.len();
            prop_assert_eq!(queue.counts(), expected);
        }
        // Whoever left or came, what is there is written and then it ends.
        tickets.iter().for_each(|(ticket, _)| queue.leave(ticket));
        queue.close();
        prop_assert_eq!(queue.put(b"late"), Put::Lost);
        loop {
            match queue.next(None, false) {
                Task::Write(chunk) => {
                    let lines = chunk.ends.len();
                    plain.drain(..lines);
                    queue.settle(chunk, lines);
                }
                Task::Flush(upto) => queue.flushed(upto),
                Task::Idle => prop_assert!(false, "it has nothing else to do"),
                Task::End => break,
            }
        }
        prop_assert!(plain.is_empty());
        let counts = queue.counts();
        prop_assert_eq!((counts.waiting, counts.written + counts.failed), (0, taken));
    }
}
