//! Our layers around a service of one's own on plain hyper: no framework, no server of ours.
//!
//! ```text
//! cargo run --example hyper_layer
//! curl -i http://127.0.0.1:3004/          # 200, and a line of access log
//! curl -i http://127.0.0.1:3004/slow      # 504: no answer within 250 ms
//! curl -i http://127.0.0.1:3004/broken    # 500 five times, then 503: the breaker is open
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_chassis::{
    Body, BoxError, ObserveLayer, RescueLayer,
    access_log::{self, AccessLogLayer, Format},
    breaker::{BreakerLayer, BreakerPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
    trace::TraceLayer,
};

/// A named function: the error of a closure in a spawned connection would have no name that rustc can prove.
async fn serve(request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let (status, text) = match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            (StatusCode::OK, "never seen\n")
        }
        "/broken" => (StatusCode::INTERNAL_SERVER_ERROR, "broken\n"),
        _ => (StatusCode::OK, "hello\n"),
    };
    Ok(Response::builder().status(status).body(Body::full(text))?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let breaker = BreakerPolicy::default().with(|config| config.consecutive_failures = 5)?;
    // hyper clones the stack for each connection; its state is in the layers.
    let stack = ServiceBuilder::new()
        .layer(ObserveLayer::new((
            TraceLayer::new(),
            AccessLogLayer::new(Format::Text, access_log::stdout()),
        )))
        .layer(RescueLayer::new())
        .layer(BreakerLayer::new(breaker).until_end())
        .layer(TimeoutLayer::per_try(TimeoutPolicy::new(
            Duration::from_millis(250),
        )?))
        .service(service_fn(serve));

    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3004".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors: others will be closed.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = &mut stop => break,
        };
        let service = TowerToHyperService::new(stack.clone());
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "connection ended");
            }
        });
    }
    let drained = tokio::time::timeout(Duration::from_secs(10), connections.shutdown());
    if drained.await.is_err() {
        println!("connections were cut off");
    }
    Ok(())
}
