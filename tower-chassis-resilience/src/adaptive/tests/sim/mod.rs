//! A service under load in virtual time, with something in front that lets calls in: same seed, same run.
//!
//! Nothing here knows what lets them in: that is a [`Gate`]. The service is `servers` that work in parallel and a
//! queue of its own, first come, first served, without bound. Arrivals are a Poisson process.

mod gate;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

pub(super) use self::gate::Limited;

/// Nanoseconds since the start.
pub(super) type Nanos = u64;

pub(super) const MS: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MS;

/// What became of one who came.
pub(super) enum Entry {
    Begins,
    /// Waits, until then at the most.
    Waits(Nanos),
    Refused,
}

/// What stands in front of the service.
pub(super) trait Gate {
    fn arrive(&mut self, call: u32, now: Nanos) -> Entry;
    /// The wait of a call is over, if it has not begun. Whether it begins now after all.
    fn expire(&mut self, call: u32, now: Nanos) -> bool;
    /// A call that began then was answered, in time or not.
    fn answered(&mut self, began: Nanos, in_time: bool, now: Nanos);
    /// Those who wait and may begin now.
    fn next(&mut self, now: Nanos) -> Option<u32>;
    fn limit(&self) -> u32;
}

/// How long a call takes when it is served, as a multiple of the mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Fixed,
    Exponential,
    /// The logarithm has this deviation.
    LogNormal(f64),
}

impl Work {
    fn draw(self, rng: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Fixed => 1.0,
            Self::Exponential => -(1.0 - rng.f64()).ln(),
            Self::LogNormal(sigma) => {
                let (a, b) = (1.0 - rng.f64(), rng.f64());
                let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
                (sigma * normal - sigma * sigma / 2.0).exp()
            }
        }
    }

    /// What one in a hundred calls exceeds.
    pub(super) fn p99(self, mean: Nanos) -> Nanos {
        let times = match self {
            Self::Fixed => 1.0,
            Self::Exponential => 100_f64.ln(),
            Self::LogNormal(sigma) => (sigma * 2.326_348 - sigma * sigma / 2.0).exp(),
        };
        (mean as f64 * times) as Nanos
    }
}

/// The service at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) servers: u32,
    /// The mean time that a call takes.
    pub(super) mean: Nanos,
}

/// What is simulated. Times are since the start.
pub(super) struct World {
    pub(super) work: Work,
    /// The service at a time.
    pub(super) shape: Box<dyn Fn(Nanos) -> Shape>,
    /// Arrivals a second, at a time.
    pub(super) offered: Box<dyn Fn(Nanos) -> f64>,
    /// Every so long the whole service stands still, for so long.
    pub(super) pauses: Option<(Nanos, Nanos)>,
    /// A call that takes longer is answered too late.
    pub(super) patience: Nanos,
    pub(super) length: Nanos,
    pub(super) seed: u64,
}

impl World {
    /// A service that stays as it is, offered so many times what it can do.
    pub(super) fn new(shape: Shape, work: Work, load: f64, length: Nanos, seed: u64) -> Self {
        let rate = load * f64::from(shape.servers) * SECOND as f64 / shape.mean as f64;
        Self {
            work,
            shape: Box::new(move |_| shape),
            offered: Box::new(move |_| rate),
            pauses: None,
            patience: Nanos::MAX,
            length,
            seed,
        }
    }

    /// When work that begins at `now` and takes `work` is done.
    fn done(&self, now: Nanos, work: Nanos) -> Nanos {
        let Some((every, length)) = self.pauses else {
            return now + work;
        };
        // The end of each period is the pause.
        let awake = every - length;
        let worked = now / every * awake + (now % every).min(awake) + work;
        worked / awake * every + worked % awake
    }
}

/// What was seen in a second.
#[derive(Clone, Default, Debug)]
pub(super) struct Second {
    /// Answered, refused or given up.
    pub(super) good: u32,
    pub(super) refused: u32,
    /// From arrival to answer.
    pub(super) latencies: Vec<Nanos>,
    /// The limit, at each tenth of it.
    pub(super) limits: Vec<u32>,
}

/// Second by second.
#[derive(Clone, Default, Debug)]
pub(super) struct Record(pub(super) Vec<Second>);

impl Record {
    fn at(&mut self, now: Nanos) -> &mut Second {
        let second = (now / SECOND) as usize;
        if self.0.len() <= second {
            self.0.resize_with(second + 1, Second::default);
        }
        &mut self.0[second]
    }

