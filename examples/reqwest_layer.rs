//! Retry and a breaker around a `reqwest::Client`.
//!
//! Our layers speak `http::Request` and `http::Response`; reqwest converts from and to both. The server here
//! fails two requests of three, and the client sees none of it.
//!
//! ```text
//! cargo run --example reqwest_layer
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    BoxError, Kind, Rejection,
    breaker::{BreakerLayer, BreakerPolicy},
    retry::{RetryConfig, RetryLayer, RetryPolicy},
    router::{Router, get},
    server::{Drain, Server, ServerPolicy},
};

/// The one adapter: a transport error says whether anything was sent, so that retry knows what is safe.
async fn call(
    client: reqwest::Client,
    request: Request<Full<Bytes>>,
) -> Result<Response<reqwest::Body>, BoxError> {
    let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
    match client.execute(request).await {
        Ok(response) => Ok(response.into()),
        Err(error) => {
            let kind = if error.is_connect() {
                Kind::Unreachable
            } else {
                Kind::Reset
            };
            Err(Rejection::new(kind, "reqwest").because(error).into())
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (address, attempts) = flaky_server().await?;

    let client = reqwest::Client::new();
    let breaker = BreakerLayer::new(BreakerPolicy::default());
    let handle = breaker.handle();
    let policy = RetryPolicy::try_from(RetryConfig {
        attempts: 4,
        ..Default::default()
    })?;
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(policy).clone_body())
        .layer(breaker)
        .service(service_fn(move |request| call(client.clone(), request)));

    for n in 1..=3 {
        let request = Request::get(format!("{address}/")).body(Full::default())?;
        let response = service.clone().oneshot(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!("call {n}: {status}, {:?}", String::from_utf8_lossy(&body));
    }
    println!(
        "attempts that the server saw: {}",
        attempts.load(Ordering::Relaxed)
    );
    println!("breaker: {}", handle.state().as_str());
    Ok(())
}

async fn flaky_server() -> Result<(String, Arc<AtomicU32>), BoxError> {
    let attempts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&attempts);
    let handler = move || {
        let n = seen.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if n.is_multiple_of(3) {
                (StatusCode::OK, "at last")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not now")
            }
        }
    };
    let app = Router::new().route("/", get(handler)).build()?;
    let server = Server::new(ServerPolicy::default())
        .listen("127.0.0.1:0")
        .bind()
        .await?;
    let address = server.addresses()[0].to_string();
    tokio::spawn(async move { server.serve(app, Drain::new()).await });
    Ok((address, attempts))
}
