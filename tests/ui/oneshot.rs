//! A method, in place of a function that asks for a `Service`: rustc does not say why there is none.

use std::convert::Infallible;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::breaker::{BreakerLayer, BreakerPolicy};

struct Ask;

struct Reply;

async fn serve(_: Ask) -> Result<Reply, Infallible> {
    Ok(Reply)
}

async fn ask() {
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(BreakerPolicy::default()))
        .service(service_fn(serve));
    let _ = service.oneshot(Ask).await;
}

fn main() {
    drop(ask());
}
