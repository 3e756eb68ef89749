//! On the five routes of an axum `Router`, which layers each of them and clones it for each request.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body as AxumBody,
    response::IntoResponse,
    routing::{Route, get},
};
use http::Request;
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};
use tower_chassis::{
    Body, breaker::BreakerLayer, bulkhead::BulkheadLayer, retry::RetryLayer, timeout::TimeoutLayer,
};

use crate::{
    backend::{Answer, Ask, Backend},
    rows::{self, Row},
};

/// The five routes, each of them wrapped.
pub(crate) fn router<L>(backend: &Backend, layer: L) -> Router
where
    L: Layer<Route> + Clone + Send + Sync + 'static,
    L::Service: Service<
            Request<AxumBody>,
            Response: IntoResponse + 'static,
            Error: Into<Infallible> + 'static,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    let mut router = Router::new();
    for ask in Ask::ALL {
        let backend = backend.clone();
        let handler = get(move |request: Request<AxumBody>| backend.clone().http(request));
        router = router.route(ask.path(), handler);
    }
    router.layer(layer)
}

async fn run<L>(row: Row<L>)
where
    L: Layer<Route> + Clone + Send + Sync + 'static,
    L::Service: Service<
            Request<AxumBody>,
            Response: IntoResponse + 'static,
            Error: Into<Infallible> + 'static,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    let backend = Backend::default();
    let router = router(&backend, row.layer);
    let ask = async |ask: Ask| {
        let request = Request::get(ask.path()).body(AxumBody::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let answer = Answer::of_status(response.status());
        response.into_body().collect().await.unwrap();
        answer
    };
    row.play.act(&backend, ask).await;
}

rows! { run;
    timeout: rows::timeout().rescued(),
    timeout_until_end: rows::timeout().with(TimeoutLayer::until_end).rescued(),
    idle: rows::idle().rescued(),
    retry: rows::retry().with(RetryLayer::rewrap::<Body>).rescued(),
    breaker: rows::breaker().rescued(),
    breaker_until_end: rows::breaker().with(BreakerLayer::until_end).rescued(),
    rate_limit: rows::rate_limit().rescued(),
    adaptive: rows::adaptive().rescued(),
    shed: rows::shed().rescued(),
    fault: rows::fault().rescued(),
    bulkhead: rows::bulkhead().rescued(),
    bulkhead_until_end: rows::bulkhead().with(BulkheadLayer::until_end).rescued(),
    bulkhead_deadlines: rows::bulkhead().with(BulkheadLayer::deadlines).rescued(),
    deadline: rows::accept().rescued(),
    metrics: rows::metrics(),
    trace: rows::trace(),
    access_log: rows::access_log(),
    observe: rows::observe(),
    excerpts: rows::excerpts(),
    audit: rows::audit(),
    lossless_audit: rows::lossless_audit().rescued(),
    heartbeat: rows::heartbeat(),
    rescue: rows::rescue(),
    judge: rows::judge::<AxumBody, Infallible>().rescued(),
}
