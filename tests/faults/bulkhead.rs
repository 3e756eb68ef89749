//! 20: what a bulkhead holds, for whom and for how long.

use std::{sync::Arc, time::Duration};

use http::Response;
use http_body_util::BodyExt;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit};
use tower_chassis::bulkhead::{BulkheadConfig, BulkheadLayer, BulkheadPolicy};

use crate::{
    scenario::{Req, Subject, call},
    script::Script,
};

/// Who waits for so long waits for ever.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// How long a call waits in a bulkhead of one that is taken; at most an hour.
pub async fn wait_when_full<S>(mut service: S, script: &Script) -> Duration
where
    S: Subject<Error: Send>,
{
    let hold = script.hold(true);
    let first = tokio::spawn(service.ready().await.ok().unwrap().call(Req::default()));
    script.reached(1).await;
    let began = Instant::now();
    let _ = timeout(FOR_EVER, call(&mut service)).await;
    hold.release();
    let _ = first.await.unwrap();
    began.elapsed()
}

/// Whether a second call passes a bulkhead of one while the body of the first answer is unread, and one after it was
/// read.
pub async fn passes_beside_a_body<S, B>(mut service: S, script: &Script) -> (bool, bool)
where
    S: Service<Req, Response = Response<B>> + Clone,
    B: BodyExt,
{
    async fn answer<S: Service<Req>>(service: &mut S) -> Option<S::Response> {
        let call = async { service.ready().await.ok()?.call(Req::default()).await.ok() };
        timeout(Duration::from_secs(1), call).await.ok()?
    }
    let first = answer(&mut service).await.unwrap();
    let beside = answer(&mut service).await.is_some();
    assert_eq!(script.calls(), 1 + usize::from(beside));
    let _ = first.into_body().collect().await;
    (beside, answer(&mut service).await.is_some())
}

/// Cuts a call short.
pub async fn cut<S>(mut service: S, script: &Script)
where
    S: Subject<Error: Send>,
{
    let _hold = script.hold(true);
    let running = tokio::spawn(service.ready().await.ok().unwrap().call(Req::default()));
    script.reached(1).await;
    running.abort();
    assert!(running.await.is_err_and(|error| error.is_cancelled()));
}

/// How many of three places in the inner service are taken while a call runs and another waits for it.
pub async fn places_taken<S>(mut service: S, script: &Script, places: &Semaphore) -> usize
where
    S: Subject<Error: Send>,
{
    let hold = script.hold(true);
    let first = tokio::spawn(service.ready().await.ok().unwrap().call(Req::default()));
    script.reached(1).await;
    let second = tokio::spawn(async move { call(&mut service).await.is_ok() });
    sleep(Duration::from_millis(20)).await;
    let taken = 3 - places.available_permits();
    hold.release();
    hold.release();
    assert!(first.await.unwrap().is_ok() && second.await.unwrap());
    taken
}

/// 27: how many calls run at once, one through each of the services.
pub async fn at_once<S>(services: Vec<S>, script: &Script) -> usize
where
    S: Subject<Error: Send>,
{
    let hold = script.hold(true);
    let calls: Vec<_> = services
        .into_iter()
        .map(|mut service| tokio::spawn(async move { call(&mut service).await.is_ok() }))
        .collect();
    sleep(Duration::from_millis(20)).await;
    let reached = script.calls();
    calls.iter().for_each(|_| hold.release());
    for call in calls {
        let _ = call.await.unwrap();
    }
    reached
}

/// One call at once, and so many that wait.
fn one(queue: u32) -> BulkheadLayer {
    let config = BulkheadConfig {
        limit: 1,
        queue,
        ..BulkheadConfig::default()
    };
    BulkheadLayer::new(BulkheadPolicy::try_from(config).unwrap())
}

/// How long a call waits, by the defaults of the layer and with a place in the queue.
pub async fn our_wait_when_full(queue: u32) -> Duration {
    let script = Script::default();
    wait_when_full(one(queue).layer(script.clone()), &script).await
}

/// Whether calls pass beside a body and after it, where the permit lasts until its end.
pub async fn ours_passes_beside_a_body() -> (bool, bool) {
    let script = Script::default();
    let service = one(0).until_end().layer(script.clone());
    passes_beside_a_body(service, &script).await
}

/// The calls in flight once a call was cut short.
pub async fn ours_in_flight_after_a_cut() -> u32 {
    let (script, layer) = (Script::default(), one(0));
    cut(layer.layer(script.clone()), &script).await;
    layer.handle().in_flight()
}

/// The places in the inner service that one call that runs and one that waits take.
pub async fn our_places_taken() -> usize {
    let (script, places) = (Script::default(), Arc::new(Semaphore::new(3)));
    let inner = ConcurrencyLimit::with_semaphore(script.clone(), Arc::clone(&places));
    places_taken(one(1).layer(inner), &script, &places).await
}

/// 27: the calls that run at once through one layer with a limit of two over five services.
pub async fn ours_at_once() -> usize {
    let script = Script::default();
    let layer = BulkheadLayer::new(BulkheadPolicy::new(2).unwrap());
    let routes = (0..5).map(|_| layer.layer(script.clone())).collect();
    at_once(routes, &script).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scenario::passes, script::Answer};

    #[tokio::test(start_paused = true)]
    async fn fault_20_nobody_waits_unless_it_is_asked_for_and_then_not_for_long() {
        assert_eq!(our_wait_when_full(0).await, Duration::ZERO);
        assert_eq!(
            our_wait_when_full(1).await.as_secs_f64().round(),
            1.0,
            "the default"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn fault_20_a_permit_lasts_to_the_end_of_the_body() {
        assert_eq!(ours_passes_beside_a_body().await, (false, true));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_20_a_call_that_is_cut_short_is_not_in_flight() {
        assert_eq!(ours_in_flight_after_a_cut().await, 0);
        let (script, layer) = (Script::default(), one(0));
        let mut service = layer.layer(script.clone());
        cut(service.clone(), &script).await;
        script.answer(Answer::Good);
        assert!(passes(&mut service, &script).await);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_20_who_waits_holds_nothing_of_the_inner_service() {
        assert_eq!(our_places_taken().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_27_one_limit_over_five_services_is_one_limit() {
        assert_eq!(ours_at_once().await, 2);
    }
}
