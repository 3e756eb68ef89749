//! Async functions as endpoints.

use http::{Request, Response};
use tower_chassis_core::{Body, boxed::BoxFuture};

use crate::{params::Params, response::IntoResponse, router::Match};

/// An async function (or closure) that answers requests:
///
/// * `async fn() -> R`
/// * `async fn(Params) -> R`
/// * `async fn(Request<B>) -> R`
/// * `async fn(Request<B>, Params) -> R`
///
/// where `R` is an answer, see [`IntoResponse`]. `M` tells these apart and is inferred.
///
/// A call is one allocation, its future. When the caller goes away, the future is dropped at its next
/// `.await`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "write `async fn() -> R`, `async fn(Params) -> R`, `async fn(Request<B>) -> R` or `async fn(Request<B>, Params) -> R`",
    note = "`R` must implement `IntoResponse`; a tower service goes to `get_service` and its like"
)]
pub trait Handler<B, M>: Send + Sync + 'static {
    /// Answers `req`, which came here by `matched`.
    fn call(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>>;
}

fn answer<F>(future: F) -> BoxFuture<'static, Response<Body>>
where
    F: Future<Output: IntoResponse> + Send + 'static,
{
    Box::pin(async move { future.await.into_response() })
}

impl<H, F, B> Handler<B, ()> for H
where
    H: Fn() -> F + Send + Sync + 'static,
    F: Future<Output: IntoResponse> + Send + 'static,
{
    fn call(&self, _: Request<B>, _: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        answer(self())
    }
}

impl<H, F, B> Handler<B, (Params,)> for H
where
    H: Fn(Params) -> F + Send + Sync + 'static,
    F: Future<Output: IntoResponse> + Send + 'static,
{
    fn call(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        answer(self(matched.params(&req)))
    }
}

impl<H, F, B> Handler<B, (Request<B>,)> for H
where
    H: Fn(Request<B>) -> F + Send + Sync + 'static,
    F: Future<Output: IntoResponse> + Send + 'static,
{
    fn call(&self, req: Request<B>, _: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        answer(self(req))
    }
}

impl<H, F, B> Handler<B, (Request<B>, Params)> for H
where
    H: Fn(Request<B>, Params) -> F + Send + Sync + 'static,
    F: Future<Output: IntoResponse> + Send + 'static,
{
    fn call(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        let params = matched.params(&req);
        answer(self(req, params))
    }
}
