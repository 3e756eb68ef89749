//! One verdict for a call, read the same by every layer.
//!
//! A [`Verdict`] is a function of what flows outward: the response, the error, the way its body ended.
//! Every layer uses the same function by default ([`Auto`]). Who knows better writes the exception into
//! that value once, a `Verdict` in the response's extensions or a [`Rejection`] in the error, and every
//! outer layer reads it there. Nothing is inserted on the ordinary path.

mod ending;
mod http;
mod judged;
mod retry_after;

use std::{any::Any, convert::Infallible, error::Error, time::Duration};

use ::http::{HeaderMap, StatusCode};

use crate::{BoxError, Rejection};

pub use self::{ending::Ending, http::is_grpc, judged::Judged};

/// How a call went. Eight bytes, `Copy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    class: Class,
    protocol: Protocol,
    code: u16,
    retry_after_ms: u32,
}

/// What a verdict means to a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Class {
    /// The service did what was asked.
    Success,
    /// The caller was wrong (most of 4xx, `NOT_FOUND`, …): the service is well.
    ClientFault,
    /// The service failed (5xx, a broken body, an unknown error).
    Failure,
    /// No answer in time.
    Timeout,
    /// No connection, or it broke before a head arrived.
    Unreachable,
    /// The service is well and asks for less (429, `RESOURCE_EXHAUSTED`).
    RateLimited,
    /// The caller went away. Says nothing about the service.
    Cancelled,
    /// A layer of ours refused; the service never saw the call.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Protocol {
    Other,
    Http,
    Grpc,
    /// A gRPC head that does not say how the call ended: the trailers will.
    GrpcHead,
}

/// The service forbade another attempt. As a wait it would be 49 days.
const NEVER: u32 = u32::MAX;

impl Verdict {
    /// The call succeeded, and nothing more is known.
    pub const SUCCESS: Self = Self::new(Class::Success);
    /// The call failed, and nothing more is known.
    pub const FAILURE: Self = Self::new(Class::Failure);
    /// The call got no answer in time.
    pub const TIMEOUT: Self = Self::new(Class::Timeout);
    /// The caller went away before the answer.
    pub const CANCELLED: Self = Self::new(Class::Cancelled);
    /// A layer of ours refused the call.
    pub const REFUSED: Self = Self::new(Class::Refused);

    /// A verdict without a code.
    #[must_use]
    pub const fn new(class: Class) -> Self {
        Self {
            class,
            protocol: Protocol::Other,
            code: 0,
            retry_after_ms: 0,
        }
    }

    /// The verdict that an HTTP status alone gives: 5xx fails, 429 is a rate limit, other 4xx the caller's fault.
    #[must_use]
    pub fn http(status: StatusCode) -> Self {
        let class = match status.as_u16() {
            429 => Class::RateLimited,
            504 => Class::Timeout,
            500.. => Class::Failure,
            400..=499 => Class::ClientFault,
            _ => Class::Success,
        };
        Self {
            class,
            protocol: Protocol::Http,
            code: status.as_u16(),
            retry_after_ms: 0,
        }
    }

    /// The verdict that a gRPC status code gives.
    ///
    /// `UNKNOWN`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS` fail, `DEADLINE_EXCEEDED` is a timeout,
    /// `RESOURCE_EXHAUSTED` a rate limit, `CANCELLED` is ignored, the rest is the caller's fault.
    #[must_use]
    pub const fn grpc(code: u16) -> Self {
        let class = match code {
            0 => Class::Success,
            1 => Class::Cancelled,
            4 => Class::Timeout,
            8 => Class::RateLimited,
            2 | 13 | 14 | 15 => Class::Failure,
            _ => Class::ClientFault,
        };
        Self {
            class,
            protocol: Protocol::Grpc,
            code,
            retry_after_ms: 0,
        }
    }

