//! Handlers of axum as handlers of ours.

use std::marker::PhantomData;

use axum_core::{
    body::Body as AxumBody,
    extract::{FromRequest, FromRequestParts},
    response::IntoResponse,
};
use bytes::Bytes;
use http::{Request, Response};
use tower_chassis_core::{Body, BoxError, boxed::BoxFuture};

use crate::{handler::Handler, router::Match};

/// Makes an async function of axum's kind a handler of ours: its arguments are
/// [extractors](axum_core::extract::FromRequestParts), of which the last may read the body, and it returns what
/// axum takes for an answer. State is given by [`with_state`](Axum::with_state), here and not by the router, whose
/// states are those of our own handlers.
///
/// For the path take [`Path`](super::Path) of this crate: axum's own cannot work here, see the
/// [module](super).
///
/// A call is one allocation for its future, and those of axum: the request's body is boxed, and what is known of the
/// match goes into the request's extensions, where extractors read it.
pub const fn axum_handler<H>(handler: H) -> Axum<H, ()> {
    Axum { handler, state: () }
}

/// A handler of axum's with its state. See [`axum_handler`].
#[derive(Clone, Copy, Debug)]
pub struct Axum<H, S> {
    handler: H,
    state: S,
}

impl<H> Axum<H, ()> {
    /// The state that its extractors read: a copy for each call.
    #[must_use]
    pub fn with_state<S>(self, state: S) -> Axum<H, S> {
        Axum {
            handler: self.handler,
            state,
        }
    }
}

/// An async function as axum takes them: up to twelve extractors, of which the last may read the body. `M` tells
/// the forms apart and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of axum with this state",
    note = "all arguments but the last must implement `FromRequestParts`, the last `FromRequest`; an extractor `State<T>` needs `axum_handler(…).with_state(…)`",
    note = "for the path take `tower_chassis_router::Path`: axum's own reads what only axum's router writes"
)]
pub trait AxumHandler<M, S>: Clone + Send + Sync + 'static {
    #[doc(hidden)]
    fn call(&self, req: Request<AxumBody>, state: S) -> BoxFuture<'static, Response<Body>>;
}

/// Tells the handlers of axum from ours.
#[derive(Debug)]
pub struct OfAxum<M>(PhantomData<M>);

impl<B, H, M, S> Handler<B, OfAxum<M>> for Axum<H, S>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    H: AxumHandler<M, S>,
    S: Clone + Send + Sync + 'static,
{
    type Needs = ();
    type Future = BoxFuture<'static, Response<Body>>;

    fn call(&self, mut req: Request<B>, matched: Match<'_>, (): &()) -> Self::Future {
        let params = matched.params(&req);
        req.extensions_mut().insert(params);
        self.handler
            .call(req.map(AxumBody::new), self.state.clone())
    }

    fn call_boxed(
        &self,
        req: Request<B>,
        matched: Match<'_>,
        needs: &(),
    ) -> BoxFuture<'static, Response<Body>> {
        self.call(req, matched, needs)
    }

    fn kind() -> &'static str {
        std::any::type_name::<H>()
    }
}

fn answer(response: impl IntoResponse) -> Response<Body> {
    response.into_response().map(Body::new)
}

impl<H, Fut, S> AxumHandler<(), S> for H
where
    H: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: IntoResponse> + Send + 'static,
{
    fn call(&self, _: Request<AxumBody>, _: S) -> BoxFuture<'static, Response<Body>> {
        let future = self();
        Box::pin(async move { answer(future.await) })
    }
}

macro_rules! handlers {
    ($($kind:ident $value:ident),* ; $last:ident) => {
        impl<H, Fut, S, M, $($kind,)* $last> AxumHandler<(M, $($kind,)* $last,), S> for H
        where
            H: Fn($($kind,)* $last) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output: IntoResponse> + Send + 'static,
            S: Send + Sync + 'static,
            $($kind: FromRequestParts<S> + Send,)*
            $last: FromRequest<S, M> + Send,
        {
            fn call(&self, req: Request<AxumBody>, state: S) -> BoxFuture<'static, Response<Body>> {
                let handler = self.clone();
                Box::pin(async move {
                    #[allow(unused_mut, reason = "of the form with one argument")]
                    let (mut head, body) = req.into_parts();
                    $(
                        let $value = match $kind::from_request_parts(&mut head, &state).await {
                            Ok(value) => value,
                            Err(refusal) => return answer(refusal),
                        };
                    )*
                    let req = Request::from_parts(head, body);
                    let last = match $last::from_request(req, &state).await {
                        Ok(value) => value,
                        Err(refusal) => return answer(refusal),
                    };
                    answer(handler($($value,)* last).await)
                })
            }
        }
    };
}

handlers!(; A1);
handlers!(A1 a1; A2);
handlers!(A1 a1, A2 a2; A3);
handlers!(A1 a1, A2 a2, A3 a3; A4);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4; A5);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5; A6);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6; A7);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6, A7 a7; A8);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6, A7 a7, A8 a8; A9);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6, A7 a7, A8 a8, A9 a9; A10);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6, A7 a7, A8 a8, A9 a9, A10 a10; A11);
handlers!(A1 a1, A2 a2, A3 a3, A4 a4, A5 a5, A6 a6, A7 a7, A8 a8, A9 a9, A10 a10, A11 a11; A12);
