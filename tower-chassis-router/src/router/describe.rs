//! The description of a router.

use std::{convert::Infallible, fmt, net::IpAddr, panic::Location, sync::Arc};

use http::{HeaderName, Request};
use tower_chassis_core::Body;
use tower_service::Service;

use super::{
    BuildError, RouteInfo,
    guard::{Condition, Forwarded, Guard},
    layered::{RouteLayer, Wrapper, per_route},
    method::{End, MethodRouter, any_service},
    slash::TrailingSlash,
};
use crate::{extract::States, handler::Handler, response::IntoResponse};

/// A description of routes. See the [module](super).
#[must_use = "a router does nothing until it is built"]
pub struct Router<B = Body> {
    pub(super) items: Vec<Item<B>>,
    pub(super) layers: Vec<Wrapper<B>>,
    pub(super) not_found: Option<End<B>>,
    pub(super) method_not_allowed: Option<End<B>>,
    pub(super) policy: Policy,
    pub(super) states: States,
    pub(super) forwarded: Option<Forwarded>,
    pub(super) faults: Vec<BuildError>,
}

/// What is inherited where it is not said.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub(super) implicit_head: Option<bool>,
    pub(super) implicit_options: Option<bool>,
    pub(super) wrong_method: Option<WrongMethod>,
    pub(super) trailing_slash: Option<TrailingSlash>,
}

impl Policy {
    pub(super) const NONE: Self = Self {
        implicit_head: None,
        implicit_options: None,
        wrong_method: None,
        trailing_slash: None,
    };

    pub(super) fn or(self, parent: Self) -> Self {
        Self {
            implicit_head: self.implicit_head.or(parent.implicit_head),
            implicit_options: self.implicit_options.or(parent.implicit_options),
            wrong_method: self.wrong_method.or(parent.wrong_method),
            trailing_slash: self.trailing_slash.or(parent.trailing_slash),
        }
    }
}

/// What a router does when the route that fits a path best has not the method that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum WrongMethod {
    /// It tries the routes that fit less well, as chi does: with `GET /users/me` and `PUT /users/{id}`, a
    /// `PUT /users/me` reaches the second.
    #[default]
    Continue,
    /// It answers 405: the path is that of the route that fits best, whatever the method.
    Strict,
}

pub(super) enum Item<B> {
    Route {
        path: Box<str>,
        methods: MethodRouter<B>,
        location: &'static Location<'static>,
    },
    Mount {
        prefix: Box<str>,
        target: Target<B>,
        layers: Vec<Wrapper<B>>,
        location: &'static Location<'static>,
    },
    Guarded {
        guard: Guard,
        router: Box<Router<B>>,
        layers: Vec<Wrapper<B>>,
        location: &'static Location<'static>,
    },
}

pub(super) enum Target<B> {
    Router(Box<Router<B>>),
    Service(End<B>),
}

impl<B> Default for Router<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> fmt::Debug for Router<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("routes", &self.routes())
            .finish_non_exhaustive()
    }
}

impl<B> Router<B> {
    /// No routes: 404 for everything.
    pub const fn new() -> Self {
        Self {
            items: Vec::new(),
            layers: Vec::new(),
            not_found: None,
            method_not_allowed: None,
            policy: Policy::NONE,
            states: States::NONE,
            forwarded: None,
            faults: Vec::new(),
        }
    }

    /// Answers `path` by `methods`. Several calls for one path add up.
    #[track_caller]
    #[doc(alias = "Handle")]
    #[doc(alias = "HandleFunc")]
    pub fn route(mut self, path: &str, methods: MethodRouter<B>) -> Self {
        self.items.push(Item::Route {
            path: path.into(),
            methods,
            location: Location::caller(),
        });
        self
    }

    /// Hands everything below `prefix` to another router. See [Nesting](super#nesting).
    #[track_caller]
    #[doc(alias = "Route")]
    #[doc(alias = "Mount")]
    pub fn nest(self, prefix: &str, router: Self) -> Self {
        self.mounted(prefix, Target::Router(Box::new(router)), Location::caller())
    }

    /// Takes over the routes of `other`, as if they had been added here. Its [layers](Self::layer) go
    /// around each of them, since there is no router of its own left to wrap; they keep its
    /// [states](Self::with_state). What it says on methods, slashes and [forwarded hosts](Self::forwarded_host) is
    /// dropped: all routes of one router have the same policies.
    pub fn merge(mut self, other: Self) -> Self {
        let mut other = other.inlined();
        let states = std::mem::take(&mut other.states);
        other.hand_out(&states);
        self.items.extend(other.items);
        self.faults.extend(other.faults);
        for (which, mine, other) in [
            ("fallback", &mut self.not_found, other.not_found),
            (
                "fallback for 405",
                &mut self.method_not_allowed,
                other.method_not_allowed,
            ),
        ] {
            let Some(other) = other else { continue };
            match mine {
                Some(mine) => {
                    self.faults
                        .push(BuildError::fallback(which, other.location, mine.location))
                }
                None => *mine = Some(other),
            }
        }
        self
    }

