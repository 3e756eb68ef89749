mod overload;
mod priority;
mod readiness;
mod threshold;

use std::{convert::Infallible, time::Duration};

use tower::ServiceExt;
use tower_chassis_core::{BoxError, Kind, Rejection};
use tower_service::Service;

use super::{ShedConfig, ShedPolicy};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Users keep their levels, or a test would have another outcome on another day.
fn policy(change: impl FnOnce(&mut ShedConfig)) -> ShedPolicy {
    let policy = ShedPolicy::default().with(|config| {
        config.rotate = Duration::ZERO;
        change(config);
    });
    policy.unwrap()
}

async fn echo<T>(it: T) -> Result<T, Infallible> {
    Ok(it)
}

/// Calls a clone of it.
fn send<S, Req>(service: &S, request: Req) -> tower::util::Oneshot<S, Req>
where
    S: Service<Req, Error = BoxError> + Clone,
{
    service.clone().oneshot(request)
}

/// Whether this layer refused.
fn is_shed(error: &BoxError) -> bool {
    Rejection::find(&**error)
        .is_some_and(|found| (found.kind(), found.layer()) == (Kind::Overloaded, "shed"))
}
