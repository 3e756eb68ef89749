//! Services called by hand, on one thread, without a runtime's scheduler in between.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tower::Service;

use crate::{counting::allocations, median};

/// How many requests are made before the clock runs.
const BATCH: usize = 256;

/// A service on its success path, and who it is compared with.
pub struct Case {
    name: &'static str,
    /// Name of the case that it is a ratio of.
    base: &'static str,
    run: Box<dyn FnMut() -> (Duration, u64)>,
    nanos: Vec<f64>,
    allocations: f64,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Case {
    /// Calls `service` with what `make` makes, which is not measured.
    pub fn new<S, Req>(
        name: &'static str,
        base: &'static str,
        mut service: S,
        mut make: impl FnMut() -> Req + 'static,
    ) -> Self
    where
        S: Service<Req> + 'static,
        S::Error: std::fmt::Debug,
        Req: 'static,
    {
        let run = move || {
            let requests: Vec<Req> = (0..BATCH).map(|_| make()).collect();
            let (before, start) = (allocations(), Instant::now());
            for request in requests {
                call(&mut service, request);
            }
            (start.elapsed(), allocations() - before)
        };
        Self {
            name,
            base,
            run: Box::new(run),
            nanos: Vec::new(),
            allocations: 0.0,
        }
    }

    /// Runs for about `time`; nanoseconds and allocations of a call.
    fn round(&mut self, time: Duration) {
        let (mut calls, mut spent, mut allocated) = (0, Duration::ZERO, 0);
        while spent < time {
            let (took, count) = (self.run)();
            calls += BATCH;
            spent += took;
            allocated += count;
        }
        self.nanos.push(spent.as_nanos() as f64 / calls as f64);
        self.allocations = allocated as f64 / calls as f64;
    }
}

fn call<S, Req>(service: &mut S, request: Req)
where
    S: Service<Req>,
    S::Error: std::fmt::Debug,
{
    let mut context = Context::from_waker(Waker::noop());
    // A few of tower's wake themselves before they are ready.
    while service
        .poll_ready(&mut context)
        .map(|ready| ready.unwrap())
        .is_pending()
    {}
    let mut future = pin!(service.call(request));
    loop {
        if let std::task::Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            drop(black_box(answer.unwrap()));
            return;
        }
    }
}

/// All cases in turn, round after round. Rows: name, nanoseconds, their ratio to the base, allocations, base.
///
/// The name of a group's own floor stands for itself; what it costs is taken off the nanoseconds and the
/// allocations of the others, and from the ratio too.
pub fn run(cases: &mut [Case], floor: &str, rounds: usize, time: Duration) -> Vec<Vec<String>> {
    for _ in 0..rounds {
        cases.iter_mut().for_each(|case| case.round(time));
    }
    let find = |name: &str| cases.iter().find(|case| case.name == name);
    let under = find(floor);
    let added = |case: &Case, round: usize| {
        let floor = under
            .filter(|under| under.name != case.name)
            .map_or(0.0, |under| under.nanos[round]);
        case.nanos[round] - floor
    };
    let rows = cases.iter().map(|case| {
        let nanos: Vec<f64> = (0..rounds).map(|round| added(case, round)).collect();
        let base = find(case.base).filter(|base| base.name != case.name);
        let ratio = base.map(|base| {
            let ratios: Vec<f64> = (0..rounds)
                .map(|round| added(case, round) / added(base, round).max(0.1))
                .collect();
            median(&ratios)
        });
        let allocations = case.allocations
            - under
                .filter(|under| under.name != case.name)
                .map_or(0.0, |under| under.allocations);
        vec![
            case.name.to_owned(),
            format!("{:.1}", median(&nanos)),
            format!("{:.2}", allocations + 0.0),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            base.map_or_else(String::new, |base| base.name.to_owned()),
        ]
    });
    rows.collect()
}
