//! The erased end of a route, called through `&self` with the match as an argument.

use std::{convert::Infallible, future::poll_fn, marker::PhantomData, sync::Arc};

use http::{
    Request, Response, Uri,
    uri::{Parts, PathAndQuery},
};
use tower_chassis_core::{Body, boxed::BoxFuture, invocation::MatchedRoute};
use tower_service::Service;

use super::{
    guard::HostCaptures,
    layered::forget,
    locate::{Located, Search},
    table::Table,
};
use crate::{handler::Handler, matcher::Captures, params::Params, response::IntoResponse};

/// How a request came to its endpoint. Borrowed: what a handler wants to keep, it takes as [`Params`].
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    pub(super) table: &'a Arc<Table>,
    /// Under which names the captures are known.
    pub(super) scope: Option<u32>,
    /// The template, known to handlers.
    pub(super) route: Option<u32>,
    pub(super) captures: &'a Captures,
    /// What the host captured.
    pub(super) host: Option<&'a Arc<HostCaptures>>,
    /// What the captures point into, if it need not be the path of the request.
    pub(super) path: Option<&'a PathAndQuery>,
    /// Where the rest of the path starts, for routers and services below a mount.
    pub(super) at: usize,
}

static NO_CAPTURES: Captures = Captures::new();

impl<'a> Match<'a> {
    pub(super) fn root(table: &'a Arc<Table>) -> Self {
        Self {
            table,
            scope: None,
            route: None,
            captures: &NO_CAPTURES,
            host: None,
            path: None,
            at: 0,
        }
    }

    pub(super) fn path<'p, B>(&self, req: &'p Request<B>) -> &'p str
    where
        'a: 'p,
    {
        self.path
            .map_or_else(|| req.uri().path(), PathAndQuery::path)
    }

    /// What was captured, to keep. `req` is the request that came with this match.
    #[must_use]
    pub fn params<B>(&self, req: &Request<B>) -> Params {
        Params {
            table: Arc::clone(self.table),
            scope: self.scope,
            route: self.route,
            path: self.path.or(req.uri().path_and_query()).cloned(),
            captures: self.captures.clone(),
            host: self.host.cloned(),
            at: None,
        }
    }

    /// Whether there are [`params`](Self::params).
    pub(super) fn has_params(&self) -> bool {
        !self.captures.is_empty() || self.host.is_some()
    }

    /// The route. `None` in a fallback.
    #[must_use]
    pub fn route(&self) -> Option<MatchedRoute> {
        self.table.route(self.route?)
    }
}

/// The erased end of a route. Nobody else implements it.
pub trait Endpoint<B>: Send + Sync {
    fn serve(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>>;

    /// Which route would serve it, without running anything: routers of ours know.
    fn locate(&self, search: &mut Search<'_>, matched: Match<'_>) -> Located {
        let _ = (search, matched);
        Located::NotFound
    }
}

/// A function of ours: reads the match, boxes only its own future.
pub(crate) struct Function<B, H: Handler<B, M>, M> {
    handler: H,
    needs: H::Needs,
    route: Option<u32>,
    kind: PhantomData<fn(B) -> M>,
}

impl<B, H: Handler<B, M>, M> Function<B, H, M> {
    pub(crate) const fn new(handler: H, needs: H::Needs, route: Option<u32>) -> Self {
        Self {
            handler,
            needs,
            route,
            kind: PhantomData,
        }
    }
}

impl<B, H, M> Endpoint<B> for Function<B, H, M>
where
    H: Handler<B, M>,
{
    fn serve(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        let matched = Match {
            route: self.route,
            ..matched
        };
        self.handler.call_boxed(req, matched, &self.needs)
    }
}

/// A tower service: its clone is readied and called in one box.
pub(super) struct Foreign<S> {
    pub(super) service: S,
    pub(super) route: Option<u32>,
}

impl<B, S> Endpoint<B> for Foreign<S>
where
    B: Send + 'static,
    S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    fn serve(&self, mut req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        if matched.has_params() {
            let route = self.route;
            let params = Match { route, ..matched }.params(&req);
            req.extensions_mut().insert(params);
        } else {
            forget(&mut req, matched.table);
        }
        oneshot(self.service.clone(), req)
    }
}

/// A tower service below a mount, which sees the rest of the path alone.
pub(super) struct Stripped<S>(pub(super) Foreign<S>);

impl<B, S> Endpoint<B> for Stripped<S>
where
    Foreign<S>: Endpoint<B>,
{
    fn serve(&self, mut req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        // The captures, if there are any, point into the whole path.
        let captured = !matched.captures.is_empty();
        let whole = req.uri().path_and_query().filter(|_| captured).cloned();
        let prefix = matched.path(&req).get(..matched.at).unwrap_or_default();
        if let Some(rest) = below(req.uri(), prefix) {
            replace_path(req.uri_mut(), rest);
        }
        let path = matched.path.or(whole.as_ref());
        self.0.serve(req, Match { path, ..matched })
    }
}

/// The path and query of `uri` without `prefix`. `None` if there is nothing to strip, or if a layer between
/// the match and the service rewrote the path: it knows what it does.
fn below(uri: &Uri, prefix: &str) -> Option<PathAndQuery> {
    let all = uri.path_and_query()?.as_str();
    let rest = all.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
    let slash = if rest.starts_with('/') { "" } else { "/" };
    let stripped = [slash, rest].concat();
    PathAndQuery::try_from(stripped).ok()
}

fn replace_path(uri: &mut Uri, path: PathAndQuery) {
    let mut parts = Parts::from(std::mem::take(uri));
    parts.path_and_query = Some(path);
    // The parts came from a whole, with a path in it.
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

pub(super) fn oneshot<B, S>(mut service: S, req: Request<B>) -> BoxFuture<'static, Response<Body>>
where
    B: Send + 'static,
    S: Service<Request<B>, Error = Infallible> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    Box::pin(async move {
        let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
        let Ok(response) = service.call(req).await;
        response.into_response()
    })
}
