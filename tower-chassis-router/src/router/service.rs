//! A router that serves.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_chassis_core::{Body, invocation::RouteTable};
use tower_service::Service;

use super::{
    RouteInfo,
    endpoint::{Endpoint, Match},
    future::RouteFuture,
    table::Table,
};

/// A compiled [`Router`](super::Router): immutable, always ready, never fails. A clone is one reference
/// count.
///
/// ```
/// use http::{Request, StatusCode};
/// use tower::ServiceExt;
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Router, get};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = Router::new().route("/a", get(|| async { "a" })).build()?;
/// let response = app.clone().oneshot(Request::post("/a").body(Body::empty())?).await?;
/// assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
/// assert_eq!(response.headers()["allow"], "GET, HEAD");
/// # Ok(()) }
/// ```
pub struct RouteService<B = Body> {
    pub(super) inner: Arc<Inner<B>>,
}

pub(super) struct Inner<B> {
    entry: Arc<dyn Endpoint<B>>,
    table: Arc<Table>,
    routes: Vec<RouteInfo>,
}

impl<B> Inner<B> {
    pub(super) fn serve(&self, req: Request<B>) -> RouteFuture {
        RouteFuture::new(self.entry.serve(req, Match::root(&self.table)))
    }
}

impl<B> RouteService<B> {
    pub(super) fn new(
        entry: Arc<dyn Endpoint<B>>,
        table: Arc<Table>,
        routes: Vec<RouteInfo>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                entry,
                table,
                routes,
            }),
        }
    }

    /// All routes, those of nested routers included, in the order of registration.
    #[must_use]
    #[doc(alias = "Walk")]
    pub fn routes(&self) -> &[RouteInfo] {
        &self.inner.routes
    }

    /// The templates of all routes, to which a
    /// [`MatchedRoute`](tower_chassis_core::invocation::MatchedRoute) points.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<RouteTable>> {
        self.inner.table.routes()
    }
}

impl<B> Clone for RouteService<B> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<B> fmt::Debug for RouteService<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteService")
            .field("routes", &self.inner.routes)
            .finish_non_exhaustive()
    }
}

impl<B: Send + 'static> Service<Request<B>> for RouteService<B> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> RouteFuture {
        self.inner.serve(req)
    }
}
