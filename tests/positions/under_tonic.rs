//! Inside of a tonic server (`Server::layer`), asked over a socket by a client of tonic without layers.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::net::TcpListener;
use tonic::{
    body::Body as TonicBody,
    service::Routes,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, health_client::HealthClient, health_server::HealthServer,
};
use tower::{Layer, Service};
use tower_chassis::{
    BoxError, breaker::BreakerLayer, bulkhead::BulkheadLayer, timeout::TimeoutLayer,
};

use crate::{
    backend::{Answer, Ask, Backend},
    rows::{self, Row},
};

pub(crate) fn question(ask: Ask) -> tonic::Request<HealthCheckRequest> {
    tonic::Request::new(HealthCheckRequest {
        service: ask.path().into(),
    })
}

async fn run<L, B>(row: Row<L>)
where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service: Service<
            Request<TonicBody>,
            Response = Response<B>,
            Error: Into<BoxError> + Send,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let backend = Backend::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .layer(row.layer)
        .add_service(HealthServer::new(backend.clone()))
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let client = HealthClient::new(channel.connect().await.unwrap());
    let ask = async |ask: Ask| Answer::of_grpc(&client.clone().check(question(ask)).await);
    row.play.act(&backend, ask).await;
    server.abort();
}

rows! { run;
    timeout: rows::timeout().rescued(),
    timeout_until_end: rows::timeout().with(TimeoutLayer::until_end).rescued(),
    idle: rows::idle().rescued(),
    breaker: rows::breaker().rescued(),
    breaker_until_end: rows::breaker().with(BreakerLayer::until_end).rescued(),
    rate_limit: rows::rate_limit().rescued(),
    adaptive: rows::adaptive().rescued(),
    shed: rows::shed().rescued(),
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
    heartbeat: rows::heartbeat_beside_grpc(),
    rescue: rows::rescue(),
    judge: rows::judge::<TonicBody, Infallible>().rescued(),
}
