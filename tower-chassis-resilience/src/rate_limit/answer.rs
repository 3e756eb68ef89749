//! What callers are told: an error or an answer, with header fields or without.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_chassis_core::{
    BoxError, Quota, Rejection, Respond,
    refusal::{Fail, IsGrpc, Refusal},
    rescue::RescueBody,
};

/// How a rate limit answers. `Res` and `Err` are what comes from inside.
#[diagnostic::on_unimplemented(
    message = "a rate limit that does as `{Self}` says cannot answer `{Req}` with `{Res}` or fail with `{Err}`",
    note = "a refusal is an error around the inner one, which must be `Into<BoxError>`; `.respond()` answers it and `.headers()` writes header fields, which both need HTTP: `http::Request`, and `http::Response` whose body gives `Bytes`"
)]
pub trait Answer<Req, Res, Err>: Clone + Tells {
    /// What the layer answers.
    type Response;
    /// The error of the layer.
    type Error;
    /// Whether a request wants its refusal in the terms of gRPC.
    fn is_grpc(request: &Req) -> bool;
    /// An answer from inside.
    fn response(response: Res, note: Self::Note) -> Self::Response;
    /// An error from inside.
    fn error(error: Err) -> Self::Error;
    /// The layer's own refusal.
    ///
    /// # Errors
    /// The refusal, where it is not answered.
    fn refused(rejection: Rejection, grpc: bool) -> Result<Self::Response, Self::Error>;
}

/// What is kept of an allowed call to tell its caller.
pub trait Tells: sealed::Sealed {
    /// Nothing, or what is left.
    type Note: Default;
    /// Whether it is asked for, and whether with the legacy fields.
    fn tells(&self) -> Option<bool>;
    /// What to keep.
    fn note(quota: Option<Quota>) -> Self::Note;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Fail {}
    impl<J> Sealed for super::Respond<J> {}
    impl<J> Sealed for super::Tell<J> {}
}

/// Answers with header fields that say what is left, and else as `J` does. Made by
/// [`headers`](super::RateLimitLayer::headers).
#[derive(Clone, Copy, Debug)]
pub struct Tell<J = Fail> {
    pub(super) answer: J,
    pub(super) legacy: bool,
}

macro_rules! quiet {
    ($name:ty) => {
        impl Tells for $name {
            type Note = ();
            fn tells(&self) -> Option<bool> {
                None
            }
            fn note(_: Option<Quota>) {}
        }

        impl<Req, Res, Err> Answer<Req, Res, Err> for $name
        where
            $name: IsGrpc<Req> + Refusal<Res, Err>,
        {
            type Response = <Self as Refusal<Res, Err>>::Response;
            type Error = <Self as Refusal<Res, Err>>::Error;
            fn is_grpc(request: &Req) -> bool {
                <Self as IsGrpc<Req>>::is_grpc(request)
            }
            fn response(response: Res, (): ()) -> Self::Response {
                <Self as Refusal<Res, Err>>::response(response)
            }
            fn error(error: Err) -> Self::Error {
                <Self as Refusal<Res, Err>>::error(error)
            }
            fn refused(rejection: Rejection, grpc: bool) -> Result<Self::Response, Self::Error> {
                <Self as Refusal<Res, Err>>::refused(rejection, grpc)
            }
        }
    };
}

quiet!(Fail);
quiet!(Respond);

impl<J> Tells for Tell<J> {
    type Note = Option<Quota>;
    fn tells(&self) -> Option<bool> {
        Some(self.legacy)
    }
    fn note(quota: Option<Quota>) -> Self::Note {
        quota
    }
}

impl<Req, B, Err: Into<BoxError>> Answer<Request<Req>, Response<B>, Err> for Tell<Fail> {
    type Response = Response<B>;
    type Error = BoxError;
    fn is_grpc(_: &Request<Req>) -> bool {
        false
    }
    fn response(mut response: Response<B>, note: Option<Quota>) -> Response<B> {
        tell(&mut response, note);
        response
    }
    fn error(error: Err) -> BoxError {
        error.into()
    }
    fn refused(rejection: Rejection, _: bool) -> Result<Response<B>, BoxError> {
        Err(rejection.into())
    }
}

impl<Req, B: Body<Data = Bytes>, Err> Answer<Request<Req>, Response<B>, Err> for Tell<Respond> {
    type Response = Response<RescueBody<B>>;
    type Error = Err;
    fn is_grpc(request: &Request<Req>) -> bool {
        <Respond as IsGrpc<_>>::is_grpc(request)
    }
    fn response(mut response: Response<B>, note: Option<Quota>) -> Self::Response {
        tell(&mut response, note);
        <Respond as Refusal<_, Err>>::response(response)
    }
    fn error(error: Err) -> Err {
        error
    }
    fn refused(rejection: Rejection, grpc: bool) -> Result<Self::Response, Err> {
        <Respond as Refusal<Response<B>, Err>>::refused(rejection, grpc)
    }
}

fn tell<B>(response: &mut Response<B>, note: Option<Quota>) {
    if let Some(quota) = note {
        quota.write(response.headers_mut());
    }
}
