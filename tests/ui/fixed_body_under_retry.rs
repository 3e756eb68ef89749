//! A function that takes one type of body, under a retry, which hands on a body of its own.

use std::convert::Infallible;

use http::{Request, Response};
use tower::{Service, ServiceBuilder, service_fn};
use tower_chassis::{
    Body,
    retry::{RetryLayer, RetryPolicy},
};

async fn serve(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::empty()))
}

/// What a server, or a client, asks for.
fn run(_: impl Service<Request<Body>>) {}

fn main() {
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryPolicy::default()))
        .service(service_fn(serve));
    run(service);
}
