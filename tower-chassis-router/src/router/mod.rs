//! Routers: a description by value, compiled into a tower service.
//!
//! A [`Router`] is a description. Its methods never fail; [`Router::build`] compiles it and reports
//! every fault at once. Patterns are those of [`pattern`](crate::pattern), precedence is that of
//! [`matcher`](crate::matcher).
//!
//! ```
//! use tower_chassis_core::Body;
//! use tower_chassis_router::{Params, Router, get};
//!
//! # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
//! let api = Router::new()
//!     .route("/users", get(|| async { "all" }).post(|| async { "made" }))
//!     .route("/users/{id:[0-9]+}", get(|params: Params| async move { format!("{params:?}") }))
//!     .fallback(|| async { (http::StatusCode::NOT_FOUND, "no such thing") });
//! let app = Router::<Body>::new()
//!     .route("/healthz", get(|| async { "ok" }))
//!     .nest("/api", api)
//!     .build()?;
//! assert_eq!(app.routes().len(), 4);
//! assert_eq!(app.routes()[3].template(), "/api/users/{id:[0-9]+}");
//! # Ok(()) }
//! ```
//!
//! # Nesting
//!
//! A router below a prefix `p` answers `p`, `p/` and `p/*`; the first two are its `/`. Below a prefix
//! that ends with a slash only `p*`. The `Uri` is left as it is, the nested router goes on where the
//! prefix ends, also where a layer in between changed the path. Once the path has led into a nested
//! router, its 404 is final. A nested router without fallbacks uses those of its parent; so with its policies
//! and its [states](Router::with_state).
//!
//! | | below the prefix | sees |
//! |---|---|---|
//! | [`nest`](Router::nest) | another router, part of this one | its routes are listed, found and named with the others |
//! | [`nest_service`](Router::nest_service) | a tower service | the rest of the path alone |
//! | `mount_axum` (feature `axum`) | a router of axum | the rest of the path alone |
//! | [`mount_grpc`](Router::mount_grpc) | tonic's | the whole path |
//!
//! [`host`](Router::host) and [`when`](Router::when) hand requests to another router by host, header or query, before
//! any path is looked at.
//!
//! # Rules
//!
//! They go on where those of the [matcher](crate::matcher#rules) end.
//!
//! * **R20** A nested router answers its prefix, the prefix with a slash, and all below; below a prefix that ends with a slash
//!   nothing but what follows. Its `/` is the prefix.
//! * **R21** What leads into a nested router is its place, by the precedence of its pattern. From then on it decides alone:
//!   its 404 and 405 are final, routes beside it are not asked again, and their methods are in no `Allow`.
//! * **R22** A mount shares no place with a route or another mount. What is more specific may stand beside it.
//! * **R23** A nested router without fallbacks, policies or states of its own has those of its parent, no matter what was said
//!   first. Its own are never replaced.
//! * **R24** The template of a route is its pattern behind the prefixes, each joined by one slash.
//! * **R25** Captures of all prefixes count. Of equal names the innermost is meant; what a mount is asked for is nobody's
//!   capture, and `*` is that of a route alone.
//! * **R26** To be asked which route serves a path is to be asked by the request: also at the prefix of a nested router.
//! * **R27** Whatever is wrong with a router is told at once, by its build, and nothing panics.
//!
//! # Layers
//!
//! | | wraps | runs for 404 and 405 | runs |
//! |---|---|---|---|
//! | [`layer`](Router::layer) | the whole router, whatever is added later | yes | before matching |
//! | [`route_layer`](Router::route_layer) | the endpoints that are there by now | no | after matching |
//! | [`with`](Router::with) | the endpoints of the closure | no | after matching |
//! | [`with_route`](Router::with_route) | the same, with a layer made for each | no | after matching |
//! | [`layered`] | one handler | no | after matching |
//!
//! A nested router is wrapped as one endpoint, its 404 and 405 included; only a layer of `with_route` goes to each of its
//! routes.
//!
//! The layer that is added last is outermost. Each call of the first four costs one box per request, since the type of
//! what they wrap is erased: hand over a tuple or a `ServiceBuilder` to add several at once. [`layered`] costs none.
//! A match travels through a layer in the extensions of the request: a layer that makes a request anew hands them on.
//! [`RouteInfo::layers`] lists the layers of a route, by type or by [name](named).
//!
//! # Policies
//!
//! Each is inherited by nested routers that do not say otherwise.
//!
//! | | default | else |
//! |---|---|---|
//! | [`implicit_head`](Router::implicit_head) | GET answers HEAD where there is no route for HEAD; the server drops the body | 405 |
//! | [`implicit_options`](Router::implicit_options) | OPTIONS is a method as any other | 204 with `Allow` |
//! | [`wrong_method`](Router::wrong_method) | a route without the method is passed by, and the next tried | it decides: 405 |
//! | [`trailing_slash`](Router::trailing_slash) | `/a/` is not `/a` | a redirect, or both are one |
//!
//! # What it tells of itself
//!
//! [`routes`](RouteService::routes) lists them, [`RouteDocs`] writes them down, [`find`](RouteService::find) says which of
//! them serves a request and [`explain`](RouteService::explain) why, [`url`](RouteService::url) builds the path of one
//! that has a [name](MethodRouter::name).
//!
//! If the request carries an [`Invocation`](tower_chassis_core::Invocation), the route is written into
//! it before the endpoint runs, and outer layers can read its template even when the call is cancelled.
//! It stays empty for 404 and 405. Handlers take it as a [`MatchedTemplate`](crate::MatchedTemplate).
//!
//! # Cancellation
//!
//! Dropping the future drops the handler's. Nothing else is pending, nothing is spawned.

mod build;
mod describe;
mod document;
mod endpoint;
mod error;
mod explain;
mod future;
mod guard;
mod layered;
mod level;
mod listing;
mod locate;
mod method;
mod service;
mod slash;
mod swap;
mod table;
#[cfg(test)]
mod tests;
mod url;
mod wrapped;

pub use self::{
    describe::{Router, WrongMethod},
    document::RouteDocs,
    endpoint::Match,
    error::{BuildError, BuildErrors},
    explain::{Explanation, Step, Why},
    future::RouteFuture,
    guard::Condition,
    layered::{Named, Route, RouteLayer, named},
    listing::RouteInfo,
    locate::Found,
    method::{
        MethodRouter, any, any_service, delete, delete_service, get, get_service, head,
        head_service, on, on_service, options, options_service, patch, patch_service, post,
        post_service, put, put_service,
    },
    service::RouteService,
    slash::TrailingSlash,
    swap::SwapRouter,
    url::UrlError,
    wrapped::{HandlerService, Wrapped, layered},
};
pub(crate) use self::{
    endpoint::{Endpoint, Function},
    guard::HostCaptures,
    table::Table,
};
