//! A line allocates nothing, whatever its format.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use tower::{Layer, Service, ServiceExt};
use tower_chassis_core::{
    Body, Carrier,
    invocation::{MatchedRoute, RouteTable},
    trace::TraceContext,
};
use tower_chassis_observe::access_log::{AccessLogLayer, Format, Query, Template};

use crate::ALLOCATED;

/// A router without an allocation of its own, that fails one call of three.
#[derive(Clone)]
struct Matched(Arc<RouteTable>, Arc<str>, Cell<u8>);

impl<B> Service<Request<B>> for Matched {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let invocation = request.invocation_mut();
        invocation.set_route(MatchedRoute::new(self.0.clone(), 0));
        invocation.set_principal(self.1.clone());
        let mut response = Response::new(Body::empty());
        if self.2.get() == 1 {
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        }
        ready(Ok(response))
    }
}

/// A request whose parts are slices of one buffer, as a server reads it.
fn received() -> Request<Body> {
    let whole = Bytes::from(b"/users/7?token=x curl/8.5 12".to_vec());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_maybe_shared(whole.slice(..16)).unwrap();
    for (name, value) in [
        ("user-agent", whole.slice(17..25)),
        ("content-length", whole.slice(26..)),
    ] {
        let value = HeaderValue::from_maybe_shared(value).unwrap();
        request.headers_mut().insert(name, value);
    }
    let invocation = request.invocation_mut();
    invocation.set_client("203.0.113.9:4711".parse().unwrap());
    invocation.set_request_id("r-1".into());
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    invocation.set_trace(TraceContext::parse(header).unwrap(), None);
    request
}

/// Allocations of a thousand calls, the first one aside: it makes the buffer.
fn allocations<L, S>(layer: &L) -> usize
where
    L: Layer<Matched, Service = S>,
    S: Service<Request<Body>, Error = Infallible> + Clone,
{
    let mut sum = 0;
    for failed in [0, 1] {
        let table = RouteTable::new(["/users/{id}".into()]);
        let service = layer.layer(Matched(table.into(), "ann".into(), Cell::new(failed)));
        for call in 0..500 {
            let request = received();
            let service = service.clone();
            let before = ALLOCATED.get();
            {
                let mut call = pin!(service.oneshot(request));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut cx).is_ready());
            }
            if call > 0 {
                sum += ALLOCATED.get() - before;
            }
        }
    }
    sum
}

fn log(format: Format) -> AccessLogLayer {
    AccessLogLayer::new(format, |line: &str| assert!(line.len() > 20)).template(
        Template::parse("{time} {client} {user} {method} {path} {status} {duration_ms} {bytes} {trace_id} {level}")
            .unwrap(),
    )
}

#[test]
fn a_line_of_any_format_allocates_nothing() {
    for format in [
        Format::Text,
        Format::Json,
        Format::Common,
        Format::Combined,
        Format::Ecs,
        Format::Otel,
        Format::Gcp,
        Format::Template,
    ] {
        assert_eq!(allocations(&log(format)), 0, "{format:?}");
    }
    // Whoever asks for more pays for it, and the test can see it.
    assert!(allocations(&log(Format::Text).query(Query::Full)) > 0);
}

#[test]
fn excerpts_that_nobody_asks_for_allocate_nothing() {
    use tower::ServiceBuilder;
    use tower_chassis_observe::access_log::{Excerpt, ExcerptLayer};

    let log = log(Format::Json);
    let layers = ServiceBuilder::new()
        .layer(log.clone())
        .layer(ExcerptLayer::new())
        .into_inner();
    assert_eq!(allocations(&layers), 0);
    let handle = log.handle();
    let all = |excerpts| handle.update(|config| config.excerpts = excerpts).unwrap();
    all(Excerpt::All);
    assert!(allocations(&layers) > 0);
    all(Excerpt::Off);
    assert_eq!(allocations(&layers), 0);
}
