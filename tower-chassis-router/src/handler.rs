//! Async functions as endpoints.

use std::{
    any::{Any, type_name},
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_chassis_core::{Body, boxed::BoxFuture};

use crate::{
    extract::{Extract, Needs},
    response::IntoResponse,
    router::{Endpoint, Function, Match, Table},
};

/// An async function (or closure) that answers requests: of up to eight arguments that implement
/// [`Extract`], and of the request itself, which goes first or last.
///
/// ```
/// use http::{HeaderMap, Request};
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Params, Router, State, get};
///
/// #[derive(Clone)]
/// struct Shop(&'static str);
///
/// async fn nothing() -> &'static str { "nothing" }
/// async fn item(State(shop): State<Shop>, params: Params) -> String {
///     format!("{} of {}", params.get("item").unwrap_or_default(), shop.0)
/// }
/// async fn all(req: Request<Body>, params: Params, headers: HeaderMap) -> String {
///     format!("{} {params:?} {}", req.uri(), headers.len())
/// }
///
/// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
/// let app = Router::<Body>::new()
///     .route("/", get(nothing))
///     .route("/items/{item}", get(item).post(all))
///     .with_state(Shop("tea"))
///     .build()?;
/// # Ok(()) }
/// ```
///
/// It returns an answer, see [`IntoResponse`]. `M` tells the forms apart and is inferred.
///
/// A call is one allocation, its future. When the caller goes away, the future is dropped at its next
/// `.await`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "write `async fn(A, …) -> R` of at most eight arguments that implement `Extract`; `Request<B>` goes first or last",
    note = "`R` must implement `IntoResponse`; a tower service goes to `get_service` and its like"
)]
pub trait Handler<B, M>: Send + Sync + 'static {
    /// The state that its arguments need.
    type Needs: Needs;
    /// The answer in the making.
    type Future: Future<Output = Response<Body>> + Send + 'static;

    /// Answers `req`, which came here by `matched`.
    fn call(&self, req: Request<B>, matched: Match<'_>, needs: &Self::Needs) -> Self::Future;

    /// For those whose future is boxed already.
    #[doc(hidden)]
    fn call_boxed(
        &self,
        req: Request<B>,
        matched: Match<'_>,
        needs: &Self::Needs,
    ) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self.call(req, matched, needs))
    }

    /// What the table of routes holds.
    #[doc(hidden)]
    fn endpoint(
        self,
        needs: Self::Needs,
        route: Option<u32>,
        _table: &Arc<Table>,
    ) -> Arc<dyn Endpoint<B>>
    where
        Self: Sized,
        B: Send + 'static,
        M: 'static,
    {
        Arc::new(Function::new(self, needs, route))
    }

    /// What a handler inside of another makes once per route: a layered one its layered service.
    #[doc(hidden)]
    fn prepare(
        &self,
        _needs: &Self::Needs,
        _route: Option<u32>,
        _table: &Arc<Table>,
    ) -> Option<Prepared> {
        None
    }

    /// Answers with what it has prepared.
    #[doc(hidden)]
    fn call_prepared(
        &self,
        req: Request<B>,
        matched: Match<'_>,
        needs: &Self::Needs,
        _prepared: Option<&(dyn Any + Send + Sync)>,
    ) -> Self::Future {
        self.call(req, matched, needs)
    }

    /// The layers that are part of it, in run order.
    #[doc(hidden)]
    fn layers() -> Arc<[Arc<str>]> {
        Arc::default()
    }

    /// The name of the function.
    #[doc(hidden)]
    fn kind() -> &'static str {
        type_name::<Self>()
    }
}

/// What a handler made for its route.
pub(crate) type Prepared = Box<dyn Any + Send + Sync>;

/// Tells a [`Handler`] that takes the request first.
#[derive(Debug)]
pub struct RequestFirst<M>(PhantomData<M>);

/// Tells a [`Handler`] that takes the request last.
#[derive(Debug)]
pub struct RequestLast<M>(PhantomData<M>);

pin_project! {
    /// The future of a handler of ours.
    #[project = Doing]
    pub enum Answer<F> {
        #[doc(hidden)]
        Running {
            #[pin]
            future: F,
        },
        #[doc(hidden)]
        Refused {
            response: Option<Box<Response<Body>>>,
        },
    }
}

impl<F> Answer<F> {
    fn refused(refusal: impl IntoResponse) -> Self {
        Self::Refused {
            response: Some(Box::new(refusal.into_response())),
        }
    }
}

impl<F> fmt::Debug for Answer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl<F> Future for Answer<F>
where
    F: Future<Output: IntoResponse>,
{
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        match self.project() {
            Doing::Running { future } => Poll::Ready(ready!(future.poll(cx)).into_response()),
            Doing::Refused { response } => {
                let response = response.take();
                Poll::Ready(response.map_or_else(Response::default, |response| *response))
            }
        }
    }
}

macro_rules! handlers {
    ($($kind:ident $value:ident $index:tt),*) => {
        handlers!(@ [$($kind $value $index),*] ($($kind,)*), [$($kind),*], request, ($($value),*));
        handlers!(@ [$($kind $value $index),*] RequestFirst<($($kind,)*)>, [Request<B> $(, $kind)*], request, (request $(, $value)*));
    };
    (@ [$($kind:ident $value:ident $index:tt),*] $marker:ty, [$($argument:ty),*], $request:ident, ($($passed:ident),*)) => {
        impl<H, Fut, B, $($kind),*> Handler<B, $marker> for H
        where
            H: Fn($($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: IntoResponse> + Send + 'static,
            $($kind: Extract<B>,)*
        {
            type Needs = ($($kind::Needs,)*);
            type Future = Answer<Fut>;

            #[allow(unused_mut, unused_variables, reason = "of the form without arguments")]
            fn call(&self, mut $request: Request<B>, matched: Match<'_>, needs: &Self::Needs) -> Answer<Fut> {
                $(
                    let $value = match $kind::extract(&mut $request, matched, &needs.$index) {
                        Ok(value) => value,
                        Err(refusal) => return Answer::refused(refusal),
                    };
                )*
                Answer::Running { future: self($($passed),*) }
            }
        }
    };
}

/// The forms of at least one argument may have the request last.
macro_rules! handlers_with_last {
    ($($kind:ident $value:ident $index:tt),+) => {
        handlers!($($kind $value $index),+);
        handlers!(@ [$($kind $value $index),+] RequestLast<($($kind,)+)>, [$($kind,)+ Request<B>], request, ($($value,)+ request));
    };
}

handlers!();
handlers_with_last!(A1 a1 0);
handlers_with_last!(A1 a1 0, A2 a2 1);
handlers_with_last!(A1 a1 0, A2 a2 1, A3 a3 2);
handlers_with_last!(A1 a1 0, A2 a2 1, A3 a3 2, A4 a4 3);
handlers_with_last!(A1 a1 0, A2 a2 1, A3 a3 2, A4 a4 3, A5 a5 4);
handlers_with_last!(A1 a1 0, A2 a2 1, A3 a3 2, A4 a4 3, A5 a5 4, A6 a6 5);
handlers_with_last!(A1 a1 0, A2 a2 1, A3 a3 2, A4 a4 3, A5 a5 4, A6 a6 5, A7 a7 6);
handlers_with_last!(A1 a1 0, A2 a2 1, A3 a3 2, A4 a4 3, A5 a5 4, A6 a6 5, A7 a7 6, A8 a8 7);
