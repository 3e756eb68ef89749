//! How a request is sent a second time.

use std::{fmt, marker::PhantomData};

use http::Request;
use tower_chassis_core::Carrier;

use super::buffered::Buffered;

/// How a request is sent a second time.
///
/// A request of your own that is [`Clone`] needs none of its own: [`Cloned`] does it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot send `{Req}` a second time",
    label = "a request that cannot be sent again",
    note = "without more, `RetryLayer` records the body of an `http::Request`, which must be an `http_body::Body`",
    note = "give the layer `.clone_body()` for a request that is cloned: one of your own that is `Clone` and a `Carrier`, or an `http::Request` whose body is `Clone`"
)]
pub trait Replay<Req>: Clone {
    /// The request that the inner service sees.
    type Request: Carrier;
    /// What is kept of the first request.
    type Source;

    /// A request that will not be tried again: nothing is kept.
    fn once(&self, request: Req) -> Self::Request;

    /// The request of the first attempt, and what is kept to send it again; `None` if it is known that it cannot
    /// be, because its body is longer than `limit` bytes. Then nothing was copied.
    ///
    /// `idempotent` is false for a request that is repeated only if nothing of it was sent; then nothing that
    /// was read need be kept.
    fn split(
        &self,
        request: Req,
        limit: usize,
        idempotent: bool,
    ) -> (Self::Request, Option<Self::Source>);

    /// The request once more, if all of it is there: its body was read to its end and was not too long, or was
    /// dropped before its first poll. After the `last` time nobody asks again, and the source may be used up.
    ///
    /// What a layer wrote into the first request on its way in is not in it.
    fn again(&self, source: &mut Self::Source, last: bool) -> Option<Self::Request>;
}

/// Clones the request, for one of a protocol of your own, and for HTTP bodies that are cheap to clone (`Full`,
/// `Empty`, `Bytes` of your own). The type of the request stays, and the limit does not count.
///
/// A clone must have the [extensions](Carrier::extensions) of the original.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cloned;

impl<Req: Carrier + Clone> Replay<Req> for Cloned {
    type Request = Req;
    type Source = Option<Req>;

    fn once(&self, request: Req) -> Req {
        request
    }
    fn split(&self, request: Req, _: usize, _: bool) -> (Req, Option<Option<Req>>) {
        let source = request.clone();
        (request, Some(Some(source)))
    }
    fn again(&self, source: &mut Option<Req>, last: bool) -> Option<Req> {
        if last { source.take() } else { source.clone() }
    }
}

/// Turns the HTTP bodies of `R` into `O`, for an inner service that takes one type of body only, as
/// [`tower_chassis_core::Body`].
pub struct Rewrapped<O, R = Buffered> {
    inner: R,
    body: PhantomData<fn() -> O>,
}

impl<O, R> Rewrapped<O, R> {
    /// The bodies of `inner`, as `O`.
    pub const fn new(inner: R) -> Self {
        Self {
            inner,
            body: PhantomData,
        }
    }
}

impl<O, R: Clone> Clone for Rewrapped<O, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone())
    }
}

impl<O, R: fmt::Debug> fmt::Debug for Rewrapped<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rewrapped").field(&self.inner).finish()
    }
}

impl<B, O, R, RB> Replay<Request<B>> for Rewrapped<O, R>
where
    R: Replay<Request<B>, Request = Request<RB>>,
    O: From<RB>,
{
    type Request = Request<O>;
    type Source = R::Source;

    fn once(&self, request: Request<B>) -> Request<O> {
        self.inner.once(request).map(O::from)
    }
    fn split(
        &self,
        request: Request<B>,
        limit: usize,
        idempotent: bool,
    ) -> (Request<O>, Option<R::Source>) {
        let (request, source) = self.inner.split(request, limit, idempotent);
        (request.map(O::from), source)
    }
    fn again(&self, source: &mut R::Source, last: bool) -> Option<Request<O>> {
        Some(self.inner.again(source, last)?.map(O::from))
    }
}

/// Turns the HTTP bodies of `R` into others by a function: `tonic::body::Body::new`, `axum::body::Body::new`.
#[derive(Clone, Copy)]
pub struct RewrappedWith<F, R = Buffered> {
    inner: R,
    wrap: F,
}

impl<F, R> RewrappedWith<F, R> {
    /// The bodies of `inner`, through `wrap`.
    pub const fn new(inner: R, wrap: F) -> Self {
        Self { inner, wrap }
    }
}

impl<F, R: fmt::Debug> fmt::Debug for RewrappedWith<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RewrappedWith").field(&self.inner).finish()
    }
}

impl<B, O, F, R, RB> Replay<Request<B>> for RewrappedWith<F, R>
where
    R: Replay<Request<B>, Request = Request<RB>>,
    F: Fn(RB) -> O + Clone,
{
    type Request = Request<O>;
    type Source = R::Source;

    fn once(&self, request: Request<B>) -> Request<O> {
        self.inner.once(request).map(&self.wrap)
    }
    fn split(
        &self,
        request: Request<B>,
        limit: usize,
        idempotent: bool,
    ) -> (Request<O>, Option<R::Source>) {
        let (request, source) = self.inner.split(request, limit, idempotent);
        (request.map(&self.wrap), source)
    }
    fn again(&self, source: &mut R::Source, last: bool) -> Option<Request<O>> {
        Some(self.inner.again(source, last)?.map(&self.wrap))
    }
}
