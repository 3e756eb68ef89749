mod bodies;

use std::sync::Mutex;

use tokio::time::{Instant, sleep_until};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    BoxError, Carrier, Class,
    events::{Received, TryRecvError},
    settle::{Observe, UntilHead},
    verdict::OkIsSuccess,
    wire::{Observed, Start},
};

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn policy(after: u64) -> TimeoutPolicy {
    TimeoutPolicy::new(ms(after)).unwrap()
}

/// A guard below the timeout, as a breaker has it.
#[derive(Clone, Default)]
struct Below(Arc<Mutex<Vec<Class>>>);
impl<Req> Start<Req> for Below {
    type Ticket = Self;
    fn start(&self, _: &mut Req, _: Instant) -> Self {
        self.clone()
    }
}
impl Observe for Below {
    fn done(self, verdict: Verdict, _: Instant) {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(verdict.class());
    }
}

async fn nap(wait: Duration) -> Result<(), BoxError> {
    tokio::time::sleep(wait).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn fires_in_time_and_tells_the_guards_below() {
    for (layer, class) in [
        (TimeoutLayer::per_try(policy(100)), Class::Timeout),
        (TimeoutLayer::total(policy(100)), Class::Cancelled),
    ] {
        let below = Below::default();
        let inner = Observed::new(service_fn(nap), below.clone(), UntilHead::new(OkIsSuccess));
        let service = layer.layer(inner);
        let start = Instant::now();
        let error = service.clone().oneshot(ms(500)).await.unwrap_err();
        assert_eq!(start.elapsed(), ms(100));
        let rejection = Rejection::find(&*error).unwrap();
        assert_eq!(
            (rejection.kind(), rejection.layer()),
            (Kind::Timeout, "timeout")
        );
        service.oneshot(ms(99)).await.unwrap();
        assert_eq!(*below.0.lock().unwrap(), [class, Class::Success]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_inner_future_is_dropped_before_the_error_is_seen() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let service = TimeoutLayer::per_try(policy(5)).layer(service_fn(move |(): ()| {
        let held = Arc::clone(&held);
        async move {
            let _held = held;
            std::future::pending::<Result<(), BoxError>>().await
        }
    }));
    let mut future = Box::pin(service.clone().call_ready(()));
    assert!(future.as_mut().await.is_err());
    assert_eq!(
        Arc::strong_count(&alive),
        2,
        "the future is still there, what it held is not"
    );
    drop((future, service));
}

#[test]
fn no_timer_before_the_first_pending() {
    // There is no runtime here: arming a timer would panic.
    let mut service =
        TimeoutLayer::total(policy(1)).layer(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
    let mut future = std::pin::pin!(service.call(7));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(matches!(future.as_mut().poll(&mut cx), Poll::Ready(Ok(7))));
    assert!(!future.until.is_armed());
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_new_calls_and_leaves_those_in_flight() {
    let layer = TimeoutLayer::per_try(policy(100));
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .service(service_fn(nap));
    let flying = tokio::spawn(service.clone().oneshot(ms(150)));
    tokio::task::yield_now().await;
    layer.handle().config().set(policy(200)).unwrap();
    assert!(service.clone().oneshot(ms(150)).await.is_ok());
    assert!(flying.await.unwrap().is_err());
    assert!(service.oneshot(ms(250)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn measured_from_the_call() {
    let mut service = TimeoutLayer::per_try(policy(100)).layer(service_fn(nap));
    let future = service.call(ms(50));
    tokio::time::advance(ms(120)).await;
    let start = Instant::now();
    assert!(future.await.is_err());
    assert!(start.elapsed() <= ms(1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_below_stays_a_panic() {
    let below = Below::default();
    let inner = service_fn(async |(): ()| -> Result<(), BoxError> {
        tokio::task::yield_now().await;
        panic!("planted")
    });
    let inner = Observed::new(inner, below.clone(), UntilHead::new(OkIsSuccess));
    let service = TimeoutLayer::per_try(policy(100)).layer(inner);
    assert!(
        tokio::spawn(service.oneshot(()))
            .await
            .unwrap_err()
            .is_panic()
    );
    assert_eq!(
        *below.0.lock().unwrap_or_else(|e| e.into_inner()),
        [Class::Failure]
    );
}

#[tokio::test]
async fn a_service_that_uses_up_its_task_is_ended() {
    // The clock runs: a task that is always awake does not let a paused one go on.
    let start = Instant::now();
    let service = TimeoutLayer::per_try(policy(20)).layer(service_fn(move |(): ()| async move {
        while start.elapsed() < ms(5_000) {
            tokio::task::coop::consume_budget().await;
        }
        Ok::<_, BoxError>(())
    }));
    assert!(service.oneshot(()).await.is_err());
}

#[test]
fn zero_is_refused_and_forever_is_not() {
    let error = TimeoutPolicy::try_from(TimeoutConfig {
        after: Duration::ZERO,
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "after must be above 0");
    let mut service = TimeoutLayer::total(TimeoutPolicy::new(Duration::MAX).unwrap())
        .layer(service_fn(async |(): ()| Ok::<_, BoxError>(())));
    drop(service.call(()));
}

trait CallReady<Req>: Service<Req> + Sized {
    fn call_ready(mut self, request: Req) -> Self::Future {
        self.call(request)
    }
}
impl<S: Service<Req>, Req> CallReady<Req> for S {}

/// One client that stalls its upload must not be blamed on the endpoint.
#[tokio::test(start_paused = true)]
async fn time_in_which_the_client_is_waited_for_does_not_count() {
    use http::Request;
    let began = Instant::now();
    let layer = TimeoutLayer::per_try(TimeoutPolicy::new(Duration::from_secs(1)).unwrap());
    let service =
        layer
            .not_while_uploading()
            .layer(service_fn(|request: Request<()>| async move {
                let upload = request.invocation().unwrap().upload();
                upload.set_waiting(true);
                sleep_until(Instant::now() + Duration::from_millis(2_500)).await;
                upload.set_waiting(false);
                std::future::pending::<Result<(), BoxError>>().await
            }));
    let mut request = Request::new(());
    request.invocation_mut();
    let error = ServiceExt::oneshot(service, request).await.unwrap_err();
    assert!(Rejection::find(&*error).unwrap().is_timeout());
    // Three seconds, give or take the millisecond in which tokio's timer rounds.
    let took = began.elapsed().as_millis();
    assert!(
        (3_000..=3_003).contains(&took),
        "the third time it was the service's: {took}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_time_that_it_fires_is_told_and_nothing_else() {
    let events = Events::new();
    let mut stream = events.subscribe(8);
    for layer in [
        TimeoutLayer::per_try(policy(100)),
        TimeoutLayer::total(policy(100)),
    ] {
        let service = layer.events(events.clone()).layer(service_fn(nap));
        service.clone().oneshot(ms(50)).await.unwrap();
        assert_eq!(stream.try_recv(), Err(TryRecvError::Empty));
        service.oneshot(ms(150)).await.unwrap_err();
        let refused = Event::refused("timeout", Kind::Timeout);
        assert_eq!(stream.try_recv(), Ok(Received::Event(refused)));
        assert_eq!(stream.try_recv(), Err(TryRecvError::Empty));
    }
}

/// A listener that comes while nobody calls costs the calls before it nothing; nobody who has no events pays for them.
#[test]
fn the_future_is_the_inner_one_and_little_more() {
    type Inner = std::future::Ready<Result<u32, BoxError>>;
    let of_until = size_of::<Until<Inner>>();
    assert!(size_of::<TimeoutFuture<Inner>>() <= of_until + 16);
    assert!(size_of::<TimeoutFuture<Inner, Fail, (), ToEnd>>() <= of_until + 40);
}
