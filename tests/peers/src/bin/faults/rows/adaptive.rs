//! Their Vegas measures by the clock of the system, with its noise. Here it is told what the script takes, so that a
//! paused clock will do and the figures are the same on each run.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use tower::Layer;
use tower_chassis::adaptive::Algorithm;
use tower_resilience_adaptive::{
    AdaptiveLimiterLayer, AdaptiveService, Aimd, ConcurrencyAlgorithm, Vegas,
};

use super::{Fault, Outcome, both, fault};
use crate::{
    adaptive::{self, ONCE, STEADY},
    bulkhead, paused,
    script::Script,
};

struct Told {
    vegas: Vegas,
    /// The first call is still to come, and takes [`ONCE`].
    first: AtomicBool,
}

impl ConcurrencyAlgorithm for Told {
    fn record_success(&self, _: Duration) {
        let first = self.first.swap(false, SeqCst);
        self.vegas.record_success(if first { ONCE } else { STEADY });
    }
    fn record_failure(&self) {
        self.vegas.record_failure();
    }
    fn record_dropped(&self) {
        self.vegas.record_dropped();
    }
    fn limit(&self) -> usize {
        self.vegas.limit()
    }
    fn min_limit(&self) -> usize {
        self.vegas.min_limit()
    }
    fn max_limit(&self) -> usize {
        self.vegas.max_limit()
    }
}

/// With their defaults: from 1 to 100.
fn vegas(start: usize, first: bool, script: &Script) -> AdaptiveService<Script, Told> {
    let vegas = Vegas::builder().initial_limit(start).build().unwrap();
    let first = AtomicBool::new(first);
    AdaptiveLimiterLayer::new(Told { vegas, first }).layer(script.clone())
}

fn limit(limit: usize) -> u32 {
    u32::try_from(limit).unwrap()
}

fn at_once() -> usize {
    let script = Script::default();
    let aimd = Aimd::builder().initial_limit(2).max_limit(2).build();
    let layer = AdaptiveLimiterLayer::new(aimd.unwrap());
    let routes = adaptive::routes(|| layer.layer(script.clone()));
    paused(bulkhead::at_once(routes, &script))
}

fn limit_after_one() -> u32 {
    let script = Script::default();
    let service = vegas(50, true, &script);
    paused(adaptive::steady_after_one(service.clone(), &script, 500));
    limit(service.limit())
}

fn limit_one_at_a_time() -> u32 {
    let script = Script::default();
    let service = vegas(10, false, &script);
    paused(adaptive::one_at_a_time(service.clone(), &script, 500));
    limit(service.limit())
}

fn limit_after_a_burst() -> u32 {
    let script = Script::default();
    let aimd = Aimd::builder().initial_limit(100).build().unwrap();
    let service = AdaptiveLimiterLayer::new(aimd).layer(adaptive::failing(&script));
    paused(adaptive::burst(service.clone(), &script, 7));
    limit(service.limit())
}

pub fn faults() -> Vec<Fault> {
    vec![
        fault(
            14,
            "ten calls run at once under one limit of two over five services",
            both(at_once(), paused(adaptive::ours_at_once()), |reached| {
                Outcome::of(reached, reached > 2)
            }),
        ),
        fault(
            15,
            "a limit of 50 after one call of 1 ms and then of 20 ms each",
            both(
                limit_after_one(),
                paused(adaptive::our_limit_after_one()),
                |limit| Outcome::of(limit, limit < 25),
            ),
        ),
        fault(
            15,
            "a limit of 10 after 500 calls, one at a time",
            both(
                limit_one_at_a_time(),
                paused(adaptive::our_limit_one_at_a_time(10)),
                |limit| Outcome::of(limit, limit > 10),
            ),
        ),
        fault(
            16,
            "a limit of 100, by AIMD, after seven failures at once",
            both(
                limit_after_a_burst(),
                paused(adaptive::our_limit_after_a_burst(Algorithm::Aimd)),
                |limit| Outcome::of(limit, limit < 50),
            ),
        ),
    ]
}
