use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Events, Kind, Live, Rejection, clock, events::Event};
use tower_layer::Layer;

use super::super::*;

async fn echo(n: u32) -> Result<u32, Infallible> {
    Ok(n)
}

async fn send<S>(service: &S, n: u32) -> Result<u32, BoxError>
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    service.clone().oneshot(n).await
}

#[tokio::test(start_paused = true)]
async fn layered_many_times_it_is_one_limit() {
    let events = Events::new();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    events.listen(move |event| {
        assert!(matches!(
            event,
            Event::Refused {
                layer: "rate_limit",
                kind: Kind::RateLimited,
                ..
            }
        ));
        count.fetch_add(1, Ordering::Relaxed);
    });
    let layer = RateLimitLayer::new(RateLimitPolicy::new(10.0, 5).unwrap()).events(events);
    let services: Vec<_> = (0..5)
        .map(|_| layer.clone().layer(service_fn(echo)))
        .collect();
    for service in &services {
        assert_eq!(send(service, 7).await.unwrap(), 7);
    }
    for service in &services {
        let error = send(service, 7).await.unwrap_err();
        let rejection = Rejection::find(&*error).unwrap();
        assert_eq!(
            (rejection.kind(), rejection.layer()),
            (Kind::RateLimited, "rate_limit")
        );
        assert_eq!(rejection.retry_after(), Some(Duration::from_millis(100)));
    }
    assert_eq!(heard.load(Ordering::Relaxed), 5);
    assert!(
        send(&layer.fresh().layer(service_fn(echo)), 7)
            .await
            .is_ok()
    );
    time::advance(Duration::from_millis(100)).await;
    assert!(send(&services[3], 7).await.is_ok());
    assert!(send(&services[4], 7).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_bucket_and_so_have_those_without() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 1).unwrap())
        .keyed(|n: &u32| (*n > 0).then_some(*n))
        .max_keys(50);
    let service = layer.layer(service_fn(echo));
    for n in 0..20 {
        assert!(send(&service, n).await.is_ok());
        assert!(send(&service, n).await.is_err());
    }
    assert_eq!(layer.handle().keys(), 19);
    assert!(
        send(&layer.fresh().layer(service_fn(echo)), 1)
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn settings_are_live_and_bad_ones_are_refused() {
    let live = Live::new(RateLimitPolicy::new(1.0, 2).unwrap());
    let layer = RateLimitLayer::new(live.clone()).keyed(|n: &u32| Some(*n));
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    assert!(send(&service, 1).await.is_ok());
    handle
        .update(|config| (config.rate, config.burst) = (100.0, 200))
        .unwrap();
    assert_eq!(
        handle
            .update(|config| config.burst = 0)
            .unwrap_err()
            .field(),
        "burst"
    );
    assert_eq!(
        (live.load().config().burst, handle.config().version()),
        (200, 1)
    );
    for _ in 0..100 {
        assert!(send(&service, 1).await.is_ok());
    }
    assert!(send(&service, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_only_readied_uses_nothing() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 1).unwrap());
    let mut service = layer.layer(service_fn(echo));
    for _ in 0..10 {
        let mut readied = service.clone();
        readied.ready().await.unwrap();
    }
    // Called, and dropped before it was polled: the place is used.
    drop(service.ready().await.unwrap().call(1));
    assert!(send(&service, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_read_long_ago_refuses_nobody() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(10.0, 1).unwrap());
    let mut service = layer.layer(service_fn(echo));
    let long_ago = time::Instant::now();
    service.ready().await.unwrap().call(1).await.unwrap();
    time::advance(Duration::from_millis(99)).await;
    let error = clock::entered_at(long_ago, |_| service.call(2)).await;
    let error = error.unwrap_err();
    let wait = Rejection::find(&*error).and_then(Rejection::retry_after);
    assert_eq!(wait, Some(Duration::from_millis(1)), "from now on");
    time::advance(Duration::from_millis(1)).await;
    let call = clock::entered_at(long_ago, |_| service.call(3));
    assert_eq!(call.await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_is_so_until_its_time_is_over() {
    for keyed in [false, true] {
        let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 1).unwrap());
        let layer = layer.keyed(move |n: &u32| keyed.then_some(*n));
        let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
        let second = Some(Duration::from_secs(1));
        handle.force(Force::Refuse, second);
        assert_eq!(handle.forced(), Some(Force::Refuse));
        let error = send(&service, 1).await.unwrap_err();
        let rejection = Rejection::find(&*error).unwrap();
        assert_eq!(rejection.retry_after(), second);
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(handle.forced(), None);
        assert!(send(&service, 1).await.is_ok());
        assert!(send(&service, 1).await.is_err());
        handle.force(Force::Allow, None);
        time::advance(Duration::from_millis(500)).await;
        for _ in 0..10 {
            assert!(send(&service, 1).await.is_ok());
        }
        handle.release();
        assert!(send(&service, 1).await.is_err(), "nothing was counted");
        handle.force(Force::Refuse, None);
        let error = send(&service, 1).await.unwrap_err();
        assert_eq!(Rejection::find(&*error).unwrap().retry_after(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_reads_and_resets_a_key() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 5).unwrap());
    let layer = layer.keyed(|n: &u32| (*n > 0).then_some(*n));
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    for n in [1, 1, 2, 0] {
        send(&service, n).await.unwrap();
    }
    let left = || {
        [
            handle.remaining_for(1),
            handle.remaining_for(2),
            handle.remaining_for(3),
        ]
    };
    assert_eq!((left(), handle.remaining()), ([3, 4, 5], 4));
    handle.reset_key(1);
    assert_eq!((left(), handle.remaining()), ([5, 4, 5], 4));
    handle.reset();
    assert_eq!(
        (left(), handle.remaining(), handle.keys()),
        ([5, 5, 5], 5, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_jitter_lengthens_waits_by_its_part_at_the_most() {
    let waits = |seed| async move {
        let policy = RateLimitPolicy::new(1.0, 1).unwrap();
        let policy = policy.with(|config| config.jitter = 0.1).unwrap();
        let service = RateLimitLayer::new(policy)
            .seed(seed)
            .layer(service_fn(echo));
        send(&service, 1).await.unwrap();
        let mut waits = Vec::new();
        for _ in 0..200 {
            let error = send(&service, 1).await.unwrap_err();
            waits.extend(Rejection::find(&*error).and_then(Rejection::retry_after));
        }
        waits
    };
    let first = waits(7).await;
    assert_eq!(first, waits(7).await);
    assert_ne!(first, waits(8).await);
    let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
    assert!((1_000..1_010).contains(&least.as_millis()), "{least:?}");
    assert!((1_090..=1_100).contains(&most.as_millis()), "{most:?}");
}

/// A call that is refused or made at once reads the clock once, its answer not at all.
#[tokio::test(start_paused = true)]
async fn a_call_reads_the_clock_once() {
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1.0, 5).unwrap());
    let mut service = layer.layer(service_fn(echo));
    let before = clock::readings();
    service.ready().await.unwrap().call(1).await.unwrap();
    assert_eq!(clock::readings() - before, 1);
    let future = size_of_val(&service.call(1));
    let inner = size_of_val(&echo(1));
    assert!(future <= inner + 16, "{future} over {inner}");
}

/// What a key does when it is dropped, it may do to this limit, too.
#[tokio::test(start_paused = true)]
async fn a_key_is_dropped_outside_of_locks() {
    #[derive(PartialEq, Eq, Hash, Clone)]
    struct Key(u32);
    static HANDLE: std::sync::OnceLock<RateLimitHandle<Key>> = std::sync::OnceLock::new();
    impl Drop for Key {
        fn drop(&mut self) {
            if let Some(handle) = HANDLE.get() {
                let _ = handle.keys();
            }
        }
    }
    let layer = RateLimitLayer::new(RateLimitPolicy::new(1_000.0, 5).unwrap());
    let layer = layer.keyed(|n: &u32| Some(Key(*n))).max_keys(16);
    let service = layer.layer(service_fn(echo));
    let _ = HANDLE.set(layer.handle());
    for n in 0..200 {
        let _ = send(&service, n % 50).await;
        time::advance(Duration::from_millis(1)).await;
    }
    layer.handle().reset_key(Key(3));
    layer.handle().reset();
}

/// Reserves a slot when it is readied, and gives it back when it is called or dropped.
struct Reserves {
    slots: Arc<AtomicUsize>,
    readied: bool,
}

impl Clone for Reserves {
    fn clone(&self) -> Self {
        Self {
            slots: Arc::clone(&self.slots),
            readied: false,
        }
    }
}

impl Reserves {
    fn let_go(&mut self) -> bool {
        let readied = std::mem::take(&mut self.readied);
        self.slots.fetch_sub(readied.into(), Ordering::Relaxed);
        readied
    }
}

impl Drop for Reserves {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Service<u32> for Reserves {
    type Response = u32;
    type Error = Infallible;
    type Future = std::future::Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let more = !std::mem::replace(&mut self.readied, true);
        self.slots.fetch_add(more.into(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        assert!(self.let_go(), "called unready");
        std::future::ready(Ok(n))
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_or_waits_holds_nothing_of_the_inner_service() {
    for wait in [Duration::ZERO, Duration::from_secs(1)] {
        let policy = RateLimitPolicy::new(10.0, 1).unwrap();
        let policy = policy.with(|config| config.max_wait = wait).unwrap();
        let slots = Arc::new(AtomicUsize::new(0));
        let reserves = Reserves {
            slots: Arc::clone(&slots),
            readied: false,
        };
        let mut service = RateLimitLayer::new(policy).layer(reserves);
        assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
        service.ready().await.unwrap();
        assert_eq!(slots.load(Ordering::Relaxed), 1);
        let call = service.call(2);
        assert_eq!(slots.load(Ordering::Relaxed), 0, "{wait:?}");
        assert_eq!(call.await.is_ok(), !wait.is_zero());
        assert_eq!(slots.load(Ordering::Relaxed), 0, "{wait:?}");
        // It is readied anew.
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(service.ready().await.unwrap().call(3).await.unwrap(), 3);
    }
}
