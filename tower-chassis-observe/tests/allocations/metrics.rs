//! The second call of a series allocates nothing, nor does the hundred-thousandth.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header::CONTENT_TYPE};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, Carrier,
    invocation::{MatchedRoute, RouteTable},
};
use tower_chassis_observe::{
    ObserveLayer,
    access_log::{AccessLogLayer, AccessLogPolicy, Format},
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    prometheus::Prometheus,
    registry::Registry,
    trace::TraceLayer,
};

use crate::{ALLOCATED, support::one};

/// A router without an allocation of its own.
#[derive(Clone)]
struct Matched(std::sync::Arc<RouteTable>);

impl Service<Request<()>> for Matched {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        request
            .invocation_mut()
            .set_route(MatchedRoute::new(self.0.clone(), 0));
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

/// Allocations of the second and third call on a request that has its invocation. The first makes something.
fn allocations<L, S>(layer: &L, make: impl Fn() -> Request<()>) -> usize
where
    L: Layer<Matched, Service = S>,
    S: Service<Request<()>, Error = Infallible> + Clone,
{
    let [first, second, third] = of_three(layer, make);
    assert!(first > 0, "the first call makes something");
    second + third
}

/// Allocations of three calls.
fn of_three<L, S>(layer: &L, make: impl Fn() -> Request<()>) -> [usize; 3]
where
    L: Layer<Matched, Service = S>,
    S: Service<Request<()>, Error = Infallible> + Clone,
{
    let table = RouteTable::new(["/users/{id}".into()]);
    let service = layer.layer(Matched(table.into()));
    [(); 3].map(|()| {
        let mut request = make();
        request.invocation_mut();
        let service = service.clone();
        let before = ALLOCATED.get();
        {
            let mut call = pin!(service.oneshot(request));
            assert!(
                call.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_ready()
            );
        }
        ALLOCATED.get() - before
    })
}

/// A request whose parts are slices of one buffer, as a server reads it.
fn received() -> Request<()> {
    let whole = Bytes::from(b"/users/7?token=x curl/8.5".to_vec());
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_maybe_shared(whole.slice(..16)).unwrap();
    let agent = HeaderValue::from_maybe_shared(whole.slice(17..)).unwrap();
    request.headers_mut().insert("user-agent", agent);
    request
}

#[test]
fn the_second_call_of_a_series_allocates_nothing() {
    let prometheus = Prometheus::new();
    let metrics = ServerMetricsLayer::new().recorder(prometheus.recorder());
    assert_eq!(allocations(&metrics, received), 0);

    let calls = CallMetricsLayer::new().recorder(prometheus.recorder());
    assert_eq!(allocations(&calls, received), 0);
    let client = ClientMetricsLayer::new().recorder(prometheus.recorder());
    assert_eq!(allocations(&client, received), 0);

    let log = AccessLogLayer::new(Format::Json, |line: &str| {
        assert!(line.contains("/users/{id}"))
    });
    assert_eq!(allocations(&log, received), 0);
    let some = AccessLogPolicy::default().with(|config| config.successes = 0.5);
    let some = AccessLogLayer::new(Format::Text, |_: &str| false).policy(some.unwrap());
    // The buffer of the thread is there.
    assert_eq!(of_three(&some, received), [0; 3]);

    // Nobody listens to the spans.
    let with_trace = || {
        let mut request = received();
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            .parse()
            .unwrap();
        request.headers_mut().insert("traceparent", header);
        request
    };
    let all = ObserveLayer::new((TraceLayer::new(), log, metrics));
    assert_eq!(allocations(&all, with_trace), 0);
}

thread_local! {
    /// The headers of the next answer: they take room, and are made before the counting begins.
    static HEADERS: RefCell<HeaderMap> = RefCell::default();
}

/// Whether somebody scrapes or not.
#[test]
fn a_hundred_thousand_calls_allocate_nothing() {
    let prometheus = Prometheus::new();
    let layer = ObserveLayer::new((
        ServerMetricsLayer::new().recorder(prometheus.recorder()),
        CallMetricsLayer::new().recorder(prometheus.recorder()),
        ClientMetricsLayer::new().recorder(prometheus.recorder()),
    ));
    let table = RouteTable::new(["/users/{id}".into()]);
    let mut matched = Matched(table.into());
    let service = layer.layer(service_fn(move |request: Request<()>| {
        let answer = matched.call(request).into_inner().map(|mut response| {
            HEADERS.with_borrow_mut(|headers| std::mem::swap(response.headers_mut(), headers));
            response
        });
        std::future::ready(answer)
    }));
    let calls = |count: u32, grpc: bool| -> usize {
        let call = |_| {
            let mut request = received();
            request.invocation_mut();
            if grpc {
                *request.method_mut() = Method::POST;
                let kind = HeaderValue::from_static("application/grpc");
                request.headers_mut().insert(CONTENT_TYPE, kind.clone());
                HEADERS.with_borrow_mut(|headers| {
                    headers.insert(CONTENT_TYPE, kind);
                    headers.insert("grpc-status", HeaderValue::from_static("0"));
                });
            }
            let service = service.clone();
            let before = ALLOCATED.get();
            {
                let mut call = pin!(service.oneshot(request));
                let mut cx = Context::from_waker(Waker::noop());
                assert!(call.as_mut().poll(&mut cx).is_ready());
            }
            ALLOCATED.get() - before
        };
        (0..count).map(call).sum()
    };
    for grpc in [false, true] {
        let first = calls(100, grpc);
        assert!(first > 0, "the first calls make something");
        assert_eq!(calls(100_000, grpc), 0);
    }
    let text = prometheus.render();
    let calls = |name: &str| one(&text, name, &[]);
    assert_eq!(
        calls("http_server_request_duration_seconds_count"),
        100_100.0
    );
    assert_eq!(calls("rpc_server_call_duration_seconds_count"), 100_100.0);
    assert_eq!(calls("rpc_client_call_duration_seconds_count"), 100_100.0);
}

#[test]
fn handles_of_the_registry_allocate_nothing() {
    let registry = Registry::new();
    let (counter, gauge, histogram) = metrics::with_local_recorder(&registry, || {
        (
            metrics::counter!("c"),
            metrics::gauge!("g"),
            metrics::histogram!("h"),
        )
    });
    gauge.increment(1.0);
    let before = ALLOCATED.get();
    for n in 0..100_000_u32 {
        counter.increment(1);
        gauge.increment(1.0);
        gauge.decrement(1.0);
        gauge.set(f64::from(n));
        histogram.record(f64::from(n));
    }
    assert_eq!(ALLOCATED.get(), before);
}
