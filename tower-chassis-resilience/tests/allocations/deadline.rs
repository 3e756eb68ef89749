//! What a call with a deadline allocates.

use std::{
    borrow::Cow,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{Extensions, Request};
use tower::{Layer, Service, service_fn};
use tower_chassis_core::{BoxError, Carrier};
use tower_chassis_resilience::deadline::{DeadlineLayer, DeadlinePolicy};

use super::made;

/// The allocations of a call of `service` that is answered at once.
fn allocations<S, Req>(mut service: S, request: Req) -> usize
where
    S: Service<Req, Response = Req, Error = BoxError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let before = made();
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let mut future = pin!(service.call(request));
    let Poll::Ready(Ok(_request)) = future.as_mut().poll(&mut cx) else {
        panic!("not answered at once")
    };
    made() - before
}

/// A request that was on its way already: it has an invocation, and a header of each name.
fn arrived(grpc: bool) -> Request<()> {
    let mut request = Request::new(());
    request.invocation_mut();
    request.set_meta("x-request-timeout-ms", "1000".into());
    if grpc {
        request.set_meta("content-type", "application/grpc".into());
        request.set_meta("grpc-timeout", "1S".into());
    }
    request
}

/// A protocol that keeps what it is told without allocating.
struct Frame {
    left: [u8; 24],
    extensions: Extensions,
}

impl Carrier for Frame {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn set_meta(&mut self, _: &'static str, value: Cow<'_, str>) -> bool {
        self.left[..value.len()].copy_from_slice(value.as_bytes());
        true
    }
}

#[test]
fn none_but_for_the_value_that_http_keeps() {
    let echo = service_fn(async |request: Request<()>| Ok::<_, BoxError>(request));
    let accept = DeadlineLayer::accept(DeadlinePolicy::default()).layer(echo);
    let propagate = DeadlineLayer::propagate(DeadlinePolicy::default()).layer(echo);
    for grpc in [false, true] {
        assert_eq!(allocations(accept.clone(), arrived(grpc)), 0);
        assert_eq!(allocations(propagate.clone(), arrived(grpc)), 1);
    }

    let echo = service_fn(async |frame: Frame| Ok::<_, BoxError>(frame));
    let propagate = DeadlineLayer::propagate(DeadlinePolicy::default()).layer(echo);
    let mut frame = Frame {
        left: [0; 24],
        extensions: Extensions::new(),
    };
    frame.invocation_mut();
    assert_eq!(allocations(propagate, frame), 0);
}
