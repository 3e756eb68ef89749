//! A request that carries nothing, under a deadline.

use std::convert::Infallible;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::deadline::{DeadlineLayer, DeadlinePolicy};

struct Ask;

struct Reply;

async fn serve(_: Ask) -> Result<Reply, Infallible> {
    Ok(Reply)
}

#[tokio::main]
async fn main() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::accept(DeadlinePolicy::default()))
        .service(service_fn(serve));
    let _ = service.oneshot(Ask).await;
}
