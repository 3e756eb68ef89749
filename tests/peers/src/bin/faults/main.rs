//! Faults that were found in layers of the field: the same scenario against tower-resilience 0.13 and against ours.
//!
//! "shown" means that the symptom is there. Every figure but the last, which is a measured time, is the same on each run.
//! Ends with 1 if ours show any of them.
//!
//! 0.13 shows every one of them. Four need what is not the default: 5 its mode `backpressure`, which is the one that
//! promises readiness; 22 its selection `random`; 23 `cancel_running_future(false)`; 8 a threshold for slow calls. 27
//! is that of `build`; layers of `build_with_handle` share their state. 25's hundred misses are those of their cache and
//! of ours with a `coalesce` inside, as its page says; their `coalesce` inside of theirs makes one call as well, by
//! waiters that spin (9), and is shown in the row below.

mod rows;
mod theirs;

#[path = "../../../../faults/adaptive.rs"]
mod adaptive;
#[path = "../../../../faults/bulkhead.rs"]
mod bulkhead;
#[path = "../../../../faults/cache.rs"]
mod cache;
#[path = "../../../../faults/coalesce.rs"]
mod coalesce;
#[path = "../../../../faults/connect.rs"]
mod connect;
#[path = "../../../../faults/fallback.rs"]
mod fallback;
#[path = "../../../../faults/heap.rs"]
mod heap;
#[path = "../../../../faults/hedge.rs"]
mod hedge;
#[path = "../../../../faults/ours.rs"]
mod ours;
#[path = "../../../../faults/plain.rs"]
mod plain;
#[path = "../../../../faults/scenario.rs"]
mod scenario;
#[path = "../../../../faults/script.rs"]
mod script;

use std::{future::Future, panic, process::ExitCode, time::Duration};

use http::Method;
use tokio::runtime::Builder;
use tower_chassis::Rejection;
use tower_chassis_peers::table;

use rows::{Fault, Outcome, both, fault};
use scenario::{Saw, Subject};
use script::Script;

#[global_allocator]
static ALLOCATOR: heap::Counted = heap::Counted;

/// Under a clock that moves when everybody waits.
fn paused<F: Future>(scenario: F) -> F::Output {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    builder.build().unwrap().block_on(scenario)
}

/// Under the clock of the system.
fn real<F: Future>(scenario: F) -> F::Output {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().build().unwrap().block_on(scenario)
}

/// How many times longer the last thousand calls took than the first: the quickest of five each, because the machine
/// has other things to do.
async fn slower<S: Subject>(service: &mut S, script: &Script, calls: usize) -> f64 {
    let mut took = Vec::new();
    for _ in 0..calls / 1_000 {
        let began = std::time::Instant::now();
        scenario::many_calls(service, script, 1_000).await;
        took.push(began.elapsed().as_secs_f64());
    }
    let quickest = |took: &[f64]| took.iter().copied().fold(f64::INFINITY, f64::min);
    quickest(&took[took.len() - 5..]) / quickest(&took[..5])
}

