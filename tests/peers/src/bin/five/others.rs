//! The layers that are not among the six, each by itself, on its success path.

use std::convert::Infallible;

use tower::Layer;
use tower_chassis::{
    adaptive::{AdaptiveLayer, AdaptivePolicy, Algorithm},
    cache::{CacheLayer, CachePolicy},
    coalesce::{CoalesceLayer, CoalescePolicy},
    fallback::FallbackLayer,
    fault::{FaultLayer, FaultPolicy},
    hedge::{HedgeLayer, HedgePolicy},
};
use tower_chassis_peers::bench::Case;
use tower_resilience_adaptive::{AdaptiveLimiterLayer, Aimd};
use tower_resilience_cache as cache;
use tower_resilience_coalesce as coalesce;
use tower_resilience_fallback as fallback;
use tower_resilience_hedge as hedge;

use crate::{
    call::{Ask, Reply, noop},
    stacks::NEVER,
};

/// Names of theirs.
pub(crate) const TR: [&str; 5] = [
    "tower-resilience: hedge",
    "tower-resilience: fallback",
    "tower-resilience: coalesce",
    "tower-resilience: cache, hit",
    "tower-resilience: adaptive",
];

fn theirs() -> Vec<Case> {
    let hedge = hedge::HedgeLayer::builder().delay(NEVER).build();
    let fallback = fallback::FallbackLayer::<Ask, Reply, Infallible>::value(Reply);
    let coalesce = coalesce::CoalesceLayer::new(|ask: &Ask| ask.client);
    let cache = cache::CacheLayer::builder()
        .key_extractor(|ask: &Ask| ask.client)
        .build();
    let adaptive = Aimd::builder()
        .initial_limit(10_000)
        .max_limit(10_000)
        .build();
    vec![
        Case::new(TR[0], "", hedge.layer(noop::<Ask>()), Ask::default),
        Case::new(TR[1], "", fallback.layer(noop::<Ask>()), Ask::default),
        Case::new(TR[2], "", coalesce.layer(noop::<Ask>()), Ask::default),
        Case::new(TR[3], "", cache.unwrap().layer(noop::<Ask>()), Ask::default),
        Case::new(
            TR[4],
            "",
            AdaptiveLimiterLayer::new(adaptive.unwrap()).layer(noop::<Ask>()),
            Ask::default,
        ),
    ]
}

fn adaptive(algorithm: Algorithm) -> AdaptiveLayer {
    let policy = AdaptivePolicy::default().with(|config| {
        config.algorithm = algorithm;
        config.start = 4_096;
    });
    AdaptiveLayer::new(policy.unwrap())
}

fn ours() -> Vec<Case> {
    let fixed = HedgeLayer::new(HedgePolicy::after(NEVER).unwrap());
    let live = HedgeLayer::new(HedgePolicy::default());
    let key = |ask: &Ask| Some(ask.client);
    vec![
        Case::new(
            "hedge",
            TR[0],
            fixed.clone_body().untracked().layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "hedge, live percentile",
            TR[0],
            live.clone_body().untracked().layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "fallback",
            TR[1],
            FallbackLayer::with(|_| Reply).layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "coalesce",
            TR[2],
            CoalesceLayer::new(CoalescePolicy::default(), key).layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "cache, hit",
            TR[3],
            CacheLayer::new(CachePolicy::new(NEVER).unwrap(), key).layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "adaptive, gradient",
            TR[4],
            adaptive(Algorithm::Gradient).layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "adaptive, AIMD",
            TR[4],
            adaptive(Algorithm::Aimd).layer(noop::<Ask>()),
            Ask::default,
        ),
        Case::new(
            "fault, no rule",
            "",
            FaultLayer::new(FaultPolicy::default()).layer(noop::<Ask>()),
            Ask::default,
        ),
    ]
}

pub(crate) fn others() -> Vec<Case> {
    let mut cases = vec![Case::new("no-op", "", noop::<Ask>(), Ask::default)];
    cases.extend(theirs());
    cases.extend(ours());
    cases
}
