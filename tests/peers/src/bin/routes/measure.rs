//! Lookups, timed in turn.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tower_chassis_peers::{callgrind, median};

use crate::{
    alive::{allocations, bytes},
    subjects::Subject,
    tables::Table,
};

/// A subject with a table.
pub struct Case {
    pub name: &'static str,
    /// Lookups of a batch.
    pub lookups: usize,
    run: Box<dyn FnMut()>,
    pub nanos: Vec<f64>,
    pub allocations: f64,
    pub instructions: f64,
}

impl Case {
    /// None if the subject does not take the table, or does not answer it as the table says.
    pub fn new<S: Subject>(table: &Table) -> Option<Self> {
        let subject = S::build(&table.routes)?;
        if table
            .paths
            .iter()
            .any(|path| subject.find(path).is_some() != table.hits)
        {
            return None;
        }
        let paths = table.paths.clone();
        // Enough that reading the clock does not count.
        let start = Instant::now();
        paths
            .iter()
            .for_each(|path| assert!(black_box(subject.find(path)).is_some() == table.hits));
        let round = start.elapsed().as_nanos().max(1) as usize;
        let repeats = (100_000 / round).clamp(1, 2_000);
        let lookups = repeats * paths.len();
        let run = move || {
            for _ in 0..repeats {
                for path in &paths {
                    black_box(subject.find(black_box(path.as_str())));
                }
            }
        };
        Some(Self {
            name: S::NAME,
            lookups,
            run: Box::new(run),
            nanos: Vec::new(),
            allocations: 0.0,
            instructions: 0.0,
        })
    }

    /// A function of its own, for a profiler that counts inside it alone.
    #[inline(never)]
    pub fn batch(&mut self) {
        (self.run)();
    }

    fn round(&mut self, time: Duration) {
        let (mut batches, mut spent, mut allocated) = (Vec::new(), Duration::ZERO, 0);
        while spent < time {
            let (before, start) = (allocations(), Instant::now());
            self.batch();
            let took = start.elapsed();
            allocated += allocations() - before;
            batches.push(took.as_nanos() as f64 / self.lookups as f64);
            spent += took;
        }
        let own = batches.len();
        self.allocations = allocated as f64 / (own * self.lookups) as f64;
        self.nanos.push(median(&batches));
    }

    pub fn nanos(&self) -> f64 {
        median(&self.nanos)
    }
}

/// All in turn, round after round.
pub fn run(cases: &mut [Case], rounds: usize, time: Duration) {
    for _ in 0..rounds {
        cases.iter_mut().for_each(|case| case.round(time));
    }
}

/// The median over rounds of the ratio of two.
pub fn ratio(case: &Case, base: &Case) -> f64 {
    let ratios = case.nanos.iter().zip(&base.nanos);
    median(&ratios.map(|(case, base)| case / base).collect::<Vec<_>>())
}

/// Instructions of a lookup: this program again, under callgrind.
pub fn instructions(table: &str, subject: &str) -> f64 {
    let run = |batches: &str| {
        let args = ["--only", table, "--subject", subject, "--batches", batches];
        let counted = callgrind::inside("*measure::Case::batch*", &args);
        let lookups = counted.output.trim().parse::<f64>();
        (counted.instructions, lookups.unwrap())
    };
    let (one, three) = (run("1"), run("3"));
    (three.0 - one.0) / (three.1 - one.1)
}

/// Bytes alive per route, and nanoseconds to add one.
pub struct Built {
    pub bytes: f64,
    pub nanos: f64,
}

pub fn built<S: Subject>(table: &Table, rounds: usize) -> Option<Built> {
    let before = bytes();
    let subject = S::build(&table.routes)?;
    let alive = bytes() - before;
    drop(subject);
    let times: Vec<_> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            let subject = S::build(&table.routes);
            let took = start.elapsed();
            drop(subject);
            took.as_nanos() as f64
        })
        .collect();
    let count = table.routes.len() as f64;
    Some(Built {
        bytes: alive as f64 / count,
        nanos: median(&times) / count,
    })
}