fn breakers() -> Vec<Fault> {
    let failures = |least| move |failures: usize| Outcome::of(failures, failures > least);
    // The mode of theirs promises that who is ready is served. Ours promise nothing, and say when to come back.
    let (broken, ready) = (theirs::two_ready(), paused(ours::two_ready()));
    let refused = |ready: usize, reached: usize, second: &str| {
        format!("{ready} ready, {reached} served, {second}")
    };
    let after = match &ready.second {
        Some(Err(error)) => Rejection::find(&**error).and_then(Rejection::retry_after),
        _ => None,
    };
    let two_ready = [
        match &broken.second {
            Some(Err(error)) => Outcome(
                refused(broken.ready, broken.reached, &error.to_string()),
                true,
            ),
            _ => Outcome(
                refused(broken.ready, broken.reached, "the other as well"),
                false,
            ),
        },
        match after {
            Some(after) => Outcome(
                refused(
                    ready.ready,
                    ready.reached,
                    &format!("come back in {after:?}"),
                ),
                false,
            ),
            None => Outcome(refused(ready.ready, ready.reached, "nothing is said"), true),
        },
    ];
    vec![
        fault(
            1,
            "failures that open it after 1,000 good calls, ten in a window",
            both(
                theirs::failures_after_good_calls(),
                paused(ours::failures_after_good_calls()),
                failures(10),
            ),
        ),
        fault(
            2,
            "failures that open it, with a minimum of five calls",
            both(
                theirs::failures_at_the_minimum(),
                paused(ours::failures_at_the_minimum()),
                failures(5),
            ),
        ),
        fault(
            3,
            "of 20 good calls slower than the window, refused when half-open",
            both(
                theirs::refused_after_slow_probes(),
                paused(ours::refused_after_slow_probes()),
                failures(0),
            ),
        ),
        fault(
            4,
            "a good result from before the outage closes it",
            both(
                theirs::stale_result_counts(true),
                paused(ours::stale_result_counts(true)),
                Outcome::yes,
            ),
        ),
        fault(
            4,
            "a bad result from before the outage opens it",
            both(
                theirs::stale_result_counts(false),
                paused(ours::stale_result_counts(false)),
                Outcome::yes,
            ),
        ),
        fault(
            5,
            "who was ready in vain does not know when to come back",
            two_ready,
        ),
        fault(
            6,
            "of 50 calls that a timeout cuts, how many reach the service",
            both(
                theirs::reached_when_cut(),
                paused(ours::reached_when_cut()),
                failures(49),
            ),
        ),
        fault(
            7,
            "states that the gauge shows after one cycle",
            both(
                theirs::states_at_one(),
                paused(ours::states_at_one()).0,
                failures(1),
            ),
        ),
        fault(
            8,
            "a good probe that is three times too slow closes it",
            both(
                theirs::closes_by_a_slow_probe(),
                paused(ours::closes_by_a_slow_probe()),
                Outcome::yes,
            ),
        ),
    ]
}

fn retries() -> Vec<Fault> {
    let post = || Method::POST;
    vec![
        fault(
            17,
            "attempts of 1,000 calls that need two each, ten retries allowed",
            both(
                theirs::attempts_within_the_budget(),
                paused(ours::attempts_within_the_budget()),
                |attempts| Outcome::of(attempts, attempts > 1_010),
            ),
        ),
        fault(
            18,
            "failed responses held over the wait",
            both(
                theirs::held_over_the_wait(),
                paused(ours::held_over_the_wait()),
                |held| Outcome::of(held, held > 0),
            ),
        ),
        fault(
            18,
            "copies of a request for its attempts",
            both(
                theirs::copies_of_a_request(),
                paused(ours::copies_of_a_request()),
                |(attempts, copies)| {
                    Outcome(format!("{copies} for {attempts}"), copies >= attempts)
                },
            ),
        ),
        fault(
            18,
            "longest of 500 waits, where 100 ms is the most",
            both(
                theirs::longest_wait(),
                paused(ours::longest_wait()),
                // The timer rounds up to whole milliseconds.
                |wait| {
                    Outcome(
                        format!("{} ms", wait.as_millis()),
                        wait > Duration::from_millis(101),
                    )
                },
            ),
        ),
        fault(
            18,
            "attempts of a POST whose connection breaks, by default",
            both(
                theirs::attempts_when_broken(post()),
                paused(ours::attempts_when_broken(post())),
                |attempts| Outcome::of(attempts, attempts > 1),
            ),
        ),
    ]
}

fn bulkheads() -> Vec<Fault> {
    let fault = |symptom, outcomes| fault(20, symptom, outcomes);
    vec![
        fault(
            "how long a call waits when it is full, by default",
            both(
                theirs::wait_when_full(),
                paused(bulkhead::our_wait_when_full(0)),
                |wait| match wait.as_secs() {
                    3_600.. => Outcome::of("for ever", true),
                    _ => Outcome(format!("{:.1} s", wait.as_secs_f64()), false),
                },
            ),
        ),
        fault(
            "another call passes while the body of the answer is unread",
            both(
                theirs::passes_beside_a_body().0,
                paused(bulkhead::ours_passes_beside_a_body()).0,
                Outcome::yes,
            ),
        ),
        fault(
            "calls in flight, it is said, after the only one was cut short",
            both(
                theirs::in_flight_after_a_cut(),
                paused(bulkhead::ours_in_flight_after_a_cut()).to_string(),
                |left| Outcome::of(&left, left != "0"),
            ),
        ),
        fault(
            "places that a call holds in the inner service while it waits",
            both(
                theirs::places_taken() - 1,
                paused(bulkhead::our_places_taken()) - 1,
                |taken| Outcome::of(taken, taken > 0),
            ),
        ),
    ]
}

