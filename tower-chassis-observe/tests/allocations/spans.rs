//! A span that goes to a sink allocates nothing, from the second on.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use http::{Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{Body, Carrier, clock};
use tower_chassis_observe::trace::{
    ClientTraceLayer, FinishedSpan, Sampling, SpanSink, TraceLayer,
};

use crate::ALLOCATED;

/// Looks at what it gets and lets it go.
struct Forgets;

impl SpanSink for Forgets {
    fn ended(&self, span: FinishedSpan) {
        let mut count = 0;
        span.attributes(&mut |_, _| count += 1);
        // A client that does not say its version has three.
        assert!(count >= 3);
    }
}

/// Allocations and readings of the clock of one call, after a first one.
fn of_a_call<L, S>(layer: &L, request: impl Fn() -> Request<()>) -> (usize, u64)
where
    L: Layer<tower::util::ServiceFn<fn(Request<()>) -> Answer>, Service = S>,
    S: Service<Request<()>, Error = Infallible> + Clone,
{
    let answer: fn(Request<()>) -> Answer =
        |_| std::future::ready(Ok(Response::new(Body::empty())));
    let service = layer.layer(service_fn(answer));
    let mut last = (0, 0);
    for _ in 0..3 {
        let mut request = request();
        request.invocation_mut();
        let service = service.clone();
        let before = (ALLOCATED.get(), clock::readings());
        {
            let mut call = pin!(service.oneshot(request));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(call.as_mut().poll(&mut cx).is_ready());
        }
        last = (ALLOCATED.get() - before.0, clock::readings() - before.1);
    }
    last
}

type Answer = std::future::Ready<Result<Response<Body>, Infallible>>;

fn request(path: &str) -> Request<()> {
    Request::get(path)
        .header("host", "shop.example:8080")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        )
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body(())
        .unwrap()
}

#[test]
fn a_span_allocates_nothing() {
    let usual = || request("/users/7?token=x");
    let server = TraceLayer::new().sink(Forgets);
    // Client addresses are written into a text; there is none here.
    assert_eq!(of_a_call(&server, usual), (0, 2));
    // One for the texts that are too long.
    let long = "/a".repeat(300);
    assert_eq!(of_a_call(&server, || request(&long)).0, 1);

    // Nobody takes it: nobody asks for the time.
    let unheard = TraceLayer::new();
    assert_eq!(of_a_call(&unheard, usual), (0, 0));
    assert_eq!((unheard.handle().calls(), unheard.handle().spans()), (3, 0));
    let none = TraceLayer::new()
        .sink(Forgets)
        .sampling(Sampling::ratio(0.0));
    let begins = || {
        let mut request = usual();
        request.headers_mut().remove("traceparent");
        request
    };
    assert_eq!(of_a_call(&none, begins), (0, 0));

    // The value of the header.
    let client = ClientTraceLayer::new().sink(Forgets);
    assert_eq!(of_a_call(&client, usual), (1, 2));
}
