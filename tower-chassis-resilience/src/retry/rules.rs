//! What may be tried again: a function of the request, the verdict and what the service said.

use std::{
    any::Any,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, StatusCode, request};
use tower_chassis_core::{BoxError, Class, Kind, Rejection, Verdict};

use super::wait::{Wait, asked};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long a 429 may ask to wait and still be tried again.
const SHORT: Duration = Duration::from_secs(1);

/// Put into a request's extensions, it says that the request may be repeated although its method does not say
/// so: for a route, or a gRPC method, that you know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Idempotent;

/// Whether the request may be sent again although it may have been served.
pub(super) fn is_idempotent(head: &request::Parts) -> bool {
    head.method.is_idempotent()
        || head.headers.contains_key(&IDEMPOTENCY_KEY)
        || head.extensions.get::<Idempotent>().is_some()
}

/// Whether a response is to be tried again, and when.
pub(super) fn of_response(
    verdict: Verdict,
    status: StatusCode,
    headers: &HeaderMap,
    idempotent: bool,
    is_listed: impl Fn(u16) -> bool,
) -> Option<Wait> {
    // There was an answer, so the request was sent.
    if !idempotent {
        return None;
    }
    let again = match (verdict.class(), verdict.grpc_code()) {
        (Class::Success | Class::Cancelled | Class::Refused, _) => false,
        // gRPC's own codes: UNAVAILABLE is its 503, RESOURCE_EXHAUSTED needs the word of the service.
        (_, Some(14)) => is_listed(503),
        (_, Some(8)) => matches!(asked(headers, SystemTime::now()), Ok(Wait::Exactly(_))),
        (_, Some(_)) => false,
        (Class::Unreachable, None) => true,
        (Class::RateLimited, None) => {
            is_listed(429)
                || matches!(asked(headers, SystemTime::now()), Ok(Wait::AtLeast(wait)) if wait <= SHORT)
        }
        // Without a code it is the word of a classifier that knows this service.
        _ => {
            is_listed(status.as_u16()) || (verdict.is_failure() && verdict.http_status().is_none())
        }
    };
    if again {
        asked(headers, SystemTime::now()).ok()
    } else {
        None
    }
}

/// Whether an error is to be tried again.
pub(super) fn of_error(
    verdict: Verdict,
    rejection: Option<&Rejection>,
    idempotent: bool,
) -> Option<Wait> {
    let again = match verdict.class() {
        // Only where no connection could be made is it certain that nothing was sent.
        Class::Unreachable => {
            idempotent || rejection.is_some_and(|r| r.kind() == Kind::Unreachable)
        }
        Class::Timeout => idempotent,
        // The gate of one endpoint was shut, and another endpoint may serve. Where the balancer says it, all are.
        Class::Refused => rejection.is_some_and(|r| r.is_circuit_open() && r.layer() != "balance"),
        _ => false,
    };
    again.then_some(Wait::Backoff)
}

