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

use super::{
    super::{
        codel::Discipline,
        permits::{Comer, Entry, Permits},
        queue::Place,
    },
    comer,
};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One that waits, or whose wait is over and who has not come to see.
struct Waiting {
    id: usize,
    place: Place,
    woken: Arc<Woken>,
    polled: bool,
    /// Whether it got a permit.
    over: Option<bool>,
}

/// What permits should be: numbers and a list.
struct Model {
    limit: usize,
    places: usize,
    in_use: usize,
    shut: bool,
    queue: VecDeque<Member>,
    /// When the queue got its first member.
    busy: Instant,
    /// Of the last who joined.
    newest_first: bool,
    /// Of the first who joined.
    interval: Duration,
}

#[derive(Clone, Copy)]
struct Member {
    id: usize,
    since: Instant,
    until: Instant,
}

impl Model {
    fn stands(&self, now: Instant) -> bool {
        now >= self.busy + self.interval
    }

    /// What "Fail at Scale" says, for one who waits alone or behind others.
    fn join(&mut self, id: usize, comer: &Comer) -> Instant {
        let Discipline {
            max_wait,
            target,
            interval,
            newest_first,
        } = comer.discipline;
        if self.queue.is_empty() {
            (self.busy, self.interval) = (comer.now, interval);
        }
        self.newest_first = newest_first;
        let mut until = comer.now + max_wait;
        if let Some(target) = target {
            // Once it stands, for the target and no longer; until then it may.
            until = until.min((comer.now + target).max(self.busy + self.interval));
        }
        if let Some(deadline) = comer.deadline {
            until = until.min(deadline);
        }
        let since = comer.now;
        self.queue.push_back(Member { id, since, until });
        until
    }

    /// Who is granted a permit and who is turned away.
    fn hand_over(&mut self, now: Instant) -> Vec<(usize, bool)> {
        let mut over = Vec::new();
        while self.in_use < self.limit && !self.shut {
            let newest = self.newest_first && self.stands(now);
            let next = if newest {
                self.queue.pop_back()
            } else {
                self.queue.pop_front()
            };
            let Some(next) = next else { break };
            let granted = now < next.until;
            self.in_use += usize::from(granted);
            over.push((next.id, granted));
        }
        over
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter { deadline: Option<u64> },
    Release,
    Poll(usize),
    Leave(usize),
    Apply { limit: u32, places: u32 },
    Discipline(Discipline),
    Pass(u64),
    Shut,
    Open,
}

fn discipline() -> impl Strategy<Value = Discipline> {
    let target = prop_oneof![Just(None), (1_u64..20).prop_map(Some)];
    (1_u64..60, target, 1_u64..60, any::<bool>()).prop_map(
        |(max_wait, target, interval, newest_first)| Discipline {
            max_wait: Duration::from_millis(max_wait),
            target: target.map(Duration::from_millis),
            interval: Duration::from_millis(interval),
            newest_first,
        },
    )
}

fn step() -> impl Strategy<Value = (Step, usize)> {
    let step = prop_oneof![
        12 => prop_oneof![3 => Just(None), 1 => (0_u64..40).prop_map(Some)]
            .prop_map(|deadline| Step::Enter { deadline }),
        8 => Just(Step::Release),
        3 => any::<usize>().prop_map(Step::Poll),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => (1_u32..24, 0_u32..5).prop_map(|(limit, places)| Step::Apply { limit, places }),
        1 => discipline().prop_map(Step::Discipline),
        5 => (1_u64..30).prop_map(Step::Pass),
        1 => Just(Step::Shut),
        2 => Just(Step::Open),
    ];
    (step, 0_usize..6)
}

struct Bench {
    permits: Permits,
    model: Model,
    waiting: Vec<Waiting>,
    held: usize,
    ids: usize,
    now: Instant,
    discipline: Discipline,
}

impl Bench {
    fn take(&mut self, step: Step, at: usize) {
        let now = self.now;
        match step {
            Step::Enter { deadline } => self.enter(at, deadline),
            Step::Release if self.held > 0 => {
                self.held -= 1;
                self.permits.release(at, || now);
                self.model.in_use -= 1;
                self.granted();
            }
            Step::Poll(index) if !self.waiting.is_empty() => {
                let index = index % self.waiting.len();
                let waiting = &mut self.waiting[index];
                let waker = Waker::from(Arc::clone(&waiting.woken));
                assert_eq!(
                    self.permits.poll(&waiting.place, &waker),
                    waiting.over.is_some(),
                    "whose turn it is and who is late is known, and no other is"
                );
                waiting.polled = true;
            }
            Step::Leave(index) if !self.waiting.is_empty() => {
                let gone = self.waiting.remove(index % self.waiting.len());
                let granted = gone.over == Some(true);
                assert_eq!(self.permits.leave(gone.place, at), granted);
                self.held += usize::from(granted);
                self.model.queue.retain(|member| member.id != gone.id);
                self.granted();
            }
            Step::Apply { limit, places } => {
                self.permits.apply(limit, places, at, || now);
                (self.model.limit, self.model.places) = (limit as usize, places as usize);
                self.granted();
            }
            Step::Discipline(discipline) => self.discipline = discipline,
            Step::Pass(ms) => self.now += Duration::from_millis(ms),
            Step::Shut => {
                self.permits.shut(at);
                self.model.shut = true;
                let away: Vec<_> = self
                    .model
                    .queue
                    .drain(..)
                    .map(|one| (one.id, false))
                    .collect();
                self.over(&away);
            }
            Step::Open => {
                self.permits.open(at, Instant::now);
                self.model.shut = false;
            }
            _ => {}
        }
        self.compare(at);
    }

