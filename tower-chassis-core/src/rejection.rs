//! The one error of layers that refuse.
//!
//! It travels inside a [`BoxError`]; layers that wrap errors keep it in `source()`, and
//! [`Rejection::find`] walks the chain. What it becomes outside is one table, in [`Kind`].

use std::{error::Error, fmt, time::Duration};

use http::StatusCode;

use crate::{BoxError, Class, Verdict};

/// Why a call was not served.
///
/// | kind | HTTP | gRPC |
/// |---|---|---|
/// | `CircuitOpen`, `NoEndpoint`, `Overloaded`, `Draining` | 503 | `UNAVAILABLE` |
/// | `RateLimited` | 429 | `RESOURCE_EXHAUSTED` |
/// | `Timeout`, `DeadlineExceeded` | 504 | `DEADLINE_EXCEEDED` |
/// | `Unreachable`, `Reset` | 502 | `UNAVAILABLE` |
/// | `Unauthenticated` / `Forbidden` | 401 / 403 | `UNAUTHENTICATED` / `PERMISSION_DENIED` |
/// | `BodyTooLarge` | 413 | `RESOURCE_EXHAUSTED` |
/// | `BodyTimeout` | 408 | `CANCELLED` |
/// | `BadRequest` | 400 | `INTERNAL` |
/// | `Internal` | 500 | `INTERNAL` |
/// | `Injected` | as the fault says, else 500 | as the fault says, else `INTERNAL` |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// What the client sent is malformed.
    BadRequest,
    /// The client's body stalled.
    BodyTimeout,
    /// The client's body is over its limit.
    BodyTooLarge,
    /// A breaker refuses.
    CircuitOpen,
    /// The deadline had passed before the call was made.
    DeadlineExceeded,
    /// The server is shutting down.
    Draining,
    /// The caller is known and not allowed.
    Forbidden,
    /// A fault that was asked for: fault injection. What it stands for says the verdict in the error.
    Injected,
    /// An error of ours, or a panic.
    Internal,
    /// No endpoint to send the call to.
    NoEndpoint,
    /// A concurrency limit or queue is full.
    Overloaded,
    /// A rate is used up.
    RateLimited,
    /// The connection broke after the request was (perhaps) sent and before a head arrived.
    Reset,
    /// No answer in time.
    Timeout,
    /// The caller is not known.
    Unauthenticated,
    /// No connection could be made, or the peer did not look at the request and said so: nothing of it was served.
    Unreachable,
}

impl Kind {
    /// The name in events, metrics and the `x-chassis-reject` header: `circuit-open`, ….
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::BodyTimeout => "body-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::CircuitOpen => "circuit-open",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Draining => "draining",
            Self::Forbidden => "forbidden",
            Self::Injected => "injected",
            Self::Internal => "internal",
            Self::NoEndpoint => "no-endpoint",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate-limited",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unauthenticated => "unauthenticated",
            Self::Unreachable => "unreachable",
        }
    }

    /// The HTTP status that it becomes.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::CircuitOpen | Self::NoEndpoint | Self::Overloaded | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout | Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreachable | Self::Reset => StatusCode::BAD_GATEWAY,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Injected | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status code that it becomes.
    #[must_use]
    pub const fn grpc_code(self) -> u16 {
        match self {
            Self::CircuitOpen
            | Self::NoEndpoint
            | Self::Overloaded
            | Self::Draining
            | Self::Unreachable
            | Self::Reset => 14,
            Self::RateLimited | Self::BodyTooLarge => 8,
            Self::Timeout | Self::DeadlineExceeded => 4,
            Self::Unauthenticated => 16,
            Self::Forbidden => 7,
            Self::BodyTimeout => 1,
            Self::BadRequest | Self::Injected | Self::Internal => 13,
        }
    }

    const fn class(self) -> Class {
        match self {
            Self::Timeout => Class::Timeout,
            Self::Unreachable | Self::Reset => Class::Unreachable,
            // A fault is there to be seen by breakers and retries as the failure that it plays.
            Self::Injected | Self::Internal => Class::Failure,
            // The caller broke its own request off: that says nothing about the service, good or bad.
            Self::BadRequest | Self::BodyTimeout | Self::BodyTooLarge => Class::Cancelled,
            _ => Class::Refused,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "bad request",
            Self::BodyTimeout => "request body stalled",
            Self::BodyTooLarge => "request body over its limit",
            Self::CircuitOpen => "circuit open",
            Self::DeadlineExceeded => "deadline passed before the call",
            Self::Draining => "shutting down",
            Self::Forbidden => "not allowed",
            Self::Injected => "fault injected",
            Self::Internal => "internal error",
            Self::NoEndpoint => "no endpoint available",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate limit exceeded",
            Self::Reset => "connection broke before a response",
            Self::Timeout => "no response in time",
            Self::Unauthenticated => "not authenticated",
            Self::Unreachable => "could not be reached",
        }
    }
}

