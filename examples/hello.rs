//! A router and a server: limits on by default, a template for every route, a drain on Ctrl-C.
//!
//! ```text
//! cargo run --example hello
//! curl http://127.0.0.1:3000/hello/world
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use tower_chassis::{
    BoxError,
    router::{Params, Router, get},
    server::{Drain, Server, ServerPolicy},
};

async fn hello(params: Params) -> String {
    format!("hello {}\n", params.get("name").unwrap_or_default())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let app = Router::new()
        .route("/", get(|| async { "try /hello/world\n" }))
        .route("/hello/{name}", get(hello))
        .build()?;

    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3000".into());
    let server = Server::new(ServerPolicy::default())
        .listen(address)
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}");
    }

    let drain = Drain::new();
    let on_signal = drain.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.start();
            on_signal.hurry(); // no load balancer has to learn of it first
        }
    });
    println!("drained: {:?}", server.serve(app, drain).await);
    Ok(())
}
