//! What answers at one path, by method.

use std::{any::type_name, convert::Infallible, fmt, panic::Location, sync::Arc};

use http::{Method, Request};
use tower_service::Service;

use super::{
    endpoint::{Endpoint, Foreign, Stripped},
    layered::{RouteLayer, Wrapper},
    table::Table,
};
use crate::{
    extract::{Missing, Needs, States},
    handler::Handler,
    response::IntoResponse,
};

/// What answers at one path: a handler or a service for each method, and perhaps one for all others.
///
/// Any [`Method`] will do, none needs to be registered. One method twice is a fault that
/// [`Router::build`](super::Router::build) reports.
///
/// ```
/// use http::{Method, StatusCode};
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{MethodRouter, get};
///
/// # fn purge() -> Method { Method::from_bytes(b"PURGE").unwrap() }
/// let cache: MethodRouter<Body> = get(|| async { "hit" })
///     .delete(|| async { StatusCode::NO_CONTENT })
///     .on(purge(), || async { StatusCode::ACCEPTED });
/// ```
#[must_use]
pub struct MethodRouter<B> {
    pub(super) entries: Vec<MethodEntry<B>>,
    pub(super) name: Option<(Arc<str>, &'static Location<'static>)>,
}

pub(super) struct MethodEntry<B> {
    /// None: every method that has no entry of its own.
    pub(super) method: Option<Method>,
    pub(super) end: End<B>,
}

/// An endpoint to be, and the layers that the build will put around it.
pub(super) struct End<B> {
    plan: Plan<B>,
    pub(super) layers: Vec<Wrapper<B>>,
    /// The layers that are part of it, in run order.
    pub(super) inner: Arc<[Arc<str>]>,
    /// What routers had that were merged into another.
    pub(super) states: States,
    /// The type of the handler or service.
    pub(super) kind: &'static str,
    pub(super) location: &'static Location<'static>,
}

/// Makes the endpoint once its state and the number of its route are known.
type Plan<B> = Box<
    dyn FnOnce(&States, Option<u32>, &Arc<Table>) -> Result<Arc<dyn Endpoint<B>>, Missing>
        + Send
        + Sync,
>;

impl<B: Send + 'static> End<B> {
    #[track_caller]
    pub(super) fn handler<H, M>(handler: H) -> Self
    where
        H: Handler<B, M>,
        M: 'static,
    {
        let plan: Plan<B> = Box::new(|states, route, table| {
            Ok(handler.endpoint(H::Needs::find(states)?, route, table))
        });
        Self {
            inner: H::layers(),
            kind: H::kind(),
            ..Self::new::<H>(plan)
        }
    }

    #[track_caller]
    pub(super) fn service<S>(service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        Self::new::<S>(Box::new(|_, route, _| {
            Ok(Arc::new(Foreign { service, route }))
        }))
    }

    /// A service that sees the rest of the path alone.
    #[track_caller]
    pub(super) fn stripped<S>(service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        Self::new::<S>(Box::new(|_, route, _| {
            Ok(Arc::new(Stripped(Foreign { service, route })))
        }))
    }
}

impl<B> End<B> {
    #[track_caller]
    fn new<T>(plan: Plan<B>) -> Self {
        Self {
            plan,
            layers: Vec::new(),
            inner: Arc::default(),
            states: States::default(),
            kind: type_name::<T>(),
            location: Location::caller(),
        }
    }

    /// The endpoint without its layers. `states` are those of the routers around it.
    pub(super) fn bind(
        self,
        states: &States,
        route: Option<u32>,
        table: &Arc<Table>,
    ) -> Result<Arc<dyn Endpoint<B>>, Missing> {
        let mut own = self.states;
        own.inherit(states);
        (self.plan)(&own, route, table)
    }
}

impl<B> fmt::Debug for MethodRouter<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self
            .entries
            .iter()
            .map(|entry| entry.method.as_ref().map_or("any", Method::as_str));
        f.debug_list().entries(methods).finish()
    }
}

impl<B> Default for MethodRouter<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> MethodRouter<B> {
    /// Answers no method yet: as long as that is so, its path is as if it were not there.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            name: None,
        }
    }

    /// Names the path, so that [`RouteService::url`](super::RouteService::url) can build it. A name is unique
    /// in a router and all that are nested in it, else it is a fault that
    /// [`Router::build`](super::Router::build) reports.
    #[track_caller]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some((name.into(), Location::caller()));
        self
    }

    fn end(mut self, method: Option<Method>, end: End<B>) -> Self {
        self.entries.push(MethodEntry { method, end });
        self
    }
}