    fn enter(&mut self, at: usize, deadline: Option<u64>) {
        let model = &mut self.model;
        let comer = Comer {
            now: self.now,
            deadline: deadline.map(|ms| self.now + Duration::from_millis(ms)),
            discipline: self.discipline,
        };
        let entry = self.permits.enter(at, || comer);
        let free = !model.shut && model.in_use < model.limit && model.queue.is_empty();
        let late = comer.deadline == Some(comer.now);
        match entry {
            Entry::Permit => {
                assert!(free);
                model.in_use += 1;
                self.held += 1;
            }
            Entry::Queued(place, until) => {
                assert!(!free && !late && !model.shut && model.queue.len() < model.places);
                let id = self.ids;
                self.ids += 1;
                assert_eq!(until, model.join(id, &comer));
                self.waiting.push(Waiting {
                    id,
                    place,
                    woken: Arc::default(),
                    polled: false,
                    over: None,
                });
            }
            Entry::Full => {
                assert!(!free && (model.shut || model.queue.len() >= model.places));
            }
            Entry::Late => assert!(!free && late),
        }
    }

    /// What the model hands over is handed over, and who had asked for it is woken.
    fn granted(&mut self) {
        let over = self.model.hand_over(self.now);
        self.over(&over);
    }

    fn over(&mut self, over: &[(usize, bool)]) {
        for waiting in &mut self.waiting {
            if let Some((_, granted)) = over.iter().find(|(id, _)| *id == waiting.id) {
                waiting.over = Some(*granted);
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
            model.queue.front().map(|first| first.since)
        );
        assert_eq!(
            permits.any(at),
            !model.shut && model.in_use < model.limit && model.queue.is_empty()
        );
        assert_eq!(permits.is_shut(), model.shut);
        for waiting in &self.waiting {
            let woken = waiting.woken.0.load(Ordering::Relaxed);
            assert!(woken == usize::from(waiting.over.is_some() && waiting.polled) || woken == 0);
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
        discipline in discipline(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let now = Instant::now();
        let mut bench = Bench {
            permits: Permits::new(limit, places, width),
            model: Model {
                limit: limit as usize,
                places: places as usize,
                in_use: 0,
                shut: false,
                queue: VecDeque::new(),
                busy: now,
                newest_first: false,
                interval: Duration::ZERO,
            },
            waiting: Vec::new(),
            held: 0,
            ids: 0,
            now,
            discipline,
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
    assert_eq!(permits.enter(0, comer), Entry::Permit);
    let Entry::Queued(place, _) = permits.enter(0, comer) else {
        panic!("a place is free")
    };
    let tasks: [Arc<Woken>; 3] = Default::default();
    for task in &tasks {
        assert!(!permits.poll(&place, &Waker::from(Arc::clone(task))));
    }
    permits.release(0, Instant::now);
    let woken = tasks.map(|task| task.0.load(Ordering::Relaxed));
    assert_eq!(woken, [0, 0, 1]);
    assert!(permits.leave(place, 0));
}

#[test]
fn a_long_queue_gives_its_memory_back() {
    let permits = Permits::new(1, 5_000, 2);
    assert_eq!(permits.enter(0, comer), Entry::Permit);
    for _ in 0..2 {
        let places: Vec<_> = (0..5_000)
            .map(|_| match permits.enter(0, comer) {
                Entry::Queued(place, _) => place,
                entry => panic!("{entry:?}"),
            })
            .collect();
        assert_eq!(permits.enter(0, comer), Entry::Full);
        assert!(permits.kept() >= 5_000);
        for place in places.into_iter().rev() {
            assert!(!permits.leave(place, 0));
        }
        assert_eq!((permits.queued(), permits.kept()), (0, 0));
    }
    permits.release(0, Instant::now);
    assert_eq!(permits.enter(1, comer), Entry::Permit);
}
