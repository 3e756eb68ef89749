//! What answers at one path, by method.

use std::{convert::Infallible, fmt, panic::Location, sync::Arc};

use http::{Method, Request};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    endpoint::{Endpoint, Foreign, Function},
    layered::{EndpointLayer, Route, erase},
};
use crate::{handler::Handler, response::IntoResponse};

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
}

pub(super) struct MethodEntry<B> {
    /// None: every method that has no entry of its own.
    pub(super) method: Option<Method>,
    pub(super) end: End<B>,
}

/// An endpoint and the layers that the build will put around it.
pub(super) struct End<B> {
    pub(super) endpoint: Arc<dyn Endpoint<B>>,
    pub(super) layers: Vec<EndpointLayer<B>>,
    pub(super) location: &'static Location<'static>,
}

impl<B> End<B> {
    #[track_caller]
    pub(super) fn new(endpoint: impl Endpoint<B> + 'static) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            layers: Vec::new(),
            location: Location::caller(),
        }
    }
}

impl<B> Clone for End<B> {
    fn clone(&self) -> Self {
        Self {
            endpoint: Arc::clone(&self.endpoint),
            layers: self.layers.clone(),
            location: self.location,
        }
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
        }
    }

    #[track_caller]
    fn end(mut self, method: Option<Method>, endpoint: impl Endpoint<B> + 'static) -> Self {
        self.entries.push(MethodEntry {
            method,
            end: End::new(endpoint),
        });
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
        self.end(Some(method), Function::new(handler))
    }

    /// Answers `method` by a tower service.
    #[track_caller]
    pub fn on_service<S>(self, method: Method, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.end(Some(method), Foreign(service))
    }

    /// Answers by a handler every method that has nothing of its own at this path.
    #[track_caller]
    #[doc(alias = "Handle")]
    pub fn any<H, M>(self, handler: H) -> Self
    where
        H: Handler<B, M>,
        M: 'static,
    {
        self.end(None, Function::new(handler))
    }

    /// Answers by a tower service every method that has nothing of its own at this path.
    #[track_caller]
    pub fn any_service<S>(self, service: S) -> Self
    where
        S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.end(None, Foreign(service))
    }

    /// Puts `layer` around everything that is here by now. Costs a box per call.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route<B>> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Response: IntoResponse,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
    {
        let layer = erase(layer);
        for entry in &mut self.entries {
            entry.end.layers.push(Arc::clone(&layer));
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
