//! One verdict for a call, read the same by every layer.
//!
//! A [`Verdict`] is a function of what flows outward: the response, the error, the way its body ended.
//! Every layer uses the same function by default ([`Auto`]). Who knows better writes the exception into
//! that value once, a `Verdict` in the response's extensions or a [`Rejection`] in the error, and every
//! outer layer reads it there. Nothing is inserted on the ordinary path.

use std::{any::Any, time::Duration};

use http::{HeaderMap, HeaderName, Response, StatusCode, header};

use crate::{BoxError, Rejection};

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
}

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

    /// The same verdict with the wait that the service asked for, in milliseconds up to about 49 days.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
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
            Protocol::Grpc => Some(200),
            Protocol::Other => None,
        }
    }

    /// The gRPC status code, where the call had one.
    #[must_use]
    pub const fn grpc_code(self) -> Option<u16> {
        match self.protocol {
            Protocol::Grpc => Some(self.code),
            _ => None,
        }
    }

    /// How long the service asked to wait (`Retry-After`, `grpc-retry-pushback-ms`).
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self.retry_after_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms as u64)),
        }
    }

    /// The verdict on an error: what the [`Rejection`] in its chain says, else a failure.
    pub fn of_error<E: 'static>(error: &E) -> Self {
        let any: &dyn Any = error;
        if let Some(rejection) = any.downcast_ref::<Rejection>() {
            return rejection.verdict();
        }
        any.downcast_ref::<BoxError>()
            .and_then(|error| Rejection::find(&**error))
            .map_or(Self::FAILURE, Rejection::verdict)
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
    /// With an error.
    Broken,
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
}

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

impl<B> Outcome for Response<B> {
    fn verdict(&self) -> Verdict {
        if let Some(verdict) = self.extensions().get::<Verdict>() {
            return *verdict;
        }
        let headers = self.headers();
        if is_grpc(headers) {
            let verdict = grpc_status(headers).map_or(Verdict::grpc(0), Verdict::grpc);
            return match headers.get(&GRPC_PUSHBACK).and_then(number) {
                Some(ms) => verdict.with_retry_after(Duration::from_millis(ms)),
                None => verdict,
            };
        }
        let verdict = Verdict::http(self.status());
        if verdict.class == Class::Success {
            return verdict;
        }
        match headers.get(header::RETRY_AFTER).and_then(number) {
            Some(seconds) => verdict.with_retry_after(Duration::from_secs(seconds)),
            None => verdict,
        }
    }
}

fn number(value: &http::HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

/// Whether the content type is one of gRPC's.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let code = number(headers.get(&GRPC_STATUS)?)?;
    // An unknown code means UNKNOWN, as in gRPC's own libraries.
    Some(if code <= 16 { code as u16 } else { 2 })
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
}

fn default_end(head: Verdict, end: &End<'_>) -> Verdict {
    if !head.is_success() {
        return head;
    }
    let grpc = head.protocol == Protocol::Grpc;
    match end {
        // A head that already says an error ended the call; a gRPC success must be said by trailers.
        End::Trailers(trailers) if grpc && head.class == Class::Success => {
            grpc_status(trailers).map_or(head, Verdict::grpc)
        }
        End::Clean | End::Trailers(_) => head,
        End::Broken | End::Panicked => head.with_class(Class::Failure),
        End::Unread if grpc => head.with_class(Class::Cancelled),
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
mod tests {
    use super::*;

    #[test]
    fn verdict_is_eight_bytes() {
        assert_eq!(size_of::<Verdict>(), 8);
    }

    #[test]
    fn http_table() {
        for (status, class) in [
            (200, Class::Success),
            (302, Class::Success),
            (404, Class::ClientFault),
            (408, Class::ClientFault),
            (429, Class::RateLimited),
            (500, Class::Failure),
            (503, Class::Failure),
            (504, Class::Timeout),
        ] {
            let response = Response::builder().status(status).body(()).unwrap();
            assert_eq!(response.verdict().class(), class, "{status}");
            assert_eq!(response.verdict().http_status(), Some(status));
        }
    }

    #[test]
    fn the_exception_in_the_response_wins() {
        let mut response = Response::builder().status(503).body(()).unwrap();
        response.extensions_mut().insert(Verdict::REFUSED);
        assert_eq!(response.verdict().class(), Class::Refused);
    }

    #[test]
    fn grpc_is_judged_by_its_trailers() {
        let response = Response::builder()
            .header("content-type", "application/grpc+proto")
            .body(())
            .unwrap();
        let head = response.verdict();
        assert_eq!(head.class(), Class::Success);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "14".parse().unwrap());
        let end = Auto.end(head, End::Trailers(&trailers));
        assert_eq!((end.class(), end.grpc_code()), (Class::Failure, Some(14)));
        assert_eq!(Auto.end(head, End::Unread).class(), Class::Cancelled);
    }

    #[test]
    fn only_a_success_can_still_turn() {
        let head = Verdict::http(StatusCode::SERVICE_UNAVAILABLE);
        for end in [End::Clean, End::Broken, End::Unread, End::Dropped] {
            assert_eq!(Auto.end(head, end), head);
        }
        let ok = Verdict::http(StatusCode::OK);
        assert_eq!(Auto.end(ok, End::Broken).class(), Class::Failure);
        assert_eq!(Auto.end(ok, End::Unread).class(), Class::Success);
        assert_eq!(Auto.end(ok, End::Dropped).class(), Class::Cancelled);
    }

    #[test]
    fn retry_after_is_read_from_refusals_only() {
        let response = Response::builder()
            .status(503)
            .header("retry-after", "2")
            .body(())
            .unwrap();
        assert_eq!(
            response.verdict().retry_after(),
            Some(Duration::from_secs(2))
        );
        let response = Response::builder()
            .status(200)
            .header("retry-after", "2")
            .body(())
            .unwrap();
        assert_eq!(response.verdict().retry_after(), None);
    }
}
