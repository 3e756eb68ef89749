//! A response that does not say how its call went, under a breaker.

use std::convert::Infallible;

use tower::{Service, ServiceBuilder, service_fn};
use tower_chassis::breaker::{BreakerLayer, BreakerPolicy};

struct Ask;

struct Reply;

async fn serve(_: Ask) -> Result<Reply, Infallible> {
    Ok(Reply)
}

/// What a server, or a client, asks for.
fn run(_: impl Service<Ask>) {}

fn main() {
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(BreakerPolicy::default()))
        .service(service_fn(serve));
    run(service);
}
