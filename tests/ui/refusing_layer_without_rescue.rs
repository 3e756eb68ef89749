//! A layer that refuses, on an axum router, and nobody who answers what it refuses.

use axum::{Router, routing::get};
use tower_chassis::breaker::{BreakerLayer, BreakerPolicy};

fn main() {
    let breaker = BreakerLayer::new(BreakerPolicy::default());
    let _: Router = Router::new()
        .route("/", get(async || "hello"))
        .layer(breaker);
}
