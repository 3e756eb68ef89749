//! What the shop asks: services in this process, good or bad.

use std::time::Duration;

use http::{Request, Response};
use tokio::time::sleep;
use tower::{Service, service_fn};
use tower_chassis::{Body, BoxError};

use crate::Weather;

/// Takes so long, and now and then three times that. In a storm, `bad` of a hundred calls fail.
pub(crate) fn upstream(
    weather: Weather,
    took: Duration,
    bad: u32,
) -> impl Service<
    Request<Body>,
    Response = Response<Body>,
    Error = BoxError,
    Future: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |request: Request<Body>| async move {
        drop(request);
        let slow = fastrand::u32(..if weather == Weather::Storm { 5 } else { 50 }) == 0;
        sleep(if slow { took * 3 } else { took }).await;
        let fails = weather == Weather::Storm && fastrand::u32(..100) < bad;
        let status = if fails { 503 } else { 200 };
        Ok(Response::builder()
            .status(status)
            .body(Body::from("it is there\n"))?)
    })
}
