//! A function that takes one type of body, under a retry, which hands on a body of its own.

use std::convert::Infallible;

use http::{Request, Response};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    Body,
    retry::{RetryLayer, RetryPolicy},
};

async fn serve(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::empty()))
}

#[tokio::main]
async fn main() {
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryPolicy::default()))
        .service(service_fn(serve));
    let _ = service.oneshot(Request::new(Body::empty())).await;
}
