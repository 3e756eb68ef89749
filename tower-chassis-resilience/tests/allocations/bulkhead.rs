//! What a call through a bulkhead allocates: nothing, unless it is refused.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service, service_fn};
use tower_chassis_resilience::bulkhead::{BulkheadLayer, BulkheadPolicy};

use super::made;

async fn echo(n: u32) -> Result<u32, Infallible> {
    tokio::task::yield_now().await;
    Ok(n)
}

fn layer(limit: u32) -> BulkheadLayer {
    let policy = BulkheadPolicy::new(limit).unwrap();
    BulkheadLayer::new(policy.with(|config| config.queue = 4).unwrap())
}

#[test]
fn a_call_that_finds_a_permit_allocates_nothing() {
    for limit in [1, 1_000] {
        let mut service = layer(limit).layer(service_fn(echo));
        let mut cx = Context::from_waker(Waker::noop());
        let before = made();
        for n in 0..3 {
            assert!(service.poll_ready(&mut cx).is_ready());
            let mut call = pin!(service.call(n));
            let answer = loop {
                if let Poll::Ready(answer) = call.as_mut().poll(&mut cx) {
                    break answer;
                }
            };
            assert_eq!(answer.unwrap(), n);
        }
        assert_eq!(made() - before, 0);
    }
}

/// A new key makes its state; its next calls find it.
#[test]
fn a_call_of_a_known_key_allocates_nothing() {
    let keyed = layer(1).keyed(|n: &u32| Some(n % 2));
    let mut service = keyed.layer(service_fn(echo));
    let mut cx = Context::from_waker(Waker::noop());
    for n in 0..6 {
        let before = made();
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut call = pin!(service.call(n));
        while call.as_mut().poll(&mut cx).is_pending() {}
        assert_eq!(made() == before, n >= 2, "{n}");
    }
}

/// The list of those who wait is kept. What a call needs to wait is in a box, and the call that it makes then in another: so
/// those that need not wait have a small future.
#[tokio::test]
async fn a_call_that_waits_allocates_two_boxes() {
    let mut service = layer(1).layer(service_fn(echo));
    for round in 0..3 {
        let before = made();
        let first = service.call(0);
        {
            let mut waits = pin!(service.call(1));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            drop(first);
            while waits.as_mut().poll(&mut cx).is_pending() {}
        }
        if round > 0 {
            assert_eq!(made() - before, 2);
        }
    }
}
