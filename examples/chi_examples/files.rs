//! A folder below `/files`: `ServeDir` of tower-http, which sees the rest of the path alone.

use tower_chassis::router::{Router, TrailingSlash, get};
use tower_http::services::ServeDir;

pub(crate) fn app(folder: String) -> Router {
    Router::new()
        .route("/", get(|| async { "see /files/\n" }))
        .nest_service("/files", ServeDir::new(folder))
        .trailing_slash(TrailingSlash::Redirect)
}
