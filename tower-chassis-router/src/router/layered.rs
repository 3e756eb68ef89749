//! Layers around endpoints: what a match knows travels through them in the request.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, uri::PathAndQuery};
use tower_chassis_core::{Body, boxed::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    endpoint::{Endpoint, Match, oneshot},
    future::RouteFuture,
    table::Table,
};
use crate::{matcher::Captures, params::Params, response::IntoResponse};

/// Puts a layer around an endpoint. Kept by the description, applied once per endpoint by the build.
pub(super) type EndpointLayer<B> = Arc<dyn Fn(Route<B>) -> Arc<dyn Endpoint<B>> + Send + Sync>;

pub(super) fn erase<B, L>(layer: L) -> EndpointLayer<B>
where
    B: Send + 'static,
    L: Layer<Route<B>> + Send + Sync + 'static,
    L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request<B>>>::Response: IntoResponse,
    <L::Service as Service<Request<B>>>::Future: Send + 'static,
{
    Arc::new(move |route| Arc::new(Layered(layer.layer(route))))
}

/// Wraps `endpoint`, the first layer innermost.
pub(super) fn wrap<B>(
    endpoint: Arc<dyn Endpoint<B>>,
    layers: &[EndpointLayer<B>],
    table: &Arc<Table>,
) -> Arc<dyn Endpoint<B>> {
    layers.iter().fold(endpoint, |endpoint, layer| {
        layer(Route {
            endpoint,
            table: Arc::clone(table),
        })
    })
}

/// What a layer of a router wraps: an endpoint, or a whole router. Always ready. A clone is two
/// reference counts.
pub struct Route<B> {
    endpoint: Arc<dyn Endpoint<B>>,
    table: Arc<Table>,
}

impl<B> Clone for Route<B> {
    fn clone(&self) -> Self {
        Self {
            endpoint: Arc::clone(&self.endpoint),
            table: Arc::clone(&self.table),
        }
    }
}

impl<B> fmt::Debug for Route<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Route<B> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut req: Request<B>) -> RouteFuture {
        let root = Match::root(&self.table);
        let Some(luggage) = req.extensions_mut().remove::<Luggage>() else {
            return RouteFuture::new(self.endpoint.serve(req, root));
        };
        let params = if luggage.params {
            req.extensions_mut().remove::<Params>()
        } else {
            None
        };
        let nothing = Captures::new();
        let matched = Match {
            scope: luggage.scope,
            captures: params.as_ref().map_or(&nothing, |params| &params.captures),
            path: luggage.path.as_ref(),
            at: luggage.at,
            ..root
        };
        RouteFuture::new(self.endpoint.serve(req, matched))
    }
}

/// A match on its way through a layer. The captures are in [`Params`], where the layer can read them.
#[derive(Clone)]
struct Luggage {
    params: bool,
    scope: Option<u32>,
    path: Option<PathAndQuery>,
    at: usize,
}

/// An endpoint with a layer around it.
struct Layered<S>(S);

impl<B, S> Endpoint<B> for Layered<S>
where
    B: Send + 'static,
    S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    fn serve(&self, mut req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        let params = !matched.captures.is_empty();
        // A router that starts afresh needs nothing; nor does a route without captures.
        if params || matched.at > 0 {
            let path = matched.path.or(req.uri().path_and_query()).cloned();
            if params {
                let params = matched.params(&req);
                req.extensions_mut().insert(params);
            }
            req.extensions_mut().insert(Luggage {
                params,
                scope: matched.scope,
                path,
                at: matched.at,
            });
        }
        oneshot(self.0.clone(), req)
    }
}