/// The rejection in an error, if it is one or holds one.
pub(super) fn rejection_of<E: 'static>(error: &E) -> Option<&Rejection> {
    let any: &dyn Any = error;
    any.downcast_ref::<Rejection>().or_else(|| {
        any.downcast_ref::<BoxError>()
            .and_then(|error| Rejection::find(&**error))
    })
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use tower_chassis_core::verdict::Outcome;

    use super::*;

    fn parts(method: &str, key: bool) -> request::Parts {
        let mut request = Request::builder().method(method);
        if key {
            request = request.header("Idempotency-Key", "7");
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(&parts(method, false)), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "PURGE"] {
            assert!(!is_idempotent(&parts(method, false)), "{method}");
            assert!(is_idempotent(&parts(method, true)), "{method}");
            let mut marked = parts(method, false);
            marked.extensions.insert(Idempotent);
            assert!(is_idempotent(&marked), "{method}");
        }
    }

    fn response(status: u16, headers: &[(&str, &str)], idempotent: bool) -> Option<Wait> {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let response = builder.body(()).unwrap();
        of_response(
            response.verdict(),
            response.status(),
            response.headers(),
            idempotent,
            |status| [408, 502, 503, 504].contains(&status),
        )
    }

    #[test]
    fn statuses() {
        for status in 100..600 {
            let again = [408, 502, 503, 504].contains(&status);
            assert_eq!(
                response(status, &[], true),
                again.then_some(Wait::Backoff),
                "{status}"
            );
            assert_eq!(
                response(status, &[("retry-after", "0")], false),
                None,
                "{status}"
            );
        }
    }

    #[test]
    fn a_rate_limit_is_tried_again_only_if_it_is_short() {
        let after = |value| response(429, &[("retry-after", value)], true);
        assert_eq!(after("0"), Some(Wait::AtLeast(Duration::ZERO)));
        assert_eq!(after("1"), Some(Wait::AtLeast(SHORT)));
        assert_eq!(
            (after("2"), after("x"), response(429, &[], true)),
            (None, None, None)
        );
    }

    #[test]
    fn grpc() {
        let code = |code, more: &[(&str, &str)]| {
            let mut headers = vec![("content-type", "application/grpc"), ("grpc-status", code)];
            headers.extend(more);
            response(200, &headers, true)
        };
        let pushback = |ms| [("grpc-retry-pushback-ms", ms)];
        assert_eq!(code("14", &[]), Some(Wait::Backoff));
        assert_eq!(
            code("14", &pushback("30")),
            Some(Wait::Exactly(Duration::from_millis(30)))
        );
        assert_eq!(code("14", &pushback("-1")), None);
        assert_eq!(code("8", &[]), None);
        assert_eq!(
            code("8", &pushback("5000")),
            Some(Wait::Exactly(Duration::from_secs(5)))
        );
        for other in ["0", "1", "2", "4", "5", "13", "15"] {
            assert_eq!(code(other, &pushback("1")), None, "{other}");
        }
    }

    #[test]
    fn a_verdict_in_the_response_has_the_say() {
        for (verdict, again) in [
            (Verdict::SUCCESS, false),
            (Verdict::REFUSED, false),
            (Verdict::CANCELLED, false),
            (Verdict::FAILURE, true),
            (Verdict::TIMEOUT, true),
            (Verdict::new(Class::Unreachable), true),
        ] {
            let listed = |status| status == 503;
            let wait = of_response(
                verdict,
                StatusCode::SERVICE_UNAVAILABLE,
                &HeaderMap::new(),
                true,
                listed,
            );
            assert_eq!(wait.is_some(), again, "{verdict:?}");
        }
    }

    #[test]
    fn errors() {
        // (kind, idempotent, not)
        for (kind, safe, other) in [
            (Kind::Unreachable, true, true),
            (Kind::CircuitOpen, true, true),
            (Kind::Reset, true, false),
            (Kind::Timeout, true, false),
            (Kind::DeadlineExceeded, false, false),
            (Kind::RateLimited, false, false),
            (Kind::Overloaded, false, false),
            (Kind::NoEndpoint, false, false),
            (Kind::Draining, false, false),
            (Kind::Internal, false, false),
            (Kind::BadRequest, false, false),
            (Kind::BodyTooLarge, false, false),
        ] {
            let error: BoxError = Rejection::new(kind, "x").into();
            for (idempotent, again) in [(true, safe), (false, other)] {
                let wait = of_error(Verdict::of_error(&error), rejection_of(&error), idempotent);
                assert_eq!(wait.is_some(), again, "{kind:?} {idempotent}");
            }
        }
        let all_shut = Rejection::new(Kind::CircuitOpen, "balance");
        assert_eq!(
            of_error(all_shut.verdict(), rejection_of(&all_shut), true),
            None
        );
        assert_eq!(of_error(Verdict::CANCELLED, None, true), None);
        assert_eq!(of_error(Verdict::FAILURE, None, true), None);
    }
}
