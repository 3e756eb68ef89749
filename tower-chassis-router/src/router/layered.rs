//! Layers around endpoints: what a match knows travels through them in the request.

use std::{
    any::type_name,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_chassis_core::{Body, boxed::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    endpoint::{Endpoint, Match, oneshot},
    future::RouteFuture,
    listing::RouteInfo,
    locate::{Located, Search},
    table::Table,
};
use crate::{params::Params, response::IntoResponse};

/// A layer that a router can put around its routes: any tower layer over a [`Route`] whose service is
/// `Clone + Send + Sync`, cannot fail and gives an [answer](IntoResponse); or such a layer with a
/// [name](named).
///
/// Several layers go in one call as a tuple or a `ServiceBuilder`: the first is outermost, and all of them
/// together cost one box.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be put around the routes of a router",
    note = "it must be a `Layer<Route<B>>`, `Send + Sync + 'static`; what it makes must be a `Service<Request<B>, Error = Infallible>` that is `Clone + Send + Sync + 'static`",
    note = "`RescueLayer` turns the errors of a layer into answers"
)]
pub trait RouteLayer<B> {
    #[doc(hidden)]
    fn into_wrapper(self) -> Wrapper<B>;
}

/// Puts a layer around an endpoint. Kept by the description, applied once per endpoint by the build.
pub struct Wrapper<B> {
    /// In run order.
    pub(super) names: Arc<[Arc<str>]>,
    make: Make<B>,
}

type Make<B> = Arc<dyn Fn(Route<B>, &RouteInfo) -> Arc<dyn Endpoint<B>> + Send + Sync>;

impl<B> Clone for Wrapper<B> {
    fn clone(&self) -> Self {
        Self {
            names: Arc::clone(&self.names),
            make: Arc::clone(&self.make),
        }
    }
}

impl<B> fmt::Debug for Wrapper<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&*self.names).finish()
    }
}

impl<B, L> RouteLayer<B> for L
where
    B: Send + 'static,
    L: Layer<Route<B>> + Send + Sync + 'static,
    L::Service: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request<B>>>::Response: IntoResponse,
    <L::Service as Service<Request<B>>>::Future: Send + 'static,
{
    fn into_wrapper(self) -> Wrapper<B> {
        Wrapper {
            names: names_of(type_name::<L>()),
            make: Arc::new(move |route, _| {
                let inner = Arc::clone(&route.endpoint);
                let service = self.layer(route);
                Arc::new(Layered { service, inner })
            }),
        }
    }
}

/// A layer with a name for the [lists](super::RouteInfo::layers) of a router. See [`named`].
#[derive(Clone, Copy, Debug)]
pub struct Named<L> {
    name: &'static str,
    layer: L,
}

/// Gives `layer` a name for the [lists](super::RouteInfo::layers) of a router, which otherwise name it by its
/// type.
///
/// ```
/// # use tower::layer::util::Identity as RequireAdmin;
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Router, get, named};
///
/// let router = Router::<Body>::new().with(named("auth", RequireAdmin::new()), |router| {
///     router.route("/admin", get(|| async { "admins" }))
/// });
/// assert_eq!(router.routes()[0].layers().collect::<Vec<_>>(), ["auth"]);
/// ```
pub const fn named<L>(name: &'static str, layer: L) -> Named<L> {
    Named { name, layer }
}

impl<B, L: RouteLayer<B>> RouteLayer<B> for Named<L> {
    fn into_wrapper(self) -> Wrapper<B> {
        Wrapper {
            names: Arc::new([self.name.into()]),
            ..self.layer.into_wrapper()
        }
    }
}

/// A layer that is made anew for each route.
pub(super) fn per_route<B, L, F>(make: F) -> Wrapper<B>
where
    F: Fn(&RouteInfo) -> L + Send + Sync + 'static,
    L: RouteLayer<B>,
{
    Wrapper {
        names: names_of(type_name::<L>()),
        make: Arc::new(move |route, info| (make(info).into_wrapper().make)(route, info)),
    }
}

