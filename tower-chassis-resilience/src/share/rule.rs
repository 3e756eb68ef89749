use std::{
    fmt,
    future::{Future, Ready, ready},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body::Body;

use super::{
    body::{Sink, StoredBody, StoredResponse},
    collect::Collect,
    http_key::has,
};

/// How an answer is given again.
pub trait Share<Res>: Clone {
    /// What the layer answers.
    type Response;
    /// What is kept of an answer. Clones are cheap, or the answers small.
    type Shared: Clone + Send + Sync + 'static;
    /// Keeps an answer.
    type Collect: Future<Output = Collected<Self::Shared, Self::Response>>;

    /// Keeps an answer before it is given to anybody.
    fn collect(&self, response: Res) -> Self::Collect;
    /// Passes an answer on, and gives `sink` what is kept of it once all of it has passed. The caller does not
    /// wait for that.
    fn tee<P>(&self, response: Res, sink: P) -> Self::Response
    where
        P: Sink<Self::Shared> + 'static;
    /// Passes an answer on.
    fn pass(&self, response: Res) -> Self::Response;
    /// Whether an answer may be given to others at all.
    fn is_shareable(&self, response: &Res) -> bool;
    /// For how long it says itself that it may be given to others.
    fn lifetime(&self, response: &Res) -> Option<Duration> {
        let _ = response;
        None
    }
    /// Whether it may be given in place of a failure when its time is over.
    fn may_be_stale(&self, response: &Res) -> bool {
        let _ = response;
        true
    }
    /// An answer that was kept, once more, `age` after it came if that is long ago.
    fn again(&self, shared: Self::Shared, age: Option<Duration>) -> Self::Response;
    /// Whether [`again`](Self::again) says how old an answer is: if not, nobody reckons it.
    const TELLS_AGE: bool = true;
    /// How many bytes it takes, about.
    fn weight(shared: &Self::Shared) -> usize;
    /// The same where a user has a say in it.
    fn weigh(&self, shared: &Self::Shared) -> usize {
        Self::weight(shared)
    }
}

/// What became of an answer.
#[derive(Debug)]
pub enum Collected<T, R> {
    /// It is for all.
    Shared(T),
    /// It is for the caller alone: too long, or private.
    Apart(R),
}

/// Answers are cloned: for a protocol of your own. Knows nothing of HTTP: a cookie that an answer sets is given to all.
/// Over HTTP take [`Http`], by `http(…)` or `buffered(…)` of the layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whole;

impl<Res: Clone + Send + Sync + 'static> Share<Res> for Whole {
    type Response = Res;
    type Shared = Res;
    type Collect = Ready<Collected<Res, Res>>;

    fn collect(&self, response: Res) -> Self::Collect {
        ready(Collected::Shared(response))
    }
    fn tee<P: Sink<Res>>(&self, response: Res, sink: P) -> Res {
        sink.keep(response.clone());
        response
    }
    fn pass(&self, response: Res) -> Res {
        response
    }
    fn is_shareable(&self, _: &Res) -> bool {
        true
    }
    const TELLS_AGE: bool = false;
    fn again(&self, shared: Res, _: Option<Duration>) -> Res {
        shared
    }
    fn weight(_: &Res) -> usize {
        size_of::<Res>()
    }
}

/// As [`Whole`], with a closure that says how many bytes an answer holds beside those of its type. Made by
/// [`CacheLayer::weigh`](crate::cache::CacheLayer::weigh).
#[derive(Clone, Copy)]
pub struct Weighed<F>(pub(crate) F);

impl<F> fmt::Debug for Weighed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighed").finish_non_exhaustive()
    }
}

impl<Res, F> Share<Res> for Weighed<F>
where
    Res: Clone + Send + Sync + 'static,
    F: Fn(&Res) -> usize + Clone,
{
    type Response = Res;
    type Shared = Res;
    type Collect = Ready<Collected<Res, Res>>;

    fn collect(&self, response: Res) -> Self::Collect {
        Whole.collect(response)
    }
    fn tee<P: Sink<Res> + 'static>(&self, response: Res, sink: P) -> Res {
        Whole.tee(response, sink)
    }
    fn pass(&self, response: Res) -> Res {
        response
    }
    fn is_shareable(&self, _: &Res) -> bool {
        true
    }
    const TELLS_AGE: bool = false;
    fn again(&self, shared: Res, _: Option<Duration>) -> Res {
        shared
    }
    fn weight(_: &Res) -> usize {
        size_of::<Res>()
    }
    fn weigh(&self, shared: &Res) -> usize {
        size_of::<Res>().saturating_add((self.0)(shared))
    }
}

/// HTTP answers: the head, and so many bytes of the body. See the [module](super).
#[derive(Clone, Debug)]
pub struct Http {
    limit: usize,
    covered: Arc<[HeaderName]>,
}

impl Http {
    /// Bodies of up to `limit` bytes, of answers that depend on the headers `covered` only.
    pub(crate) fn new(limit: usize, covered: Vec<HeaderName>) -> Self {
        Self {
            limit,
            covered: covered.into(),
        }
    }

