//! A breaker that is to judge until the end of the body, over a response that has none.

use std::convert::Infallible;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    breaker::{BreakerLayer, BreakerPolicy},
    verdict::Outcome,
};

struct Ask;

struct Reply;

impl Outcome for Reply {}

async fn serve(_: Ask) -> Result<Reply, Infallible> {
    Ok(Reply)
}

#[tokio::main]
async fn main() {
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(BreakerPolicy::default()).until_end())
        .service(service_fn(serve));
    let _ = service.oneshot(Ask).await;
}
