//! A slow upstream: three calls in two hundred take half a second, by chance. What does a second attempt cost, and what is it
//! worth?

use std::time::Duration;

use tower::ServiceBuilder;
use tower_chassis::hedge::{HedgeLayer, HedgePolicy};

use crate::{
    chart::{Chart, Line},
    world::{Load, Sample, Upstream, anybody, of_each_second, percentile, run},
};

const LASTS: Duration = Duration::from_secs(60);
/// The percentile is not known before so many seconds.
const KNOWN: Duration = Duration::from_secs(5);
const RATE: f64 = 500.0;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Slow {
    /// 99 of 100 calls took no longer, without hedges.
    pub(crate) plain: Duration,
    /// And with them.
    pub(crate) hedged: Duration,
    /// Attempts beyond the first, over calls.
    pub(crate) extra: f64,
    pub(crate) chart: Chart,
}

fn upstream(seed: u64) -> Upstream {
    Upstream::new(10_000, seed, |_, rng| {
        let slow = rng.u64(..200) < 3;
        let busy = if slow { 500 } else { rng.u64(5..15) };
        (Duration::from_millis(busy), true)
    })
}

fn ran(seed: u64, hedge: Option<HedgeLayer>) -> (Vec<Sample>, usize) {
    run(seed, async {
        let upstream = upstream(seed);
        let load = Load {
            rate: RATE,
            lasts: LASTS,
            seed,
            caller: anybody,
        };
        let samples = match hedge {
            Some(hedge) => {
                let client = ServiceBuilder::new()
                    .layer(hedge.clone_body())
                    .service(upstream.clone());
                load.offer(&[client]).await
            }
            None => load.offer(std::slice::from_ref(&upstream)).await,
        };
        (samples, upstream.served().len())
    })
}

fn p99(samples: &[Sample]) -> Duration {
    let known = samples.iter().filter(|sample| sample.at >= KNOWN);
    percentile(known.map(|sample| sample.took), 0.99)
}

pub(crate) fn slow(seed: u64) -> Slow {
    let (plain, _) = ran(seed, None);
    let (hedged, served) = ran(seed, Some(HedgeLayer::new(HedgePolicy::default())));
    let line = |name, samples: &[Sample]| {
        let took = samples.iter().map(|sample| (sample.at, sample.took));
        let tails = of_each_second(took, LASTS, |took| {
            percentile(took.iter().copied(), 0.99).as_secs_f64() * 1e3
        });
        Line::new(name, tails)
    };
    Slow {
        plain: p99(&plain),
        hedged: p99(&hedged),
        extra: served as f64 / hedged.len() as f64 - 1.0,
        chart: Chart {
            title: "A slow upstream: three calls in two hundred take 500 ms",
            unit: "99th percentile, ms",
            lines: vec![line("as it is", &plain), line("with hedges", &hedged)],
        },
    }
}
