mod bodies;
mod ends;
mod length;
mod rules;
mod service;

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use tower::{Service, ServiceExt};
use tower_chassis_core::{Body, BoxError};

use super::{Arming, FaultConfig, FaultLayer, FaultPolicy, FaultRule};

pub(super) const ALL: u32 = 1_000_000;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn armed() -> Arming {
    Arming::new(true, Some("test"))
}

/// A layer with one rule, armed.
pub(super) fn layer(rule: FaultRule) -> FaultLayer {
    FaultLayer::new(FaultPolicy::new([rule]).unwrap()).arming(armed())
}

pub(super) fn config(rules: impl IntoIterator<Item = FaultRule>) -> FaultConfig {
    FaultPolicy::new(rules).unwrap().into()
}

pub(super) fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// A request with an id.
pub(super) fn with_id(id: &str) -> Request<()> {
    let mut request = get("/");
    request
        .headers_mut()
        .insert("x-request-id", id.parse().unwrap());
    request
}

pub(super) async fn fine(_: Request<()>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::full("0123456789")))
}

pub(super) async fn send<S, Req>(service: &S, request: Req) -> Result<S::Response, BoxError>
where
    S: Service<Req, Error = BoxError> + Clone,
{
    service.clone().oneshot(request).await
}
