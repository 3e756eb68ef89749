use std::time::Duration;

use tokio::time::{Instant, advance};
use tower::Layer;
use tower_chassis::{
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{Budget, BudgetConfig, BudgetPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};

use crate::{
    ours::{self, guarded},
    scenario,
    script::{Answer, Script},
};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn fault_29_a_breakers_open_time_goes_by_tokios_clock() {
    assert!(ours::a_jump_opens_a_breaker().await);
}

#[tokio::test(start_paused = true)]
async fn fault_29_so_does_its_window() {
    // Four failures of the five that are asked for, an hour, and one more: the four are forgotten.
    let (mut service, script) = guarded(|_| ());
    script.answer(Answer::Bad);
    for _ in 0..4 {
        assert!(scenario::passes(&mut service, &script).await);
    }
    advance(HOUR).await;
    for _ in 0..5 {
        assert!(scenario::passes(&mut service, &script).await);
    }
    assert!(!scenario::passes(&mut service, &script).await);
}

#[tokio::test(start_paused = true)]
async fn fault_29_so_do_rate_limits() {
    let script = Script::default();
    let policy = RateLimitPolicy::new(1.0, 1).unwrap();
    let policy = policy.with(|config| config.per = HOUR).unwrap();
    let mut service = RateLimitLayer::new(policy).layer(script.clone());
    assert!(scenario::passes(&mut service, &script).await);
    assert!(!scenario::passes(&mut service, &script).await);
    advance(HOUR).await;
    assert!(scenario::passes(&mut service, &script).await);
}

#[tokio::test(start_paused = true)]
async fn fault_29_so_do_budgets() {
    let config = BudgetConfig {
        ratio: 1.0,
        min_per_second: 0.5,
        ..BudgetConfig::default()
    };
    let budget = Budget::new(&BudgetPolicy::try_from(config).unwrap());
    drop(budget.deposit(Instant::now()));
    assert_eq!(budget.snapshot(Instant::now()).saved, 1.0);
    let withdraw = || budget.try_withdraw(Instant::now()).is_some();
    assert!(withdraw() && withdraw());
    assert!(!withdraw());
    advance(HOUR).await;
    assert!(withdraw());
}

#[tokio::test(start_paused = true)]
async fn fault_29_so_do_timeouts() {
    let script = Script::default();
    script.answer(Answer::Never);
    let mut service =
        TimeoutLayer::per_try(TimeoutPolicy::new(HOUR).unwrap()).layer(script.clone());
    let began = Instant::now();
    assert!(scenario::call(&mut service).await.is_err());
    assert_eq!(began.elapsed().as_secs(), 3_600);
}
