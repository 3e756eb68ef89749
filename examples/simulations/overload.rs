//! Overload: twice as many calls as a service can serve. What is still served, and how fast?

use std::time::Duration;

use tower::ServiceBuilder;
use tower_chassis::adaptive::{AdaptiveLayer, AdaptivePolicy};

use crate::{
    chart::{Chart, Line},
    world::{Load, Sample, Upstream, per_second, percentile, run},
};

const LASTS: Duration = Duration::from_secs(20);
/// From here on the limit has been found.
const FOUND: Duration = Duration::from_secs(5);
const WORKERS: usize = 20;
/// What the workers can do, a second: each call takes 20 ms on average.
const CAPACITY: f64 = 1_000.0;
/// Who waits for longer has left, whatever is answered then.
const PATIENCE: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Debug)]
pub(crate) struct Overload {
    /// 99 of 100 calls took no longer, at half of the capacity.
    pub(crate) unloaded: Duration,
    /// Calls that were answered in time at twice the capacity, over the capacity.
    pub(crate) goodput: f64,
    /// The same without a limit.
    pub(crate) unlimited: f64,
    /// 99 of 100 calls that were let in took no longer.
    pub(crate) admitted: Duration,
    pub(crate) chart: Chart,
}

fn upstream(seed: u64) -> Upstream {
    Upstream::new(WORKERS, seed, |_, rng| {
        (Duration::from_millis(rng.u64(15..25)), true)
    })
}

fn ran(seed: u64, rate: f64, limit: Option<AdaptiveLayer>) -> Vec<Sample> {
    run(seed, async {
        let upstream = upstream(seed);
        let load = Load {
            rate,
            lasts: LASTS,
            seed,
        };
        match limit {
            Some(limit) => {
                let service = ServiceBuilder::new()
                    .layer(limit.seed(seed))
                    .service(upstream);
                load.offer(&[service]).await
            }
            None => load.offer(&[upstream]).await,
        }
    })
}

fn in_time(sample: &&Sample) -> bool {
    sample.good && sample.took <= PATIENCE
}

fn goodput(samples: &[Sample]) -> f64 {
    let good = samples.iter().filter(in_time);
    let good = good.filter(|sample| sample.at >= FOUND).count() as f64;
    good / (LASTS - FOUND).as_secs_f64() / CAPACITY
}

fn p99(samples: &[Sample]) -> Duration {
    let good = samples
        .iter()
        .filter(|sample| sample.good && sample.at >= FOUND);
    percentile(good.map(|sample| sample.took), 0.99)
}

pub(crate) fn overload(seed: u64) -> Overload {
    // Calls that all take about the same time end together and leave the queue empty, so that it never stands and is never
    // cut short: they get less time to wait instead.
    let policy =
        AdaptivePolicy::default().with(|config| config.max_wait = Duration::from_millis(5));
    let limit = match policy {
        Ok(policy) => AdaptiveLayer::new(policy),
        Err(error) => panic!("{error}"),
    };
    let unloaded = ran(seed, CAPACITY / 2.0, None);
    let unlimited = ran(seed, CAPACITY * 2.0, None);
    let limited = ran(seed, CAPACITY * 2.0, Some(limit));
    let line = |name, samples: &[Sample]| {
        let good = samples.iter().filter(in_time);
        Line::new(name, per_second(good.map(|sample| sample.at), LASTS))
    };
    let offered = per_second(limited.iter().map(|sample| sample.at), LASTS);
    Overload {
        unloaded: p99(&unloaded),
        goodput: goodput(&limited),
        unlimited: goodput(&unlimited),
        admitted: p99(&limited),
        chart: Chart {
            title: "Overload: twice as many calls as the service can serve",
            unit: "answered in time, a second",
            lines: vec![
                Line::new("offered", offered),
                line("without a limit", &unlimited),
                line("with an adaptive limit", &limited),
            ],
        },
    }
}
