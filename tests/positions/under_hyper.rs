//! Around a service on plain hyper, over sockets: a connection for each request.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, Service, ServiceBuilder};
use tower_chassis::{
    Body, BoxError, breaker::BreakerLayer, bulkhead::BulkheadLayer, timeout::TimeoutLayer,
};

use crate::{
    backend::{Answer, Ask, Backend},
    rows::{self, Row},
};

async fn get(address: SocketAddr, path: &str) -> StatusCode {
    let stream = TcpStream::connect(address).await.unwrap();
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = connection.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, "shop");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    response.into_body().collect().await.unwrap();
    status
}

async fn run<L, B>(row: Row<L>)
where
    L: Layer<Backend>,
    L::Service: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: HttpBody<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let backend = Backend::default();
    let stack = ServiceBuilder::new().layer(row.layer);
    let service = TowerToHyperService::new(stack.service(backend.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    let ask = async |ask: Ask| Answer::of_status(get(address, ask.path()).await);
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
    judge: rows::judge::<Body, BoxError>().rescued(),
}