    pub(crate) fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    fn may_share(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let by_status = match status.as_u16() {
            200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 500.. => true,
            // Made for this one perhaps, as the way to a login is.
            201 | 202 | 207 | 302 | 303 | 307 => is_explicit(headers),
            // Partial, not whole without what the caller has, or about this request or who sent it.
            _ => false,
        };
        if !by_status {
            return false;
        }
        headers.iter().all(|(name, value)| {
            let value = value.as_bytes();
            match *name {
                header::SET_COOKIE | header::CONTENT_RANGE => false,
                header::CACHE_CONTROL => !has(value, &["private", "no-store", "no-cache"]),
                header::PRAGMA => !has(value, &["no-cache"]),
                header::VARY => self.covers(value),
                header::CONTENT_TYPE => !STREAMS.iter().any(|stream| {
                    value
                        .get(..stream.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(stream.as_bytes()))
                }),
                _ => true,
            }
        })
    }

    /// Whether every name in `vary` is in the key. `*` never is.
    fn covers(&self, vary: &[u8]) -> bool {
        vary.split(|byte| *byte == b',').all(|name| {
            let name = name.trim_ascii();
            let same =
                |covered: &HeaderName| covered.as_str().as_bytes().eq_ignore_ascii_case(name);
            name.is_empty() || self.covered.iter().any(same)
        })
    }
}

/// Who reads these waits for each part of them.
const STREAMS: [&str; 7] = [
    "text/event-stream",
    "application/grpc",
    "application/connect+",
    "application/x-ndjson",
    "application/json-seq",
    "application/stream+json",
    "multipart/x-mixed-replace",
];

/// Whether an answer says itself that it may be kept.
fn is_explicit(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::CACHE_CONTROL).iter();
    said.any(|value| has(value.as_bytes(), &["public", "max-age", "s-maxage"]))
}

impl<B> Share<Response<B>> for Http
where
    B: Body,
{
    type Response = Response<StoredBody<B>>;
    type Shared = Arc<StoredResponse>;
    type Collect = Collect<B>;

    fn collect(&self, response: Response<B>) -> Collect<B> {
        let shared = self.is_shareable(&response);
        Collect::new(response, if shared { Some(self.limit) } else { None })
    }

    fn tee<P>(&self, response: Response<B>, sink: P) -> Response<StoredBody<B>>
    where
        P: Sink<Self::Shared> + 'static,
    {
        let (parts, body) = response.into_parts();
        let kept = stripped(&parts);
        let body = StoredBody::tee(body, kept, self.limit, sink);
        Response::from_parts(parts, body)
    }

    fn pass(&self, response: Response<B>) -> Response<StoredBody<B>> {
        response.map(StoredBody::live)
    }

    fn is_shareable(&self, response: &Response<B>) -> bool {
        response.body().size_hint().lower() <= self.limit as u64
            && self.may_share(response.status(), response.headers())
    }

    fn lifetime(&self, response: &Response<B>) -> Option<Duration> {
        let headers = response.headers();
        let said = |wanted| {
            let mut values = headers.get_all(header::CACHE_CONTROL).iter();
            values.find_map(|value| seconds(value.as_bytes(), wanted))
        };
        let Some(said) = said("s-maxage").or_else(|| said("max-age")) else {
            // Who says nothing else mostly says by it that the answer is old already. Dates are not read.
            return headers
                .contains_key(header::EXPIRES)
                .then_some(Duration::ZERO);
        };
        // It may come out of a cache further in.
        let age = headers.get(header::AGE).and_then(|age| age.to_str().ok());
        let age = age.and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        Some(Duration::from_secs(said.saturating_sub(age)))
    }

    fn may_be_stale(&self, response: &Response<B>) -> bool {
        let mut said = response.headers().get_all(header::CACHE_CONTROL).iter();
        !said.any(|value| has(value.as_bytes(), &["must-revalidate", "proxy-revalidate"]))
    }

    fn again(&self, shared: Arc<StoredResponse>, age: Option<Duration>) -> Response<StoredBody<B>> {
        let mut parts = shared.parts.clone();
        if let Some(age) = age {
            let before = parts.headers.get(header::AGE);
            let before = before.and_then(|age| age.to_str().ok()?.trim().parse().ok());
            let age = before.unwrap_or(0_u64).saturating_add(age.as_secs());
            parts.headers.insert(header::AGE, HeaderValue::from(age));
        }
        Response::from_parts(parts, StoredBody::kept(shared))
    }

    fn weight(shared: &Arc<StoredResponse>) -> usize {
        shared.weight()
    }
}

/// The value of `wanted` in a list, as of `cache-control`. One that cannot be read is zero.
fn seconds(list: &[u8], wanted: &str) -> Option<u64> {
    let list = std::str::from_utf8(list).ok()?;
    list.split(',').find_map(|item| {
        let (name, value) = item.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case(wanted)
            .then(|| value.parse().unwrap_or(0))
    })
}

/// The head without what layers wrote into it for the caller of now.
fn stripped(parts: &Parts) -> Parts {
    let mut head = Response::new(()).into_parts().0;
    head.status = parts.status;
    head.version = parts.version;
    head.headers = parts.headers.clone();
    off_the_hop(&mut head.headers);
    head
}

/// Takes away what was said of one connection.
pub(super) fn off_the_hop(headers: &mut HeaderMap) {
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::TRAILER,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Bytes of a memory of their own: a small frame may hold a large read buffer alive.
pub(super) fn compact(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
