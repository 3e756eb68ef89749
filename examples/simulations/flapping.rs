//! A flapping upstream: one endpoint of five is down for two seconds of every five, for a minute. Does anybody notice?

use std::time::Duration;

use tower::{Service, ServiceBuilder};
use tower_chassis::{
    BoxError, Endpoint,
    balance::{Balance, MakeEndpoint, Picker},
    breaker::{BreakerLayer, BreakerPolicy},
    discover::{Discover, StaticDiscover},
    retry::{RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};

use crate::{
    chart::{Chart, Line},
    world::{Answer, Call, Load, Sample, Upstream, anybody, per_second, run},
};

const LASTS: Duration = Duration::from_secs(180);
const FLAPS: std::ops::Range<Duration> = Duration::from_secs(10)..Duration::from_secs(70);
const ENDPOINTS: usize = 5;
const RATE: f64 = 500.0;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Flapping {
    /// Calls that failed.
    pub(crate) failed: usize,
    /// Attempts that failed, over calls, while it flapped; by a fair share and no breaker it would be 0.08.
    pub(crate) failed_attempts: f64,
    /// The share of the calls of the last ten seconds that the endpoint served; a fifth is fair.
    pub(crate) comes_back: f64,
    pub(crate) chart: Chart,
}

fn is_down(at: Duration) -> bool {
    FLAPS.contains(&at) && (at - FLAPS.start).as_millis() % 5_000 < 2_000
}

fn endpoint(
    made: &MakeEndpoint<'_>,
    seed: u64,
    upstreams: &[Upstream],
) -> impl Service<Call, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + use<> {
    let at = made.endpoint().id().parse().unwrap_or(0);
    let breaker = BreakerLayer::new(BreakerPolicy::default())
        .seed(seed)
        .gate(made.gate().clone());
    ServiceBuilder::new()
        .layer(breaker)
        .service(upstreams[at].clone())
}

async fn flaps(seed: u64) -> Result<Flapping, BoxError> {
    let upstreams: Vec<_> = (0..ENDPOINTS)
        .map(|at| {
            Upstream::new(
                1_000,
                seed + at as u64,
                match at {
                    0 => |at, rng| (Duration::from_millis(rng.u64(5..15)), !is_down(at)),
                    _ => |_, rng| (Duration::from_millis(rng.u64(5..15)), true),
                },
            )
        })
        .collect();
    let discover = StaticDiscover::new();
    let endpoints = (0..ENDPOINTS).map(|at| {
        let endpoint = Endpoint::new(&format!("http://10.0.0.{at}:80"));
        endpoint.map(|endpoint| endpoint.with_id(at.to_string()))
    });
    discover.set("shop", endpoints.collect::<Result<Vec<_>, _>>()?);
    let (balance, worker) = {
        let upstreams = upstreams.clone();
        Balance::new(
            discover.watch("shop"),
            move |made: &MakeEndpoint<'_>| endpoint(made, seed, &upstreams),
            Picker::default(),
        )
    };
    worker.spawn();
    let client = ServiceBuilder::new()
        .layer(
            RetryLayer::new(RetryPolicy::default())
                .seed(seed)
                .clone_body(),
        )
        .layer(TimeoutLayer::per_try(TimeoutPolicy::new(
            Duration::from_secs(1),
        )?))
        .service(balance);
    let load = Load {
        rate: RATE,
        lasts: LASTS,
        seed,
        caller: anybody,
    };
    let samples = load.offer(&[client]).await;

    let served = upstreams[0].served();
    let failed = served.iter().filter(|call| !call.good).count();
    let during = |sample: &&Sample| FLAPS.contains(&sample.at);
    let last = LASTS - Duration::from_secs(10)..LASTS;
    let of_last = |at: Duration| last.contains(&at);
    let share = served.iter().filter(|call| of_last(call.at)).count() as f64
        / samples.iter().filter(|call| of_last(call.at)).count() as f64;
    let good = samples.iter().filter(|sample| sample.good);
    Ok(Flapping {
        failed: samples.iter().filter(|sample| !sample.good).count(),
        failed_attempts: failed as f64 / samples.iter().filter(during).count() as f64,
        comes_back: share,
        chart: Chart {
            title: "Flapping: one endpoint of five is down for 2 s of every 5 s, from 10 s to 70 s",
            unit: "calls per second",
            lines: vec![
                Line::new("answered", per_second(good.map(|sample| sample.at), LASTS)),
                Line::new(
                    "attempts at the flapping endpoint",
                    per_second(served.iter().map(|call| call.at), LASTS),
                ),
                Line::new(
                    "of them failed",
                    per_second(
                        served.iter().filter(|call| !call.good).map(|call| call.at),
                        LASTS,
                    ),
                ),
            ],
        },
    })
}

pub(crate) fn flapping(seed: u64) -> Flapping {
    match run(seed, flaps(seed)) {
        Ok(flapping) => flapping,
        Err(error) => panic!("{error}"),
    }
}
