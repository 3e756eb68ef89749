//! Recorders of a user's own, which fail.

use std::{convert::Infallible, sync::Arc};

use crate::support::{Routes, get};
use http::{Request, Response};
use http_body_util::BodyExt;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_observe::metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer};

/// Panics when it is asked for a handle, or when a handle is told something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Panics {
    AtOnce,
    Later,
}

impl Panics {
    fn handle<T>(self, handle: impl FnOnce(Arc<Self>) -> T) -> T {
        assert!(self == Self::Later, "planted");
        handle(Arc::new(self))
    }
}

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.handle(Counter::from_arc)
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.handle(Gauge::from_arc)
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.handle(Histogram::from_arc)
    }
}

impl CounterFn for Panics {
    fn increment(&self, _: u64) {
        panic!("planted")
    }
    fn absolute(&self, _: u64) {
        panic!("planted")
    }
}

impl GaugeFn for Panics {
    fn increment(&self, _: f64) {
        panic!("planted")
    }
    fn decrement(&self, _: f64) {
        panic!("planted")
    }
    fn set(&self, _: f64) {
        panic!("planted")
    }
}

impl HistogramFn for Panics {
    fn record(&self, _: f64) {
        panic!("planted")
    }
}

async fn is_answered<S, B>(service: S)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible> + Clone,
    B: http_body::Body,
{
    for _ in 0..2 {
        let response = service.clone().oneshot(get("/users/1")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_ok());
    }
}

#[tokio::test]
async fn a_recorder_that_panics_costs_no_call_and_no_count() {
    for panics in [Panics::AtOnce, Panics::Later] {
        let routes = Routes::default();
        let routes = service_fn(move |request| routes.clone().call(request));
        let server = ServerMetricsLayer::new().recorder(Arc::new(panics));
        is_answered(server.layer(routes.clone())).await;
        let client = ClientMetricsLayer::new().recorder(Arc::new(panics));
        is_answered(client.layer(routes.clone())).await;
        let call = CallMetricsLayer::new().recorder(Arc::new(panics));
        is_answered(call.layer(routes)).await;
        for handle in [server.handle(), client.handle(), call.handle()] {
            assert_eq!((handle.calls(), handle.in_flight()), (2, 0), "{panics:?}");
        }
    }
}
