use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{self, Instant};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Rejection};
use tower_layer::Layer;

use super::{super::*, *};

const MS: Duration = Duration::from_millis(1);

/// A bucket in memory, that can be slow, broken and counted.
#[derive(Default)]
struct Memory {
    tat: Mutex<Option<Instant>>,
    asked: AtomicU32,
    broken: AtomicBool,
    silent: AtomicBool,
    keys: Mutex<Vec<String>>,
}

impl Store for Memory {
    async fn acquire(
        &self,
        key: &str,
        need: u32,
        want: u32,
        limit: Limit,
    ) -> Result<Grant, BoxError> {
        self.asked.fetch_add(1, Relaxed);
        self.keys.lock().unwrap().push(key.to_owned());
        time::sleep(MS).await;
        if self.silent.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.broken.load(Relaxed) {
            return Err("broken".into());
        }
        let now = Instant::now();
        let mut tat = self.tat.lock().unwrap();
        let from = tat.unwrap_or(now).max(now);
        let window = limit.interval * limit.burst;
        let left = ((now + window) - from).as_nanos() / limit.interval.as_nanos();
        let left = left as u32;
        if left < need {
            return Ok(Grant::Refused(from + limit.interval * need - window - now));
        }
        let give = need.max(want.min(left / 2));
        *tat = Some(from + limit.interval * give);
        Ok(Grant::Calls(give))
    }
}

async fn echo(n: u32) -> Result<u32, Infallible> {
    Ok(n)
}

fn limit(
    rate: f64,
    burst: u32,
) -> (
    Arc<Memory>,
    RemoteRateLimitLayer<Arc<Memory>, crate::keyed::One, ()>,
) {
    let store = Arc::new(Memory::default());
    let policy = RateLimitPolicy::new(rate, burst).unwrap();
    (
        Arc::clone(&store),
        RateLimitLayer::new(policy).remote(store),
    )
}

async fn allowed<S>(service: &S, calls: u32) -> u32
where
    S: Service<u32, Response = u32, Error = BoxError> + Clone,
{
    let mut allowed = 0;
    for n in 0..calls {
        allowed += u32::from(service.clone().oneshot(n).await.is_ok());
    }
    allowed
}

