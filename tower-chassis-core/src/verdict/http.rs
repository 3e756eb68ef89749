//! What an HTTP or gRPC response says of its call.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    Class, Ending, Outcome, Protocol, Verdict,
    retry_after::{refilled_after, retry_after},
};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// gRPC's code for a call that ended without one.
pub(super) const UNKNOWN: u16 = 2;

impl<B> Outcome for Response<B> {
    fn verdict(&self) -> Verdict {
        if let Some(verdict) = self.extensions().get::<Verdict>() {
            return *verdict;
        }
        let headers = self.headers();
        if let Some(verdict) = of_grpc(self.status(), headers) {
            return pushed_back(verdict, headers);
        }
        let verdict = Verdict::http(self.status());
        if verdict.class == Class::Success {
            return verdict;
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let wait = match text(&header::RETRY_AFTER) {
            Some(text) => retry_after(text.trim(), headers, SystemTime::now()),
            None => text(&RATE_LIMIT).and_then(refilled_after),
        };
        match wait {
            Some(wait) => verdict.with_retry_after(wait),
            None => verdict,
        }
    }

    fn ending(&self) -> Option<Ending> {
        self.extensions().get::<Ending>().cloned()
    }
}

/// The verdict on a gRPC head; `None` for what only HTTP can judge.
fn of_grpc(status: StatusCode, headers: &HeaderMap) -> Option<Verdict> {
    let content_type = headers.get(header::CONTENT_TYPE)?;
    if !content_type.as_bytes().starts_with(GRPC) {
        return None;
    }
    if let Some(code) = grpc_status(headers) {
        return Some(Verdict::grpc(code));
    }
    // A proxy's error page is no gRPC, and gRPC-Web has its trailers inside of the body.
    let web = content_type.as_bytes().starts_with(b"application/grpc-web");
    (status == StatusCode::OK && !web).then_some(Verdict {
        protocol: Protocol::GrpcHead,
        ..Verdict::grpc(0)
    })
}

fn pushed_back(verdict: Verdict, headers: &HeaderMap) -> Verdict {
    match headers.get(&GRPC_PUSHBACK) {
        None => verdict,
        Some(value) => match number(value) {
            Some(millis) => verdict.with_retry_after(Duration::from_millis(millis)),
            // gRPC A6: negative or unreadable means no retry.
            None => verdict.without_retry(),
        },
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.trim().parse().ok()
}

const GRPC: &[u8] = b"application/grpc";

/// Whether the content type is one of gRPC's.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(GRPC))
}

pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let code = number(headers.get(&GRPC_STATUS)?)?;
    // An unknown code means UNKNOWN, as in gRPC's own libraries.
    Some(if code <= 16 { code as u16 } else { UNKNOWN })
}