/// Wraps `endpoint`, the first layer innermost.
pub(super) fn wrap<B>(
    endpoint: Arc<dyn Endpoint<B>>,
    layers: &[Wrapper<B>],
    table: &Arc<Table>,
    info: &RouteInfo,
) -> Arc<dyn Endpoint<B>> {
    layers.iter().fold(endpoint, |endpoint, layer| {
        let route = Route {
            endpoint,
            table: Arc::clone(table),
        };
        (layer.make)(route, info)
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
        let Some(params) = luggage(&mut req, &self.table) else {
            return RouteFuture::new(self.endpoint.serve(req, root));
        };
        let matched = Match {
            scope: params.scope,
            captures: &params.captures,
            host: params.host.as_ref(),
            path: params.path.as_ref(),
            at: params.at.unwrap_or_default(),
            ..root
        };
        RouteFuture::new(self.endpoint.serve(req, matched))
    }
}

/// A match travels through a layer as [`Params`], where the layer can read the captures. Those of another router
/// around this one, and those that a service was given, stay where they are.
fn luggage<B>(req: &mut Request<B>, table: &Arc<Table>) -> Option<Params> {
    let params: &Params = req.extensions().get()?;
    if params.at.is_none() || !Arc::ptr_eq(&params.table, table) {
        return None;
    }
    req.extensions_mut().remove()
}

/// Takes away what another match of the same router left in a request that was sent through it again: who comes next
/// would take it for this match's.
pub(super) fn forget<B>(req: &mut Request<B>, table: &Arc<Table>) {
    let stale = |params: &Params| Arc::ptr_eq(&params.table, table);
    if req.extensions().get().is_some_and(stale) {
        req.extensions_mut().remove::<Params>();
    }
}

/// An endpoint with a layer around it.
struct Layered<S, B> {
    service: S,
    /// What is inside of `service`, which does not tell.
    inner: Arc<dyn Endpoint<B>>,
}

impl<B, S> Endpoint<B> for Layered<S, B>
where
    B: Send + 'static,
    S: Service<Request<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    fn serve(&self, mut req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        // A router that starts afresh needs nothing; nor does a route without captures.
        if matched.has_params() || matched.at > 0 {
            let mut params = matched.params(&req);
            params.at = Some(matched.at);
            if matched.at == 0 && matched.captures.is_empty() {
                // Of this path nothing was matched yet, but the host: what the layer makes of it counts.
                params.path = None;
            }
            req.extensions_mut().insert(params);
        } else {
            forget(&mut req, matched.table);
        }
        oneshot(self.service.clone(), req)
    }

    fn locate(&self, search: &mut Search<'_>, matched: Match<'_>) -> Located {
        self.inner.locate(search, matched)
    }
}

/// The layers that a type is made of, the outermost first: tuples and stacks are taken apart.
pub(super) fn names_of(kind: &str) -> Arc<[Arc<str>]> {
    let mut names = Vec::new();
    collect(kind.trim(), &mut names);
    names.into()
}

fn collect(kind: &str, names: &mut Vec<Arc<str>>) {
    if let Some(inside) = kind.strip_prefix('(').and_then(|k| k.strip_suffix(')')) {
        arguments(inside).for_each(|part| collect(part, names));
        return;
    }
    let (path, generics) = kind.split_at(generics(kind).unwrap_or(kind.len()));
    let generics = generics.strip_prefix('<').and_then(|g| g.strip_suffix('>'));
    let generics = generics.unwrap_or_default();
    let short = path.rsplit("::").next().unwrap_or(path);
    match (short, path.starts_with("tower")) {
        ("Identity", true) => {}
        ("ServiceBuilder", true) => collect(generics, names),
        // `Stack<Inner, Outer>`.
        ("Stack", true) => {
            let parts: Vec<_> = arguments(generics).collect();
            parts.iter().rev().for_each(|part| collect(part, names));
        }
        ("Named", true) => arguments(generics).for_each(|part| collect(part, names)),
        _ => names.push(short.into()),
    }
}

/// Where the generics at the end of a type begin. What is defined in the method of a trait has others in its path:
/// `<Type as Trait>::method::Local<u8>`.
fn generics(kind: &str) -> Option<usize> {
    let bytes = kind.strip_suffix('>')?.as_bytes();
    let mut depth = 1u32;
    bytes.iter().enumerate().rposition(|(at, byte)| {
        match byte {
            b'>' if at.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'-') => {}
            b'>' => depth += 1,
            b'<' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

/// What stands between the commas, brackets balanced.
fn arguments(list: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut last) = (0u32, ' ');
    list.split(move |c: char| {
        match c {
            '>' if last == '-' => {}
            '<' | '(' | '[' | '{' => depth += 1,
            '>' | ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        last = c;
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use tower::{ServiceBuilder, layer::util::Identity, util::MapRequestLayer};

    use super::*;

    struct One;
    struct Two<T>(T);

    trait Inside {
        fn inside(&self) -> Vec<String>;
    }

    impl Inside for One {
        fn inside(&self) -> Vec<String> {
            struct Local<T>(T);
            names(&(Local(0u8), Two(Local(1u8))))
        }
    }

    fn names<L>(_: &L) -> Vec<String> {
        let names = names_of(type_name::<L>());
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn stacks_are_taken_apart_in_run_order() {
        assert_eq!(names(&One), ["One"]);
        assert_eq!(names(&Two((1u8, 2u8))), ["Two"]);
        assert_eq!(names(&(One, Two(One), One)), ["One", "Two", "One"]);
        assert!(names(&Identity::new()).is_empty());
        let stack = ServiceBuilder::new()
            .layer(One)
            .layer((Two(Some(1u8)), One))
            .map_request(|req: Request<Body>| req);
        assert_eq!(names(&stack), ["One", "Two", "One", "MapRequestLayer"]);
        let _ = MapRequestLayer::new(|req: Request<Body>| req);
        assert_eq!(names(&named("auth", One)), ["One"]);
        assert_eq!(names(&Two(|_: u8| Some(One))), ["Two"]);
        let arrow: fn() -> Option<One> = || None;
        assert_eq!(names(&(Two(arrow), One)), ["Two", "One"]);
        assert_eq!(One.inside(), ["Local", "Two"]);
    }
}
