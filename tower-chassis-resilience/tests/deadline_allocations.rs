//! What a call with a deadline allocates.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written with it"
)]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    borrow::Cow,
    cell::Cell,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{Extensions, Request};
use tower::{Layer, Service, service_fn};
use tower_chassis_core::{BoxError, Carrier};
use tower_chassis_resilience::deadline::{DeadlineLayer, DeadlinePolicy};

struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.set(MADE.get() + 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations of a call of `service` that is answered at once.
fn allocations<S, Req>(mut service: S, request: Req) -> usize
where
    S: Service<Req, Response = Req, Error = BoxError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let before = MADE.get();
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let mut future = pin!(service.call(request));
    let Poll::Ready(Ok(_request)) = future.as_mut().poll(&mut cx) else {
        panic!("not answered at once")
    };
    MADE.get() - before
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
