//! A pooled HTTP client as a service.
//!
//! One [`Client`] is one pool; [`Client::to`] fixes it to an [`Endpoint`], which is how a balancer uses it.
//! Errors are [`Rejection`]s: `Unreachable` where no connection could be made, so nothing was sent, or where the server
//! says that it did not look at the request (HTTP/2's `REFUSED_STREAM`, and `GOAWAY` before it), `Reset` where the
//! connection broke before a head arrived. A request body that failed by itself keeps its
//! own rejection (413, 408), so that the client's fault is not the service's.
//!
//! A user and a password in the URI are not sent, not logged, and do not make a pool of their own; who wants them sent
//! says `Authorization`.
//!
//! # Cost
//! One box per call, in the pool; [`Client::with_pool`] takes another one.

mod connector;
mod origin;

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use connector::Counted;
use http::{Request, Response, Uri, Version, uri::Authority};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
pub use origin::{Aimed, OriginLayer};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Body, BoxError, Endpoint, Events, Kind, Rejection,
    live::{Invalid, Validate},
    rejection::cause_of,
};

/// How connections are made and kept, as it is written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// For a connection to be made, TLS included: 1 s.
    pub connect_timeout: Duration,
    /// How long a connection is kept without a request: 45 s, less than servers usually keep it.
    pub idle_timeout: Duration,
    /// How many idle connections are kept per endpoint: 64.
    pub max_idle: usize,
    /// HTTP/2 without negotiation (h2c, gRPC without TLS): off.
    pub http2: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(45),
            max_idle: 64,
            http2: false,
        }
    }
}

/// How connections are made and kept, valid by construction.
#[derive(Clone, Debug, Default)]
pub struct ClientPolicy(ClientConfig);

impl ClientPolicy {
    /// The settings as they are written.
    #[must_use]
    pub const fn config(&self) -> &ClientConfig {
        &self.0
    }
}

impl Validate for ClientPolicy {}

impl TryFrom<ClientConfig> for ClientPolicy {
    type Error = Invalid;

    fn try_from(config: ClientConfig) -> Result<Self, Invalid> {
        if config.connect_timeout.is_zero() {
            return Err(Invalid::new("connect_timeout", "must be above 0"));
        }
        Ok(Self(config))
    }
}

/// An HTTP client. Cheap to clone; clones share the pool.
#[derive(Clone, Debug)]
pub struct Client<P = Pool> {
    pool: P,
    version: Version,
}

impl Client {
    /// A client with a pool of its own.
    #[must_use]
    pub fn new(policy: &ClientPolicy) -> Self {
        let version = if policy.0.http2 {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        Self {
            pool: Pool::new(&policy.0),
            version,
        }
    }

    /// How many connections are open, idle ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.pool.open.load(Ordering::Relaxed)
    }

    /// Offers how many connections are open, idle ones included, as the gauge `chassis_client_connections` of this
    /// name. Clients of one name are one value, their sum.
    #[must_use]
    pub fn events(self, name: impl Into<Arc<str>>, events: &Events) -> Self {
        let open = |open: &AtomicUsize| open.load(Ordering::Relaxed) as f64;
        events.gauge("chassis_client_connections", name, &self.pool.open, open);
        self
    }

    /// A counter of open connections that outlives the client.
    #[must_use]
    pub fn connection_count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.pool.open)
    }
}

impl<P> Client<P> {
    /// A client over another pool: any service that takes absolute URIs.
    pub const fn with_pool(pool: P) -> Self {
        Self {
            pool,
            version: Version::HTTP_11,
        }
    }

    /// Sends everything to `endpoint`, whatever the authority of the request's URI.
    pub fn to(self, endpoint: &Endpoint) -> Aimed<Self> {
        OriginLayer::new(endpoint).layer(self)
    }
}

impl<P, B> Service<Request<B>> for Client<P>
where
    P: Service<Request<Body>, Response = Response<Body>>,
    P::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = P::Error;
    type Future = P::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), P::Error>> {
        self.pool.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> P::Future {
        *request.version_mut() = self.version;
        forget_user(request.uri_mut());
        self.pool.call(request.map(Body::new))
    }
}

/// Takes user and password out of an address. They are never sent, and hyper would log them with its pool.
fn forget_user(uri: &mut Uri) {
    let host = uri.authority().map(without_user);
    let Some(Ok(host)) = host.flatten().map(str::parse) else {
        return;
    };
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(host);
    if let Ok(forgot) = Uri::from_parts(parts) {
        *uri = forgot;
    }
}

/// Host and port, where there is a user before them.
fn without_user(authority: &Authority) -> Option<&str> {
    let (_, host) = authority.as_str().rsplit_once('@')?;
    Some(host)
}

type Inner = legacy::Client<Counted, Body>;

/// The pool of hyper-util.
#[derive(Clone)]
pub struct Pool {
    inner: Inner,
    open: Arc<AtomicUsize>,
}

impl Pool {
    fn new(config: &ClientConfig) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let connector = Counted::new(config, Arc::clone(&open));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.max_idle)
            .http2_only(config.http2)
            // What is read ahead of a slow client, per connection; hyper's own bound is 400 KB.
            .http1_max_buf_size(64 * 1024)
            .build(connector);
        Self { inner, open }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("open", &self.open.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Pool {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = PoolFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> PoolFuture {
        PoolFuture {
            inner: self.inner.request(request),
        }
    }
}

pin_project! {
    /// The future of [`Pool`]. Dropped early, the connection is closed (HTTP/1) or the stream reset (HTTP/2).
    #[must_use = "futures do nothing unless polled"]
    pub struct PoolFuture {
        #[pin]
        inner: legacy::ResponseFuture,
    }
}

impl fmt::Debug for PoolFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFuture").finish_non_exhaustive()
    }
}

impl Future for PoolFuture {
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.project().inner.poll(cx)) {
            Ok(response) => Ok(response.map(|body: Incoming| Body::from(body))),
            Err(error) => Err(reject(error).into()),
        })
    }
}

fn reject(error: legacy::Error) -> Rejection {
    // The body of the request failed by itself: the client's fault stays the client's.
    if let Some(own) = Rejection::find(&error) {
        let own = Rejection::new(own.kind(), own.layer());
        return own.because(error);
    }
    let kind = if error.is_connect() || was_refused(&error) {
        Kind::Unreachable
    } else {
        Kind::Reset
    };
    Rejection::new(kind, "client").because(error)
}

/// Whether the server says that it did not look at the request, so that it may be sent again whatever it is: it refused
/// the stream, or it goes away and served none from this one on (RFC 9113, 8.7). h2 tells nobody else of a `GOAWAY`.
fn was_refused(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (refused || error.is_go_away());
        }
        next = cause_of(error);
    }
    false
}

#[cfg(test)]
mod tests;
