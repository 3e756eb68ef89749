//! How faults show in a protocol: as errors in any, as answers in HTTP and gRPC.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use tower_chassis_core::{BoxError, rescue, verdict::is_grpc};

use super::{body::FaultBody, kinds::BodyPlan, shared::Active};

static FAULT: HeaderName = HeaderName::from_static("x-chassis-fault");

/// How faults show. `Res` and `Err` are what comes from inside.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot inject faults into a call of `{Req}` that answers `{Res}` or fails with `{Err}`",
    note = "a fault is an error around the inner one, which must be `Into<BoxError>`; `.http()` answers faults, which needs an `http::Request` and an `http::Response` whose body gives `Bytes`"
)]
pub trait Protocol<Req, Res, Err> {
    /// What the layer answers.
    type Response;
    /// Whether the body of an answer can be slowed down and cut off.
    const BODIES: bool;
    /// The path that is asked for.
    fn path(request: &Req) -> Option<&str>;
    /// Whether failures are wanted in the terms of gRPC.
    fn is_grpc(request: &Req) -> bool;
    /// An answer of a call that was left alone.
    fn response(response: Res) -> Self::Response;
    /// An answer of a call under a fault.
    fn faulted(response: Res, mark: Mark) -> Self::Response;
    /// A failure that was injected.
    ///
    /// # Errors
    /// The failure, where it is not answered.
    fn failed(error: BoxError, mark: Mark) -> Result<Self::Response, BoxError>;
    /// An error from inside.
    fn error(error: Err) -> BoxError;
}

/// What a call under a fault is marked with.
#[derive(Debug)]
pub struct Mark {
    pub(super) rule: Arc<str>,
    pub(super) header: HeaderValue,
    pub(super) grpc: bool,
    /// What is still to happen to the body.
    pub(super) body: BodyPlan,
    pub(super) active: Option<Active>,
}

impl Mark {
    /// Whether all faults were ended.
    pub(super) fn is_killed(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.shared().is_killed())
    }
}

/// Faults are errors, for every protocol. Bodies are left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyProtocol;

impl<Req, Res, Err: Into<BoxError>> Protocol<Req, Res, Err> for AnyProtocol {
    type Response = Res;
    const BODIES: bool = false;

    fn path(_: &Req) -> Option<&str> {
        None
    }
    fn is_grpc(_: &Req) -> bool {
        false
    }
    fn response(response: Res) -> Res {
        response
    }
    fn faulted(response: Res, _: Mark) -> Res {
        response
    }
    fn failed(error: BoxError, _: Mark) -> Result<Res, BoxError> {
        Err(error)
    }
    fn error(error: Err) -> BoxError {
        error.into()
    }
}

/// Faults are answers of HTTP or gRPC, marked by `x-chassis-fault`. Made by
/// [`FaultLayer::http`](super::FaultLayer::http).
#[derive(Clone, Copy, Debug, Default)]
pub struct Http;

impl<B, ResBody, Err> Protocol<Request<B>, Response<ResBody>, Err> for Http
where
    ResBody: Body<Data = Bytes>,
    ResBody::Error: Into<BoxError>,
    Err: Into<BoxError>,
{
    type Response = Response<FaultBody<ResBody>>;
    const BODIES: bool = true;

    fn path(request: &Request<B>) -> Option<&str> {
        Some(request.uri().path())
    }
    fn is_grpc(request: &Request<B>) -> bool {
        is_grpc(request.headers())
    }
    fn response(response: Response<ResBody>) -> Self::Response {
        response.map(FaultBody::inner)
    }
    fn faulted(response: Response<ResBody>, mark: Mark) -> Self::Response {
        let (rule, plan) = (mark.rule, mark.body);
        let mut response = response.map(|body| match mark.active {
            Some(active) if !plan.is_none() && !body.is_end_stream() => {
                FaultBody::faulty(body, plan, rule, active)
            }
            _ => FaultBody::inner(body),
        });
        response.headers_mut().insert(&FAULT, mark.header);
        response
    }
    fn failed(error: BoxError, mark: Mark) -> Result<Self::Response, BoxError> {
        let mut response = rescue::answer(&*error, mark.grpc).map(FaultBody::made);
        response.headers_mut().insert(&FAULT, mark.header);
        Ok(response)
    }
    fn error(error: Err) -> BoxError {
        error.into()
    }
}
