//! Under the clock of the system: one of theirs that waits keeps a paused clock from moving.

use tower::Layer;
use tower_resilience_coalesce::CoalesceLayer;

use super::{Fault, Outcome, both, fault};
use crate::{
    coalesce::{self, path},
    paused,
    plain::{Ask, Plain, Subject},
    real,
    script::{Answer, Script},
};

fn coalesced(script: &Script) -> impl Subject {
    CoalesceLayer::new(|ask: &Ask| path(ask)).layer(Plain::new(script))
}

fn polls() -> usize {
    let script = Script::default();
    real(coalesce::polls_of_one_that_waits(
        coalesced(&script),
        &script,
    ))
}

fn answers_after(panic: Answer) -> bool {
    let script = Script::default();
    real(coalesce::answered_after(coalesced(&script), &script, panic))
}

fn answered() -> usize {
    let script = Script::default();
    real(coalesce::answered_when_the_first_leaves(
        coalesced(&script),
        &script,
        4,
    ))
}

pub fn faults() -> Vec<Fault> {
    let polls = both(polls(), paused(coalesce::our_polls()), |polls| {
        // How many it is depends on the machine, not that it is many.
        let figure = match polls {
            1_000.. => String::from("> 1,000"),
            _ => polls.to_string(),
        };
        Outcome(figure, polls > 3)
    });
    vec![
        fault(9, "polls of one that waits 200 ms for a call", polls),
        fault(
            10,
            "all calls of a key hang after one that panicked at once",
            both(
                answers_after(Answer::PanicInCall),
                paused(coalesce::ours_answers_after(Answer::PanicInCall)),
                |answered| Outcome::yes(!answered),
            ),
        ),
        fault(
            10,
            "of four that wait, not answered because the first left",
            both(answered(), paused(coalesce::ours_answered()), |answered| {
                Outcome::of(4 - answered, answered < 4)
            }),
        ),
    ]
}
