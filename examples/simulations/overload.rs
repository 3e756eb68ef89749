//! Overload: twice as many calls as a service can serve. What is still served, how fast, and what becomes of those that
//! matter most?

use std::time::Duration;

use fastrand::Rng;
use tower::ServiceBuilder;
use tower_chassis::{
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    shed::{ShedLayer, ShedPolicy},
};

use crate::{
    chart::{Chart, Line},
    world::{Call, Caller, Load, Sample, Upstream, per_second, percentile, run},
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
    /// Of the calls that matter most, which peers make, the share that was answered in time, from the first one on.
    pub(crate) peers: f64,
    /// 99 of 100 of them took no longer, from the first one on.
    pub(crate) peers_took: Duration,
    /// The same share of those who only say that they matter most.
    pub(crate) pretenders: f64,
    /// And where the limit stands alone.
    pub(crate) peers_without: f64,
    pub(crate) chart: Chart,
}

fn upstream(seed: u64) -> Upstream {
    Upstream::new(WORKERS, seed, |_, rng| {
        (Duration::from_millis(rng.u64(15..25)), true)
    })
}

/// One call in ten is of a peer, and as many say that they are.
fn caller(rng: &mut Rng) -> Caller {
    match rng.u32(..10) {
        0 => Caller::Peer,
        1 => Caller::Pretender,
        _ => Caller::Anybody,
    }
}

fn limit(seed: u64) -> AdaptiveLayer {
    AdaptiveLayer::new(AdaptivePolicy::default()).seed(seed)
}

/// From a pressure of 1 on, which is a limit that is reached, only what matters most passes: nothing else waits there.
fn shed(seed: u64, limit: &AdaptiveLayer) -> ShedLayer {
    let policy = ShedPolicy::default().with(|config| config.full = 1.0);
    match policy {
        Ok(policy) => ShedLayer::new(policy).seed(seed).watch(limit.handle()),
        Err(error) => panic!("{error}"),
    }
}

/// What stands in front of the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    Nothing,
    Limit,
    ShedAndLimit,
}

fn ran(seed: u64, rate: f64, guard: Guard) -> Vec<Sample> {
    run(seed, async {
        let upstream = upstream(seed);
        let load = Load {
            rate,
            lasts: LASTS,
            seed,
            caller,
        };
        let limit = limit(seed);
        let shed = shed(seed, &limit).trusted(|call: &Call| call.caller == Caller::Peer);
        let stack = ServiceBuilder::new();
        match guard {
            Guard::Nothing => load.offer(&[upstream]).await,
            Guard::Limit => load.offer(&[stack.layer(limit).service(upstream)]).await,
            Guard::ShedAndLimit => {
                let service = stack.layer(shed).layer(limit).service(upstream);
                load.offer(&[service]).await
            }
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

fn took(samples: &[Sample], from: Duration) -> Duration {
    let good = samples.iter().filter(in_time);
    let good = good.filter(|sample| sample.at >= from);
    percentile(good.map(|sample| sample.took), 0.99)
}

fn of(samples: &[Sample], caller: Caller) -> Vec<Sample> {
    let those = samples.iter().filter(|sample| sample.caller == caller);
    those.copied().collect()
}

fn share(samples: &[Sample]) -> f64 {
    samples.iter().filter(in_time).count() as f64 / samples.len() as f64
}

pub(crate) fn overload(seed: u64) -> Overload {
    let unloaded = ran(seed, CAPACITY / 2.0, Guard::Nothing);
    let unlimited = ran(seed, CAPACITY * 2.0, Guard::Nothing);
    let limited = ran(seed, CAPACITY * 2.0, Guard::Limit);
    let shed = ran(seed, CAPACITY * 2.0, Guard::ShedAndLimit);
    let line = |name, samples: &[Sample]| {
        let good = samples.iter().filter(in_time);
        Line::new(name, per_second(good.map(|sample| sample.at), LASTS))
    };
    let came = |name, samples: &[Sample]| {
        let all = samples.iter().map(|sample| sample.at);
        Line::new(name, per_second(all, LASTS))
    };
    let peers = of(&shed, Caller::Peer);
    Overload {
        unloaded: took(&unloaded, FOUND),
        goodput: goodput(&shed),
        unlimited: goodput(&unlimited),
        admitted: took(&shed, FOUND),
        peers: share(&peers),
        peers_took: took(&peers, Duration::ZERO),
        pretenders: share(&of(&shed, Caller::Pretender)),
        peers_without: share(&of(&limited, Caller::Peer)),
        chart: Chart {
            title: "Overload: twice as many calls as the service can serve, a tenth of which matters most",
            unit: "answered in time, a second",
            lines: vec![
                came("offered", &shed),
                line("no limit", &unlimited),
                line("shed and limit", &shed),
                line("what matters most", &peers),
                line("the same, limit only", &of(&limited, Caller::Peer)),
            ],
        },
    }
}