impl<B: Send + 'static> MethodRouter<B> {
    /// Answers `method` by a handler.
    #[track_caller]
    #[doc(alias = "Method")]
    pub fn on<H, M>(self, method: Method, handler: H) -> Self
    where
        H: Handler<B, M>,
        M: 'static,
    {
        self.end(Some(method), End::handler(handler))
    }

    /// Answers `method` by a tower service.
    #[track_caller]
    pub fn on_service<S>(self, method: Method, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.end(Some(method), End::service(service))
    }

    /// Answers by a handler every method that has nothing of its own at this path.
    #[track_caller]
    #[doc(alias = "Handle")]
    pub fn any<H, M>(self, handler: H) -> Self
    where
        H: Handler<B, M>,
        M: 'static,
    {
        self.end(None, End::handler(handler))
    }

    /// Answers by a tower service every method that has nothing of its own at this path.
    #[track_caller]
    pub fn any_service<S>(self, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.end(None, End::service(service))
    }

    /// Puts `layer` around everything that is here by now. Costs a box per call; [`layered`](super::layered) does not.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: RouteLayer<B>,
    {
        let layer = layer.into_wrapper();
        for entry in &mut self.entries {
            entry.end.layers.push(layer.clone());
        }
        self
    }
}

/// A [`MethodRouter`] that answers `method` by a handler.
#[track_caller]
pub fn on<B, H, M>(method: Method, handler: H) -> MethodRouter<B>
where
    B: Send + 'static,
    H: Handler<B, M>,
    M: 'static,
{
    MethodRouter::new().on(method, handler)
}

/// A [`MethodRouter`] that answers `method` by a tower service.
#[track_caller]
pub fn on_service<B, S>(method: Method, service: S) -> MethodRouter<B>
where
    B: Send + 'static,
    S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    MethodRouter::new().on_service(method, service)
}

/// A [`MethodRouter`] that answers every method by a handler.
#[track_caller]
pub fn any<B, H, M>(handler: H) -> MethodRouter<B>
where
    B: Send + 'static,
    H: Handler<B, M>,
    M: 'static,
{
    MethodRouter::new().any(handler)
}

/// A [`MethodRouter`] that answers every method by a tower service.
#[track_caller]
pub fn any_service<B, S>(service: S) -> MethodRouter<B>
where
    B: Send + 'static,
    S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    MethodRouter::new().any_service(service)
}

macro_rules! methods {
    ($($name:ident, $service:ident, $method:ident;)+) => {
        impl<B: Send + 'static> MethodRouter<B> {$(
            #[doc = concat!("Answers ", stringify!($method), " by a handler.")]
            #[track_caller]
            pub fn $name<H, M>(self, handler: H) -> Self
            where
                H: Handler<B, M>,
                M: 'static,
            {
                self.on(Method::$method, handler)
            }

            #[doc = concat!("Answers ", stringify!($method), " by a tower service.")]
            #[track_caller]
            pub fn $service<S>(self, service: S) -> Self
            where
                S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
                S::Response: IntoResponse,
                S::Future: Send + 'static,
            {
                self.on_service(Method::$method, service)
            }
        )+}
        $(
            #[doc = concat!("A [`MethodRouter`] that answers ", stringify!($method), " by a handler.")]
            #[track_caller]
            pub fn $name<B, H, M>(handler: H) -> MethodRouter<B>
            where
                B: Send + 'static,
                H: Handler<B, M>,
                M: 'static,
            {
                MethodRouter::new().$name(handler)
            }

            #[doc = concat!("A [`MethodRouter`] that answers ", stringify!($method), " by a tower service.")]
            #[track_caller]
            pub fn $service<B, S>(service: S) -> MethodRouter<B>
            where
                B: Send + 'static,
                S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
                S::Response: IntoResponse,
                S::Future: Send + 'static,
            {
                MethodRouter::new().$service(service)
            }
        )+
    };
}

methods! {
    get, get_service, GET;
    post, post_service, POST;
    put, put_service, PUT;
    delete, delete_service, DELETE;
    patch, patch_service, PATCH;
    head, head_service, HEAD;
    options, options_service, OPTIONS;
}
