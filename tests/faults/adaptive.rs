//! 14 to 16: how many calls a limit that adapts lets run, and what moves it.

use std::time::Duration;

use tokio::time::sleep;
use tower::{Layer, util::MapResult};
use tower_chassis::{
    BoxError, Kind, Rejection,
    adaptive::{AdaptiveConfig, AdaptiveLayer, AdaptivePolicy, Algorithm},
};

use crate::{
    bulkhead,
    scenario::{Res, Subject, call},
    script::{Answer, Script},
};

/// What calls take.
pub const STEADY: Duration = Duration::from_millis(20);
/// What one call took once.
pub const ONCE: Duration = Duration::from_millis(1);

/// 15: one call takes [`ONCE`], then all that follow take [`STEADY`], fifty callers at once and each so many in a row.
pub async fn steady_after_one<S>(mut service: S, script: &Script, calls: usize)
where
    S: Subject<Error: Send>,
{
    script.answer(Answer::Late(ONCE));
    assert!(call(&mut service).await.is_ok());
    script.answer(Answer::Late(STEADY));
    let callers = [(); 50].map(|()| {
        let mut service = service.clone();
        tokio::spawn(async move {
            for _ in 0..calls {
                let _ = call(&mut service).await;
            }
        })
    });
    for caller in callers {
        caller.await.unwrap();
    }
}

/// 15: so many calls one after the other.
pub async fn one_at_a_time<S: Subject>(mut service: S, script: &Script, calls: usize) {
    script.answer(Answer::Late(STEADY));
    for _ in 0..calls {
        assert!(call(&mut service).await.is_ok());
    }
}

/// 16: so many calls that are under way together fail, one after the other. The service must be [`failing`].
pub async fn burst<S>(service: S, script: &Script, calls: usize)
where
    S: Subject<Error: Send>,
{
    let hold = script.hold(false);
    let calls: Vec<_> = (0..calls)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move { call(&mut service).await.is_err() })
        })
        .collect();
    script.reached(calls.len()).await;
    for call in calls {
        sleep(Duration::from_millis(1)).await;
        hold.release();
        assert!(call.await.unwrap());
    }
}

type Judged = fn(Result<Res, BoxError>) -> Result<Res, BoxError>;

fn timed_out(answer: Result<Res, BoxError>) -> Result<Res, BoxError> {
    match answer? {
        response if response.status().is_success() => Ok(response),
        _ => Err(Rejection::new(Kind::Timeout, "script").into()),
    }
}

/// Fails where the script answers with a failure: a timeout, so that it says something of how much the service bears.
pub fn failing(script: &Script) -> MapResult<Script, Judged> {
    MapResult::new(script.clone(), timed_out)
}

fn adaptive(change: impl FnOnce(&mut AdaptiveConfig)) -> AdaptiveLayer {
    let policy = AdaptivePolicy::default().with(|config| {
        config.max = 100;
        change(config);
    });
    AdaptiveLayer::new(policy.unwrap()).seed(1)
}

/// 14: the calls that run at once through one layer with a limit of two over five services, two for each.
pub async fn ours_at_once() -> usize {
    let script = Script::default();
    let layer = adaptive(|config| {
        (config.start, config.max, config.queue) = (2, 2, 4.0);
    });
    bulkhead::at_once(routes(|| layer.layer(script.clone())), &script).await
}

/// Two clones of each of five services.
pub fn routes<S: Clone>(service: impl Fn() -> S) -> Vec<S> {
    (0..5)
        .flat_map(|_| std::iter::repeat_n(service(), 2))
        .collect()
}

/// 15: what a limit of fifty comes to after one call that was too good.
pub async fn our_limit_after_one() -> u32 {
    let script = Script::default();
    let layer = adaptive(|config| config.start = 50);
    steady_after_one(layer.layer(script.clone()), &script, 500).await;
    layer.handle().limit()
}

/// 15: what a limit comes to by calls one at a time.
pub async fn our_limit_one_at_a_time(start: u32) -> u32 {
    let script = Script::default();
    let layer = adaptive(|config| config.start = start);
    one_at_a_time(layer.layer(script.clone()), &script, 500).await;
    layer.handle().limit()
}

/// 16: what a limit of a hundred comes to by a burst of seven failures.
pub async fn our_limit_after_a_burst(algorithm: Algorithm) -> u32 {
    let script = Script::default();
    let layer = adaptive(|config| {
        (config.algorithm, config.start) = (algorithm, 100);
    });
    burst(layer.layer(failing(&script)), &script, 7).await;
    layer.handle().limit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_14_one_limit_over_five_services_is_one_limit() {
        assert_eq!(ours_at_once().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_15_one_call_that_was_too_good_does_not_hold_the_limit_down() {
        let limit = our_limit_after_one().await;
        assert!(limit >= 50, "{limit}");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_15_a_limit_that_is_not_used_does_not_grow() {
        assert_eq!(our_limit_one_at_a_time(10).await, 10);
        assert!(our_limit_one_at_a_time(1).await <= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_16_a_burst_of_failures_lowers_the_limit_once() {
        assert_eq!(our_limit_after_a_burst(Algorithm::Aimd).await, 90);
        assert_eq!(our_limit_after_a_burst(Algorithm::Gradient).await, 90);
    }
}
