//! Around the `Channel` of a tonic client, over a socket, to a tonic server without layers.

use bytes::Bytes;
use http_body::Body as HttpBody;
use tokio::net::TcpListener;
use tonic::{
    body::Body as TonicBody,
    client::GrpcService,
    transport::{Channel, Error, Server, server::TcpIncoming},
};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};
use tower::{Layer, ServiceBuilder, layer::util::Stack};
use tower_chassis::{
    BoxError, breaker::BreakerLayer, bulkhead::BulkheadLayer, invocation::Idempotent,
    retry::PeekLayer, timeout::TimeoutLayer,
};

use crate::{
    backend::{Answer, Ask, Backend},
    rows::{self, Row},
    under_tonic::question,
};

async fn run<L>(row: Row<L>)
where
    L: Layer<Channel>,
    L::Service: GrpcService<
            TonicBody,
            Error: Into<BoxError>,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
        > + Clone,
{
    let backend = Backend::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(HealthServer::new(backend.clone()))
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let client = HealthClient::new(ServiceBuilder::new().layer(row.layer).service(channel));
    let ask = async |ask: Ask| {
        let mut request = question(ask);
        // What gRPC cannot say of a method.
        request.extensions_mut().insert(Idempotent);
        Answer::of_grpc(&client.clone().check(request).await)
    };
    row.play.act(&backend, ask).await;
    server.abort();
}

rows! { run;
    timeout: rows::timeout().rescued(),
    timeout_until_end: rows::timeout().with(TimeoutLayer::until_end).rescued(),
    idle: rows::idle().rescued(),
    retry: rows::retry().with(|layer| layer.rewrap_with(TonicBody::new)).rescued(),
    retry_peeking: rows::retry()
        .with(|layer| Stack::new(PeekLayer::new(), layer.rewrap_with(TonicBody::new)))
        .rescued(),
    breaker: rows::breaker().rescued(),
    breaker_until_end: rows::breaker().with(BreakerLayer::until_end).rescued(),
    rate_limit: rows::rate_limit().rescued(),
    balance: rows::balance().rescued(),
    adaptive: rows::adaptive().rescued(),
    shed: rows::shed().rescued(),
    bulkhead: rows::bulkhead().rescued(),
    bulkhead_until_end: rows::bulkhead().with(BulkheadLayer::until_end).rescued(),
    bulkhead_deadlines: rows::bulkhead().with(BulkheadLayer::deadlines).rescued(),
    deadline: rows::propagate().rescued(),
    metrics: rows::client_metrics(),
    trace: rows::client_trace(),
    call_metrics: rows::call_metrics(),
    audit: rows::audit(),
    lossless_audit: rows::lossless_audit().rescued(),
    rescue: rows::rescue(),
    judge: rows::judge::<TonicBody, Error>().rescued(),
}