#[tokio::test(start_paused = true)]
async fn calls_are_leased_and_a_refusal_is_remembered() {
    let (store, layer) = limit(100.0, 40);
    let service = layer.layer(service_fn(echo));
    assert_eq!(allowed(&service, 40).await, 40);
    let asked = store.asked.load(Relaxed);
    assert!(asked <= 15, "{asked}");
    let start = Instant::now();
    while allowed(&service, 1).await == 1 {}
    let asked = store.asked.load(Relaxed);
    assert_eq!(allowed(&service, 1_000).await, 0);
    assert_eq!(
        store.asked.load(Relaxed),
        asked,
        "a limited key costs the store nothing"
    );
    assert!(start.elapsed() < 100 * MS);
    let error = service.clone().oneshot(1).await.unwrap_err();
    let wait = Rejection::find(&*error)
        .and_then(Rejection::retry_after)
        .unwrap();
    time::advance(wait).await;
    assert_eq!(allowed(&service, 1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn instances_together_allow_what_one_would_and_their_leases() {
    let (_, layer) = limit(1_000.0, 100);
    let layer = layer.instances(2);
    let services = [
        layer.layer(service_fn(echo)),
        layer.fresh().layer(service_fn(echo)),
    ];
    let (start, mut total) = (Instant::now(), 0);
    while start.elapsed() < 2_000 * MS {
        for service in &services {
            total += allowed(service, 3).await;
        }
        time::advance(MS).await;
    }
    let most = 100 + start.elapsed().as_millis() as u32;
    assert!(total <= most + 2 * 25, "{total} of {most}");
    assert!(total >= most - most / 10, "{total} of {most}");
}

#[tokio::test(start_paused = true)]
async fn without_its_store_an_instance_allows_its_share_and_comes_back() {
    for silent in [false, true] {
        let (store, layer) = limit(100.0, 40);
        let layer = layer.instances(4);
        let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
        store.broken.store(!silent, Relaxed);
        store.silent.store(silent, Relaxed);
        let start = Instant::now();
        assert_eq!(
            allowed(&service, 1).await,
            1,
            "also the one that asked in vain"
        );
        assert_eq!(allowed(&service, 99).await, 9, "a quarter of the burst");
        // One call waited for the store, the others did not.
        assert!(start.elapsed() <= 12 * MS, "{:?}", start.elapsed());
        assert!(handle.is_away());
        let mut total = 0;
        for _ in 0..200 {
            time::advance(20 * MS).await;
            total += allowed(&service, 2).await;
        }
        let seconds = start.elapsed().as_secs_f64();
        assert!(
            (f64::from(total) - 25.0 * seconds).abs() < 6.0,
            "{total} in {seconds}"
        );
        // Asked every quarter of a second.
        assert!(f64::from(store.asked.load(Relaxed)) <= 4.0 * seconds + 2.0);
        store.broken.store(false, Relaxed);
        store.silent.store(false, Relaxed);
        time::advance(300 * MS).await;
        assert_eq!(allowed(&service, 1).await, 1);
        assert!(!handle.is_away());
    }
}

/// Many at once ask once, and then share.
#[tokio::test(start_paused = true)]
async fn calls_of_one_key_ask_one_after_the_other() {
    let (store, layer) = limit(1_000.0, 100);
    let service = layer.layer(service_fn(echo));
    let calls: Vec<_> = (0..40)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(store.asked.load(Relaxed) <= 2, "{:?}", store.asked);
}

#[tokio::test(start_paused = true)]
async fn a_key_cannot_be_taken_for_another_limit_or_for_none() {
    let store = Arc::new(Memory::default());
    let policy = RateLimitPolicy::new(1.0, 1).unwrap();
    let layer = RateLimitLayer::new(policy).named("a:b");
    let layer = layer.keyed(|n: &u32| (*n > 0).then(|| n.to_string()));
    let service = layer
        .cost(|n: &u32| *n)
        .remote(Arc::clone(&store))
        .layer(service_fn(echo));
    for n in [0, 1, 1] {
        let _ = service.clone().oneshot(n).await;
    }
    // What costs nothing is not asked for.
    assert_eq!(*store.keys.lock().unwrap(), ["a_b:1", "a_b:1"]);
    let error = service.clone().oneshot(2).await.unwrap_err();
    assert!(TooCostly::find(&*error).is_some());
}

/// A call that is dropped while it asks holds nobody up.
#[tokio::test(start_paused = true)]
async fn dropped_while_it_asks_it_lets_the_next_one_ask() {
    let (store, layer) = limit(100.0, 40);
    let mut service = layer.layer(service_fn(echo));
    let mut call = Box::pin(service.ready().await.unwrap().call(1));
    assert!(futures_poll(call.as_mut()).is_pending());
    drop(call);
    assert_eq!(allowed(&service, 1).await, 1);
    assert_eq!(store.asked.load(Relaxed), 2);
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}

/// A client that calls often at once must not make the others do without the store.
#[tokio::test(start_paused = true)]
async fn a_crowd_at_one_key_is_no_outage_of_the_store() {
    let (store, layer) = limit(10.0, 50);
    let layer = layer.instances(10);
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    let start = Instant::now();
    let calls: Vec<_> = (0..100)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    let mut allowed = 0;
    for call in calls {
        allowed += u32::from(call.await.unwrap().is_ok());
    }
    assert!(!handle.is_away());
    assert_eq!(allowed, 50);
    assert!(start.elapsed() <= 20 * MS, "{:?}", start.elapsed());
    assert!(store.asked.load(Relaxed) <= 12, "{:?}", store.asked);
}

/// When it is time to look after a store that was away, one call does.
#[tokio::test(start_paused = true)]
async fn one_call_asks_whether_the_store_is_back() {
    let store = Arc::new(Memory::default());
    let policy = RateLimitPolicy::new(1_000.0, 1_000).unwrap();
    let service = RateLimitLayer::new(policy)
        .keyed(|n: &u32| Some(*n))
        .remote(Arc::clone(&store))
        .layer(service_fn(echo));
    store.silent.store(true, Relaxed);
    service.clone().oneshot(0).await.unwrap();
    time::advance(300 * MS).await;
    let calls: Vec<_> = (1..40)
        .map(|n| tokio::spawn(service.clone().oneshot(n)))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(store.asked.load(Relaxed), 2);
}

/// A call above this instance's share is refused while the store is away, and not for ever.
#[tokio::test(start_paused = true)]
async fn what_is_above_a_share_may_come_again() {
    let store = Arc::new(Memory::default());
    store.broken.store(true, Relaxed);
    let policy = RateLimitPolicy::new(100.0, 40).unwrap();
    let limit = RateLimitLayer::new(policy).keyed(|_: &u32| None::<u32>);
    let limit = limit.cost(|n: &u32| *n).remote(Arc::clone(&store));
    let service = limit.instances(4).layer(service_fn(echo));
    let error = service.clone().oneshot(20).await.unwrap_err();
    assert!(TooCostly::find(&*error).is_none());
    assert!(Rejection::find(&*error).unwrap().retry_after().is_some());
}

/// Two limits that nobody named must not count as one: the shorter one would forget what the longer one remembers.
#[tokio::test(start_paused = true)]
async fn limits_without_a_name_are_told_apart() {
    let store = Arc::new(Memory::default());
    for (rate, burst) in [(0.1, 5), (100.0, 5), (100.0, 10)] {
        let policy = RateLimitPolicy::new(rate, burst).unwrap();
        let limit = RateLimitLayer::new(policy).remote(Arc::clone(&store));
        let service = limit.layer(service_fn(echo));
        let _ = service.oneshot(1).await;
    }
    let mut keys = store.keys.lock().unwrap().clone();
    keys.dedup();
    assert_eq!(keys.len(), 3, "{keys:?}");
}

/// Calls of each key, five of them and no more, and how often each was asked for.
#[derive(Default)]
struct Five(Mutex<std::collections::HashMap<String, (u32, u32)>>);

impl Store for Five {
    async fn acquire(&self, key: &str, need: u32, want: u32, _: Limit) -> Result<Grant, BoxError> {
        let mut keys = self.0.lock().unwrap();
        let (used, asked) = keys.entry(key.to_owned()).or_default();
        *asked += 1;
        let give = want.min(5 - *used);
        if give < need {
            return Ok(Grant::Refused(1_000 * MS));
        }
        *used += give;
        Ok(Grant::Calls(give))
    }
}

/// Keys that find no room must not spend what others have leased, nor be refused for them.
#[tokio::test(start_paused = true)]
async fn keys_that_find_no_room_are_counted_by_the_store_alone() {
    let store = Arc::new(Five::default());
    let policy = RateLimitPolicy::new(100.0, 20).unwrap();
    let service = RateLimitLayer::new(policy)
        .keyed(|n: &u32| Some(*n))
        .max_keys(1)
        .remote(Arc::clone(&store))
        .layer(service_fn(echo));
    // More than there are states to share.
    let mut allowed = [0; 200];
    for _ in 0..7 {
        for (key, allowed) in allowed.iter_mut().enumerate() {
            *allowed += u32::from(service.clone().oneshot(key as u32).await.is_ok());
        }
    }
    assert!(allowed.iter().all(|allowed| *allowed == 5), "{allowed:?}");
}