/// A call that was not served: why, by which layer, and when to come back.
#[derive(Debug)]
pub struct Rejection {
    kind: Kind,
    layer: &'static str,
    retry_after: Option<Duration>,
    source: Option<BoxError>,
}

impl Rejection {
    /// A rejection by `layer`, named as its module is (`"breaker"`).
    #[must_use]
    pub const fn new(kind: Kind, layer: &'static str) -> Self {
        Self {
            kind,
            layer,
            retry_after: None,
            source: None,
        }
    }

    /// With the wait after which another try may be served.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// With the error that caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The rejection in an error's chain of sources, if there is one.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = cause_of(error);
        }
        None
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Which layer, named as its module is.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        self.layer
    }

    /// When another try may be served.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// No answer in time, or the deadline had passed.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::Timeout | Kind::DeadlineExceeded)
    }

    /// A breaker refused.
    #[must_use]
    pub const fn is_circuit_open(&self) -> bool {
        matches!(self.kind, Kind::CircuitOpen)
    }

    /// A rate is used up.
    #[must_use]
    pub const fn is_rate_limited(&self) -> bool {
        matches!(self.kind, Kind::RateLimited)
    }

    /// A concurrency limit or queue is full.
    #[must_use]
    pub const fn is_overloaded(&self) -> bool {
        matches!(self.kind, Kind::Overloaded)
    }

    /// A fault that was asked for.
    #[must_use]
    pub const fn is_injected(&self) -> bool {
        matches!(self.kind, Kind::Injected)
    }

    /// How outer layers are to read it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdict = Verdict::http(self.kind.status()).with_class(self.kind.class());
        match self.retry_after {
            Some(wait) => verdict.with_retry_after(wait),
            None => verdict,
        }
    }
}

/// The next error of a chain. An `io::Error`'s `source` is that of the error it wraps, which would be passed over.
pub(crate) fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error.downcast_ref().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layer, self.kind.text())
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_through_a_chain() {
        let inner = Rejection::new(Kind::CircuitOpen, "breaker").after(Duration::from_secs(2));
        let outer: BoxError =
            Box::new(Rejection::new(Kind::Internal, "x").because(std::io::Error::other(inner)));
        // The outermost one wins: it is the latest word.
        assert_eq!(
            Rejection::find(&*outer).map(Rejection::kind),
            Some(Kind::Internal)
        );
        let io: BoxError = Box::new(std::io::Error::other(Rejection::new(
            Kind::Timeout,
            "timeout",
        )));
        assert!(Rejection::find(&*io).is_some_and(Rejection::is_timeout));
    }

    #[test]
    fn our_refusals_are_not_failures_of_the_service() {
        for kind in [
            Kind::CircuitOpen,
            Kind::RateLimited,
            Kind::Overloaded,
            Kind::NoEndpoint,
            Kind::Draining,
        ] {
            let verdict = Rejection::new(kind, "x").verdict();
            assert_eq!(verdict.class(), Class::Refused);
            assert!(!verdict.is_failure() && !verdict.is_success());
        }
        for kind in [
            Kind::Timeout,
            Kind::Unreachable,
            Kind::Reset,
            Kind::Injected,
        ] {
            assert!(Rejection::new(kind, "x").verdict().is_failure());
        }
    }
}
