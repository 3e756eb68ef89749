//! 9 and 10: what those come to who wait for the call of another.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tower::Layer;
use tower_chassis::coalesce::{CoalesceLayer, CoalescePolicy};

use crate::{
    plain::{Ask, Plain, Subject, call},
    script::{Answer, Script},
};

/// Time for everybody to come to where they wait.
const SETTLE: Duration = Duration::from_millis(20);
/// So many polls are enough to call it spinning.
const SPINS: usize = 1_000_000;

/// 9: how often the future of one is polled that waits 200 ms for the call of another.
pub async fn polls_of_one_that_waits<S: Subject>(service: S, script: &Script) -> usize {
    let hold = script.hold(true);
    let first = tokio::spawn(call(service.clone(), "/"));
    script.reached(1).await;
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let mut waits = Box::pin(call(service, "/"));
    let waits = tokio::spawn(poll_fn(move |cx| {
        // Who spins would keep a paused clock from moving for ever.
        if count.fetch_add(1, SeqCst) >= SPINS {
            return Poll::Ready(true);
        }
        waits.as_mut().poll(cx).map(|answer| answer.is_ok())
    }));
    sleep(Duration::from_millis(200)).await;
    hold.release();
    assert!(first.await.unwrap().is_ok() && waits.await.unwrap());
    assert_eq!(script.calls(), 1, "it did not wait");
    polls.load(SeqCst)
}

/// 10: whether a call is answered that comes after one of the same key that panicked so.
pub async fn answered_after<S: Subject>(service: S, script: &Script, panic: Answer) -> bool {
    script.answer(panic);
    let first = tokio::spawn(call(service.clone(), "/"));
    assert!(first.await.is_err_and(|error| error.is_panic()));
    script.answer(Answer::Good);
    let answer = timeout(10 * SETTLE, call(service, "/")).await;
    matches!(answer, Ok(Ok(_)))
}

/// 10: of so many that wait for a call whose caller goes away, how many are answered.
pub async fn answered_when_the_first_leaves<S: Subject>(
    service: S,
    script: &Script,
    others: usize,
) -> usize {
    let hold = script.hold(true);
    let first = tokio::spawn(call(service.clone(), "/"));
    script.reached(1).await;
    let others: Vec<_> = (0..others)
        .map(|_| tokio::spawn(call(service.clone(), "/")))
        .collect();
    sleep(SETTLE).await;
    first.abort();
    assert!(first.await.is_err_and(|error| error.is_cancelled()));
    hold.release();
    let mut answered = 0;
    for other in others {
        answered += usize::from(other.await.unwrap().is_ok());
    }
    answered
}

/// 25: the calls that so many callers of one key make who come at once.
pub async fn calls_of<S: Subject>(service: S, script: &Script, callers: usize) -> usize {
    let hold = script.hold(true);
    let callers: Vec<_> = (0..callers)
        .map(|_| tokio::spawn(call(service.clone(), "/")))
        .collect();
    sleep(SETTLE).await;
    let calls = script.calls();
    callers.iter().for_each(|_| hold.release());
    for caller in callers {
        assert!(caller.await.unwrap().is_ok());
    }
    calls
}

/// Whose path is the same ask the same.
pub fn path(ask: &Ask) -> Option<String> {
    Some(ask.uri().path().to_owned())
}

/// One call for those that ask the same.
pub fn coalesced(script: &Script) -> impl Subject {
    CoalesceLayer::new(CoalescePolicy::default(), path).layer(Plain::new(script))
}

/// 9: the polls of one that waits.
pub async fn our_polls() -> usize {
    let script = Script::default();
    polls_of_one_that_waits(coalesced(&script), &script).await
}

/// 10: whether a call is answered after one that panicked.
pub async fn ours_answers_after(panic: Answer) -> bool {
    let script = Script::default();
    answered_after(coalesced(&script), &script, panic).await
}

/// 10: of four that wait, how many are answered when the first leaves.
pub async fn ours_answered() -> usize {
    let script = Script::default();
    let answered = answered_when_the_first_leaves(coalesced(&script), &script, 4).await;
    assert_eq!(script.calls(), 1, "the call was begun anew");
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_09_who_waits_is_polled_when_it_begins_and_when_it_ends() {
        assert_eq!(our_polls().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_10_a_call_that_panics_leaves_its_key_free() {
        assert!(ours_answers_after(Answer::PanicInCall).await);
        assert!(ours_answers_after(Answer::Panic).await);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_10_a_caller_that_leaves_hands_the_call_on() {
        assert_eq!(ours_answered().await, 4);
    }
}
