//! Calls that wait for their turn.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{self, Instant};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::Rejection;
use tower_layer::Layer;

use super::super::*;

const MS: Duration = Duration::from_millis(1);

/// Ten a second, one at once, and so long a wait.
fn patient(max_wait: Duration) -> RateLimitLayer {
    let policy = RateLimitPolicy::new(10.0, 1).unwrap();
    RateLimitLayer::new(policy.with(|config| config.max_wait = max_wait).unwrap())
}

async fn echo(n: u32) -> Result<u32, Infallible> {
    Ok(n)
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_turn_and_who_would_wait_too_long_is_refused_at_once() {
    let service = patient(250 * MS).layer(service_fn(echo));
    let start = Instant::now();
    let calls = (0..5).map(|n| {
        let service = service.clone();
        async move {
            let result = service.oneshot(n).await;
            (result.map_err(|error| error.to_string()), start.elapsed())
        }
    });
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            Poll::Ready(result) => {
                done.push(result);
                false
            }
            Poll::Pending => true,
        });
        if calls.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let refused = || Err("rate_limit: rate limit exceeded".to_owned());
    let (results, times): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    assert_eq!(results, [Ok(0), refused(), refused(), Ok(1), Ok(2)]);
    let times: Vec<_> = times.iter().map(Duration::as_millis).collect();
    assert_eq!(times[..3], [0, 0, 0]);
    // Timers are a millisecond late.
    assert!(
        (100..=101).contains(&times[3]) && (200..=201).contains(&times[4]),
        "{times:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_the_whole_wait() {
    let mut service = patient(50 * MS).layer(service_fn(echo));
    service.ready().await.unwrap().call(1).await.unwrap();
    let error = service.ready().await.unwrap().call(1).await.unwrap_err();
    let wait = Rejection::find(&*error).and_then(Rejection::retry_after);
    assert_eq!(wait, Some(100 * MS));
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The last of those who wait may leave, and its place is another's. One before it takes its place along.
#[tokio::test(start_paused = true)]
async fn the_last_who_waits_gives_its_place_up() {
    for keyed in [false, true] {
        let layer = patient(Duration::from_secs(10));
        let remaining = |mut service: tower::util::BoxCloneService<u32, u32, _>| async move {
            service.ready().await.unwrap().call(1).await.unwrap();
            let first = Box::pin(service.ready().await.unwrap().call(1));
            let second = Box::pin(service.ready().await.unwrap().call(1));
            drop(second);
            let start = Instant::now();
            let second = service.ready().await.unwrap().call(1);
            second.await.unwrap();
            assert_eq!(start.elapsed().as_millis() / 10, 20);
            // Not the last any more.
            drop(first);
            let third = service.ready().await.unwrap().call(1);
            third.await.unwrap();
            assert_eq!(start.elapsed().as_millis() / 10, 30);
        };
        if keyed {
            let layer = layer.keyed(|n: &u32| Some(*n));
            remaining(tower::util::BoxCloneService::new(
                layer.layer(service_fn(echo)),
            ))
            .await;
        } else {
            remaining(tower::util::BoxCloneService::new(
                layer.layer(service_fn(echo)),
            ))
            .await;
        }
    }
}

/// Polled so often and dropped, a call leaves nothing behind, at any of its polls.
#[tokio::test(start_paused = true)]
async fn dropped_at_any_poll_it_holds_nothing() {
    #[derive(Clone)]
    struct Slow(Arc<AtomicUsize>);
    struct Reserved(Arc<AtomicUsize>);
    impl Drop for Reserved {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }
    #[derive(Default)]
    struct Once(bool);
    impl Future for Once {
        type Output = ();
        fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    impl Service<u32> for Slow {
        type Response = u32;
        type Error = Infallible;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, Infallible>> + Send>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, n: u32) -> Self::Future {
            self.0.fetch_add(1, Relaxed);
            let reserved = Reserved(Arc::clone(&self.0));
            Box::pin(async move {
                Once::default().await;
                drop(reserved);
                Ok(n)
            })
        }
    }
    for polls in 0..4 {
        let in_flight = Arc::new(AtomicUsize::new(0));
        let layer = patient(Duration::from_secs(10));
        let (mut service, handle) = (layer.layer(Slow(Arc::clone(&in_flight))), layer.handle());
        service.ready().await.unwrap().call(0).await.unwrap();
        {
            let mut call = pin!(service.ready().await.unwrap().call(1));
            for step in 0..polls {
                if step == 1 {
                    time::advance(101 * MS).await;
                }
                let _ = poll(call.as_mut());
            }
        }
        assert_eq!(in_flight.load(Relaxed), 0);
        assert_eq!(Arc::strong_count(&in_flight), 2);
        if polls < 2 {
            time::advance(101 * MS).await;
        }
        // The place of a call that was not made is another's.
        assert_eq!(handle.remaining(), u32::from(polls < 2), "{polls}");
        time::advance(Duration::from_secs(1)).await;
        assert_eq!(handle.remaining(), 1);
    }
}

/// The inner service of a call that waits is readied when its turn comes, and what it says is passed on.
#[tokio::test(start_paused = true)]
async fn an_inner_service_that_fails_later_is_heard() {
    #[derive(Clone)]
    struct Broken(bool);
    impl Service<u32> for Broken {
        type Response = u32;
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<u32, std::io::Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
            if self.0 {
                return Poll::Ready(Err(std::io::Error::other("broken")));
            }
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, n: u32) -> Self::Future {
            self.0 = true;
            std::future::ready(Ok(n))
        }
    }
    let mut service = patient(Duration::from_secs(10)).layer(Broken(false));
    service.ready().await.unwrap().call(1).await.unwrap();
    // Not readied: it is broken now, and the call waits.
    let error = service.call(2).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");
}
