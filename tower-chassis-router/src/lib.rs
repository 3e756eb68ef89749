//! A router, and traffic rules, as tower services.
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_chassis_core::Body;
//! use tower_chassis_router::{Params, Router, get};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
//! async fn user(params: Params) -> String {
//!     format!("user {}", params.get("id").unwrap_or_default())
//! }
//!
//! let users = Router::new().route("/", get(|| async { "all" })).route("/{id:[0-9]+}", get(user));
//! let app = Router::new().nest("/users", users).build()?;
//!
//! let response = app.oneshot(Request::get("/users/7").body(Body::empty())?).await?;
//! # let body = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
//! # assert_eq!(body, Bytes::from("user 7"));
//! # Ok(()) }
//! ```
//!
//! | module | holds | knows of I/O |
//! |---|---|---|
//! | [`pattern`] | the grammar of paths | no |
//! | [`matcher`] | which route serves a method and a path | no |
//! | [`router`] | [`Router`], [`RouteService`], [`SwapRouter`]; routes as tower services | yes |
//! | `interop` (feature `axum`) | handlers and routers of axum on our routes | yes |
//! | [`rules`] | traffic rules: which part of a service gets a request | only its layer |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod expression;
mod extract;
mod handler;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub mod interop;
pub mod matcher;
mod params;
pub mod pattern;
mod percent;
mod response;
pub mod router;
pub mod rules;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::interop::{Path, PathError, RawPathParams, axum_handler};
pub use self::{
    extract::{Extract, MatchedTemplate, Needs, State},
    handler::Handler,
    params::{ParamError, Params},
    response::IntoResponse,
    router::{
        BuildError, BuildErrors, Condition, Explanation, Found, HandlerService, Match,
        MethodRouter, Named, Route, RouteDocs, RouteFuture, RouteInfo, RouteLayer, RouteService,
        Router, Step, SwapRouter, TrailingSlash, UrlError, Why, Wrapped, WrongMethod, any,
        any_service, delete, delete_service, get, get_service, head, head_service, layered, named,
        on, on_service, options, options_service, patch, patch_service, post, post_service, put,
        put_service,
    },
};
