//! Our layers in a tonic server and around a tonic client, in one program: no `protoc`, the service is gRPC's
//! own health check.
//!
//! ```text
//! cargo run --example tonic_layer
//! ```
//! It asks a healthy service, a slow one with a deadline that both ends know, then a broken one until
//! the client's circuit opens and answers in its place.
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::ServiceBuilder;
use tower_chassis::{
    BoxError, Invocation, ObserveLayer, RescueLayer,
    breaker::{BreakerLayer, BreakerPolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    metrics::ServerMetricsLayer,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
    trace::TraceLayer,
};

/// How long the client waits for the service that is slow.
const PATIENCE: Duration = Duration::from_millis(200);

/// Says how a service is; the one named `broken` fails, the one named `slow` is.
#[derive(Default)]
struct Shop {
    asked: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl Health for Shop {
    type WatchStream = tonic::codegen::tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match request.get_ref().service.as_str() {
            "broken" => return Err(Status::internal("the shop is closed")),
            "slow" => {
                let deadline = request.extensions().get().and_then(Invocation::deadline);
                let left = deadline.and_then(|deadline| deadline.remaining(Instant::now()));
                println!("slow, told: {}", left.is_some_and(|left| left <= PATIENCE));
                tokio::time::sleep(PATIENCE * 10).await;
            }
            _ => {}
        }
        Ok(Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again"))
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let shop = Shop::default();
    let asked = Arc::clone(&shop.asked);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;

    // Inside of tonic: what refuses is answered by `RescueLayer` in gRPC's terms, or the stream would be reset.
    let server = Server::builder()
        .layer(
            ServiceBuilder::new()
                .layer(ObserveLayer::new((
                    TraceLayer::new(),
                    ServerMetricsLayer::new(),
                )))
                .layer(RescueLayer::new())
                .layer(DeadlineLayer::accept(DeadlinePolicy::default()))
                .layer(RateLimitLayer::new(RateLimitPolicy::new(1000.0, 1000)?))
                .into_inner(),
        )
        .add_service(HealthServer::new(shop))
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);

    // Around the client: what the layers refuse arrives as a `Status`, because `RescueLayer` is outermost.
    let breaker = BreakerPolicy::default().with(|config| config.consecutive_failures = 3)?;
    let channel = Channel::from_shared(format!("http://{address}"))?.connect_lazy();
    // Around all attempts, and around each: it writes what is left into `grpc-timeout`.
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::default());
    let channel = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(deadline.clone())
        // A channel takes one type of body.
        .layer(RetryLayer::new(RetryPolicy::default()).rewrap_with(tonic::body::Body::new))
        // The status of a gRPC call is in its trailers.
        .layer(BreakerLayer::new(breaker).until_end())
        .layer(TimeoutLayer::per_try(TimeoutPolicy::new(
            Duration::from_secs(1),
        )?))
        .layer(deadline)
        .service(channel);
    let mut client = HealthClient::new(channel);

    let ask = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let answer = client.check(ask("")).await?.into_inner();
    println!("healthy: {:?}", answer.status());
    let mut hurried = Request::new(ask("slow"));
    hurried.set_timeout(PATIENCE);
    let status = client.check(hurried).await.err();
    println!("slow: {:?}", status.as_ref().map_or(Code::Ok, Status::code));
    for call in 1..=5 {
        let status = client.check(ask("broken")).await.err();
        let code = status.as_ref().map_or(Code::Ok, Status::code);
        let text = status.as_ref().map_or("", Status::message);
        println!("broken, call {call}: {code:?} ({text})");
    }
    println!(
        "the server was asked {} times",
        asked.load(Ordering::Relaxed)
    );
    server.abort();
    Ok(())
}
