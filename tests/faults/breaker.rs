use std::sync::Arc;

use tokio::{sync::Semaphore, time::timeout};
use tower::{Layer, ServiceExt, limit::ConcurrencyLimit};
use tower_chassis::{Gate, Rejection, breaker::State};

use crate::{
    ours::{self, OPEN, by_rate, guarded},
    scenario::{self, GAP, Req, Res, Subject},
    script::{Answer, Script},
};

#[tokio::test(start_paused = true)]
async fn fault_01_a_breaker_that_ran_well_opens_within_a_window() {
    // Ten calls make a window, and half of them are enough.
    assert_eq!(ours::failures_after_good_calls().await, 5);
}

#[tokio::test(start_paused = true)]
async fn fault_02_the_minimum_of_calls_is_enough() {
    assert_eq!(ours::failures_at_the_minimum().await, 5);
}

#[tokio::test(start_paused = true)]
async fn fault_03_probes_slower_than_the_window_close_it() {
    assert_eq!(ours::refused_after_slow_probes().await, 0);
}

#[tokio::test(start_paused = true)]
async fn fault_04_a_result_from_before_the_outage_does_not_close_it() {
    assert!(!ours::stale_result_counts(true).await);
}

#[tokio::test(start_paused = true)]
async fn fault_04_a_result_from_before_the_outage_does_not_open_it() {
    assert!(!ours::stale_result_counts(false).await);
}

#[tokio::test(start_paused = true)]
async fn fault_05_of_two_ready_clones_one_probes_and_the_other_is_told_when_to_come_back() {
    let told = ours::two_ready().await;
    assert_eq!(
        (told.ready, told.reached),
        (2, 1),
        "nobody waits, one probes"
    );
    let refused = told.second.expect("it is refused at once").unwrap_err();
    let rejection = Rejection::find(&*refused).unwrap();
    assert!(rejection.is_circuit_open());
    // All of the time that the probe has: it began in this instant.
    assert_eq!(rejection.retry_after(), Some(ours::PROBE));
}

/// Calls what is ready already.
async fn call_readied<S: Subject>(mut service: S) -> Result<Res, S::Error> {
    service.call(Req::default()).await
}

#[tokio::test(start_paused = true)]
async fn fault_05_readiness_takes_no_probe_and_a_refusal_gives_back_what_it_reserved() {
    let (script, places) = (Script::default(), Arc::new(Semaphore::new(3)));
    let inner = ConcurrencyLimit::with_semaphore(script.clone(), Arc::clone(&places));
    let gate = Gate::new();
    let breaker = by_rate(|_| ()).gate(gate.clone());
    let handle = breaker.handle();
    let service = breaker.layer(inner);
    scenario::failures_to_open(service.clone(), &script, 0).await;
    tokio::time::sleep(OPEN).await;
    let is_open = || gate.is_open(tokio::time::Instant::now());

    // Three become ready, as many as the service below has places, and one goes away again.
    let mut clones = vec![service.clone(), service.clone(), service];
    for clone in &mut clones {
        ServiceExt::<Req>::ready(clone).await.unwrap();
    }
    assert_eq!((handle.state(), is_open()), (State::Open, true));
    assert_eq!(places.available_permits(), 0);
    drop(clones.pop());

    let probe = script.hold(true);
    let calls = script.calls();
    let first = tokio::spawn(call_readied(clones.remove(0)));
    script.reached(calls + 1).await;
    // The promise to others is the gate: shut while no probe would be let through.
    assert_eq!((handle.state(), is_open()), (State::HalfOpen, false));
    let refused = timeout(GAP, call_readied(clones.remove(0))).await;
    assert!(matches!(refused, Ok(Err(_))), "it is not refused at once");
    assert_eq!(
        places.available_permits(),
        2,
        "the refused one holds a place"
    );

    probe.release();
    first.await.unwrap().unwrap();
    assert_eq!(
        (handle.state(), is_open(), script.calls()),
        (State::Closed, true, calls + 1)
    );
    assert_eq!(places.available_permits(), 3);
}

#[tokio::test(start_paused = true)]
async fn fault_06_calls_that_a_timeout_cuts_open_it() {
    assert_eq!(ours::reached_when_cut().await, 5);
}

#[tokio::test(start_paused = true)]
async fn fault_07_one_state_shows_after_a_cycle() {
    let (states, text) = ours::states_at_one().await;
    assert_eq!(states, 1, "{text}");
    let transitions = text
        .lines()
        .filter(|line| line.starts_with("chassis_breaker_transitions_total{"))
        .count();
    assert_eq!(transitions, 3, "{text}");
    assert!(
        text.contains(r#"chassis_breaker_state{name="a",state="closed"} 1"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn fault_08_a_good_probe_that_is_too_slow_does_not_close_it() {
    assert!(!ours::closes_by_a_slow_probe().await);
    // One that is in time does, so that the slowness is what counted.
    let (mut service, script) = guarded(|config| config.probe_timeout = GAP);
    scenario::failures_to_open(service.clone(), &script, 0).await;
    tokio::time::sleep(OPEN).await;
    script.answer(Answer::Late(GAP / 2));
    assert!(scenario::passes(&mut service, &script).await);
    assert!(scenario::passes(&mut service, &script).await);
}
