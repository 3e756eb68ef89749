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
pub const BATCH: usize = 256;

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

    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Makes [`BATCH`] calls. A function of its own, for a profiler that counts inside it alone.
    #[inline(never)]
    pub fn batch(&mut self) {
        (self.run)();
    }

    /// Makes calls that a profiler takes no notice of: the first ones make what the others find.
    #[inline(never)]
    pub fn warm(&mut self) {
        // Twice: the same code as that of `batch` would become one function with it.
        for _ in 0..2 {
            (self.run)();
        }
    }

    /// Runs for about `time`; nanoseconds and allocations of a call. The time is that of the median batch: one that
    /// lost its core to somebody else says nothing.
    fn round(&mut self, time: Duration) {
        let (mut batches, mut spent, mut allocated) = (Vec::new(), Duration::ZERO, 0);
        while spent < time {
            let (took, count) = (self.run)();
            batches.push(took.as_nanos() as f64 / BATCH as f64);
            spent += took;
            allocated += count;
        }
        self.nanos.push(median(&batches));
        self.allocations = allocated as f64 / (batches.len() * BATCH) as f64;
    }
}

/// How often `calls` calls allocate, or a few more, after the first ones.
#[must_use]
pub fn allocated(case: &mut Case, calls: usize) -> u64 {
    case.warm();
    (0..calls.div_ceil(BATCH)).map(|_| (case.run)().1).sum()
}

/// Readies a service and calls it once.
///
/// # Panics
/// It fails.
pub fn call<S, Req>(service: &mut S, request: Req)
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
        round(cases, time);
    }
    rows(cases, floor)
}

/// One round of all cases, for who has others in turn with them.
pub fn round(cases: &mut [Case], time: Duration) {
    cases.iter_mut().for_each(|case| case.round(time));
}

/// The rows of [`run`].
#[must_use]
pub fn rows(cases: &[Case], floor: &str) -> Vec<Vec<String>> {
    let under = find(cases, floor);
    let rows = cases.iter().map(|case| {
        let base = find(cases, case.base).filter(|base| base.name != case.name);
        let ratio = base.map(|base| ratio(cases, floor, case.name, base.name));
        let allocations = case.allocations
            - under
                .filter(|under| under.name != case.name)
                .map_or(0.0, |under| under.allocations);
        vec![
            case.name.to_owned(),
            format!("{:.1}", median(&added(cases, floor, case.name))),
            format!("{:.2}", allocations + 0.0),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            base.map_or_else(String::new, |base| base.name.to_owned()),
        ]
    });
    rows.collect()
}

fn find<'a>(cases: &'a [Case], name: &str) -> Option<&'a Case> {
    cases.iter().find(|case| case.name == name)
}

/// What a case adds to the floor in each round.
#[must_use]
pub fn added(cases: &[Case], floor: &str, name: &str) -> Vec<f64> {
    let nanos = |name: &str| find(cases, name).map_or(&[][..], |case| &case.nanos);
    if name == floor || find(cases, floor).is_none() {
        return nanos(name).to_vec();
    }
    let added = nanos(name).iter().zip(nanos(floor));
    added.map(|(nanos, floor)| nanos - floor).collect()
}

/// The median over rounds of what one case adds over what another does.
#[must_use]
pub fn ratio(cases: &[Case], floor: &str, name: &str, base: &str) -> f64 {
    let (name, base) = (added(cases, floor, name), added(cases, floor, base));
    let ratios = name.iter().zip(base);
    median(
        &ratios
            .map(|(name, base)| name / base.max(0.1))
            .collect::<Vec<_>>(),
    )
}
