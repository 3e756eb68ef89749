//! 24: what a hedge asks of types, what it adds in an outage, and whose answer it takes.

use std::time::Duration;

use http::{Response, StatusCode};
use tokio::time::{Instant, sleep};
use tower::{Layer, util::MapErr};
use tower_chassis::{
    Body, BoxError,
    hedge::{HedgeConfig, HedgeLayer, HedgePolicy},
    retry::Cloned,
};

use crate::{
    plain::{Failed, Of, Plain, Said, Subject, call, is_service},
    script::{Answer, Script},
};

/// How long a call is waited for before the next attempt.
pub const DELAY: Duration = Duration::from_millis(10);

/// The attempts of so many calls, a hundred a second, of which each takes a second.
pub async fn attempts_in_an_outage<S: Subject>(service: S, script: &Script, calls: usize) -> usize {
    script.answer(Answer::Late(Duration::from_secs(1)));
    let mut callers = Vec::new();
    for _ in 0..calls {
        callers.push(tokio::spawn(call(service.clone(), "/")));
        sleep(Duration::from_millis(10)).await;
    }
    for caller in callers {
        assert!(caller.await.unwrap().is_ok());
    }
    script.calls()
}

/// What is answered if the first attempt takes 100 ms and is well, and the second fails at once.
pub async fn answer_beside_a_failure<S: Subject>(service: S, script: &Script) -> StatusCode {
    script.answer(Answer::Late(Duration::from_millis(100)));
    let caller = tokio::spawn(call(service, "/"));
    script.reached(1).await;
    script.answer(Answer::Bad);
    let said = caller.await.unwrap().ok().unwrap();
    assert_eq!(script.calls(), 2, "it was not hedged");
    said.status()
}

/// How long a call takes whose first attempt fails at once and whose second is well at once.
pub async fn time_after_a_quick_failure<S: Subject>(service: S, script: &Script) -> Duration {
    script.answer(Answer::FirstReset);
    let began = Instant::now();
    assert!(call(service, "/").await.is_ok());
    assert_eq!(script.calls(), 2);
    began.elapsed()
}

/// Hedges after [`DELAY`].
fn hedged(script: &Script, change: impl FnOnce(&mut HedgeConfig)) -> impl Subject {
    let policy = HedgePolicy::after(DELAY).unwrap().with(change).unwrap();
    let layer = HedgeLayer::new(policy).clone_body();
    // Boxed, so that what it holds is known to the layer.
    layer.layer(MapErr::new(Plain::new(script), |error: Failed| {
        BoxError::from(error)
    }))
}

/// The attempts of a thousand slow calls.
pub async fn our_attempts_in_an_outage() -> usize {
    let script = Script::default();
    attempts_in_an_outage(hedged(&script, |_| ()), &script, 1_000).await
}

/// Which answer is taken.
pub async fn our_answer_beside_a_failure() -> StatusCode {
    let script = Script::default();
    answer_beside_a_failure(hedged(&script, |_| ()), &script).await
}

/// The time to an answer after a quick failure, by a delay of a second.
pub async fn our_time_after_a_quick_failure() -> Duration {
    let script = Script::default();
    let service = hedged(&script, |config| {
        config.delay = Some(Duration::from_secs(1));
        config.on_failure = true;
    });
    time_after_a_quick_failure(service, &script).await
}

type Hedged<S> = <HedgeLayer<Cloned> as Layer<S>>::Service;
/// Whether a response may be one that threads cannot share.
pub const OURS_TAKES_A_BODY: bool = is_service!(Hedged<Of<Response<Body>, Failed>>);
/// Whether an error may be one that cannot be cloned.
pub const OURS_TAKES_A_BOXED_ERROR: bool = is_service!(Hedged<Of<Said, BoxError>>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_24_neither_a_shared_response_nor_a_cloned_error_is_asked_for() {
        const { assert!(OURS_TAKES_A_BODY && OURS_TAKES_A_BOXED_ERROR) }
        const { assert!(!is_service!(Hedged<String>), "it tells no difference") }
    }

    #[tokio::test(start_paused = true)]
    async fn fault_24_an_outage_is_hedged_within_the_budget() {
        // A tenth of the calls, and one a second.
        let attempts = our_attempts_in_an_outage().await;
        assert!((1_050..=1_115).contains(&attempts), "{attempts}");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_24_the_first_good_answer_wins() {
        assert_eq!(our_answer_beside_a_failure().await, StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_24_a_failure_is_not_waited_on() {
        assert_eq!(our_time_after_a_quick_failure().await, Duration::ZERO);
    }
}