fn others() -> Vec<Fault> {
    let worst = |picks: Vec<bool>| {
        let worst = scenario::worst_place(&picks, 2);
        Outcome(format!("{:.1} %", worst * 100.0), worst > 0.05)
    };
    let wait = |took: Duration| Outcome(format!("{:.1} s", took.as_secs_f64()), !took.is_zero());
    let seen = |saw| match saw {
        Saw::Panic => Outcome::of("a panic", false),
        Saw::Error(took) => Outcome(
            format!("a timeout after {} ms of 10 s", took.as_millis()),
            true,
        ),
        Saw::Answer => Outcome::of("an answer", true),
    };
    let calls = 20_000;
    let (left, slow) = theirs::left_behind(calls);
    let our_left = paused(ours::left_behind(calls));
    let our_slow = paused(async {
        let (mut service, script) = ours::guarded(|config| {
            config.failure_rate = 1.0;
            config.window = Duration::from_secs(24 * 60 * 60);
        });
        slower(&mut service, &script, calls).await
    });
    let million = paused(ours::left_behind(1_000_000));
    vec![
        fault(
            19,
            "time to a refusal whose next permit is a minute away",
            both(theirs::refusal().0, paused(ours::refusal()).0, wait),
        ),
        fault(
            21,
            "of ten calls, not served because a clone of the router is idle",
            both(
                theirs::served_beside_an_idle_clone(),
                paused(ours::served_beside_an_idle_clone()),
                |served| Outcome::of(10 - served, served < 10),
            ),
        ),
        fault(
            22,
            "weights 1:1, reads and writes in turn: how far off either is",
            both(
                theirs::picks([1, 1], 24_000),
                paused(ours::picks([1, 1], 24_000)),
                worst,
            ),
        ),
        fault(
            23,
            "what the caller sees of a panic",
            both(theirs::a_panic(), paused(ours::a_panic()), seen),
        ),
        fault(
            27,
            "one breaker layer over two services: breakers",
            both(
                theirs::a_breaker_opens_for_both(),
                paused(ours::a_breaker_opens_for_both()),
                |one| Outcome::of(if one { 1 } else { 2 }, !one),
            ),
        ),
        fault(
            27,
            "five calls pass one limit of two over five services",
            both(
                theirs::passed_by_a_rate(),
                paused(ours::passed_by_a_rate()),
                |passed| Outcome::of(passed, passed > 2),
            ),
        ),
        fault(
            27,
            "five calls run at once under one limit of two over five services",
            both(
                theirs::at_once(),
                paused(bulkhead::ours_at_once()),
                |reached| Outcome::of(reached, reached > 2),
            ),
        ),
        fault(
            29,
            "still shut when a paused clock moved by the open time",
            both(
                theirs::a_jump_opens_a_breaker(),
                paused(ours::a_jump_opens_a_breaker()),
                |passes| Outcome::yes(!passes),
            ),
        ),
        fault(
            30,
            "bytes left behind by 20,000 calls in a window",
            [
                Outcome::of(left, left > 0),
                Outcome(
                    format!("{our_left}, by a million {million}"),
                    our_left > 0 || million > 0,
                ),
            ],
        ),
        fault(
            30,
            "how many times slower the last thousand of them are",
            both(slow, our_slow, |slow| {
                Outcome(table::figure(slow), slow > 3.0)
            }),
        ),
    ]
}

fn main() -> ExitCode {
    // Faults 10 and 23 panic on purpose.
    panic::set_hook(Box::new(|info| {
        if info.payload_as_str() != Some("planted") {
            eprintln!("{info}");
        }
    }));
    let mut faults: Vec<_> = [breakers(), retries(), others(), bulkheads(), rows::all()]
        .into_iter()
        .flatten()
        .collect();
    faults.sort_by_key(|fault| fault.number);
    let shown = |shown| String::from(if shown { "shown" } else { "not shown" });
    let rows: Vec<_> = faults
        .iter()
        .map(|fault| {
            let [theirs, ours] = &fault.outcomes;
            vec![
                format!("{:02} {}", fault.number, fault.symptom),
                theirs.0.clone(),
                shown(theirs.1),
                ours.0.clone(),
                shown(ours.1),
            ]
        })
        .collect();
    table::print(
        "faults: tower-resilience 0.13 and tower-chassis",
        &["fault", "theirs", "", "ours", ""],
        &rows,
    );
    ExitCode::from(u8::from(faults.iter().any(|fault| fault.outcomes[1].1)))
}
