//! What a gateway does to the headers of a request and its answer.

use std::{
    fmt::Write as _,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_chassis_core::{Body, Deadline, Kind, Rejection, invocation::Carrier};
use tower_layer::Layer;
use tower_service::Service;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that a `Connection` header must not take away from the next hop: a known attack.
fn is_protected(name: &str) -> bool {
    const PROTECTED: [&str; 5] = [
        "host",
        "authorization",
        "content-length",
        "cookie",
        "content-type",
    ];
    PROTECTED
        .iter()
        .any(|protected| name.eq_ignore_ascii_case(protected))
        || name
            .get(..12)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-forwarded-"))
}

/// Removes what is meant for one hop only (RFC 9110, 7.6.1). `TE: trailers` may stay in a request.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let nominated: Vec<String> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty() && !is_protected(name))
            .map(str::to_owned)
            .collect();
        for name in nominated {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|t| t.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &header::PROXY_AUTHENTICATE,
        &header::PROXY_AUTHORIZATION,
        &header::TE,
        &header::TRAILER,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
    ] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Nothing that a client sends about itself is believed: the edge overwrites.
fn forwarded<B>(request: &mut Request<B>, client: Option<SocketAddr>) {
    // RFC 9112, 3.2.2: the request target wins over the header. HTTP/2 carries the host there.
    if let Some(host) = request
        .uri()
        .authority()
        .and_then(|a| HeaderValue::from_str(a.as_str()).ok())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    let headers = request.headers_mut();
    headers.remove(header::FORWARDED);
    headers.remove(&X_REAL_IP);
    headers.remove(&X_FORWARDED_FOR);
    if headers
        .keys()
        .any(|name| name.as_str().starts_with("x-chassis-"))
    {
        let ours: Vec<HeaderName> = headers
            .keys()
            .filter(|name| name.as_str().starts_with("x-chassis-"))
            .cloned()
            .collect();
        for name in ours {
            headers.remove(name);
        }
    }
    let mut text = Ip {
        text: [0; 45],
        len: 0,
    };
    if let Some(client) = client
        && write!(text, "{}", client.ip().to_canonical()).is_ok()
        && let Ok(value) = HeaderValue::from_bytes(text.bytes())
    {
        headers.insert(X_FORWARDED_FOR.clone(), value);
    }
    headers.insert(X_FORWARDED_PROTO.clone(), HeaderValue::from_static("http"));
    match headers.get(header::HOST).cloned() {
        Some(host) => headers.insert(X_FORWARDED_HOST.clone(), host),
        None => headers.remove(&X_FORWARDED_HOST),
    };
}

/// The text of an address, without a String.
struct Ip {
    text: [u8; 45],
    len: usize,
}

impl Ip {
    fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl std::fmt::Write for Ip {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.len + s.len();
        self.text
            .get_mut(self.len..end)
            .ok_or(std::fmt::Error)?
            .copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Prepares requests for the next hop, and answers for the client. Sets the deadline of the call.
#[derive(Clone, Debug)]
pub(super) struct ForwardLayer {
    service: Arc<str>,
    /// Microseconds; the total timeout of the service.
    total: Arc<AtomicU64>,
}

impl ForwardLayer {
    pub(super) fn new(service: Arc<str>, total: Arc<AtomicU64>) -> Self {
        Self { service, total }
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;
    fn layer(&self, inner: S) -> Forward<S> {
        Forward {
            inner,
            layer: self.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Forward<S> {
    inner: S,
    layer: ForwardLayer,
}

impl<S, B> Service<Request<B>> for Forward<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ForwardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        strip_hop_by_hop(request.headers_mut());
        let invocation = request.invocation_mut();
        let client = invocation.client();
        invocation.set_service(Arc::clone(&self.layer.service));
        let total = Duration::from_micros(self.layer.total.load(Ordering::Relaxed));
        invocation.limit_deadline(Deadline::after(Instant::now(), total));
        forwarded(&mut request, client);
        ForwardFuture {
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    #[derive(Debug)]
    pub(super) struct ForwardFuture<F> {
        #[pin]
        inner: F,
    }
}

impl<F, E> Future for ForwardFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut result = ready!(self.project().inner.poll(cx));
        if let Ok(response) = &mut result {
            if response.status().is_informational() {
                // Nobody asked for another protocol, and nothing but an answer can follow.
                result = Ok(bad_gateway());
                return Poll::Ready(result);
            }
            if response.headers().contains_key(header::TRANSFER_ENCODING) {
                // RFC 9112, 6.3: the encoding wins. Kept, the length would cut the body short.
                response.headers_mut().remove(header::CONTENT_LENGTH);
            }
            strip_hop_by_hop(response.headers_mut());
            response.headers_mut().remove(header::TE);
        }
        Poll::Ready(result)
    }
}

fn bad_gateway() -> Response<Body> {
    tower_chassis_core::rescue::answer(&Rejection::new(Kind::Reset, "forward"), false)
        .map(Body::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(k, v)| {
                (
                    k.parse::<HeaderName>().unwrap(),
                    v.parse::<HeaderValue>().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_do_not_pass() {
        let mut map = headers(&[
            (
                "connection",
                "x-secret, keep-alive, Host, authorization, X-Forwarded-For",
            ),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("host", "shop"),
            ("authorization", "Bearer x"),
            ("te", "trailers, deflate"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "x"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(
            map,
            headers(&[
                ("host", "shop"),
                ("authorization", "Bearer x"),
                ("te", "trailers"),
                ("accept", "*/*")
            ])
        );
    }

    #[test]
    fn what_a_client_says_of_itself_is_overwritten() {
        let mut request = Request::builder()
            .uri("http://asked.example/path")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "evil")
            .header("forwarded", "for=6.6.6.6")
            .header("x-real-ip", "6.6.6.6")
            .body(())
            .unwrap();
        // Whoever is believed here says that retries are to stop, that nothing is to be done, or what is to break.
        for name in [
            "x-chassis-attempt",
            "x-chassis-shadow",
            "x-chassis-priority",
            "x-chassis-fault-abort",
            "x-chassis-fault-delay-ms",
            "x-chassis-fault-ppm",
            "x-chassis-fault-throttle",
            "x-chassis-fault-truncate",
            "x-chassis-of-tomorrow",
        ] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static("1"));
        }
        forwarded(&mut request, Some("[::ffff:10.0.0.1]:1".parse().unwrap()));
        assert_eq!(
            *request.headers(),
            headers(&[
                ("host", "asked.example"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "asked.example"),
            ])
        );
    }
}
