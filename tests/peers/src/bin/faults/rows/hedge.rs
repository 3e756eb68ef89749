use std::time::Duration;

use http::{Response, StatusCode};
use tower::Layer;
use tower_chassis::{Body, BoxError};
use tower_resilience_hedge::{Hedge, HedgeLayer};

use super::{Fault, Outcome, both, fault};
use crate::{
    hedge::{self, DELAY},
    paused,
    plain::{Failed, Of, Plain, Said, Subject, is_service},
    script::Script,
};

// What theirs does take, so that what it does not is not for another reason.
const _: () = assert!(is_service!(Hedge<Of<Said, Failed>>));

/// Two attempts, as ours.
fn hedged(script: &Script, delay: Duration) -> impl Subject {
    HedgeLayer::new(delay).layer(Plain::new(script))
}

fn attempts_in_an_outage() -> usize {
    let script = Script::default();
    paused(hedge::attempts_in_an_outage(
        hedged(&script, DELAY),
        &script,
        1_000,
    ))
}

fn answer_beside_a_failure() -> StatusCode {
    let script = Script::default();
    paused(hedge::answer_beside_a_failure(
        hedged(&script, DELAY),
        &script,
    ))
}

fn time_after_a_quick_failure() -> Duration {
    let script = Script::default();
    let service = hedged(&script, Duration::from_secs(1));
    paused(hedge::time_after_a_quick_failure(service, &script))
}

pub fn faults() -> Vec<Fault> {
    vec![
        fault(
            24,
            "does not compile with a response that threads cannot share",
            both(
                is_service!(Hedge<Of<Response<Body>, Failed>>),
                hedge::OURS_TAKES_A_BODY,
                |compiles| Outcome::yes(!compiles),
            ),
        ),
        fault(
            24,
            "does not compile with an error that cannot be cloned",
            both(
                is_service!(Hedge<Of<Said, BoxError>>),
                hedge::OURS_TAKES_A_BOXED_ERROR,
                |compiles| Outcome::yes(!compiles),
            ),
        ),
        fault(
            24,
            "attempts of 1,000 calls in an outage",
            both(
                attempts_in_an_outage(),
                paused(hedge::our_attempts_in_an_outage()),
                |attempts| Outcome::of(attempts, attempts > 1_250),
            ),
        ),
        fault(
            24,
            "answer where one attempt is slow and well, the other 503 at once",
            both(
                answer_beside_a_failure(),
                paused(hedge::our_answer_beside_a_failure()),
                |status| Outcome::of(status.as_u16(), status != StatusCode::OK),
            ),
        ),
        fault(
            24,
            "time to the second attempt after the first has failed at once",
            both(
                time_after_a_quick_failure(),
                paused(hedge::our_time_after_a_quick_failure()),
                |took| Outcome(format!("{:.1} s", took.as_secs_f64()), !took.is_zero()),
            ),
        ),
    ]
}
