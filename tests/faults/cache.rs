//! 25: what a cache keeps, and what it needs to give it.

use std::time::Duration;

use tokio::time::timeout;
use tower::{Layer, limit::ConcurrencyLimit};
use tower_chassis::{
    Events,
    cache::{CacheLayer, CachePolicy},
    coalesce::{CoalesceLayer, CoalescePolicy},
    events::{Event, Received},
};

use crate::{
    coalesce::{self, path},
    plain::{Ask, Plain, Subject, call},
    script::{Answer, Script},
};

/// Whether a call is answered well after one for the same that was answered with a failure.
pub async fn well_after_a_failure<S: Subject>(service: S, script: &Script) -> bool {
    script.answer(Answer::Bad);
    let _ = call(service.clone(), "/").await;
    script.answer(Answer::Good);
    matches!(call(service, "/").await, Ok(said) if said.status() == 200)
}

/// Whether what is kept is given while another call has all the room of the inner service, which must be for one.
pub async fn given_while_busy<S: Subject>(service: S, script: &Script) -> bool {
    assert!(call(service.clone(), "/kept").await.is_ok());
    let hold = script.hold(true);
    let busy = tokio::spawn(call(service.clone(), "/other"));
    script.reached(2).await;
    let given = timeout(Duration::from_millis(50), call(service, "/kept")).await;
    hold.release();
    assert!(busy.await.unwrap().is_ok());
    assert_eq!(script.calls(), 2, "it was not kept");
    matches!(given, Ok(Ok(_)))
}

/// Two miss the same at once, so that the second answer takes the place of the first.
pub async fn replace<S: Subject>(service: S, script: &Script) {
    let hold = script.hold(true);
    let calls = [(); 2].map(|()| tokio::spawn(call(service.clone(), "/")));
    script.reached(2).await;
    for call in calls {
        hold.release();
        assert!(call.await.unwrap().is_ok());
    }
}

type Keyed = CacheLayer<fn(&Ask) -> Option<String>, String>;

/// A cache for so many answers.
fn cache(max_entries: usize) -> Keyed {
    let policy = CachePolicy::default().with(|config| config.max_entries = max_entries);
    CacheLayer::new(policy.unwrap(), path as fn(&Ask) -> Option<String>)
}

/// Whether a failure is forgotten.
pub async fn ours_is_well_after_a_failure() -> bool {
    let script = Script::default();
    well_after_a_failure(cache(10).layer(Plain::new(&script)), &script).await
}

/// Whether a hit needs nothing of the inner service.
pub async fn ours_gives_while_busy() -> bool {
    let script = Script::default();
    let inner = ConcurrencyLimit::new(Plain::new(&script), 1);
    given_while_busy(cache(10).layer(inner), &script).await
}

/// What is reported, beside hits and misses, where an answer takes the place of another for the same.
pub async fn ours_reports_of_a_replacement() -> usize {
    let (script, events) = (Script::default(), Events::new());
    let mut reports = events.subscribe(100);
    let cache = cache(1).events(events);
    replace(cache.layer(Plain::new(&script)), &script).await;
    assert_eq!(cache.handle().len(), 1);
    let (mut misses, mut others) = (0, 0);
    while let Ok(Received::Event(event)) = reports.try_recv() {
        match event {
            Event::Cache { result: "miss", .. } => misses += 1,
            _ => others += 1,
        }
    }
    assert_eq!(misses, 2);
    // It was no silence: what is driven out is reported.
    script.answer(Answer::Good);
    drop(call(cache.layer(Plain::new(&script)), "/another").await);
    let evicted = std::iter::from_fn(|| reports.try_recv().ok()).any(|report| {
        matches!(
            report,
            Received::Event(Event::CacheEvicted { count: 1, .. })
        )
    });
    assert!(evicted && cache.handle().evictions() == 1);
    others
}

/// A cache that asks once for what many miss.
fn over_coalesce(script: &Script) -> impl Subject<Error: Send> {
    let coalesce = CoalesceLayer::new(CoalescePolicy::default(), path);
    cache(10).layer(coalesce.layer(Plain::new(script)))
}

/// The calls that a hundred misses at once make.
pub async fn our_calls_of_a_hundred() -> usize {
    let script = Script::default();
    coalesce::calls_of(over_coalesce(&script), &script, 100).await
}

/// Of a hundred misses at once, how many of the others are answered when the first leaves.
pub async fn ours_answered_when_the_first_leaves() -> usize {
    let script = Script::default();
    coalesce::answered_when_the_first_leaves(over_coalesce(&script), &script, 99).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_25_a_failure_is_not_kept() {
        assert!(ours_is_well_after_a_failure().await);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_25_a_hit_needs_nothing_of_the_inner_service() {
        assert!(ours_gives_while_busy().await);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_25_an_answer_that_is_replaced_drives_nothing_out() {
        assert_eq!(ours_reports_of_a_replacement().await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_25_a_hundred_misses_at_once_are_one_call() {
        assert_eq!(our_calls_of_a_hundred().await, 1);
        assert_eq!(ours_answered_when_the_first_leaves().await, 99);
        // And a hundred more find what was kept.
        let script = Script::default();
        let service = over_coalesce(&script);
        assert_eq!(coalesce::calls_of(service.clone(), &script, 100).await, 1);
        assert_eq!(coalesce::calls_of(service, &script, 100).await, 1);
    }
}