    /// The seconds from one to another.
    pub(super) fn part(&self, from: usize, to: usize) -> Self {
        Self(self.0[from..to].to_vec())
    }

    /// Answers in a second, in the mean.
    pub(super) fn goodput(&self) -> f64 {
        let good: u64 = self.0.iter().map(|second| u64::from(second.good)).sum();
        good as f64 / self.0.len() as f64
    }

    pub(super) fn refused(&self) -> u64 {
        self.0.iter().map(|second| u64::from(second.refused)).sum()
    }

    pub(super) fn p99(&self) -> Nanos {
        let mut all: Vec<_> = self.0.iter().flat_map(|second| &second.latencies).collect();
        all.sort_unstable();
        *all[all.len() * 99 / 100]
    }

    /// The mean and the highest limit.
    pub(super) fn limit(&self) -> (f64, u32) {
        let all = || self.0.iter().flat_map(|second| &second.limits);
        let sum: u64 = all().map(|limit| u64::from(*limit)).sum();
        (
            sum as f64 / all().count() as f64,
            all().copied().max().unwrap_or(0),
        )
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Done(u32),
    /// With when it came: its number may be another call's since.
    Expires(u32, Nanos),
    Arrives,
    Look,
}

const NEVER: Nanos = Nanos::MAX;

#[derive(Clone, Copy)]
struct Call {
    came: Nanos,
    /// [`NEVER`] as long as it has not.
    began: Nanos,
}

/// Runs a world.
pub(super) fn run(world: &World, gate: &mut impl Gate) -> Record {
    let mut rng = fastrand::Rng::with_seed(world.seed);
    let mut events = BinaryHeap::new();
    let mut record = Record::default();
    let mut calls = Vec::<Call>::new();
    let mut vacant = Vec::<u32>::new();
    let mut waits = VecDeque::<u32>::new();
    let (mut busy, mut order) = (0_u32, 0_u64);
    let mut push = |events: &mut BinaryHeap<_>, at: Nanos, event| {
        order += 1;
        events.push(Reverse((at, order, event)));
    };
    push(&mut events, 0, Event::Arrives);
    push(&mut events, 0, Event::Look);
    while let Some(Reverse((now, _, event))) = events.pop() {
        if now >= world.length {
            break;
        }
        let mut begins = Vec::new();
        match event {
            Event::Arrives => {
                let gap = SECOND as f64 / (world.offered)(now) * Work::Exponential.draw(&mut rng);
                push(&mut events, now + gap as Nanos + 1, Event::Arrives);
                let call = vacant.pop().unwrap_or_else(|| {
                    calls.push(Call { came: 0, began: 0 });
                    (calls.len() - 1) as u32
                });
                calls[call as usize] = Call {
                    came: now,
                    began: NEVER,
                };
                match gate.arrive(call, now) {
                    Entry::Begins => begins.push(call),
                    Entry::Waits(until) => push(&mut events, until, Event::Expires(call, now)),
                    Entry::Refused => {
                        record.at(now).refused += 1;
                        vacant.push(call);
                    }
                }
            }
            Event::Expires(call, of) => {
                let Call { came, began } = calls[call as usize];
                if came == of && began == NEVER {
                    if gate.expire(call, now) {
                        begins.push(call);
                    } else {
                        record.at(now).refused += 1;
                        vacant.push(call);
                    }
                }
            }
            Event::Done(call) => {
                let Call { came, began } = calls[call as usize];
                let second = record.at(now);
                let in_time = now - began <= world.patience;
                if in_time {
                    second.good += 1;
                    second.latencies.push(now - came);
                }
                gate.answered(began, in_time, now);
                vacant.push(call);
                busy -= 1;
            }
            Event::Look => {
                push(&mut events, now + SECOND / 10, Event::Look);
                record.at(now).limits.push(gate.limit());
            }
        }
        while let Some(call) = gate.next(now) {
            begins.push(call);
        }
        for call in begins {
            calls[call as usize].began = now;
            waits.push_back(call);
        }
        let shape = (world.shape)(now);
        while busy < shape.servers
            && let Some(call) = waits.pop_front()
        {
            busy += 1;
            let work = (shape.mean as f64 * world.work.draw(&mut rng)) as Nanos;
            push(&mut events, world.done(now, work.max(1)), Event::Done(call));
        }
    }
    record
}
