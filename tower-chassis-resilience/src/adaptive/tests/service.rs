//! The layer around services, in paused time.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Response;
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, Events, Kind, Verdict, cause,
    events::{Event, Received},
};
use tower_layer::Layer;

use super::{
    super::{AdaptiveHandle, AdaptiveLayer, Reason},
    Answer, kind, policy,
};

const MS: Duration = Duration::from_millis(1);

fn counts(handle: &AdaptiveHandle) -> (u32, u32) {
    (handle.in_flight(), handle.queued())
}

async fn echo(n: u32) -> Result<Answer, Infallible> {
    sleep(n * MS).await;
    Ok(Answer(Verdict::SUCCESS))
}

/// So many calls at once, over and over.
async fn load<S>(service: &S, calls: usize, n: u32, rounds: usize)
where
    S: Service<u32, Future: Send> + Clone + Send + 'static,
{
    let tasks: Vec<_> = (0..calls)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                for _ in 0..rounds {
                    let _ = service.clone().oneshot(n).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_used_grows_and_says_so() {
    let events = Events::new();
    let mut reports = events.subscribe(100_000);
    let layer = AdaptiveLayer::new(policy(|config| config.start = 5))
        .named("stock")
        .events(events);
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    assert_eq!((handle.limit(), handle.reason()), (5, Reason::Start));
    assert_eq!(handle.baseline(), None);
    load(&service, 10, 5, 400).await;
    assert!(handle.limit() >= 10, "{}", handle.limit());
    assert_eq!(handle.reason(), Reason::Grew);
    let baseline = handle.baseline().unwrap();
    assert!(baseline > 4 * MS && baseline < 7 * MS, "{baseline:?}");
    let mut last = 5;
    while let Ok(Received::Event(event)) = reports.try_recv() {
        if let Event::Limit {
            name,
            limit,
            reason,
            ..
        } = event
        {
            assert_eq!((&*name, reason), ("stock", "grew"));
            assert!(limit > last);
            last = limit;
        }
    }
    assert_eq!(last, handle.limit());
    assert_eq!(counts(&handle), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_permit_waits_or_is_refused() {
    let layer = AdaptiveLayer::new(policy(|config| (config.start, config.queue) = (1, 1.0)));
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(echo));
    let runs = tokio::spawn(service.ready().await.unwrap().call(10));
    let waits = tokio::spawn(service.ready().await.unwrap().call(1));
    assert_eq!(counts(&handle), (1, 1));
    let refused = service.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(kind(&refused), Some(Kind::Overloaded));
    assert!(runs.await.unwrap().is_ok() && waits.await.unwrap().is_ok());
    assert_eq!(counts(&handle), (0, 0));
    // For so long and not for longer.
    let _runs = service.ready().await.unwrap().call(1_000);
    let began = tokio::time::Instant::now();
    let refused = service.ready().await.unwrap().call(1).await.unwrap_err();
    assert_eq!(kind(&refused), Some(Kind::Overloaded));
    assert_eq!(began.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_forced_limit_holds_until_it_is_released_or_its_time_is_over() {
    let layer = AdaptiveLayer::new(policy(|config| config.max = 50));
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    handle.force(2);
    assert_eq!((handle.limit(), handle.forced()), (2, Some(2)));
    load(&service, 10, 5, 100).await;
    assert_eq!((handle.limit(), handle.reason()), (2, Reason::Forced));
    handle.release();
    assert_eq!((handle.limit(), handle.forced()), (20, None));
    assert_eq!(handle.reason(), Reason::Released);

    handle.force_for(1_000, Duration::from_secs(60));
    assert_eq!(handle.limit(), 1_000);
    sleep(Duration::from_secs(61)).await;
    load(&service, 1, 5, 1).await;
    assert_eq!((handle.limit(), handle.forced()), (20, None));

    // Also if no call ever ends.
    handle.force_for(1, Duration::from_secs(60));
    let _hangs = service.clone().oneshot(1_000_000_000);
    let hangs = tokio::spawn(service.clone().oneshot(1_000_000_000));
    sleep(Duration::from_secs(61)).await;
    let _ = service.clone().oneshot(1).await;
    assert!(service.clone().oneshot(1).await.is_ok());
    hangs.abort();
}

#[tokio::test(start_paused = true)]
async fn settings_change_under_load() {
    let layer = AdaptiveLayer::new(policy(|config| config.start = 20));
    let handle = layer.handle();
    let other = layer.clone().layer(service_fn(echo));
    handle.update(|config| config.max = 8).unwrap();
    assert_eq!((handle.limit(), handle.reason()), (8, Reason::Configured));
    load(&other, 20, 5, 100).await;
    assert_eq!(handle.limit(), 8);
    handle
        .update(|config| (config.min, config.max) = (30, 40))
        .unwrap();
    assert_eq!(handle.limit(), 30);
    assert!(handle.update(|config| config.min = 0).is_err());
    assert_eq!(handle.config().load().config().min, 30);
    let fresh = layer.fresh().handle();
    assert_eq!((fresh.limit(), fresh.reason()), (30, Reason::Start));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_lowers_the_limit_and_a_client_that_leaves_does_not() {
    let layer = AdaptiveLayer::new(policy(|config| config.start = 20));
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    let call = |millis| {
        let mut call = Box::pin(service.clone().oneshot(millis));
        assert!(
            call.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        call
    };
    drop(call(100));
    assert_eq!((handle.limit(), counts(&handle)), (20, (0, 0)));
    let cut = call(100);
    cause::drop_with(Verdict::TIMEOUT, || drop(cut));
    assert_eq!((handle.limit(), handle.reason()), (18, Reason::Overloaded));
    assert_eq!(counts(&handle), (0, 0));
}

/// Clients that give up after a while are all that a server may ever see of being slow.
#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_late_are_slow_ones() {
    let layer = AdaptiveLayer::new(policy(|config| config.start = 20));
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    load(&service, 20, 10, 200).await;
    let limit = handle.limit();
    let impatient = service_fn(move |n| {
        let service = service.clone();
        async move { timeout(100 * MS, service.oneshot(n)).await }
    });
    load(&impatient, 60, 100_000, 15).await;
    assert!(handle.limit() < limit, "{} of {limit}", handle.limit());
}

#[tokio::test(start_paused = true)]
async fn until_end_holds_the_permit_to_the_end_of_the_body() {
    let answer = async |_: u32| Ok::<_, Infallible>(Response::new(Body::from("hello")));
    let layer = AdaptiveLayer::new(policy(|config| (config.start, config.queue) = (1, 0.0)));
    let to_head = layer.fresh();
    let to_end = layer.until_end();
    for (handle, held) in [(to_head.handle(), 0), (to_end.handle(), 1)] {
        let response = if held == 0 {
            let service = to_head.layer(service_fn(answer));
            service.oneshot(0).await.unwrap().map(BodyExt::boxed_unsync)
        } else {
            let service = to_end.layer(service_fn(answer));
            service.oneshot(0).await.unwrap().map(BodyExt::boxed_unsync)
        };
        assert_eq!(handle.in_flight(), held);
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "hello"
        );
        assert_eq!(handle.in_flight(), 0);
    }
}

/// What a call holds comes back, wherever it ends.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_poll_gives_back_what_it_holds() {
    #[derive(Clone)]
    struct Slow(u32);
    impl Service<u32> for Slow {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            if self.0 > 0 {
                self.0 -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            Box::pin(async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                Ok(Response::new(Body::from("hello")))
            })
        }
    }
    for queued in [false, true] {
        let mut finished = false;
        for polls in 0.. {
            let layer =
                AdaptiveLayer::new(policy(|config| (config.start, config.queue) = (1, 1.0)));
            let layer = layer.until_end();
            let handle = layer.handle();
            let service = layer.layer(Slow(2));
            let mut first = service.clone();
            let mut held = queued.then(|| first.call(0));
            let mut call = Box::pin(async {
                let response = service.clone().oneshot(1).await.unwrap();
                tokio::task::yield_now().await;
                let mut body = response.into_body();
                while body.frame().await.is_some() {
                    tokio::task::yield_now().await;
                }
                finished = true;
            });
            for poll in 0..polls {
                let mut cx = Context::from_waker(Waker::noop());
                if call.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                if poll == 1 {
                    held = None;
                }
            }
            drop(call);
            drop(held);
            assert_eq!(
                counts(&handle),
                (0, 0),
                "queued {queued}, after {polls} polls"
            );
            if finished {
                assert!(polls > 5, "{polls}");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_its_permit_back() {
    fn at_once(_: u32) -> std::future::Ready<Result<Answer, Infallible>> {
        panic!("planted")
    }
    async fn later(n: u32) -> Result<Answer, Infallible> {
        tokio::task::yield_now().await;
        panic!("planted {n}")
    }
    let layer = AdaptiveLayer::new(policy(|config| config.start = 1));
    let handle = layer.handle();
    for _ in 0..2 {
        let now = layer.layer(service_fn(at_once));
        assert!(tokio::spawn(now.oneshot(0)).await.unwrap_err().is_panic());
        let then = layer.layer(service_fn(later));
        assert!(tokio::spawn(then.oneshot(0)).await.unwrap_err().is_panic());
        assert_eq!(counts(&handle), (0, 0));
    }
    assert_eq!(handle.limit(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_limit_of_its_own() {
    let layer = AdaptiveLayer::new(policy(|config| (config.start, config.queue) = (1, 0.0)));
    let keyed = layer
        .keyed(|(key, _): &(Option<&'static str>, u32)| *key)
        .max_keys(100);
    let handle = keyed.handle();
    let service = keyed.layer(service_fn(|(_, n)| echo(n)));
    let runs = |key| {
        let mut call = Box::pin(service.clone().oneshot((key, 10)));
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        (matches!(polled, Poll::Pending), call)
    };
    let (first, a) = runs(Some("a"));
    let (other, _b) = runs(Some("b"));
    let (none, _n) = runs(None);
    assert!(first && other && none && !runs(Some("a")).0);
    assert_eq!(handle.keys(), 2);
    assert_eq!(
        (
            handle.get("a").unwrap().in_flight(),
            handle.one().in_flight()
        ),
        (1, 1)
    );
    drop(a);
    assert!(runs(Some("a")).0);
    // A change reaches those that are and those that come.
    handle.one().update(|config| config.min = 7).unwrap();
    let _c = runs(Some("c"));
    let mut limits = Vec::new();
    handle.for_each(|key, limit| limits.push((*key, limit.limit())));
    limits.sort_unstable();
    assert_eq!(limits, [("a", 7), ("b", 7), ("c", 7)]);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_long_idle_are_forgotten_and_others_keep_what_they_learned() {
    let layer = AdaptiveLayer::new(policy(|config| config.start = 3)).keyed(|n: &u32| Some(*n));
    let layer = layer.max_keys(64);
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    for key in 0..2_000 {
        assert!(service.clone().oneshot(key % 3 + key * 3).await.is_ok());
    }
    assert!(handle.keys() <= 64, "{}", handle.keys());
}

#[test]
fn futures_are_small() {
    use std::{future::Ready, mem::size_of};
    type Inner = tower::util::ServiceFn<fn(u32) -> Ready<Result<Answer, Infallible>>>;
    type Future = super::super::AdaptiveFuture<Inner, u32, tower_chassis_core::settle::UntilHead>;
    let inner = size_of::<Ready<Result<Answer, Infallible>>>();
    assert_eq!(size_of::<super::super::Ticket>(), 16);
    println!("{} around {inner}", size_of::<Future>());
    assert!(size_of::<Future>() <= inner + 64, "{}", size_of::<Future>());
}

#[tokio::test(start_paused = true)]
async fn one_reading_of_the_clock_at_each_end() {
    let layer = AdaptiveLayer::new(policy(|_| {}));
    let mut service = layer.layer(service_fn(async |_: u32| {
        Ok::<_, Infallible>(Answer(Verdict::SUCCESS))
    }));
    let before = tower_chassis_core::clock::readings();
    let mut call = pin!(service.ready().await.unwrap().call(0));
    assert!(call.as_mut().await.is_ok());
    assert_eq!(tower_chassis_core::clock::readings() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn only_answers_that_say_so_are_overload() {
    use http::StatusCode;
    use tower_chassis_core::Class;
    let said = Arc::new(Mutex::new(Verdict::SUCCESS));
    for (verdict, lowers) in [
        (Verdict::SUCCESS, false),
        (Verdict::http(StatusCode::NOT_FOUND), false),
        (Verdict::http(StatusCode::INTERNAL_SERVER_ERROR), false),
        (Verdict::http(StatusCode::SERVICE_UNAVAILABLE), true),
        (Verdict::http(StatusCode::TOO_MANY_REQUESTS), true),
        (Verdict::http(StatusCode::GATEWAY_TIMEOUT), true),
        (Verdict::grpc(8), true),
        (Verdict::grpc(14), true),
        (Verdict::grpc(13), false),
        (Verdict::TIMEOUT, true),
        (Verdict::CANCELLED, false),
        (Verdict::new(Class::Unreachable), false),
        // A layer further in refused: the service never saw it.
        (Verdict::REFUSED, false),
        (
            Verdict::http(StatusCode::SERVICE_UNAVAILABLE).with_class(Class::Refused),
            false,
        ),
    ] {
        let layer = AdaptiveLayer::new(policy(|_| {}));
        *said.lock().unwrap() = verdict;
        let said = Arc::clone(&said);
        let service = layer.layer(service_fn(move |_: u32| {
            let answer = Answer(*said.lock().unwrap());
            async move { Ok::<_, Infallible>(answer) }
        }));
        service.oneshot(0).await.unwrap();
        assert_eq!(layer.handle().limit() < 20, lowers, "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_which_the_limit_is_forced_is_not_forgotten() {
    let layer = AdaptiveLayer::new(policy(|config| config.start = 3)).keyed(|n: &u32| Some(*n));
    let layer = layer.max_keys(64);
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |_: u32| {
        Ok::<_, Infallible>(Answer(Verdict::SUCCESS))
    }));
    for (key, time) in [(1, None), (2, Some(3_600_000 * MS)), (3, Some(MS))] {
        service.clone().oneshot(key).await.unwrap();
        let limit = handle.get(key).unwrap();
        match time {
            None => limit.force(1),
            Some(time) => limit.force_for(1, time),
        }
    }
    for minute in 0..10 {
        sleep(60_000 * MS).await;
        for key in 0..1_000 {
            service
                .clone()
                .oneshot(100 + minute * 1_000 + key)
                .await
                .unwrap();
        }
    }
    assert!(handle.keys() <= 64, "{}", handle.keys());
    let forced = |key| handle.get(key).and_then(|limit| limit.forced());
    assert_eq!([1, 2, 3].map(forced), [Some(1), Some(1), None]);
    assert!(handle.get(3).is_none());
}

/// A layer whose calls are so many that one in sixteen is measured.
fn thinned(change: impl FnOnce(&mut super::super::AdaptiveConfig)) -> AdaptiveLayer {
    let layer = AdaptiveLayer::new(policy(change));
    let meter = &layer.handle().0.meter;
    let mut now = 0;
    for _ in 0..8 {
        for _ in 0..10_000 {
            now += 10_000;
            if meter.answered(now - 5_000, now, || 1) {
                meter.turn(now, |_| {});
            }
        }
    }
    layer
}

#[tokio::test(start_paused = true)]
async fn of_many_calls_few_are_measured_and_all_are_counted() {
    use tower_chassis_core::clock::readings;
    let layer = thinned(|config| (config.start, config.max, config.queue) = (10, 10, 0.0));
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    let before = readings();
    for _ in 0..1_600 {
        let mut call = pin!(service.clone().oneshot(5));
        let mut cx = Context::from_waker(Waker::noop());
        // It is dropped while it waits.
        let _ = call.as_mut().poll(&mut cx);
        assert_eq!(counts(&handle), (1, 0));
    }
    assert_eq!(counts(&handle), (0, 0));
    for _ in 0..1_600 {
        service.clone().oneshot(0).await.unwrap();
    }
    // Two for each that is measured, which are two hundred, give or take.
    let read = readings() - before;
    assert!((200..700).contains(&read), "{read}");
    assert_eq!(counts(&handle), (0, 0));

    // The limit holds, and once it is in the way every call is measured.
    let calls: Vec<_> = (0..10)
        .map(|_| tokio::spawn(service.clone().oneshot(10)))
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(counts(&handle), (10, 0));
    assert!(service.clone().oneshot(0).await.is_err());
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let before = readings();
    for _ in 0..100 {
        service.clone().oneshot(0).await.unwrap();
    }
    assert_eq!(readings() - before, 200);
}

/// Where calls become few again, each is measured before they are too few to notice.
#[tokio::test(start_paused = true)]
async fn few_calls_are_all_measured() {
    let layer = thinned(|_| {});
    let service = layer.layer(service_fn(echo));
    let handle = layer.handle();
    assert!((0..100).any(|_| !handle.0.meter.measures()));
    for _ in 0..200 {
        sleep(10 * MS).await;
        service.clone().oneshot(1).await.unwrap();
    }
    assert!((0..100).all(|_| handle.0.meter.measures()));
}

/// A service that becomes overloaded while few of its calls are measured is found out as fast.
#[tokio::test(start_paused = true)]
async fn a_sample_shows_an_overload() {
    let layer = thinned(|config| (config.start, config.max) = (100, 100));
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |_: u32| {
        sleep(MS).await;
        Ok::<_, Infallible>(Answer(Verdict::http(http::StatusCode::SERVICE_UNAVAILABLE)))
    }));
    load(&service, 50, 0, 400).await;
    assert!(handle.limit() <= 60, "{}", handle.limit());
}
