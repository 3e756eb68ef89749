//! A retry storm: an upstream is down for half a minute, and a thousand clients try again. How many calls reach it?

use std::time::Duration;

use tower::ServiceBuilder;
use tower_chassis::{
    breaker::{BreakerLayer, BreakerPolicy},
    retry::{Budget, BudgetConfig, BudgetPolicy, RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};

use crate::{
    chart::{Chart, Line},
    world::{Load, Sample, Served, Upstream, anybody, per_second, run},
};

const LASTS: Duration = Duration::from_secs(60);
const DOWN: std::ops::Range<Duration> = Duration::from_secs(10)..Duration::from_secs(40);
const CLIENTS: usize = 1_000;
/// Calls a second of all clients.
const RATE: f64 = 1_000.0;

/// What came of it. Loads are attempts over calls while the upstream was down.
#[derive(Debug)]
pub(crate) struct Storm {
    /// Three attempts each, whatever happens.
    pub(crate) unbounded: f64,
    /// With the budget that all clients of a process share.
    pub(crate) budget: f64,
    /// With a breaker in each client as well.
    pub(crate) breaker: f64,
    /// Calls that failed in the ten seconds after the upstream came back, with the budget.
    pub(crate) failed_after: usize,
    pub(crate) chart: Chart,
}

struct Ran {
    samples: Vec<Sample>,
    served: Vec<Served>,
}

impl Ran {
    fn load(&self) -> f64 {
        let served = self.served.iter().filter(|call| DOWN.contains(&call.at));
        let offered = self.samples.iter().filter(|call| DOWN.contains(&call.at));
        served.count() as f64 / offered.count() as f64
    }

    fn line(&self, name: &'static str) -> Line {
        Line::new(
            name,
            per_second(self.served.iter().map(|call| call.at), LASTS),
        )
    }
}

fn upstream(seed: u64) -> Upstream {
    Upstream::new(10_000, seed, |at, rng| {
        let busy = Duration::from_millis(rng.u64(5..15));
        (busy, !DOWN.contains(&at))
    })
}

fn retries(seed: u64, bounded: bool) -> RetryLayer {
    let layer = RetryLayer::new(RetryPolicy::default()).seed(seed);
    if bounded {
        return layer;
    }
    let unbounded = BudgetConfig {
        ratio: 10.0,
        min_in_flight: 1_000_000,
        ..BudgetConfig::default()
    };
    match BudgetPolicy::try_from(unbounded) {
        Ok(policy) => layer.budget(Budget::new(&policy)),
        Err(error) => panic!("{error}"),
    }
}

fn per_try() -> TimeoutLayer {
    match TimeoutPolicy::new(Duration::from_secs(1)) {
        Ok(policy) => TimeoutLayer::per_try(policy),
        Err(error) => panic!("{error}"),
    }
}

fn ran(seed: u64, bounded: bool, breakers: bool) -> Ran {
    run(seed, async {
        let upstream = upstream(seed);
        let retry = retries(seed, bounded).clone_body();
        let load = Load {
            rate: RATE,
            lasts: LASTS,
            seed,
            caller: anybody,
        };
        let stack = ServiceBuilder::new().layer(retry).layer(per_try());
        let samples = if breakers {
            let breaker = BreakerLayer::new(BreakerPolicy::default()).seed(seed);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    stack
                        .clone()
                        .layer(breaker.fresh())
                        .service(upstream.clone())
                })
                .collect();
            load.offer(&clients).await
        } else {
            let clients = vec![stack.service(upstream.clone()); CLIENTS];
            load.offer(&clients).await
        };
        Ran {
            samples,
            served: upstream.served(),
        }
    })
}

pub(crate) fn storm(seed: u64) -> Storm {
    let unbounded = ran(seed, false, false);
    let budget = ran(seed, true, false);
    let breaker = ran(seed, true, true);
    let after = DOWN.end..DOWN.end + Duration::from_secs(10);
    let failed = |sample: &&Sample| after.contains(&sample.at) && !sample.good;
    let offered = budget.samples.iter().map(|sample| sample.at);
    Storm {
        unbounded: unbounded.load(),
        budget: budget.load(),
        breaker: breaker.load(),
        failed_after: budget.samples.iter().filter(failed).count(),
        chart: Chart {
            title: "Retry storm: calls that reach an upstream which is down from 10 s to 40 s",
            unit: "calls per second",
            lines: vec![
                Line::new("offered", per_second(offered, LASTS)),
                unbounded.line("three attempts each"),
                budget.line("with a budget"),
                breaker.line("with a budget and breakers"),
            ],
        },
    }
}
