//! How long a call takes and how much it carries.

use std::time::Duration;

use http::{
    HeaderMap, Method, Request, Version,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use tokio::time::Instant;

/// In a word: not known.
const NONE: u64 = u64::MAX;

/// What a ticket notes while its call goes on.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    /// Nanoseconds until the head.
    head: u64,
    /// The size of the request's body, as it was said.
    announced: u64,
    /// What the body of the response had by now.
    answered: u64,
}

impl Progress {
    pub(super) const fn new(start: Instant) -> Self {
        Self {
            start,
            head: NONE,
            announced: NONE,
            answered: 0,
        }
    }

    /// Notes what a request says of its body, or that it has none. `received` is that of a server: HTTP/1 has told it.
    pub(super) fn announce<B>(&mut self, request: &Request<B>, received: bool) {
        let said = said(request.headers());
        self.announced = said.unwrap_or_else(|| {
            let bare = is_bare(request.method()) || (received && is_bare_http1(request));
            if bare { 0 } else { NONE }
        });
    }

    pub(super) fn head(&mut self, now: Instant) {
        let head = now.saturating_duration_since(self.start).as_nanos();
        self.head = u64::try_from(head).unwrap_or(NONE - 1).min(NONE - 1);
    }

    /// When it began, if the rest takes no time that is asked for: there was a head.
    pub(super) fn settled(&self) -> Option<Instant> {
        (self.head != NONE).then_some(self.start)
    }

    pub(super) fn data(&mut self, bytes: usize) {
        self.answered = self.answered.saturating_add(bytes as u64);
    }

    /// Until the head, or until now if there was none.
    pub(super) fn until_head(&self, now: Instant) -> Duration {
        if self.head == NONE {
            self.until(now)
        } else {
            Duration::from_nanos(self.head)
        }
    }

    pub(super) fn until(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// The size of the request's body, of which so much was seen to come.
    pub(super) fn request(&self, received: u64) -> Option<u64> {
        match self.announced {
            NONE => (received > 0).then_some(received),
            announced => Some(announced.max(received)),
        }
    }

    /// The size of the response's body, if there was a response.
    pub(super) fn response(&self) -> Option<u64> {
        (self.head != NONE).then_some(self.answered)
    }
}

fn said(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    // `+1` is a number to `parse`.
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    length
        .parse()
        .ok()
        .filter(|length| digits && *length != NONE)
}

/// Methods whose requests have no body, unless they say that they do.
fn is_bare(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::OPTIONS
            | Method::DELETE
            | Method::TRACE
            | Method::CONNECT
    )
}

fn is_bare_http1<B>(request: &Request<B>) -> bool {
    request.version() <= Version::HTTP_11 && !request.headers().contains_key(TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_says_of_its_body() {
        let request = |method, version, header: Option<(&str, &str)>| {
            let mut request = Request::builder().method(method).version(version);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            request.body(()).unwrap()
        };
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        let length = |value| Some(("content-length", value));
        let chunked = Some(("transfer-encoding", "chunked"));
        for (request, server, client) in [
            (request("GET", one, None), Some(0), Some(0)),
            (request("GET", two, length("7")), Some(7), Some(7)),
            (request("POST", one, length("7")), Some(7), Some(7)),
            (request("POST", one, length("+7")), Some(0), None),
            (request("POST", one, None), Some(0), None),
            (request("POST", one, chunked), None, None),
            (request("POST", two, None), None, None),
            (
                request("POST", two, length("18446744073709551615")),
                None,
                None,
            ),
        ] {
            for (received, told) in [(true, server), (false, client)] {
                let mut progress = Progress::new(Instant::now());
                progress.announce(&request, received);
                assert_eq!(progress.request(0), told, "{request:?}");
                assert_eq!(progress.request(9), Some(9), "{request:?}");
            }
        }
    }
}
