//! A layer that is to answer what it refuses, over a protocol for which we have no answers.

use std::convert::Infallible;

use tower::{Service, ServiceBuilder, service_fn};
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

/// What a server, or a client, asks for.
fn run(_: impl Service<Ask>) {}

fn main() {
    let service = ServiceBuilder::new()
        .layer(BreakerLayer::new(BreakerPolicy::default()).respond())
        .service(service_fn(serve));
    run(service);
}
