//! A handler and its layers as one endpoint, in one box.

use std::{
    any::{Any, type_name},
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_chassis_core::{Body, boxed::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Match,
    endpoint::{Endpoint, Foreign, oneshot},
    layered::{forget, names_of},
    table::Table,
};
use crate::{
    handler::{Handler, Prepared},
    matcher::Captures,
    params::Params,
    response::IntoResponse,
};

/// Puts `layer` around one handler. The layer sees the handler's own type, so that all of it is one box per call,
/// however many layers a tuple or a `ServiceBuilder` holds; around a [`Route`](super::Route), whose type is erased, it
/// would be two. [`with`](super::Router::with) and its like cannot do that: the handlers in their closure are erased
/// by then.
///
/// ```
/// use http::HeaderValue;
/// use tower::util::MapResponseLayer;
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Router, get, layered};
///
/// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
/// let stamp = MapResponseLayer::new(|mut response: http::Response<Body>| {
///     response.headers_mut().insert("x-stamp", HeaderValue::from_static("1"));
///     response
/// });
/// let app = Router::<Body>::new().route("/", get(layered(stamp, || async { "hello" }))).build()?;
/// # Ok(()) }
/// ```
pub fn layered<L, H>(layer: L, handler: H) -> Wrapped<L, H> {
    Wrapped {
        layer,
        handler: Arc::new(handler),
    }
}

/// A handler with layers around it. See [`layered`].
#[derive(Debug)]
pub struct Wrapped<L, H> {
    layer: L,
    handler: Arc<H>,
}

impl<L: Clone, H> Clone for Wrapped<L, H> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            handler: Arc::clone(&self.handler),
        }
    }
}

/// Tells a [`Wrapped`] handler from others.
#[derive(Debug)]
pub struct OfWrapped<M>(PhantomData<M>);

impl<B, M, L, H> Handler<B, OfWrapped<M>> for Wrapped<L, H>
where
    B: Send + 'static,
    M: 'static,
    H: Handler<B, M>,
    L: Layer<HandlerService<B, H, M>> + Send + Sync + 'static,
    L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request<B>>>::Response: IntoResponse,
    <L::Service as Service<Request<B>>>::Future: Send + 'static,
{
    type Needs = H::Needs;
    type Future = BoxFuture<'static, Response<Body>>;

    fn call(&self, req: Request<B>, matched: Match<'_>, needs: &H::Needs) -> Self::Future {
        self.call_prepared(req, matched, needs, None)
    }

    fn prepare(
        &self,
        needs: &H::Needs,
        route: Option<u32>,
        table: &Arc<Table>,
    ) -> Option<Prepared> {
        let handler = Arc::clone(&self.handler);
        let inner = HandlerService::new(handler, needs.clone(), route, table);
        Some(Box::new(self.layer.layer(inner)))
    }

    fn call_prepared(
        &self,
        mut req: Request<B>,
        matched: Match<'_>,
        needs: &H::Needs,
        prepared: Option<&(dyn Any + Send + Sync)>,
    ) -> Self::Future {
        if matched.has_params() {
            let params = matched.params(&req);
            req.extensions_mut().insert(params);
        } else {
            forget(&mut req, matched.table);
        }
        let service = match prepared.and_then(|prepared| prepared.downcast_ref::<L::Service>()) {
            Some(service) => service.clone(),
            None => {
                let handler = Arc::clone(&self.handler);
                let (route, table) = (matched.route, matched.table);
                let inner = HandlerService::new(handler, needs.clone(), route, table);
                self.layer.layer(inner)
            }
        };
        oneshot(service, req)
    }

    fn endpoint(
        self,
        needs: H::Needs,
        route: Option<u32>,
        table: &Arc<Table>,
    ) -> Arc<dyn Endpoint<B>> {
        let inner = HandlerService::new(self.handler, needs, route, table);
        let service = self.layer.layer(inner);
        Arc::new(Foreign { service, route })
    }

    fn layers() -> Arc<[Arc<str>]> {
        let (outer, inner) = (names_of(type_name::<L>()), H::layers());
        outer.iter().chain(&*inner).cloned().collect()
    }

    fn kind() -> &'static str {
        H::kind()
    }
}

/// A handler as a tower service: what a layer of [`layered`] wraps. Always ready. A clone is one reference count.
pub struct HandlerService<B, H: Handler<B, M>, M> {
    shared: Arc<Shared<H, H::Needs>>,
    kind: PhantomData<fn(B) -> M>,
}

struct Shared<H, N> {
    handler: Arc<H>,
    needs: N,
    /// What the handler made of these, if it is one with layers of its own.
    prepared: Option<Prepared>,
    route: Option<u32>,
    table: Arc<Table>,
}

impl<B, H: Handler<B, M>, M> HandlerService<B, H, M> {
    fn new(handler: Arc<H>, needs: H::Needs, route: Option<u32>, table: &Arc<Table>) -> Self {
        Self {
            shared: Arc::new(Shared {
                prepared: handler.prepare(&needs, route, table),
                handler,
                needs,
                route,
                table: Arc::clone(table),
            }),
            kind: PhantomData,
        }
    }
}

impl<B, H: Handler<B, M>, M> Clone for HandlerService<B, H, M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            kind: PhantomData,
        }
    }
}

impl<B, H: Handler<B, M>, M> fmt::Debug for HandlerService<B, H, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerService").finish_non_exhaustive()
    }
}

impl<B, H: Handler<B, M>, M> Service<Request<B>> for HandlerService<B, H, M> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = HandlerFuture<H::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        // Those of another router, or of another route that passed the request on, are not its own.
        let table = &self.shared.table;
        let route = self.shared.route;
        let ours = |params: &Params| params.route == route && Arc::ptr_eq(&params.table, table);
        let params = match req.extensions().get().is_some_and(ours) {
            true => req.extensions_mut().remove::<Params>(),
            false => None,
        };
        let nothing = Captures::new();
        let root = Match {
            route: self.shared.route,
            ..Match::root(table)
        };
        let matched = match &params {
            None => Match {
                captures: &nothing,
                ..root
            },
            Some(params) => Match {
                scope: params.scope,
                captures: &params.captures,
                host: params.host.as_ref(),
                path: params.path.as_ref(),
                ..root
            },
        };
        let shared = &*self.shared;
        let prepared = shared.prepared.as_deref();
        let handler = &shared.handler;
        let future = handler.call_prepared(req, matched, &shared.needs, prepared);
        HandlerFuture { future }
    }
}

pin_project! {
    /// The answer of a handler, in the making.
    pub struct HandlerFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F> fmt::Debug for HandlerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFuture").finish_non_exhaustive()
    }
}

impl<F: Future<Output = Response<Body>>> Future for HandlerFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(ready!(self.project().future.poll(cx))))
    }
}
