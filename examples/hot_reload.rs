//! A rate limit that follows a file. A change is live within a second, counts survive it, and a broken file is
//! refused with the place of every fault while the old limit stays.
//!
//! ```text
//! cargo run --example hot_reload -- 127.0.0.1:3002 /tmp/limit.yaml
//! for i in $(seq 10); do curl -s -o /dev/null -w '%{http_code} ' http://127.0.0.1:3002/; done
//! echo '{ rate: 100, burst: 100 }' > /tmp/limit.yaml    # live
//! echo '{ rat: 100, burst: -1 }' > /tmp/limit.yaml      # refused: two faults, each with its place
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::{path::PathBuf, time::Duration};

use tower::ServiceBuilder;
use tower_chassis::{
    BoxError, Live, RescueLayer,
    config::{Loader, watch_file},
    rate_limit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy},
    router::{Router, get},
    server::{Drain, Server, ServerPolicy},
};

fn read(loader: &Loader) -> Result<RateLimitPolicy, BoxError> {
    let (tree, config) = loader.load_as::<RateLimitConfig>()?;
    RateLimitPolicy::try_from(config).map_err(|invalid| {
        // A value that is out of its range gets its place in the file, as a type error does.
        tree.fault_at(invalid.field(), invalid.why())
            .to_string()
            .into()
    })
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3002".into());
    let path = arguments
        .next()
        .map_or_else(|| std::env::temp_dir().join("limit.yaml"), PathBuf::from);
    if !path.exists() {
        std::fs::write(&path, "{ rate: 1, burst: 3 }\n")?;
    }

    let loader = Loader::new().file(&path);
    let limit = Live::from(read(&loader)?);
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .build()?;
    let app = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(RateLimitLayer::new(limit.clone()))
        .service(app);

    let server = Server::new(ServerPolicy::default())
        .listen(address)
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}, the limit is in {}", path.display());
    }
    let mut watch = watch_file(&path, Duration::from_millis(100))?;
    tokio::spawn(async move {
        loop {
            watch.changed().await;
            match read(&loader) {
                Ok(policy) => {
                    // Valid by construction, so it goes live.
                    let _ = limit.set(policy);
                    println!("live: version {}", limit.version());
                }
                Err(error) => println!("refused:\n{error}"),
            }
        }
    });

    let drain = Drain::new();
    let on_signal = drain.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.start();
            on_signal.hurry();
        }
    });
    let _ = server.serve(app, drain).await;
    Ok(())
}
