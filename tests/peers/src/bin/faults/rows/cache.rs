use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tower::{Layer, limit::ConcurrencyLimit};
use tower_resilience_cache::{CacheConfigBuilder, CacheLayer};
use tower_resilience_coalesce::CoalesceLayer;

use super::{Fault, Outcome, both, fault};
use crate::{
    cache,
    coalesce::{self, path},
    paused,
    plain::{Ask, Plain},
    real,
    script::Script,
};

fn cache(max_entries: usize) -> CacheConfigBuilder<Ask, Option<String>> {
    CacheLayer::builder()
        .max_size(max_entries)
        .key_extractor(path)
}

fn is_well_after_a_failure() -> bool {
    let script = Script::default();
    let service = cache(10).build().unwrap().layer(Plain::new(&script));
    paused(cache::well_after_a_failure(service, &script))
}

fn gives_while_busy() -> bool {
    let script = Script::default();
    let inner = ConcurrencyLimit::new(Plain::new(&script), 1);
    let service = cache(10).build().unwrap().layer(inner);
    paused(cache::given_while_busy(service, &script))
}

fn evictions_by_a_replacement() -> usize {
    let script = Script::default();
    let evictions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&evictions);
    let layer = cache(1).on_eviction(move || {
        count.fetch_add(1, SeqCst);
    });
    let service = layer.build().unwrap().layer(Plain::new(&script));
    paused(cache::replace(service, &script));
    evictions.load(SeqCst)
}

fn calls_of_a_hundred() -> usize {
    let script = Script::default();
    let service = cache(10).build().unwrap().layer(Plain::new(&script));
    paused(coalesce::calls_of(service, &script, 100))
}

fn answered_when_the_first_leaves() -> usize {
    let script = Script::default();
    let inner = CoalesceLayer::new(|ask: &Ask| path(ask)).layer(Plain::new(&script));
    let service = cache(10).build().unwrap().layer(inner);
    // Those that wait keep a paused clock from moving.
    real(coalesce::answered_when_the_first_leaves(
        service, &script, 99,
    ))
}

pub fn faults() -> Vec<Fault> {
    vec![
        fault(
            25,
            "a failure is kept and given to others",
            both(
                is_well_after_a_failure(),
                paused(cache::ours_is_well_after_a_failure()),
                |well| Outcome::yes(!well),
            ),
        ),
        fault(
            25,
            "what is kept is not given while the inner service is busy",
            both(
                gives_while_busy(),
                paused(cache::ours_gives_while_busy()),
                |given| Outcome::yes(!given),
            ),
        ),
        fault(
            25,
            "evictions told of where an answer took its own place",
            both(
                evictions_by_a_replacement(),
                paused(cache::ours_reports_of_a_replacement()),
                |evictions| Outcome::of(evictions, evictions > 0),
            ),
        ),
        fault(
            25,
            "calls of a hundred misses at once",
            both(
                calls_of_a_hundred(),
                paused(cache::our_calls_of_a_hundred()),
                |calls| Outcome::of(calls, calls > 1),
            ),
        ),
        fault(
            25,
            "of 99 more, not answered because the first left (both coalesced)",
            both(
                answered_when_the_first_leaves(),
                paused(cache::ours_answered_when_the_first_leaves()),
                |answered| Outcome::of(99 - answered, answered < 99),
            ),
        ),
    ]
}
