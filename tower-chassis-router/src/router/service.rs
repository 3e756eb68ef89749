//! A router that serves.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response, Uri};
use tower_chassis_core::{Body, invocation::RouteTable};
use tower_service::Service;

use super::{
    RouteInfo,
    endpoint::{Endpoint, Match},
    explain::{Explanation, Trail},
    future::RouteFuture,
    locate::{Found, Search},
    table::Table,
    url::{UrlError, Urls},
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
    pub(super) entry: Arc<dyn Endpoint<B>>,
    pub(super) table: Arc<Table>,
    pub(super) routes: Vec<RouteInfo>,
    pub(super) urls: Urls,
}

impl<B> Inner<B> {
    pub(super) fn serve(&self, req: Request<B>) -> RouteFuture {
        RouteFuture::new(self.entry.serve(req, Match::root(&self.table)))
    }
}

impl<B> RouteService<B> {
    pub(super) fn new(inner: Inner<B>) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// All routes, those of nested routers included, in the order of registration.
    #[must_use]
    #[doc(alias = "Walk")]
    pub fn routes(&self) -> &[RouteInfo] {
        &self.inner.routes
    }

    /// Which route serves `method` and `target`, without running anything: neither handlers nor layers, so
    /// what a layer does to a request before it is matched is not seen. `target` is a path with or without a
    /// query, or a whole URL where hosts matter; what is neither is not found.
    ///
    /// ```
    /// use http::Method;
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Found, Router, get};
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// let users = Router::new().route("/{id:[0-9]+}", get(|| async { "one" }));
    /// let app = Router::<Body>::new().nest("/users", users).build()?;
    /// let Found::Route { route, params } = app.find(&Method::GET, "/users/7?full") else {
    ///     panic!("not found")
    /// };
    /// assert_eq!(route.template(), "/users/{id:[0-9]+}");
    /// assert_eq!(params.get("id").as_deref(), Some("7"));
    /// assert!(matches!(app.find(&Method::PUT, "/users/7"), Found::MethodNotAllowed { .. }));
    /// # Ok(()) }
    /// ```
    #[must_use]
    #[doc(alias = "Match")]
    pub fn find(&self, method: &Method, target: &str) -> Found<'_> {
        match question(method, target) {
            Some(req) => self.find_for(&req),
            None => Found::NotFound,
        }
    }

    /// As [`find`](Self::find), for a request with headers.
    #[must_use]
    pub fn find_for(&self, req: &Request<()>) -> Found<'_> {
        self.search(req, None).0
    }

    fn search(&self, req: &Request<()>, trail: Option<Trail>) -> (Found<'_>, Option<Trail>) {
        let mut search = Search { req, trail };
        let root = Match::root(&self.inner.table);
        let located = self.inner.entry.locate(&mut search, root);
        (Found::new(located, &self.inner.routes), search.trail)
    }

    /// What [`find`](Self::find) looks at on its way, in order, and why each candidate was taken or not. It
    /// looks at the whole table: for people, not for each request. None where `target` is no path and no URL.
    ///
    /// ```
    /// use http::Method;
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Router, get, put};
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// let users = Router::new()
    ///     .route("/{id}", put(|| async { "saved" }))
    ///     .route("/{id:[0-9]+}", get(|| async { "one" }))
    ///     .route("/me", get(|| async { "me" }));
    /// let app = Router::<Body>::new().nest("/users", users).build()?;
    /// assert_eq!(
    ///     app.explain(&Method::PUT, "/users/me").unwrap().to_string(),
    ///     "PUT /users/me\n\
    ///      -> /users/* [*]: decides from here on\n\
    ///     \x20    /users/me [GET]: has not the method\n\
    ///     \x20 -> /users/{id} [PUT]: serves it\n\
    ///     \x20    1 with another first segment\n\
    ///      = PUT /users/{id}: id = me",
    /// );
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn explain(&self, method: &Method, target: &str) -> Option<Explanation<'_>> {
        Some(self.explain_for(&question(method, target)?))
    }

    /// As [`explain`](Self::explain), for a request with headers.
    #[must_use]
    pub fn explain_for(&self, req: &Request<()>) -> Explanation<'_> {
        let (found, trail) = self.search(req, Some(Trail::default()));
        let steps = trail.map(|trail| trail.steps).unwrap_or_default();
        Explanation::new(req, steps, found)
    }

    /// The path of the route with this [name](super::MethodRouter::name), with `values` for its parameters,
    /// escaped where they must be; those of the prefixes of nested routers too. A bare catch-all is named `*`,
    /// and the slashes in its value stay. If nested routers use one name, the values go to them from the left,
    /// and a single value goes to all of them.
    ///
    /// # Errors
    ///
    /// No route has the name, a parameter is missing or unknown, or the route would not capture the values.
    ///
    /// ```
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Router, get};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let articles = Router::new()
    ///     .route("/", get(|| async { "all" }).name("articles"))
    ///     .route("/{id:[0-9]+}/{title}", get(|| async { "one" }).name("article"));
    /// let app = Router::<Body>::new().nest("/articles", articles).build()?;
    /// assert_eq!(app.url("articles", [])?, "/articles");
    /// assert_eq!(app.url("article", [("id", "7"), ("title", "a/b c")])?, "/articles/7/a%2Fb%20c");
    /// assert!(app.url("article", [("id", "x"), ("title", "t")]).unwrap_err().is_mismatch());
    /// # Ok(()) }
    /// ```
    pub fn url<'v>(
        &self,
        name: &str,
        values: impl IntoIterator<Item = (&'v str, &'v str)>,
    ) -> Result<String, UrlError> {
        self.inner.urls.url(name, values)
    }

    /// The templates of all routes, to which a
    /// [`MatchedRoute`](tower_chassis_core::invocation::MatchedRoute) points.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<RouteTable>> {
        self.inner.table.routes()
    }
}

/// A request for `target` and nothing else.
fn question(method: &Method, target: &str) -> Option<Request<()>> {
    let mut req = Request::new(());
    *req.uri_mut() = target.parse::<Uri>().ok()?;
    *req.method_mut() = method.clone();
    Some(req)
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
