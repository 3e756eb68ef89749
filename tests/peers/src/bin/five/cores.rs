//! Two cores over one.

use std::{
    fmt::Debug,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use tower::{Layer, Service};
use tower_chassis_peers::{bench, median, process::pin_thread, table};

use crate::{
    call::{After, Ask, PerRequest, noop},
    stacks::{
        TR, our_breaker, our_bulkhead, our_rate, our_retry, our_timeout, ours, theirs, towers_four,
    },
};

/// What a thread does: some calls each time.
type Work = Box<dyn FnMut() + Send>;

/// A name, and what makes the work of each thread.
type Shared = (&'static str, Box<dyn Fn() -> Work>);

/// Calls through a service that all threads share, each by a clone of its own.
fn shared<S>(service: S) -> impl Fn() -> Work
where
    S: Service<Ask, Error: Debug> + Clone + Send + 'static,
{
    move || {
        let mut service = service.clone();
        Box::new(move || (0..bench::BATCH).for_each(|_| bench::call(&mut service, Ask::default())))
    }
}

/// Calls per second of so many cores, by each one's median batch: one that lost its core says nothing.
fn throughput(cores: usize, work: &dyn Fn() -> Work, time: Duration) -> f64 {
    let (barrier, runtime) = (Barrier::new(cores), tokio::runtime::Handle::current());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                let (mut work, barrier, runtime) = (work(), &barrier, runtime.clone());
                scope.spawn(move || {
                    let _entered = runtime.enter();
                    let _ = pin_thread(core);
                    work();
                    barrier.wait();
                    let (start, mut batches) = (Instant::now(), Vec::new());
                    while start.elapsed() < time {
                        let start = Instant::now();
                        work();
                        batches.push(start.elapsed().as_secs_f64());
                    }
                    bench::BATCH as f64 / median(&batches)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

/// Two cores over one, a stack shared by both.
pub(crate) fn cores(rounds: usize) {
    let untracked = || our_retry().untracked();
    let cases: Vec<Shared> = vec![
        ("nothing", Box::new(shared(noop::<Ask>()))),
        ("one Arc, cloned", {
            let arc = Arc::new(());
            Box::new(shared(After(move |_: &Ask| {
                drop(std::hint::black_box(Arc::clone(&arc)))
            })))
        }),
        ("tower: shed and three", Box::new(shared(towers_four()))),
        (TR[5], Box::new(shared(theirs()))),
        ("five layers", Box::new(shared(ours(untracked())))),
        (
            "tower: shed and three, a clone per call",
            Box::new(shared(PerRequest(towers_four()))),
        ),
        (
            "tower-resilience: five layers, a clone per call",
            Box::new(shared(PerRequest(theirs()))),
        ),
        (
            "five layers, a clone per call",
            Box::new(shared(PerRequest(ours(untracked())))),
        ),
        (
            "timeout",
            Box::new(shared(our_timeout().layer(noop::<Ask>()))),
        ),
        ("retry", Box::new(shared(untracked().layer(noop::<Ask>())))),
        (
            "breaker",
            Box::new(shared(our_breaker().layer(noop::<Ask>()))),
        ),
        (
            "bulkhead",
            Box::new(shared(our_bulkhead().layer(noop::<Ask>()))),
        ),
        (
            "rate limit",
            Box::new(shared(our_rate().layer(noop::<Ask>()))),
        ),
    ];
    let mut ratios = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, work), ratios) in cases.iter().zip(&mut ratios) {
            let [one, two] = [1, 2].map(|cores| throughput(cores, work, Duration::from_millis(30)));
            ratios.push(two / one);
        }
    }
    let rows = cases.iter().zip(&mut ratios).map(|((name, _), ratios)| {
        ratios.sort_by(f64::total_cmp);
        let quarter = |of: usize| format!("{:.2}", ratios[(ratios.len() - 1) * of / 4]);
        vec![
            (*name).to_owned(),
            format!("{:.2}", median(ratios)),
            quarter(1),
            quarter(3),
        ]
    });
    table::print(
        "two cores over one",
        &["case", "median", "quarter", "three quarters"],
        &rows.collect::<Vec<_>>(),
    );
}