    /// The same verdict with another class; the code stays.
    #[must_use]
    pub const fn with_class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The same verdict with the wait that the service asked for, in whole milliseconds from 1 up to about 49 days.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = u32::try_from(wait.as_millis())
            .unwrap_or(u32::MAX)
            .clamp(1, NEVER - 1);
        self
    }

    /// The same verdict of a service that forbade another attempt (a negative `grpc-retry-pushback-ms`).
    #[must_use]
    pub const fn without_retry(mut self) -> Self {
        self.retry_after_ms = NEVER;
        self
    }

    /// What it means to a policy.
    #[must_use]
    pub const fn class(self) -> Class {
        self.class
    }

    /// The service is well: a success, or the caller's fault.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self.class, Class::Success | Class::ClientFault)
    }

    /// The service is not well: it failed, was late, or could not be reached.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self.class,
            Class::Failure | Class::Timeout | Class::Unreachable
        )
    }

    /// The HTTP status, where the call had one.
    #[must_use]
    pub const fn http_status(self) -> Option<u16> {
        match self.protocol {
            Protocol::Http => Some(self.code),
            Protocol::Grpc | Protocol::GrpcHead => Some(200),
            Protocol::Other => None,
        }
    }

    /// The gRPC status code, where the call had one; a head alone has none if trailers are to come.
    #[must_use]
    pub const fn grpc_code(self) -> Option<u16> {
        match self.protocol {
            Protocol::Grpc => Some(self.code),
            _ => None,
        }
    }

    /// A gRPC head that does not say how the call ended: the trailers will.
    pub(crate) const fn is_unsaid(self) -> bool {
        matches!(self.protocol, Protocol::GrpcHead)
    }

    /// How long the service asked to wait (`Retry-After`, else `RateLimit`, or `grpc-retry-pushback-ms`).
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self.retry_after_ms {
            0 | NEVER => None,
            ms => Some(Duration::from_millis(ms as u64)),
        }
    }

    /// Whether the service forbade another attempt.
    #[must_use]
    pub const fn forbids_retry(self) -> bool {
        self.retry_after_ms == NEVER
    }

    /// The verdict on an error: what the outermost [`Rejection`] or [`Judged`] in its chain says, else a failure.
    pub fn of_error<E: 'static>(error: &E) -> Self {
        let any: &dyn Any = error;
        if let Some(rejection) = any.downcast_ref::<Rejection>() {
            return rejection.verdict();
        }
        if let Some(judged) = any.downcast_ref::<Judged>() {
            return judged.verdict();
        }
        if let Some(error) = any.downcast_ref::<std::io::Error>() {
            return Self::in_chain(error);
        }
        any.downcast_ref::<BoxError>()
            .map_or(Self::FAILURE, |error| Self::in_chain(&**error))
    }

    /// The same for an error whose type is erased.
    pub(crate) fn in_chain(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejection) = error.downcast_ref::<Rejection>() {
                return rejection.verdict();
            }
            if let Some(judged) = error.downcast_ref::<Judged>() {
                return judged.verdict();
            }
            next = crate::rejection::cause_of(error);
        }
        Self::FAILURE
    }
}

/// How a body ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End<'a> {
    /// After its last frame, without trailers.
    Clean,
    /// With trailers.
    Trailers(&'a HeaderMap),
    /// With an error, of which [`Verdict::of_error`] says this: a timeout, if a layer of ours ended the body for that.
    Broken(Verdict),
    /// Dropped before its first poll.
    Unread,
    /// Dropped after a poll, before its end.
    Dropped,
    /// Dropped while its thread unwound.
    Panicked,
}

/// A response that knows how its call went.
///
/// `http::Response` has it. `impl Outcome for MyResponse {}` makes every `Ok` a success.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how a call that returned it went",
    label = "this response has no verdict",
    note = "write `impl Outcome for {Self} {{}}` to make every response a success, or give the layer `.classify(OkIsSuccess)`"
)]
pub trait Outcome {
    /// The verdict that the response itself gives, before its body was read.
    fn verdict(&self) -> Verdict {
        Verdict::SUCCESS
    }

