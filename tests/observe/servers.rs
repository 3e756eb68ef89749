//! The servers, each on a port of its own.

use std::{fmt, net::SocketAddr};

use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::transport::server::TcpIncoming;
use tower::ServiceBuilder;
use tower_chassis::{
    Events, ObserveLayer,
    access_log::AccessLogLayer,
    metrics::ServerMetricsLayer,
    observe::audit::AuditLayer,
    router::{Router, any_service},
    server::{Address, Drain, Server, ServerPolicy},
    trace::TraceLayer,
};

use crate::{
    app::{App, outside},
    seen::Told,
};

/// The one stack.
pub(crate) type Observers = ObserveLayer<(
    TraceLayer,
    AccessLogLayer,
    ServerMetricsLayer,
    (AuditLayer, Told),
)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum On {
    Ours,
    Hyper,
    Axum,
    Tonic,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wire {
    One,
    Two,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1.1",
            Self::Two => "2",
        })
    }
}

pub(crate) const TEMPLATE: &str = "/ends/{end}";
pub(crate) const RPC_TEMPLATE: &str = "/ends.Ends/{end}";

/// Stops with its owner.
pub(crate) struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn serve(
    on: On,
    observers: Observers,
    app: App,
    events: &Events,
) -> (SocketAddr, Serving) {
    let router = || {
        Router::new()
            .route(TEMPLATE, any_service(app.clone()))
            .route(RPC_TEMPLATE, any_service(app.clone()))
            .build()
            .unwrap()
    };
    if on == On::Ours {
        let server = Server::new(ServerPolicy::default()).events("ends", events.clone());
        let bound = server.listen("127.0.0.1:0").bind().await.unwrap();
        let [Address::Tcp(address)] = bound.addresses()[..] else {
            panic!("{:?}", bound.addresses())
        };
        let service = ServiceBuilder::new()
            .layer(observers)
            .map_request(outside)
            .service(router());
        let serving = async move {
            let _ = bound.serve(service, Drain::new()).await;
        };
        return (address, Serving(tokio::spawn(serving)));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = match on {
        On::Ours => unreachable!("it is served"),
        On::Hyper => {
            let service = ServiceBuilder::new()
                .layer(observers)
                .map_request(outside::<Incoming>)
                .service(router());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let service = TowerToHyperService::new(service.clone());
                    tokio::spawn(async move {
                        let builder = auto::Builder::new(TokioExecutor::new());
                        let io = TokioIo::new(stream);
                        let _ = builder.serve_connection_with_upgrades(io, service).await;
                    });
                }
            })
        }
        On::Axum => {
            let layers = ServiceBuilder::new()
                .layer(observers)
                .map_request(outside::<axum::body::Body>);
            let app = axum::Router::new()
                .route_service(TEMPLATE, app.clone())
                .route_service(RPC_TEMPLATE, app)
                .layer(layers);
            tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
        }
        On::Tonic => {
            let server = tonic::transport::Server::builder()
                .layer(observers)
                .add_service(app)
                .serve_with_incoming(TcpIncoming::from(listener));
            tokio::spawn(async move { server.await.unwrap() })
        }
    };
    (address, Serving(serving))
}
