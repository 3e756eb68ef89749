//! What becomes of a layer's own refusal: an error, or an answer.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use crate::{
    BoxError, Rejection,
    rescue::{self, RescueBody},
    settle::{Observe, Settle, UntilEnd, UntilHead},
    verdict::is_grpc,
};

/// What a layer that can refuse answers, and with which error. `Res` and `Err` are what comes from inside.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot refuse a call that answers `{Res}` or fails with `{Err}`",
    note = "a refusal is an error around the inner one, which must be `Into<BoxError>`; `.respond()` answers it, which needs an `http::Response` whose body gives `Bytes`"
)]
pub trait Refusal<Res, Err> {
    /// What the layer answers.
    type Response;
    /// The error of the layer.
    type Error;
    /// An answer from inside.
    fn response(response: Res) -> Self::Response;
    /// An error from inside.
    fn error(error: Err) -> Self::Error;
    /// The layer's own refusal.
    ///
    /// # Errors
    /// The refusal, where it is not answered.
    fn refused(rejection: Rejection, grpc: bool) -> Result<Self::Response, Self::Error>;
}

/// Whether a request wants its refusal in the terms of gRPC.
#[diagnostic::on_unimplemented(
    message = "a refusal of `{Req}` cannot be answered",
    label = "this layer is to answer what it refuses",
    note = "leave `.respond()` out: it answers in HTTP, without it refusals are errors, for every protocol"
)]
pub trait IsGrpc<Req> {
    /// Whether it does; false where refusals are errors.
    fn is_grpc(request: &Req) -> bool;
}

/// A refusal is an error. What layers without a judge do unless told to [`Respond`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Fail;

macro_rules! fails {
    ($name:ty $(, $C:ident)?) => {
        impl<Res, Err: Into<BoxError> $(, $C)?> Refusal<Res, Err> for $name {
            type Response = Res;
            type Error = BoxError;
            fn response(response: Res) -> Res {
                response
            }
            fn error(error: Err) -> BoxError {
                error.into()
            }
            fn refused(rejection: Rejection, _: bool) -> Result<Res, BoxError> {
                Err(rejection.into())
            }
        }

        impl<Req $(, $C)?> IsGrpc<Req> for $name {
            fn is_grpc(_: &Req) -> bool {
                false
            }
        }
    };
}

fails!(Fail);
fails!(UntilHead<C>, C);
fails!(UntilEnd<C>, C);

/// A refusal is an answer, by the table at [`Kind`](crate::Kind): the layer's own refusals, and no error from
/// inside. The error of the layer is that of the inner service. Made by a layer's `.respond()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Respond<J = Fail>(J);

impl<J> Respond<J> {
    /// Answers, and else does as `judge` does.
    pub const fn new(judge: J) -> Self {
        Self(judge)
    }
}

impl<J, B: Body<Data = Bytes>, Err> Refusal<Response<B>, Err> for Respond<J> {
    type Response = Response<RescueBody<B>>;
    type Error = Err;
    fn response(response: Response<B>) -> Self::Response {
        response.map(RescueBody::inner)
    }
    fn error(error: Err) -> Err {
        error
    }
    fn refused(rejection: Rejection, grpc: bool) -> Result<Self::Response, Err> {
        Ok(rescue::answer(&rejection, grpc).map(RescueBody::made))
    }
}

impl<J, B> IsGrpc<Request<B>> for Respond<J> {
    fn is_grpc(request: &Request<B>) -> bool {
        is_grpc(request.headers())
    }
}

impl<Res, Err, J: Settle<Res, Err>> Settle<Res, Err> for Respond<J> {
    type Response<G: Observe> = J::Response<G>;
    #[inline]
    fn settle<G: Observe>(
        &self,
        result: Result<Res, Err>,
        guard: G,
    ) -> Result<Self::Response<G>, Err> {
        self.0.settle(result, guard)
    }
}
