//! What a call through timeout and retry allocates.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::{Empty, Full};
use tower::{Layer, Service, service_fn};
use tower_chassis_core::{BoxError, Carrier, verdict::Outcome};
use tower_chassis_resilience::{
    retry::{PeekLayer, RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};

use super::made;

/// The allocations of the second call of `service`.
fn allocations<S, Req>(mut service: S, request: impl Fn() -> Req) -> usize
where
    S: Service<Req, Error = BoxError>,
{
    let mut last = 0;
    for _ in 0..2 {
        let request = request();
        let before = made();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
        let mut future = pin!(service.call(request));
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
                assert!(result.is_ok());
                break;
            }
        }
        last = made() - before;
    }
    last
}

async fn answer<B>(_: Request<B>) -> Result<Response<()>, BoxError> {
    Ok(Response::new(()))
}

#[tokio::test]
async fn a_timeout_allocates_nothing_with_and_without_a_timer() {
    let layer = TimeoutLayer::per_try(TimeoutPolicy::new(Duration::from_secs(60)).unwrap());
    let at_once = layer.layer(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
    assert_eq!(allocations(at_once, || 7), 0);
    let later = layer.layer(service_fn(async |n: u32| {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(n)
    }));
    assert_eq!(allocations(later, || 7), 0);
}

#[test]
fn a_retry_that_does_not_happen() {
    let layer = RetryLayer::new(RetryPolicy::default());
    let get = || Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(
        allocations(layer.clone().untracked().layer(service_fn(answer)), get),
        0
    );
    assert_eq!(
        allocations(layer.layer(service_fn(answer)), get),
        4,
        "the invocation"
    );
    // What is shared of the body; it is not read here.
    let put = || {
        Request::put("/")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap()
    };
    assert_eq!(
        allocations(layer.clone().untracked().layer(service_fn(answer)), put),
        1
    );
    assert_eq!(
        allocations(
            layer.untracked().clone_body().layer(service_fn(answer)),
            put
        ),
        0
    );
}

/// A protocol of one's own, whose clone allocates nothing.
#[derive(Clone, Default)]
struct Ask(Extensions);

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.0
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

struct Reply;

impl Outcome for Reply {}

#[test]
fn a_retry_of_a_protocol_of_ones_own_that_does_not_happen() {
    let layer = RetryLayer::new(RetryPolicy::default()).clone_body();
    let inner = || service_fn(async |_: Ask| Ok::<_, BoxError>(Reply));
    let untracked = layer.clone().untracked().layer(inner());
    assert_eq!(allocations(untracked, Ask::default), 0);
    assert_eq!(
        allocations(layer.layer(inner()), Ask::default),
        4,
        "the invocation"
    );
}

#[test]
fn a_look_at_the_first_frame() {
    let answers = |kind: &'static str| {
        service_fn(async move |_: Request<Empty<Bytes>>| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"message")));
            response.headers_mut().insert("content-type", kind.parse()?);
            Ok::<_, BoxError>(response)
        })
    };
    let get = || Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    for kind in ["text/plain", "application/grpc"] {
        let plain = allocations(answers(kind), get);
        let peeked = allocations(PeekLayer::new().layer(answers(kind)), get);
        assert_eq!(peeked, plain, "{kind}");
    }
}
