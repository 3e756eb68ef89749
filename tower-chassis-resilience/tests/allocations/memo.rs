//! What calls through fallback, cache and coalesce allocate.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use tower::{Layer, Service};
use tower_chassis_core::verdict::OkIsSuccess;
use tower_chassis_resilience::{
    cache::{CacheLayer, CachePolicy},
    coalesce::{CoalesceLayer, CoalescePolicy},
    fallback::FallbackLayer,
};

use super::made;

#[derive(Clone)]
struct Echo;

impl Service<u32> for Echo {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

/// The allocations of each call.
fn allocations<S: Service<u32, Response = u32>>(mut service: S, calls: &[u32]) -> Vec<usize> {
    let mut cx = Context::from_waker(Waker::noop());
    let each = |call: &u32| {
        let before = made();
        assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
        let mut future = pin!(service.call(*call));
        let Poll::Ready(Ok(answer)) = future.as_mut().poll(&mut cx) else {
            panic!("an answer at once");
        };
        assert_eq!(answer, *call);
        made() - before
    };
    calls.iter().map(each).collect()
}

#[test]
fn a_fallback_that_is_not_needed_allocates_nothing() {
    let layer = FallbackLayer::with(|_| 0).classify(OkIsSuccess);
    assert_eq!(allocations(layer.layer(Echo), &[1, 1]), [0, 0]);
}

#[test]
fn a_hit_allocates_nothing_and_a_miss_what_it_keeps() {
    let policy = CachePolicy::default().with(|config| config.max_entries = 2);
    let layer = CacheLayer::new(policy.unwrap(), |n: &u32| Some(*n)).classify(OkIsSuccess);
    let made = allocations(layer.layer(Echo), &[1, 2, 3, 4, 5, 5, 6, 6]);
    assert_eq!(made[4..], [1, 0, 1, 0]);
}

#[test]
fn a_call_that_nobody_joins_allocates_nothing() {
    let layer = CoalesceLayer::new(CoalescePolicy::default(), |n: &u32| Some(*n));
    assert_eq!(allocations(layer.layer(Echo), &[1, 1, 1])[1..], [0, 0]);
}
