//! On a `ServiceBuilder` over a service of HTTP, in process: what belongs on a server and what belongs in a client.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_chassis::{
    Body, BoxError, adaptive::AdaptiveLayer, breaker::BreakerLayer, bulkhead::BulkheadLayer,
    fault::FaultLayer, timeout::TimeoutLayer,
};

use crate::{
    backend::{Answer, Ask, Backend},
    rows::{self, Row},
};

async fn run<L, B>(row: Row<L>)
where
    L: Layer<Backend>,
    L::Service:
        Service<Request<Full<Bytes>>, Response = Response<B>, Error: Into<BoxError>> + Clone,
    B: HttpBody,
{
    let backend = Backend::default();
    let service = ServiceBuilder::new()
        .layer(row.layer)
        .service(backend.clone());
    let ask = async |ask: Ask| {
        let request = Request::get(ask.path()).body(Full::default()).unwrap();
        let response = service.clone().oneshot(request).await;
        let response = response.map_err(Into::into).unwrap();
        let answer = Answer::of_status(response.status());
        assert!(response.into_body().collect().await.is_ok());
        answer
    };
    row.play.act(&backend, ask).await;
}

async fn shadow(_: Request<Body>) -> Result<Response<Body>, BoxError> {
    Ok(Response::default())
}

rows! { run;
    timeout: rows::timeout().rescued(),
    timeout_until_end: rows::timeout().with(TimeoutLayer::until_end).rescued(),
    idle: rows::idle().rescued(),
    retry: rows::retry().rescued(),
    caller_attempt: rows::caller_attempt::<Request<Full<Bytes>>>().rescued(),
    hedge: rows::hedge().rescued(),
    breaker: rows::breaker().rescued(),
    breaker_until_end: rows::breaker().with(BreakerLayer::until_end).rescued(),
    rate_limit: rows::rate_limit().rescued(),
    balance: rows::balance().rescued(),
    bulkhead: rows::bulkhead().rescued(),
    bulkhead_until_end: rows::bulkhead().with(BulkheadLayer::until_end).rescued(),
    bulkhead_deadlines: rows::bulkhead().with(BulkheadLayer::deadlines).rescued(),
    adaptive: rows::adaptive().rescued(),
    adaptive_until_end: rows::adaptive().with(AdaptiveLayer::until_end).rescued(),
    shed: rows::shed().rescued(),
    fault: rows::fault().rescued(),
    fault_http: rows::fault().with(FaultLayer::http).rescued(),
    mirror: rows::mirror(tower::service_fn(shadow)).rescued(),
    accept: rows::accept().rescued(),
    propagate: rows::propagate().rescued(),
    fallback: rows::marked_fallback(|_| Response::new(Body::full("instead"))),
    cache: rows::cache(),
    coalesce: rows::coalesce().rescued(),
    metrics: rows::metrics(),
    client_metrics: rows::client_metrics(),
    trace: rows::trace(),
    client_trace: rows::client_trace(),
    access_log: rows::access_log(),
    observe: rows::observe(),
    excerpts: rows::excerpts(),
    audit: rows::audit(),
    lossless_audit: rows::lossless_audit().rescued(),
    heartbeat: rows::heartbeat(),
    call_metrics: rows::call_metrics(),
    vcr_recording: rows::vcr_recording(),
    vcr_replaying: rows::vcr_replaying(),
    rescue: rows::rescue(),
    judge: rows::judge::<Body, BoxError>().rescued(),
}
