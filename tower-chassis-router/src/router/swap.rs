//! A router that is replaced under load.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use tower_chassis_core::Body;
use tower_service::Service;

use super::{RouteFuture, RouteService, service::Inner};

/// Serves whichever router was put in last. Clones share it. No request waits for a swap: one that has
/// begun finishes on the router that it began on.
///
/// ```
/// # use http::Request;
/// # use tower::ServiceExt;
/// # use tower_chassis_core::Body;
/// use tower_chassis_router::{Router, SwapRouter, get};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = SwapRouter::new(Router::new().build()?);
/// let serving = app.clone();
/// app.swap(Router::new().route("/new", get(|| async { "here" })).build()?);
/// assert_eq!(serving.oneshot(Request::get("/new").body(Body::empty())?).await?.status(), 200);
/// # Ok(()) }
/// ```
pub struct SwapRouter<B = Body> {
    current: Arc<ArcSwap<Inner<B>>>,
}

impl<B> SwapRouter<B> {
    /// Serves `router` for now.
    #[must_use]
    pub fn new(router: RouteService<B>) -> Self {
        Self {
            current: Arc::new(ArcSwap::new(router.inner)),
        }
    }

    /// Serves `router` from now on, in all clones. Gives back the one before.
    pub fn swap(&self, router: RouteService<B>) -> RouteService<B> {
        RouteService {
            inner: self.current.swap(router.inner),
        }
    }

    /// The router that serves now.
    #[must_use]
    pub fn load(&self) -> RouteService<B> {
        RouteService {
            inner: self.current.load_full(),
        }
    }
}

impl<B> Clone for SwapRouter<B> {
    fn clone(&self) -> Self {
        Self {
            current: Arc::clone(&self.current),
        }
    }
}

impl<B> fmt::Debug for SwapRouter<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SwapRouter").field(&self.load()).finish()
    }
}

impl<B: Send + 'static> Service<Request<B>> for SwapRouter<B> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<B>) -> RouteFuture {
        self.current.load().serve(req)
    }
}
