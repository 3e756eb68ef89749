//! Routers of axum below a prefix of ours.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum_core::body::Body as AxumBody;
use bytes::Bytes;
use http::Request;
use tower_chassis_core::BoxError;
use tower_service::Service;

use crate::{response::IntoResponse, router::Router};

impl<B> Router<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Hands everything below `prefix`, whatever the method, to an axum `Router` (whose state was given), or to
    /// another service that takes axum's body. It sees the rest of the path alone, as below axum's own `nest`:
    /// `/api/x?q` below `/api` becomes `/x?q`. Its extractors work, axum's `Path` too, since its own router matches.
    ///
    /// ```
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::Router;
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// let old = axum::Router::new().route("/hello/{name}", axum::routing::get(|| async { "hello" }));
    /// let app = Router::<Body>::new().mount_axum("/old", old).build()?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn mount_axum<S>(self, prefix: &str, service: S) -> Self
    where
        S: Service<Request<AxumBody>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.nest_service(prefix, AxumService { inner: service })
    }
}

/// A service that takes axum's body, for requests of any body.
#[derive(Clone, Debug)]
pub struct AxumService<S> {
    inner: S,
}

impl<S> AxumService<S> {
    /// Around `inner`.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<B, S> Service<Request<B>> for AxumService<S>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    S: Service<Request<AxumBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> S::Future {
        self.inner.call(req.map(AxumBody::new))
    }
}