    /// Adds the routes of the closure, as [`merge`](Self::merge) does; there only to give them a place of their own in
    /// the text.
    #[doc(alias = "Group")]
    pub fn group(self, routes: impl FnOnce(Self) -> Self) -> Self {
        self.merge(routes(Self::new()))
    }

    /// Whether GET answers HEAD where there is no route for HEAD. Default: as the parent does; a router
    /// without a parent does.
    #[doc(alias = "GetHead")]
    pub fn implicit_head(mut self, implicit: bool) -> Self {
        self.policy.implicit_head = Some(implicit);
        self
    }

    /// Whether OPTIONS is answered by `204` and `Allow` at a path that has routes, but none for OPTIONS.
    /// Default: as the parent does; a router without a parent does not, and answers 405.
    pub fn implicit_options(mut self, implicit: bool) -> Self {
        self.policy.implicit_options = Some(implicit);
        self
    }

    /// What happens when the route that fits a path best has not the method. Default: as the parent does; a
    /// router without a parent [continues](WrongMethod::Continue).
    pub fn wrong_method(mut self, policy: WrongMethod) -> Self {
        self.policy.wrong_method = Some(policy);
        self
    }

    /// What becomes of a path that only matches without its last slash, or only with one more. Default: as the
    /// parent does; a router without a parent is [exact](TrailingSlash::Exact).
    ///
    /// ```
    /// use http::Method;
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Found, Router, TrailingSlash, get};
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// let app = Router::<Body>::new()
    ///     .route("/articles/{id}", get(|| async { "one" }))
    ///     .trailing_slash(TrailingSlash::Redirect)
    ///     .build()?;
    /// let found = app.find(&Method::GET, "/articles/7/?page=2");
    /// assert!(matches!(found, Found::Redirect { location } if location == "../7?page=2"));
    /// # Ok(()) }
    /// ```
    #[doc(alias = "StripSlashes")]
    #[doc(alias = "RedirectSlashes")]
    pub fn trailing_slash(mut self, policy: TrailingSlash) -> Self {
        self.policy.trailing_slash = Some(policy);
        self
    }

    /// Gives `state` to all handlers of this router, and of those nested in it, that take a
    /// [`State<T>`](crate::State), wherever it stands. One value per type: a later one replaces an earlier.
    ///
    /// ```
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Router, State, get};
    ///
    /// async fn greet(State(name): State<&'static str>) -> String {
    ///     format!("hello {name}")
    /// }
    ///
    /// let router = Router::<Body>::new().route("/", get(greet));
    /// // Forgotten, it is a fault of the build, and never one of a request.
    /// let errors = router.build().unwrap_err();
    /// assert!(errors.iter().all(|error| error.is_missing_state()));
    ///
    /// let router = Router::<Body>::new().route("/", get(greet)).with_state("world");
    /// assert!(router.build().is_ok());
    /// ```
    pub fn with_state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.set(state);
        self
    }

    /// Hands requests for `host` to another router, before any path is looked at; this router's own routes are
    /// for all other hosts. Once chosen, its 404 is final. It takes fallbacks, state and policies from here.
    ///
    /// | host | serves |
    /// |---|---|
    /// | `api.example.com` | that host |
    /// | `{tenant}.example.com`, `{tenant}-{region}.example.com` | one label, captured for [`Params`](crate::Params) |
    /// | `*.example.com`, `{*sub}.example.com` | one label or more |
    ///
    /// Exact hosts go first, then the more specific ones as in paths, read from the right. The host is that of
    /// the request's authority (`:authority` in HTTP/2), else that of its only `Host` header; case, port and a
    /// last dot do not matter. Write it here without a port; a name that is not ASCII in its ASCII form (`xn--`). See [`forwarded_host`](Self::forwarded_host) for what proxies say.
    ///
    /// ```
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Params, Router, get};
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// async fn shop(params: Params) -> String {
    ///     format!("the shop of {}", params.get("tenant").unwrap_or_default())
    /// }
    /// let app = Router::<Body>::new()
    ///     .host("{tenant}.example.com", Router::new().route("/", get(shop)))
    ///     .route("/", get(|| async { "everybody" }))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn host(self, host: &str, router: Self) -> Self {
        self.guarded(Guard::Host(host.into()), router, Location::caller())
    }

    /// Believes what `header` says of the host if the peer of the connection is `trusted`; it comes before the
    /// request's own. Name the one header that your proxies set, and that they take away if a client sends it:
    /// `forwarded` (its `host=`) or `x-forwarded-host`; the last value counts. The peer is that of the request's
    /// [`Invocation`](tower_chassis_core::Invocation); without one nobody is trusted, and where a layer further out
    /// named the client that the proxies speak for, it is that one who is asked about. Default: as the parent does; a
    /// router without a parent trusts nobody.
    pub fn forwarded_host(
        mut self,
        header: HeaderName,
        trusted: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        let trusted = Arc::new(trusted);
        self.forwarded = Some(Forwarded { header, trusted });
        self
    }

    /// Hands requests that meet a condition to another router, before any path is looked at. Conditions are
    /// asked in the order of registration, after [hosts](Self::host); this router's own routes are for requests
    /// that meet none. Once chosen, its 404 is final. It takes fallbacks, state and policies from here. One condition
    /// twice is a fault that [`build`](Self::build) reports: the second router would never be asked.
    #[track_caller]
    #[doc(alias = "RouteHeaders")]
    pub fn when(self, condition: Condition, router: Self) -> Self {
        self.guarded(Guard::Condition(condition), router, Location::caller())
    }

    fn guarded(mut self, guard: Guard, router: Self, location: &'static Location<'static>) -> Self {
        self.items.push(Item::Guarded {
            guard,
            router: Box::new(router),
            layers: Vec::new(),
            location,
        });
        self
    }

    fn mounted(
        mut self,
        prefix: &str,
        target: Target<B>,
        location: &'static Location<'static>,
    ) -> Self {
        self.items.push(Item::Mount {
            prefix: prefix.into(),
            target,
            layers: Vec::new(),
            location,
        });
        self
    }

    /// Turns the layers of the router into layers of its endpoints.
    fn inlined(mut self) -> Self {
        for layer in std::mem::take(&mut self.layers) {
            self.wrap_endpoints(&layer);
            self.wrap_fallbacks(&layer);
        }
        self
    }

    fn wrap_endpoints(&mut self, layer: &Wrapper<B>) {
        for item in &mut self.items {
            match item {
                Item::Mount { layers, .. } | Item::Guarded { layers, .. } => {
                    layers.push(layer.clone());
                }
                Item::Route { methods, .. } => {
                    methods
                        .entries
                        .iter_mut()
                        .for_each(|entry| entry.end.layers.push(layer.clone()));
                }
            }
        }
    }

    /// As [`wrap_endpoints`](Self::wrap_endpoints), but nested routers pass it on to their routes.
    fn wrap_routes(&mut self, layer: &Wrapper<B>) {
        for item in &mut self.items {
            match item {
                Item::Route { methods, .. } => {
                    let ends = methods.entries.iter_mut().map(|entry| &mut entry.end);
                    ends.for_each(|end| end.layers.push(layer.clone()));
                }
                Item::Mount {
                    target: Target::Service(end),
                    ..
                } => end.layers.push(layer.clone()),
                Item::Mount {
                    target: Target::Router(router),
                    ..
                }
                | Item::Guarded { router, .. } => router.wrap_routes(layer),
            }
        }
    }

    /// Gives `states` to everything that has not its own.
    fn hand_out(&mut self, states: &States) {
        for item in &mut self.items {
            match item {
                Item::Route { methods, .. } => {
                    let ends = methods.entries.iter_mut().map(|entry| &mut entry.end);
                    ends.for_each(|end| end.states.inherit(states));
                }
                Item::Mount {
                    target: Target::Service(end),
                    ..
                } => end.states.inherit(states),
                Item::Mount {
                    target: Target::Router(router),
                    ..
                }
                | Item::Guarded { router, .. } => router.states.inherit(states),
            }
        }
        let fallbacks = [&mut self.not_found, &mut self.method_not_allowed];
        for end in fallbacks.into_iter().flatten() {
            end.states.inherit(states);
        }
    }

    fn wrap_fallbacks(&mut self, layer: &Wrapper<B>) {
        for end in [&mut self.not_found, &mut self.method_not_allowed]
            .into_iter()
            .flatten()
        {
            end.layers.push(layer.clone());
        }
    }
}

