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
//! router, its 404 is final. A nested router without fallbacks uses those of its parent. What a foreign
//! service below a prefix sees is another matter: see [`Router::nest_service`].
//!
//! # Layers
//!
//! | | wraps | runs for 404 and 405 | runs |
//! |---|---|---|---|
//! | [`layer`](Router::layer) | the whole router, whatever is added later | yes | before matching |
//! | [`route_layer`](Router::route_layer) | the endpoints that are there by now | no | after matching |
//! | [`with`](Router::with) | the endpoints of the closure | no | after matching |
//!
//! The layer that is added last is outermost. Each call of these costs one box per request: hand over a
//! tuple or a `ServiceBuilder` to add several at once.
//!
//! # HEAD, OPTIONS
//!
//! GET answers HEAD where there is no route for HEAD; the server drops the body. OPTIONS is a method as
//! any other.
//!
//! # The matched route
//!
//! If the request carries an [`Invocation`](tower_chassis_core::Invocation), the route is written into
//! it before the endpoint runs, and outer layers can read its template even when the call is cancelled.
//! It stays empty for 404 and 405.
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
