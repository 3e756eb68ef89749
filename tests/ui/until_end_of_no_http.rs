//! A breaker that is to judge until the end of the body, over a response that has none.

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
        .layer(BreakerLayer::new(BreakerPolicy::default()).until_end())
        .service(service_fn(serve));
    run(service);
}
