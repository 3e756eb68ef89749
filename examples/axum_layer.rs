//! Three of our layers in an axum app that exists: a breaker, a rate limit and a timeout, shared by all of its
//! routes. No `HandleErrorLayer`: `RescueLayer` answers what they refuse.
//!
//! ```text
//! cargo run --example axum_layer
//! curl -i http://127.0.0.1:3001/slow      # 504: no answer within 250 ms
//! curl -i http://127.0.0.1:3001/broken    # 500 five times, then 503: the breaker is open, on every route
//! for i in $(seq 30); do curl -s -o /dev/null -w '%{http_code} ' http://127.0.0.1:3001/; done   # 429
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::time::Duration;

use axum::{Router, http::StatusCode, routing::get};
use tower::ServiceBuilder;
use tower_chassis::{
    BoxError, RescueLayer,
    breaker::{BreakerConfig, BreakerLayer, BreakerPolicy},
    rate_limit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy},
    timeout::{TimeoutConfig, TimeoutLayer, TimeoutPolicy},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let limit = RateLimitPolicy::try_from(RateLimitConfig {
        rate: 10.0,
        burst: 20,
        ..Default::default()
    })?;
    let breaker = BreakerPolicy::try_from(BreakerConfig {
        consecutive_failures: 5,
        ..Default::default()
    })?;
    let timeout = TimeoutPolicy::try_from(TimeoutConfig {
        after: Duration::from_millis(250),
    })?;

    // axum applies the stack to each route and clones it for each request; its state is in the layers.
    let stack = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(RateLimitLayer::new(limit))
        .layer(BreakerLayer::new(breaker))
        .layer(TimeoutLayer::per_try(timeout));

    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                "never seen\n"
            }),
        )
        .layer(stack);

    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3001".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app)
        .with_graceful_shutdown(stop)
        .await?;
    Ok(())
}