    /// Who judges the end of its body, if a [`JudgeLayer`](crate::JudgeLayer) said so.
    fn ending(&self) -> Option<Ending> {
        None
    }
}

/// That of a service that never answers.
impl Outcome for Infallible {
    fn verdict(&self) -> Verdict {
        match *self {}
    }
}

/// Judges the end of a body. Names neither the response nor the error, because a body carries it.
pub trait ClassifyEnd: Clone {
    /// The final verdict of a call whose head was judged `head`. Only a success can still turn.
    fn end(&self, head: Verdict, end: End<'_>) -> Verdict {
        default_end(head, &end)
    }
}

/// Judges heads and errors.
pub trait Classify<Res, Err>: ClassifyEnd {
    /// The verdict on a response, before its body was read.
    fn head(&self, response: &Res) -> Verdict;
    /// The verdict on an error.
    fn error(&self, error: &Err) -> Verdict;
    /// Who judges the end of the body in place of [`ClassifyEnd::end`], if the response says so.
    fn ending(&self, response: &Res) -> Option<Ending> {
        let _ = response;
        None
    }
}

fn default_end(head: Verdict, end: &End<'_>) -> Verdict {
    if !head.is_success() {
        return head;
    }
    let unsaid = head.is_unsaid();
    match end {
        // gRPC says how a call went in its trailers; to end without them is UNKNOWN.
        End::Trailers(trailers) if unsaid => {
            Verdict::grpc(http::grpc_status(trailers).unwrap_or(http::UNKNOWN))
        }
        End::Clean if unsaid => Verdict::grpc(http::UNKNOWN),
        End::Clean | End::Trailers(_) => head,
        End::Broken(why) => head.with_class(match why.class() {
            // What broke off was no success, whatever its error says.
            Class::Success | Class::ClientFault => Class::Failure,
            class => class,
        }),
        End::Panicked => head.with_class(Class::Failure),
        End::Unread if unsaid => head.with_class(Class::Cancelled),
        End::Unread => head,
        End::Dropped => {
            head.with_class(crate::cause::current().unwrap_or(Verdict::CANCELLED).class)
        }
    }
}

/// The verdict that the value itself carries: [`Outcome`] of the response, [`Rejection`] of the error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl ClassifyEnd for Auto {}

impl<Res: Outcome, Err: 'static> Classify<Res, Err> for Auto {
    fn head(&self, response: &Res) -> Verdict {
        response.verdict()
    }
    fn error(&self, error: &Err) -> Verdict {
        Verdict::of_error(error)
    }
    fn ending(&self, response: &Res) -> Option<Ending> {
        response.ending()
    }
}

/// Every `Ok` is a success, whatever it holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct OkIsSuccess;

impl ClassifyEnd for OkIsSuccess {}

impl<Res, Err: 'static> Classify<Res, Err> for OkIsSuccess {
    fn head(&self, _: &Res) -> Verdict {
        Verdict::SUCCESS
    }
    fn error(&self, error: &Err) -> Verdict {
        Verdict::of_error(error)
    }
}

/// Judges by a closure `Fn(Result<&Res, &Err>) -> Verdict`.
#[derive(Clone, Copy)]
pub struct ByFn<F>(pub F);

impl<F> std::fmt::Debug for ByFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByFn").finish_non_exhaustive()
    }
}

impl<F: Clone> ClassifyEnd for ByFn<F> {}

impl<F, Res, Err> Classify<Res, Err> for ByFn<F>
where
    F: Fn(Result<&Res, &Err>) -> Verdict + Clone,
{
    fn head(&self, response: &Res) -> Verdict {
        (self.0)(Ok(response))
    }
    fn error(&self, error: &Err) -> Verdict {
        (self.0)(Err(error))
    }
}

#[cfg(test)]
mod tests;
