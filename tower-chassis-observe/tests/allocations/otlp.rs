//! What a span costs on its way to a collector, on the task of its call.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use http::{Request, Response};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::Body;
use tower_chassis_observe::{
    otlp::{Otlp, OtlpConfig, OtlpPolicy, OtlpSpans},
    trace::TraceLayer,
};
use tower_service::Service;

use crate::ALLOCATED;

/// Allocations of so many calls, with a sink or without, after some first ones.
fn of_calls(count: usize, sink: Option<OtlpSpans>) -> usize {
    let layer = match sink {
        Some(sink) => TraceLayer::new().sink(sink),
        None => TraceLayer::new(),
    };
    let mut service =
        ServiceBuilder::new()
            .layer(layer)
            .service(service_fn(async |_: Request<()>| {
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }));
    let mut call = || {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(service.ready()).poll(&mut cx).is_ready());
        let request = Request::new(());
        let before = ALLOCATED.get();
        {
            let future = pin!(service.call(request));
            assert!(future.poll(&mut cx).is_ready());
        }
        ALLOCATED.get() - before
    };
    for _ in 0..100 {
        call();
    }
    (0..count).map(|_| call()).sum()
}

#[test]
fn a_place_in_the_queue_is_a_thirty_second_of_an_allocation() {
    let mut config = OtlpConfig::default();
    (config.queue, config.batch) = (100_000, 100_000);
    let (otlp, _worker) = Otlp::new(OtlpPolicy::try_from(config).unwrap());
    let (with, without) = (of_calls(3_200, Some(otlp.spans())), of_calls(3_200, None));
    assert_eq!(otlp.span_tally().waiting, 3_300);
    assert!(with - without <= 100, "{with} {without}");
}

#[test]
fn a_span_that_finds_no_room_costs_none() {
    let mut config = OtlpConfig::default();
    (config.queue, config.batch) = (1, 1);
    let (otlp, _worker) = Otlp::new(OtlpPolicy::try_from(config).unwrap());
    let (with, without) = (of_calls(3_200, Some(otlp.spans())), of_calls(3_200, None));
    assert_eq!(otlp.span_tally().lost, 3_299);
    assert_eq!(with, without);
}
