//! The description of a router.

use std::{convert::Infallible, fmt, panic::Location, sync::Arc};

use http::Request;
use tower_chassis_core::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    BuildError,
    endpoint::{Foreign, Function, Stripped},
    layered::{EndpointLayer, Route, erase},
    method::{End, MethodRouter, any_service},
};
use crate::{handler::Handler, response::IntoResponse};

/// A description of routes. See the [module](super).
#[must_use = "a router does nothing until it is built"]
pub struct Router<B = Body> {
    pub(super) items: Vec<Item<B>>,
    pub(super) layers: Vec<EndpointLayer<B>>,
    pub(super) not_found: Option<End<B>>,
    pub(super) method_not_allowed: Option<End<B>>,
    pub(super) implicit_head: Option<bool>,
    pub(super) faults: Vec<BuildError>,
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
        layers: Vec<EndpointLayer<B>>,
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
            implicit_head: None,
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
    /// around each of them, since there is no router of its own left to wrap; its
    /// [`implicit_head`](Self::implicit_head) is dropped.
    pub fn merge(mut self, other: Self) -> Self {
        let other = other.inlined();
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

    /// Adds the routes of the closure; there only to give them a place of their own in the text.
    #[doc(alias = "Group")]
    pub fn group(self, routes: impl FnOnce(Self) -> Self) -> Self {
        self.merge(routes(Self::new()))
    }

    /// Whether GET answers HEAD where there is no route for HEAD. Default: as the parent does; a router
    /// without a parent does.
    #[doc(alias = "GetHead")]
    pub fn implicit_head(mut self, implicit: bool) -> Self {
        self.implicit_head = Some(implicit);
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

    fn wrap_endpoints(&mut self, layer: &EndpointLayer<B>) {
        for item in &mut self.items {
            match item {
                Item::Mount { layers, .. } => layers.push(Arc::clone(layer)),
                Item::Route { methods, .. } => {
                    methods
                        .entries
                        .iter_mut()
                        .for_each(|entry| entry.end.layers.push(Arc::clone(layer)));
                }
            }
        }
    }

    fn wrap_fallbacks(&mut self, layer: &EndpointLayer<B>) {
        for end in [&mut self.not_found, &mut self.method_not_allowed]
            .into_iter()
            .flatten()
        {
            end.layers.push(Arc::clone(layer));
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
        let location = Location::caller();
        self.mounted(
            prefix,
            Target::Service(End::new(Stripped(Foreign(service)))),
            location,
        )
    }

    /// Puts `layer` around the whole router, 404 and 405 included, whatever is added later. The layer
    /// that is added last is outermost. See [Layers](super#layers).
    #[doc(alias = "Use")]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route<B>> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Response: IntoResponse,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
    {
        self.layers.push(erase(layer));
        self
    }

    /// Puts `layer` around each endpoint that is there by now, not around 404 and 405. See
    /// [Layers](super#layers).
    pub fn route_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route<B>> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Response: IntoResponse,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
    {
        self.wrap_endpoints(&erase(layer));
        self
    }

    /// Adds the routes of the closure with `layer` around each of their endpoints. A fallback that the
    /// closure sets becomes that of this router, with the layer around it.
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
        L: Layer<Route<B>> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Response: IntoResponse,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
    {
        let mut inner = routes(Self::new()).inlined();
        let layer = erase(layer);
        inner.wrap_endpoints(&layer);
        inner.wrap_fallbacks(&layer);
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
        self.not_found = Some(End::new(Function::new(handler)));
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
        self.not_found = Some(End::new(Foreign(service)));
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
        self.method_not_allowed = Some(End::new(Function::new(handler)));
        self
    }
}
