//! The servers, each on a port of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use http::{Request, Response};
use tokio::net::TcpListener;
use tonic::{
    Status,
    transport::{Channel, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};
use tower::Service;
use tower_chassis::{
    Body, BoxError,
    server::{Address, Drain, Server, ServerPolicy},
    trace::TraceLayer,
};

/// Fails so often, then is healthy.
pub(crate) struct Health(Arc<AtomicU32>);

impl Health {
    pub(crate) fn failing(times: u32) -> Self {
        Self(Arc::new(AtomicU32::new(times)))
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = tonic::codegen::tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let left = self.0.load(SeqCst);
        if left > 0 {
            self.0.store(left - 1, SeqCst);
            return Err(Status::unavailable("not yet"));
        }
        Ok(tonic::Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again"))
    }
}

pub(crate) async fn serve_tonic(
    layer: TraceLayer,
    health: impl health_server::Health,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .layer(layer)
        .add_service(HealthServer::new(health))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    address
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

pub(crate) async fn serve_axum(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

pub(crate) async fn serve_ours<S, B>(service: S, drain: Drain) -> SocketAddr
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let server = Server::new(ServerPolicy::default()).listen("127.0.0.1:0");
    let bound = server.bind().await.unwrap();
    let [Address::Tcp(address)] = bound.addresses()[..] else {
        panic!("{:?}", bound.addresses())
    };
    tokio::spawn(async move { bound.serve(service, drain).await });
    address
}
