//! Handlers, extractors and routers of axum on our routes, and ours in axum.
//!
//! Our routers go into axum as any service does: `nest_service`, `fallback_service`, `route_service`. In the
//! other direction:
//!
//! | of axum | here |
//! |---|---|
//! | a handler with extractors | [`axum_handler`], for `get` and its like |
//! | a `Router`, any service with axum's body | [`Router::mount_axum`](crate::Router::mount_axum) |
//! | tonic's `Routes` | [`Router::mount_grpc`](crate::Router::mount_grpc) |
//! | extractors of the request: `State`, `Json`, `Query`, `Form`, `WebSocketUpgrade` … | themselves |
//! | `axum::extract::Path` | [`Path`] of this crate |
//! | `axum::extract::RawPathParams` | [`RawPathParams`] of this crate |
//! | `axum::extract::MatchedPath` | [`MatchedTemplate`](crate::MatchedTemplate) |
//!
//! axum's own `Path`, `RawPathParams` and `MatchedPath` read what axum's own router wrote into the request, in types
//! that are private to axum. On our routes they refuse with `500 Internal Server Error` ("No paths parameters found
//! for matched route"). Import ours: they are used in the same way.
//!
//! ```
//! use axum::{Json, extract::{Query, State}};
//! use tower_chassis_core::Body;
//! use tower_chassis_router::{Path, Router, axum_handler, get};
//!
//! #[derive(Clone)]
//! struct Shop(&'static str);
//!
//! #[derive(serde::Deserialize)]
//! struct Page { page: u32 }
//!
//! async fn item(
//!     State(shop): State<Shop>,
//!     Path((kind, id)): Path<(String, u64)>,
//!     Query(page): Query<Page>,
//! ) -> Json<(String, u64, u32)> {
//!     Json((format!("{kind} of {}", shop.0), id, page.page))
//! }
//!
//! # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
//! let app = Router::<Body>::new()
//!     .route("/{kind}/{id:[0-9]+}", get(axum_handler(item).with_state(Shop("tea"))))
//!     .build()?;
//! # Ok(()) }
//! ```

mod handler;
mod mount;
mod path;

pub use self::{
    handler::{Axum, AxumHandler, axum_handler},
    mount::AxumService,
    path::{Path, PathError, RawPathParams},
};
