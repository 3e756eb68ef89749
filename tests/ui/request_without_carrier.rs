//! A request that carries nothing, under a deadline.

use std::convert::Infallible;

use tower::{Service, ServiceBuilder, service_fn};
use tower_chassis::deadline::{DeadlineLayer, DeadlinePolicy};

struct Ask;

struct Reply;

async fn serve(_: Ask) -> Result<Reply, Infallible> {
    Ok(Reply)
}

/// What a server, or a client, asks for.
fn run(_: impl Service<Ask>) {}

fn main() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::accept(DeadlinePolicy::default()))
        .service(service_fn(serve));
    run(service);
}
