//! What a verdict is called in metrics and spans: the status and `error.type`, by OpenTelemetry's rules.

use std::borrow::Cow;

use tower_chassis_core::{Class, Verdict};

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// The status says it.
    Status,
    /// The gRPC status says it.
    Grpc(u16),
    Timeout,
    Unreachable,
    Cancelled,
    Refused,
    /// An error, a panic or a broken body.
    Other,
}

/// A verdict in the words of OpenTelemetry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Option<u16>,
    pub(crate) fault: Fault,
}

impl Outcome {
    /// As the server tells it: 4xx is no error.
    pub(crate) fn server(verdict: Verdict) -> Self {
        let status = verdict.http_status();
        let server_error = match verdict.grpc_code() {
            Some(code) => is_servers_fault(code),
            None => status.is_none_or(|status| status >= 500),
        };
        let fault = match verdict.class() {
            Class::Success | Class::ClientFault | Class::RateLimited => Fault::None,
            Class::Cancelled => Fault::Cancelled,
            Class::Timeout => Fault::Timeout,
            Class::Unreachable => Fault::Unreachable,
            Class::Refused if !server_error => Fault::None,
            Class::Refused => Fault::Refused,
            _ => told_by(verdict),
        };
        Self { status, fault }
    }

    /// As the client tells it: 4xx is an error, and what never came from the server has no status.
    pub(crate) fn client(verdict: Verdict) -> Self {
        let fault = match verdict.class() {
            Class::Success => Fault::None,
            Class::Cancelled => Fault::Cancelled,
            Class::Timeout => Fault::Timeout,
            Class::Unreachable => Fault::Unreachable,
            Class::Refused => Fault::Refused,
            _ => told_by(verdict),
        };
        // A timeout, a refusal or a dead connection of ours carries the status that it would become.
        let ours = matches!(fault, Fault::Timeout | Fault::Unreachable | Fault::Refused);
        Self {
            status: verdict.http_status().filter(|_| !ours),
            fault,
        }
    }

    /// The label `error_type`, if it failed.
    pub(crate) fn error_type(self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self.fault {
            Fault::None => return None,
            Fault::Status => return Some(Cow::Owned(self.status.unwrap_or(0).to_string())),
            Fault::Grpc(code) => grpc_name(code),
            Fault::Timeout => "timeout",
            Fault::Unreachable => "unreachable",
            Fault::Cancelled => "cancelled",
            Fault::Refused => "refused",
            Fault::Other => "_OTHER",
        }))
    }

    /// Whether a span of it has failed. A caller that left is nobody's failure.
    pub(crate) const fn is_error(self) -> bool {
        !matches!(self.fault, Fault::None | Fault::Cancelled)
    }
}

fn told_by(verdict: Verdict) -> Fault {
    match (verdict.grpc_code(), verdict.http_status()) {
        (Some(0), _) => Fault::Other,
        (Some(code), _) => Fault::Grpc(code.min(16)),
        (None, Some(status)) if status >= 400 => Fault::Status,
        _ => Fault::Other,
    }
}

/// Whether a code of gRPC is what 5xx is to HTTP: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`,
/// `UNAVAILABLE`, `DATA_LOSS`, and what gRPC does not know.
const fn is_servers_fault(code: u16) -> bool {
    matches!(code, 2 | 4 | 12..=15 | 17..)
}

/// Whether who answers with a code of gRPC knows the method: `PERMISSION_DENIED`, `UNIMPLEMENTED` and `UNAUTHENTICATED` are
/// said of any, also by who stands before the service.
pub(crate) const fn proves_method(code: u16) -> bool {
    !matches!(code, 7 | 12 | 16)
}

/// The names of gRPC's status codes.
pub(crate) const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a status code of gRPC; one that gRPC does not know is `UNKNOWN`.
pub(crate) const fn grpc_name(code: u16) -> &'static str {
    if code < 17 {
        GRPC_CODES[code as usize]
    } else {
        GRPC_CODES[2]
    }
}

/// The names of classes, in logs and labels.
pub(crate) const CLASSES: [&str; 8] = [
    "failure",
    "success",
    "client-fault",
    "timeout",
    "unreachable",
    "rate-limited",
    "cancelled",
    "refused",
];

/// The place of a class in [`CLASSES`].
pub(crate) const fn class_index(class: Class) -> usize {
    match class {
        Class::Success => 1,
        Class::ClientFault => 2,
        Class::Timeout => 3,
        Class::Unreachable => 4,
        Class::RateLimited => 5,
        Class::Cancelled => 6,
        Class::Refused => 7,
        _ => 0,
    }
}

/// The name of a class, in logs.
pub(crate) const fn class_name(class: Class) -> &'static str {
    CLASSES[class_index(class)]
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower_chassis_core::{Kind, Rejection};

    use super::*;

    type Told<'a> = (Option<u16>, Option<&'a str>);

    #[test]
    fn what_servers_and_clients_say() {
        let http = |status| Verdict::http(StatusCode::from_u16(status).unwrap());
        let refused = |kind| Rejection::new(kind, "x").verdict();
        let table: [(Verdict, Told<'_>, Told<'_>); 15] = [
            (http(200), (Some(200), None), (Some(200), None)),
            (http(404), (Some(404), None), (Some(404), Some("404"))),
            (http(429), (Some(429), None), (Some(429), Some("429"))),
            (
                http(503),
                (Some(503), Some("503")),
                (Some(503), Some("503")),
            ),
            (
                http(200).with_class(Class::Failure),
                (Some(200), Some("_OTHER")),
                (Some(200), Some("_OTHER")),
            ),
            (
                http(200).with_class(Class::Cancelled),
                (Some(200), Some("cancelled")),
                (Some(200), Some("cancelled")),
            ),
            (
                Verdict::grpc(14),
                (Some(200), Some("UNAVAILABLE")),
                (Some(200), Some("UNAVAILABLE")),
            ),
            (
                Verdict::grpc(5),
                (Some(200), None),
                (Some(200), Some("NOT_FOUND")),
            ),
            (
                Verdict::CANCELLED,
                (None, Some("cancelled")),
                (None, Some("cancelled")),
            ),
            (
                Verdict::FAILURE,
                (None, Some("_OTHER")),
                (None, Some("_OTHER")),
            ),
            (
                refused(Kind::Overloaded),
                (Some(503), Some("refused")),
                (None, Some("refused")),
            ),
            (
                refused(Kind::RateLimited),
                (Some(429), None),
                (None, Some("refused")),
            ),
            (
                Verdict::grpc(14).with_class(Class::Refused),
                (Some(200), Some("refused")),
                (None, Some("refused")),
            ),
            (
                Verdict::grpc(8).with_class(Class::Refused),
                (Some(200), None),
                (None, Some("refused")),
            ),
            (
                refused(Kind::Unreachable),
                (Some(502), Some("unreachable")),
                (None, Some("unreachable")),
            ),
        ];
        for (verdict, server, client) in table {
            for (outcome, told) in [
                (Outcome::server(verdict), server),
                (Outcome::client(verdict), client),
            ] {
                assert_eq!(
                    (outcome.status, outcome.error_type().as_deref()),
                    told,
                    "{verdict:?}"
                );
            }
        }
    }
}
