//! The readiness law: what is readied, what it reserves, and who waits where.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time;
use tower::{Service, ServiceExt};
use tower_chassis_core::{BoxError, Kind};
use tower_layer::Layer;

use super::{
    super::BulkheadLayer,
    service::{counts, kind, policy, send, settle},
};

/// What a service has to reserve.
#[derive(Default)]
pub(super) struct Slots {
    reserved: AtomicUsize,
    /// None may be reserved.
    shut: Mutex<Option<Vec<Waker>>>,
    fails: AtomicUsize,
}

impl Slots {
    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(super) fn shut(&self) {
        *self.shut.lock().unwrap() = Some(Vec::new());
    }

    pub(super) fn open(&self) {
        let wakers = self.shut.lock().unwrap().take();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Reserves a slot when it is readied, and gives it back when it is called or dropped. Panics where it is called
/// and was not readied.
pub(super) struct Reserves {
    slots: Arc<Slots>,
    readied: bool,
}

impl Reserves {
    pub(super) fn new(slots: &Arc<Slots>) -> Self {
        Self {
            slots: Arc::clone(slots),
            readied: false,
        }
    }
}

impl Clone for Reserves {
    fn clone(&self) -> Self {
        Self::new(&self.slots)
    }
}

impl Drop for Reserves {
    fn drop(&mut self) {
        if self.readied {
            self.slots.reserved.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Service<u32> for Reserves {
    type Response = u32;
    type Error = std::io::Error;
    type Future = Ready<Result<u32, std::io::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        if let Some(wakers) = &mut *self.slots.shut.lock().unwrap() {
            wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        if self.slots.fails.load(Ordering::Relaxed) > 0 {
            return Poll::Ready(Err(std::io::Error::other("planted")));
        }
        if !std::mem::replace(&mut self.readied, true) {
            self.slots.reserved.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, n: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.readied), "called unready");
        self.slots.reserved.fetch_sub(1, Ordering::Relaxed);
        ready(Ok(n))
    }
}

/// Holds the only permit of `layer`.
fn hold(layer: &BulkheadLayer) -> impl Future {
    let never = tower::service_fn(|_: u32| std::future::pending::<Result<u32, Infallible>>());
    layer.layer(never).call(0)
}

#[tokio::test(start_paused = true)]
async fn an_idle_clone_that_is_ready_holds_no_permit() {
    let layer = BulkheadLayer::new(policy(1, 0));
    let slots = Arc::new(Slots::default());
    let mut idle = layer.layer(Reserves::new(&slots));
    for _ in 0..3 {
        idle.ready().await.unwrap();
    }
    assert_eq!((counts(&layer.handle()), slots.reserved()), ((0, 0), 1));
    let clone = idle.clone();
    assert_eq!(send(&clone, 7).await.unwrap(), 7);
    // The one that was readied is the one that is called.
    assert_eq!(idle.call(8).await.unwrap(), 8);
    assert_eq!(slots.reserved(), 0);
    idle.ready().await.unwrap();
    drop(idle);
    assert_eq!(slots.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_the_queue_holds_nothing_of_the_inner_service() {
    let layer = BulkheadLayer::new(policy(1, 1));
    let slots = Arc::new(Slots::default());
    let mut service = layer.layer(Reserves::new(&slots));
    // Readied while a permit was free, called when none is.
    service.ready().await.unwrap();
    assert_eq!(slots.reserved(), 1);
    let held = hold(&layer);
    let waits = service.call(1);
    assert_eq!((counts(&layer.handle()), slots.reserved()), ((1, 1), 0));
    let waits = tokio::spawn(waits);
    settle().await;
    assert_eq!(slots.reserved(), 0);
    drop(held);
    assert_eq!(waits.await.unwrap().unwrap(), 1);
    assert_eq!((counts(&layer.handle()), slots.reserved()), ((0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_holds_nothing_of_the_inner_service() {
    let layer = BulkheadLayer::new(policy(1, 0));
    let slots = Arc::new(Slots::default());
    let mut service = layer.layer(Reserves::new(&slots));
    service.ready().await.unwrap();
    let held = hold(&layer);
    assert_eq!(kind(&service.call(1).await.unwrap_err()), Kind::Overloaded);
    assert_eq!(slots.reserved(), 0);
    drop(held);
    assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_does_not_wait_for_its_inner_service() {
    let layer = BulkheadLayer::new(policy(1, 1));
    let slots = Arc::new(Slots::default());
    slots.shut();
    let service = layer.layer(Reserves::new(&slots));
    let held = hold(&layer);
    let waits = tokio::spawn({
        let service = service.clone();
        async move { send(&service, 1).await }
    });
    settle().await;
    assert_eq!(counts(&layer.handle()), (1, 1));
    let refused = time::timeout(Duration::from_millis(1), send(&service, 2)).await;
    assert_eq!(kind(&refused.unwrap().unwrap_err()), Kind::Overloaded);
    waits.abort();
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_inner_service_while_a_permit_is_free() {
    let layer = BulkheadLayer::new(policy(1, 1));
    let slots = Arc::new(Slots::default());
    slots.shut();
    let mut service = layer.layer(Reserves::new(&slots));
    let waits = tokio::spawn(async move { service.ready().await?.call(1).await });
    settle().await;
    assert!(!waits.is_finished());
    assert_eq!(counts(&layer.handle()), (0, 0), "it does not hold a permit");
    slots.open();
    assert_eq!(waits.await.unwrap().unwrap(), 1);
}

/// It found the bulkhead full when it asked, and a free permit when it called: the service is readied then.
#[tokio::test(start_paused = true)]
async fn a_permit_that_is_free_by_the_time_of_the_call_is_used() {
    let layer = BulkheadLayer::new(policy(1, 0));
    let slots = Arc::new(Slots::default());
    let mut service = layer.layer(Reserves::new(&slots));
    // It was ready before, and that was used up.
    assert_eq!(service.ready().await.unwrap().call(0).await.unwrap(), 0);
    let held = hold(&layer);
    service.ready().await.unwrap();
    assert_eq!(slots.reserved(), 0);
    drop(held);
    slots.shut();
    let call = tokio::spawn(service.call(1));
    settle().await;
    assert_eq!(counts(&layer.handle()), (1, 0));
    slots.open();
    assert_eq!(call.await.unwrap().unwrap(), 1);
    assert_eq!((counts(&layer.handle()), slots.reserved()), ((0, 0), 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_when_it_is_readied_gives_the_permit_back() {
    let layer = BulkheadLayer::new(policy(1, 1));
    let slots = Arc::new(Slots::default());
    let mut service = layer.layer(Reserves::new(&slots));
    let held = hold(&layer);
    let mut call = Box::pin(service.call(1));
    drop(held);
    slots.fails.store(1, Ordering::Relaxed);
    let error = std::future::poll_fn(|cx| call.as_mut().poll(cx)).await;
    assert!(error.unwrap_err().is::<std::io::Error>());
    // Also while the future is kept.
    assert_eq!(counts(&layer.handle()), (0, 0));
    let error: BoxError = service.ready().await.map(drop).unwrap_err();
    assert!(error.is::<std::io::Error>());
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_their_turn() {
    let layer = BulkheadLayer::new(policy(1, 50));
    let slots = Arc::new(Slots::default());
    let service = layer.layer(Reserves::new(&slots));
    let held = hold(&layer);
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move { send(&service, n).await })
        })
        .collect();
    settle().await;
    assert_eq!(counts(&layer.handle()), (1, 50));
    drop(held);
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), n as u32);
    }
    assert_eq!((counts(&layer.handle()), slots.reserved()), ((0, 0), 0));
}

/// What a call that waits asks of its task: one look when it joins, one when its turn comes.
#[tokio::test(start_paused = true)]
async fn who_waits_does_not_wake_itself() {
    let layer = BulkheadLayer::new(policy(1, 1));
    let slots = Arc::new(Slots::default());
    let mut service = layer.layer(Reserves::new(&slots));
    let held = hold(&layer);
    let polls = Arc::new(AtomicUsize::new(0));
    let waits = tokio::spawn({
        let (polls, mut call) = (Arc::clone(&polls), Box::pin(service.call(1)));
        std::future::poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            call.as_mut().poll(cx)
        })
    });
    settle().await;
    time::advance(Duration::from_millis(500)).await;
    settle().await;
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    drop(held);
    waits.await.unwrap().unwrap();
    assert_eq!(polls.load(Ordering::Relaxed), 2);
}
