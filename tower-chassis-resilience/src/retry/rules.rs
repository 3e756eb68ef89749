//! What may be tried again, and when: a function of the verdict, and of our own refusal where the error holds one.

use std::{any::Any, time::Duration};

use tower_chassis_core::{BoxError, Class, Kind, Rejection, Verdict};

/// How long a 429 may ask to wait and still be tried again.
const SHORT: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// As long as the backoff says.
    Backoff,
    /// As long as the service says, to the millisecond (gRPC A6).
    Exactly(Duration),
    /// As long as the service says and a little more, so that its clients do not come back all at once.
    AtLeast(Duration),
}

/// That a call is to be tried again, if it can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wish {
    pub(crate) wait: Wait,
    pub(crate) why: Why,
}

/// Which rule wishes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// The service was not well.
    Outcome,
    /// Nothing left us.
    Unsent,
    /// The service wants it once more, over a connection that is there (425).
    TooEarly,
}

/// The statuses and gRPC codes that are tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listed {
    /// One bit for each status from `FIRST_STATUS` on.
    pub(crate) statuses: [u64; 4],
    pub(crate) codes: u32,
}

const FIRST_STATUS: u16 = 384;

impl Listed {
    pub(crate) fn of(statuses: &[u16], codes: &[u16]) -> Self {
        let mut listed = Self::default();
        for status in statuses {
            let bit = status.saturating_sub(FIRST_STATUS) as usize;
            if let Some(word) = listed.statuses.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        for code in codes {
            listed.codes |= 1_u32.checked_shl((*code).into()).unwrap_or(0);
        }
        listed
    }

    fn status(&self, status: u16) -> bool {
        let Some(bit) = status.checked_sub(FIRST_STATUS).map(usize::from) else {
            return false;
        };
        self.statuses
            .get(bit / 64)
            .is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    const fn code(&self, code: u16) -> bool {
        code < 32 && self.codes & (1 << code) != 0
    }
}

impl Wish {
    /// What the service says of the wait.
    pub(crate) fn of(verdict: Verdict, why: Why) -> Self {
        let wait = match verdict.retry_after() {
            None => Wait::Backoff,
            Some(wait) if verdict.grpc_code().is_some() => Wait::Exactly(wait),
            Some(wait) => Wait::AtLeast(wait),
        };
        Self { wait, why }
    }
}

/// Whether a response is to be tried again, and when.
pub(crate) fn of_response(verdict: Verdict, idempotent: bool, listed: &Listed) -> Option<Wish> {
    if verdict.forbids_retry() {
        return None;
    }
    if verdict.http_status() == Some(425) && verdict.class() == Class::ClientFault {
        // It was not served, whatever it is.
        return Some(Wish::of(verdict, Why::TooEarly));
    }
    // There was an answer, so the request was sent.
    if !idempotent {
        return None;
    }
    let again = match (verdict.class(), verdict.grpc_code()) {
        (Class::Success | Class::Cancelled | Class::Refused, _) => false,
        // gRPC's own codes: RESOURCE_EXHAUSTED needs the word of the service.
        (_, Some(code)) => listed.code(code) || (code == 8 && verdict.retry_after().is_some()),
        (Class::Unreachable, None) => true,
        (Class::RateLimited, None) => {
            listed.status(429) || verdict.retry_after().is_some_and(|wait| wait <= SHORT)
        }
        // Without a code it is the word of a classifier, or of a response, that knows this service.
        _ => match verdict.http_status() {
            Some(status) => listed.status(status),
            None => verdict.is_failure(),
        },
    };
    again.then(|| Wish::of(verdict, Why::Outcome))
}

/// Whether an error is to be tried again, and when.
pub(crate) fn of_error(
    verdict: Verdict,
    rejection: Option<&Rejection>,
    idempotent: bool,
    listed: &Listed,
) -> Option<Wish> {
    if verdict.forbids_retry() {
        return None;
    }
    // A fault that was injected is what it plays, and the verdict says what that is.
    let rejection = rejection.filter(|rejection| !rejection.is_injected());
    let again = match (verdict.class(), rejection) {
        // The gate of one endpoint was shut, and another endpoint may serve: its wait is not ours. Where the
        // balancer says it, all are.
        (Class::Refused, Some(rejection)) => {
            let one = rejection.is_circuit_open() && rejection.layer() != "balance";
            return one.then_some(Wish {
                wait: Wait::Backoff,
                why: Why::Outcome,
            });
        }
        // Only where no connection could be made is it certain that nothing was sent.
        (Class::Unreachable, Some(rejection)) if rejection.kind() == Kind::Unreachable => {
            return Some(Wish::of(verdict, Why::Unsent));
        }
        // The service answered, and its client makes errors of answers.
        (_, None) if verdict.grpc_code().or(verdict.http_status()).is_some() => {
            return of_response(verdict, idempotent, listed);
        }
        (Class::Unreachable | Class::Timeout, _) => idempotent,
        _ => false,
    };
    again.then(|| Wish::of(verdict, Why::Outcome))
}

/// The outermost rejection in an error, if it is one or holds one.
pub(crate) fn rejection_of<E: 'static>(error: &E) -> Option<&Rejection> {
    let any: &dyn Any = error;
    any.downcast_ref::<Rejection>().or_else(|| {
        any.downcast_ref::<BoxError>()
            .and_then(|error| Rejection::find(&**error))
    })
}

#[cfg(test)]
mod tests {
    use http::{Response, StatusCode};
    use tower_chassis_core::verdict::{Judged, Outcome};

    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], idempotent: bool) -> Option<Wait> {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let response = builder.body(()).unwrap();
        of_response(response.verdict(), idempotent, &listed()).map(|wish| wish.wait)
    }

    fn listed() -> Listed {
        Listed::of(&[408, 502, 503, 504], &[14])
    }

    #[test]
    fn statuses() {
        for status in 100..600 {
            if status == 425 {
                continue;
            }
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
        // A verdict tells no wait below a millisecond.
        let least = Duration::from_millis(1);
        assert_eq!(after("0"), Some(Wait::AtLeast(least)));
        assert_eq!(after("1"), Some(Wait::AtLeast(SHORT)));
        let quota = |value| response(429, &[("ratelimit", value)], true);
        assert_eq!(quota(r#""default";r=0;t=1"#), Some(Wait::AtLeast(SHORT)));
        assert_eq!(
            (quota(r#""default";r=0;t=2"#), quota(r#""default";r=1;t=1"#)),
            (None, None)
        );
        assert_eq!(
            (after("2"), after("x"), response(429, &[], true)),
            (None, None, None)
        );
    }

    #[test]
    fn what_was_too_early_was_not_served() {
        for idempotent in [true, false] {
            let early = Verdict::http(StatusCode::TOO_EARLY);
            let wish = of_response(early, idempotent, &listed()).unwrap();
            assert_eq!((wish.wait, wish.why), (Wait::Backoff, Why::TooEarly));
        }
    }

    #[test]
    fn every_code_that_is_listed_and_no_other() {
        let all = Listed::of(
            &(400..600).collect::<Vec<_>>(),
            &(2..=16).collect::<Vec<_>>(),
        );
        for number in 0..700 {
            assert_eq!(all.status(number), (400..600).contains(&number), "{number}");
            assert_eq!(all.code(number), (2..=16).contains(&number), "{number}");
            assert!(!Listed::default().status(number) && !Listed::default().code(number));
        }
        let internal = Listed::of(&[], &[13]);
        let again = |code| of_response(Verdict::grpc(code), true, &internal).is_some();
        assert!(again(13) && !again(14) && !again(0));
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
    fn a_verdict_without_a_status_has_the_say() {
        for (verdict, again) in [
            (Verdict::SUCCESS, false),
            (Verdict::new(Class::ClientFault), false),
            (Verdict::REFUSED, false),
            (Verdict::CANCELLED, false),
            (Verdict::FAILURE, true),
            (Verdict::TIMEOUT, true),
            (Verdict::new(Class::Unreachable), true),
            (Verdict::new(Class::RateLimited), false),
            (
                Verdict::new(Class::RateLimited).with_retry_after(SHORT),
                true,
            ),
            (Verdict::FAILURE.without_retry(), false),
        ] {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.extensions_mut().insert(verdict);
            let wish = of_response(response.verdict(), true, &listed());
            assert_eq!(wish.is_some(), again, "{verdict:?}");
            assert_eq!(of_response(verdict, false, &listed()), None, "{verdict:?}");
        }
        let asked = Verdict::FAILURE.with_retry_after(Duration::from_secs(7));
        assert_eq!(
            of_response(asked, true, &listed()).map(|wish| wish.wait),
            Some(Wait::AtLeast(Duration::from_secs(7)))
        );
    }

    #[test]
    fn an_error_that_is_an_answer_goes_by_the_rules_of_answers() {
        let http = |status| Verdict::http(StatusCode::from_u16(status).unwrap());
        for (verdict, again) in [
            (http(503), true),
            (http(500), false),
            (http(504), true),
            (Verdict::grpc(14), true),
            (Verdict::grpc(14).without_retry(), false),
            (Verdict::grpc(4), false),
            (Verdict::grpc(8), false),
            (Verdict::grpc(8).with_retry_after(SHORT), true),
        ] {
            let wish = of_error(verdict, None, true, &listed());
            assert_eq!(wish.is_some(), again, "{verdict:?}");
            assert_eq!(
                of_error(verdict, None, false, &listed()),
                None,
                "{verdict:?}"
            );
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
                let verdict = Verdict::of_error(&error);
                let wish = of_error(verdict, rejection_of(&error), idempotent, &listed());
                assert_eq!(wish.is_some(), again, "{kind:?} {idempotent}");
                let unsent = wish.is_some_and(|wish| wish.why == Why::Unsent);
                assert_eq!(unsent, kind == Kind::Unreachable);
            }
        }
        let of = |verdict, rejection| {
            of_error(verdict, rejection, true, &listed()).map(|wish| wish.wait)
        };
        let all_shut = Rejection::new(Kind::CircuitOpen, "balance");
        assert_eq!(of(all_shut.verdict(), rejection_of(&all_shut)), None);
        // The wait of one gate is not that of the next endpoint.
        let shut = Rejection::new(Kind::CircuitOpen, "breaker").after(SHORT);
        assert_eq!(of(shut.verdict(), rejection_of(&shut)), Some(Wait::Backoff));
        assert_eq!(of(Verdict::CANCELLED, None), None);
        assert_eq!(of(Verdict::FAILURE, None), None);
        assert_eq!(of(Verdict::TIMEOUT, None), Some(Wait::Backoff));
        assert_eq!(of(Verdict::TIMEOUT.without_retry(), None), None);
    }

    /// As [`crate::fault`] makes them.
    #[test]
    fn a_fault_is_tried_again_as_what_it_plays_is() {
        let http = |status| Verdict::http(StatusCode::from_u16(status).unwrap());
        let reset = http(502).with_class(Class::Unreachable);
        for (verdict, safe) in [
            (http(503), true),
            (http(500), false),
            (http(404), false),
            (http(429), false),
            (Verdict::grpc(14), true),
            (Verdict::grpc(13), false),
            (reset, true),
            (Verdict::TIMEOUT, true),
        ] {
            let rejection = Rejection::new(Kind::Injected, "fault");
            let error: BoxError = Judged::new(verdict, rejection).into();
            let rejection = rejection_of(&error);
            assert!(rejection.is_some());
            let verdict = Verdict::of_error(&error);
            for (idempotent, again) in [(true, safe), (false, false)] {
                let wish = of_error(verdict, rejection, idempotent, &listed());
                assert_eq!(wish.is_some(), again, "{verdict:?}");
                assert!(wish.is_none_or(|wish| wish.why == Why::Outcome));
            }
        }
        let bare = Rejection::new(Kind::Injected, "x");
        assert_eq!(of_error(bare.verdict(), Some(&bare), true, &listed()), None);
    }

    /// What failed behind a service is not what failed before it.
    #[test]
    fn the_outermost_rejection_of_a_chain_has_the_say() {
        let unreachable = || Rejection::new(Kind::Unreachable, "client");
        for (error, again) in [
            (BoxError::from(std::io::Error::other(unreachable())), true),
            (
                Rejection::new(Kind::Internal, "x")
                    .because(unreachable())
                    .into(),
                false,
            ),
        ] {
            let verdict = Verdict::of_error(&error);
            let wish = of_error(verdict, rejection_of(&error), false, &listed());
            assert_eq!(wish.is_some(), again, "{error}");
        }
    }
}
