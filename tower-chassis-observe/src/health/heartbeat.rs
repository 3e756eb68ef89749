use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, header};
use tower_chassis_core::{
    answered::{Answered, Answers},
    body::Bytes,
};
use tower_layer::Layer;

/// Answers `GET` and `HEAD` of one path with 200 and a dot, whatever is inside; all else passes.
///
/// The path is compared without regard to the case of ASCII letters, as it came: `/ping/` is another. As chi's
/// `Heartbeat`.
///
/// # Example
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_chassis_core::{Body, BoxError};
/// use tower_chassis_observe::health::HeartbeatLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let broken = service_fn(async |_: Request<()>| Err::<Response<Body>, BoxError>("broken".into()));
/// let service = HeartbeatLayer::new("/ping").layer(broken);
/// let response = service.oneshot(Request::get("/ping").body(()).unwrap()).await.unwrap();
/// assert_eq!(response.status(), 200);
/// # }
/// ```
///
/// # Order
/// Outermost. Where the inner service is not ready, the heartbeat waits with it: a router is always ready.
///
/// # Cancellation
/// Holds nothing.
///
/// # Cost
/// A comparison; the body is either's, and nothing is allocated for what passes.
#[derive(Clone, Debug)]
#[must_use]
pub struct HeartbeatLayer {
    path: Arc<str>,
}

/// The service of [`HeartbeatLayer`].
pub type Heartbeat<S> = Answered<S, HeartbeatLayer>;

impl HeartbeatLayer {
    /// Answers at this path.
    pub fn new(path: impl Into<Arc<str>>) -> Self {
        Self { path: path.into() }
    }
}

impl<S> Layer<S> for HeartbeatLayer {
    type Service = Heartbeat<S>;
    fn layer(&self, inner: S) -> Heartbeat<S> {
        Answered::new(inner, self.clone())
    }
}

impl<B> Answers<B> for HeartbeatLayer {
    fn answer(&self, request: &Request<B>) -> Option<Response<Bytes>> {
        if !request.uri().path().eq_ignore_ascii_case(&self.path) {
            return None;
        }
        let dot = match *request.method() {
            Method::GET => ".",
            Method::HEAD => "",
            _ => return None,
        };
        let mut response = Response::new(Bytes::from_static(dot.as_bytes()));
        let plain = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        Some(response)
    }
}
