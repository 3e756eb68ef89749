//! Ctrl-C while `/slow` is asked for: it is answered, and then the server ends.

use std::time::Duration;

use tower_chassis::router::{Router, get};

pub(crate) fn app() -> Router {
    Router::new().route("/", get(|| async { "sup\n" })).route(
        "/slow",
        get(|| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "all done.\n"
        }),
    )
}