impl<B: Send + 'static> Router<B> {
    /// Answers `path`, whatever the method, by a tower service. The service sees the whole path, and
    /// [`Params`](crate::Params) in the extensions of its request if the path captures anything.
    #[track_caller]
    pub fn route_service<S>(self, path: &str, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.route(path, any_service(service))
    }

    /// Hands everything below `prefix`, whatever the method, to a tower service. The service sees the
    /// rest of the path alone: `/api/x?q` below `/api` becomes `/x?q`, and `/api` becomes `/`.
    #[track_caller]
    #[doc(alias = "mount")]
    #[doc(alias = "StripPrefix")]
    pub fn nest_service<S>(self, prefix: &str, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.mounted(
            prefix,
            Target::Service(End::stripped(service)),
            Location::caller(),
        )
    }

    /// Hands everything below `prefix`, whatever the method, to a tower service that sees the whole path. It is
    /// there for gRPC, whose paths are names: tonic's `Routes` below `/`, or one service below its own name.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use http::{Request, Response};
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::Router;
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// # let health = tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    /// let app = Router::new().mount_grpc("/grpc.health.v1.Health", health).build()?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn mount_grpc<S>(self, prefix: &str, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.mounted(
            prefix,
            Target::Service(End::service(service)),
            Location::caller(),
        )
    }

    /// Puts `layer` around the whole router, 404 and 405 included, whatever is added later. The layer
    /// that is added last is outermost. See [Layers](super#layers).
    #[doc(alias = "Use")]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: RouteLayer<B>,
    {
        self.layers.push(layer.into_wrapper());
        self
    }

    /// Puts `layer` around each endpoint that is there by now, not around 404 and 405. See
    /// [Layers](super#layers).
    pub fn route_layer<L>(mut self, layer: L) -> Self
    where
        L: RouteLayer<B>,
    {
        self.wrap_endpoints(&layer.into_wrapper());
        self
    }

    /// Adds the routes of the closure, as [`merge`](Self::merge) does, with `layer` around each of their endpoints. A
    /// fallback that the closure sets becomes that of this router, with the layer around it. A nested router is
    /// wrapped as a whole.
    ///
    /// ```
    /// # use tower::layer::util::Identity as RequireAdmin;
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{Router, get};
    ///
    /// let router = Router::<Body>::new()
    ///     .route("/", get(|| async { "everybody" }))
    ///     .with(RequireAdmin::new(), |router| router.route("/admin", get(|| async { "admins" })));
    /// ```
    #[doc(alias = "With")]
    pub fn with<L>(self, layer: L, routes: impl FnOnce(Self) -> Self) -> Self
    where
        L: RouteLayer<B>,
    {
        let mut inner = routes(Self::new()).inlined();
        let layer = layer.into_wrapper();
        inner.wrap_endpoints(&layer);
        inner.wrap_fallbacks(&layer);
        self.merge(inner)
    }

    /// Adds the routes of the closure, each with a layer of its own around it: `make` is called once for each
    /// route and method when the router is built, for nested routers too. So a layer can hold what belongs to
    /// its route, such as handles of metrics. It is outside of the layers that the closure adds, but inside of those of a
    /// nested router, which wrap that router as a whole. Fallbacks have none. In lists the layer has the name of its
    /// type.
    ///
    /// ```
    /// use http::{HeaderValue, Response};
    /// use tower::util::MapResponseLayer;
    /// use tower_chassis_core::Body;
    /// use tower_chassis_router::{RouteInfo, Router, get};
    ///
    /// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
    /// fn stamp(route: &RouteInfo) -> MapResponseLayer<impl Fn(Response<Body>) -> Response<Body> + Clone + use<>> {
    ///     let template = HeaderValue::try_from(route.template()).ok();
    ///     MapResponseLayer::new(move |mut response: Response<Body>| {
    ///         if let Some(template) = &template {
    ///             response.headers_mut().insert("x-route", template.clone());
    ///         }
    ///         response
    ///     })
    /// }
    ///
    /// let app = Router::<Body>::new()
    ///     .with_route(stamp, |router| router.route("/users/{id}", get(|| async { "one" })))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    pub fn with_route<L, F>(self, make: F, routes: impl FnOnce(Self) -> Self) -> Self
    where
        F: Fn(&RouteInfo) -> L + Send + Sync + 'static,
        L: RouteLayer<B> + 'static,
    {
        let mut inner = routes(Self::new()).inlined();
        inner.wrap_routes(&per_route(make));
        self.merge(inner)
    }

    /// Answers paths that no route matches. Default: 404 without a body. Replaces an earlier one.
    #[track_caller]
    #[doc(alias = "NotFound")]
    pub fn fallback<H, M>(mut self, handler: H) -> Self
    where
        H: Handler<B, M>,
        M: 'static,
    {
        self.not_found = Some(End::handler(handler));
        self
    }

    /// Answers paths that no route matches by a tower service, which sees the whole path. Replaces an
    /// earlier one.
    #[track_caller]
    pub fn fallback_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.not_found = Some(End::service(service));
        self
    }

    /// Answers paths whose routes have other methods. Default: 405 without a body. An answer with that
    /// status gets an `Allow` header if it has none. Replaces an earlier one.
    #[track_caller]
    #[doc(alias = "MethodNotAllowed")]
    pub fn method_not_allowed_fallback<H, M>(mut self, handler: H) -> Self
    where
        H: Handler<B, M>,
        M: 'static,
    {
        self.method_not_allowed = Some(End::handler(handler));
        self
    }
}
