//! Whatever becomes of a call, nothing stays behind: dropped at every poll, failed, panicked.

use http::Request;
use tokio::time::Instant;
use tower::{Layer, Service};
use tower_chassis_core::testing::{ControlledService, Hand, Plan, advance};

use super::{
    super::{Abort, Delay, FaultRule},
    ALL, SECOND, get, layer,
};

fn rules() -> Vec<FaultRule> {
    let rule = FaultRule::new("r");
    let slow = Delay::Fixed(SECOND);
    vec![
        rule.clone(),
        rule.clone().delay(ALL, slow),
        rule.clone().delay(ALL, slow).abort(ALL, Abort::Status(500)),
        rule.clone().abort(ALL, Abort::Reset),
        rule.clone().abort(ALL, Abort::Hang),
        rule.clone().throttle(ALL, 3).truncate(ALL, 5),
        rule.delay(ALL, slow).throttle(ALL, 3),
    ]
}

/// Drives a call and its body through `polls` polls, a second apart, and drops it.
async fn drive(rule: FaultRule, plan: Plan, polls: usize) -> bool {
    let inner = ControlledService::new();
    let control = inner.control();
    control.slots(1);
    control.plan(plan);
    let layer = layer(rule).http();
    let handle = layer.handle();
    let mut service = layer.layer(inner);
    let before = control.counts();
    let ready = std::future::poll_fn(|cx| Service::<Request<()>>::poll_ready(&mut service, cx));
    ready.await.unwrap();
    let call = service.call(get("/"));
    let mut hand = Hand::new(async move {
        let Ok(response) = call.await else { return };
        let mut body = Box::pin(response.into_body());
        while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
    });
    for _ in 0..polls {
        hand.poll();
        control.nudge();
        advance(SECOND).await;
    }
    let over = hand.is_over();
    assert_eq!(hand.self_wakes(), 0);
    drop(hand);
    drop(service);
    let after = control.counts();
    assert_eq!(handle.active(), 0);
    assert_eq!(
        (after.in_flight, after.reserved, after.bodies),
        (0, before.reserved, 0)
    );
    assert_eq!((after.unready_calls, after.polls_after_end), (0, 0));
    over
}

#[tokio::test(start_paused = true)]
async fn a_call_may_be_dropped_at_every_poll() {
    for rule in rules() {
        let hangs = rule.abort.is_some_and(|dose| dose.of == Abort::Hang);
        for plan in [
            Plan::answer(),
            Plan::answer().after_polls(2),
            Plan::error().after_polls(1),
            Plan::panic().after_polls(1),
        ] {
            let mut over = false;
            for polls in 0..12 {
                over = drive(rule.clone(), plan, polls).await;
            }
            assert_eq!(over, !hangs, "{rule:?} {plan:?}");
        }
    }
}

/// An abort makes no call, so what readiness reserved is given back at once and not with the service.
#[tokio::test(start_paused = true)]
async fn an_abort_gives_the_reservation_back() {
    let inner = ControlledService::new();
    let control = inner.control();
    let mut service = layer(FaultRule::new("r").abort(ALL, Abort::Reset)).layer(inner);
    std::future::poll_fn(|cx| Service::<Request<()>>::poll_ready(&mut service, cx))
        .await
        .unwrap();
    assert_eq!(control.counts().reserved, 1);
    let began = Instant::now();
    assert!(service.call(get("/")).await.is_err());
    assert_eq!((control.counts().reserved, control.counts().calls), (0, 0));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}
