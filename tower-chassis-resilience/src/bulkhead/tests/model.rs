//! Permits against a model that counts, one step after another.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::{
    permits::{Entry, Permits},
    queue::Place,
};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One that waits, or was granted a permit and has not come for it.
struct Waiting {
    id: usize,
    place: Place,
    woken: Arc<Woken>,
    polled: bool,
    granted: bool,
}

/// What permits should be: numbers and a list.
struct Model {
    limit: usize,
    places: usize,
    in_use: usize,
    queue: VecDeque<usize>,
}

impl Model {
    fn hand_over(&mut self) -> Vec<usize> {
        let mut granted = Vec::new();
        while self.in_use < self.limit
            && let Some(id) = self.queue.pop_front()
        {
            self.in_use += 1;
            granted.push(id);
        }
        granted
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter,
    Release,
    Poll(usize),
    Leave(usize),
    Apply { limit: u32, places: u32 },
}

fn step() -> impl Strategy<Value = (Step, usize)> {
    let step = prop_oneof![
        12 => Just(Step::Enter),
        8 => Just(Step::Release),
        3 => any::<usize>().prop_map(Step::Poll),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => (1_u32..24, 0_u32..5).prop_map(|(limit, places)| Step::Apply { limit, places }),
    ];
    (step, 0_usize..6)
}

struct Bench {
    permits: Permits,
    model: Model,
    waiting: Vec<Waiting>,
    held: usize,
    began: Vec<Instant>,
}

impl Bench {
    fn take(&mut self, step: Step, at: usize) {
        match step {
            Step::Enter => self.enter(at),
            Step::Release if self.held > 0 => {
                self.held -= 1;
                self.permits.release(at);
                self.model.in_use -= 1;
                self.granted();
            }
            Step::Poll(index) if !self.waiting.is_empty() => {
                let index = index % self.waiting.len();
                let waiting = &mut self.waiting[index];
                let waker = Waker::from(Arc::clone(&waiting.woken));
                assert_eq!(
                    self.permits.poll(&waiting.place, &waker),
                    waiting.granted,
                    "a permit is granted to the first who waits, and to no other"
                );
                waiting.polled = true;
            }
            Step::Leave(index) if !self.waiting.is_empty() => {
                let gone = self.waiting.remove(index % self.waiting.len());
                assert_eq!(self.permits.leave(gone.place, at), gone.granted);
                self.held += usize::from(gone.granted);
                self.model.queue.retain(|id| *id != gone.id);
                self.granted();
            }
            Step::Apply { limit, places } => {
                self.permits.apply(limit, places, at);
                (self.model.limit, self.model.places) = (limit as usize, places as usize);
                self.granted();
            }
            _ => {}
        }
        self.compare(at);
    }

    fn enter(&mut self, at: usize) {
        let model = &mut self.model;
        let now = Instant::now() + Duration::from_secs(self.began.len() as u64);
        match self.permits.enter(at, || now) {
            Entry::Permit => {
                assert!(model.in_use < model.limit && model.queue.is_empty());
                model.in_use += 1;
                self.held += 1;
            }
            Entry::Queued(place) => {
                assert!(model.in_use >= model.limit && model.queue.len() < model.places);
                let id = self.began.len();
                self.began.push(now);
                model.queue.push_back(id);
                self.waiting.push(Waiting {
                    id,
                    place,
                    woken: Arc::default(),
                    polled: false,
                    granted: false,
                });
            }
            Entry::Full => {
                assert!(model.in_use >= model.limit && model.queue.len() >= model.places);
            }
        }
    }

    /// What the model hands over is handed over, and who had asked for it is woken.
    fn granted(&mut self) {
        let granted = self.model.hand_over();
        for waiting in &mut self.waiting {
            if granted.contains(&waiting.id) {
                waiting.granted = true;
                let woken = waiting.woken.0.load(Ordering::Relaxed);
                assert_eq!(woken, usize::from(waiting.polled));
            }
        }
    }

    fn compare(&self, at: usize) {
        let (permits, model) = (&self.permits, &self.model);
        assert_eq!(permits.in_use() as usize, model.in_use);
        assert_eq!(permits.queued() as usize, model.queue.len());
        assert_eq!(permits.limit() as usize, model.limit);
        assert_eq!(
            permits.oldest(),
            model.queue.front().map(|first| self.began[*first])
        );
        assert_eq!(
            permits.any(at),
            model.in_use < model.limit && model.queue.is_empty()
        );
        for waiting in &self.waiting {
            let woken = waiting.woken.0.load(Ordering::Relaxed);
            assert!(woken == usize::from(waiting.granted && waiting.polled) || woken == 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the number of stripes: on one thread all of it is exact.
    #[test]
    fn one_thread_sees_what_a_counter_and_a_list_would_do(
        limit in 1_u32..24,
        places in 0_u32..5,
        width in prop::sample::select(vec![1_usize, 2, 4]),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut bench = Bench {
            permits: Permits::new(limit, places, width),
            model: Model {
                limit: limit as usize,
                places: places as usize,
                in_use: 0,
                queue: VecDeque::new(),
            },
            waiting: Vec::new(),
            held: 0,
            began: Vec::new(),
        };
        for (step, at) in steps {
            bench.take(step, at);
        }
    }
}

/// A call moves from task to task: who polled last is the one to wake.
#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let permits = Permits::new(1, 1, 1);
    assert_eq!(permits.enter(0, Instant::now), Entry::Permit);
    let Entry::Queued(place) = permits.enter(0, Instant::now) else {
        panic!("a place is free")
    };
    let tasks: [Arc<Woken>; 3] = Default::default();
    for task in &tasks {
        assert!(!permits.poll(&place, &Waker::from(Arc::clone(task))));
    }
    permits.release(0);
    let woken = tasks.map(|task| task.0.load(Ordering::Relaxed));
    assert_eq!(woken, [0, 0, 1]);
    assert!(permits.leave(place, 0));
}

#[test]
fn a_long_queue_gives_its_memory_back() {
    let permits = Permits::new(1, 5_000, 2);
    assert_eq!(permits.enter(0, Instant::now), Entry::Permit);
    for _ in 0..2 {
        let places: Vec<_> = (0..5_000)
            .map(|_| match permits.enter(0, Instant::now) {
                Entry::Queued(place) => place,
                entry => panic!("{entry:?}"),
            })
            .collect();
        assert_eq!(permits.enter(0, Instant::now), Entry::Full);
        assert!(permits.kept() >= 5_000);
        for place in places.into_iter().rev() {
            assert!(!permits.leave(place, 0));
        }
        assert_eq!((permits.queued(), permits.kept()), (0, 0));
    }
    permits.release(0);
    assert_eq!(permits.enter(1, Instant::now), Entry::Permit);
}
