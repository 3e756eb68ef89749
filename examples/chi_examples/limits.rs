//! chi's throttle: at most so many at once, some more may wait, the rest gets 503 at once.

use std::time::Duration;

use tower_chassis::{
    BoxError, RescueLayer,
    bulkhead::{BulkheadConfig, BulkheadLayer, BulkheadPolicy},
    router::{Router, get},
    timeout::{TimeoutConfig, TimeoutLayer, TimeoutPolicy},
};

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(200)).await;
    "all done\n"
}

pub(crate) fn app() -> Result<Router, BoxError> {
    let bulkhead = BulkheadConfig {
        limit: 1,
        queue: 1,
        ..BulkheadConfig::default()
    };
    let timeout = TimeoutConfig {
        after: Duration::from_millis(50),
    };
    // What a layer refuses is an answer outside of the rescue.
    let throttled = (
        RescueLayer::new(),
        BulkheadLayer::new(BulkheadPolicy::try_from(bulkhead)?),
    );
    let hasty = (
        RescueLayer::new(),
        TimeoutLayer::total(TimeoutPolicy::try_from(timeout)?),
    );
    Ok(Router::new()
        .route("/", get(|| async { "root.\n" }))
        .with(throttled, |router| router.route("/throttled", get(slow)))
        .with(hasty, |router| router.route("/hasty", get(slow))))
}
