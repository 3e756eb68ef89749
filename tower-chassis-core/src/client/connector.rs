use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use tower_service::Service;

use super::ClientConfig;
use crate::{BoxError, boxed::BoxFuture};

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

type Stream = <Connector as Service<Uri>>::Response;

/// Makes connections within a time, and counts those that are open.
#[derive(Clone)]
pub(super) struct Counted {
    connector: Result<Connector, Arc<str>>,
    timeout: Duration,
    open: Arc<AtomicUsize>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl Counted {
    pub(super) fn new(config: &ClientConfig, open: Arc<AtomicUsize>) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.connect_timeout));
        Self {
            connector: connector(http, config),
            timeout: config.connect_timeout,
            open,
        }
    }
}

#[cfg(not(feature = "tls"))]
#[allow(clippy::unnecessary_wraps, reason = "the connector with TLS can fail")]
fn connector(http: HttpConnector, _: &ClientConfig) -> Result<Connector, Arc<str>> {
    Ok(http)
}

#[cfg(feature = "tls")]
fn connector(mut http: HttpConnector, config: &ClientConfig) -> Result<Connector, Arc<str>> {
    use rustls::crypto::ring::default_provider;
    http.enforce_http(false);
    let builder = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_platform_verifier(default_provider())
        .map_err(|error| Arc::from(format!("no roots of trust: {error}")))?
        .https_or_http();
    Ok(if config.http2 {
        builder.enable_http2().wrap_connector(http)
    } else {
        builder.enable_http1().wrap_connector(http)
    })
}

impl Service<Uri> for Counted {
    type Response = Open<Stream>;
    type Error = BoxError;
    // A connection is made seldom; the box is not on a request's path.
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.connector {
            Ok(connector) => connector.poll_ready(cx).map_err(Into::into),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = match &mut self.connector {
            Ok(connector) => connector.call(uri),
            Err(why) => {
                let why = why.to_string();
                return Box::pin(std::future::ready(Err(why.into())));
            }
        };
        let (open, timeout) = (Arc::clone(&self.open), self.timeout);
        Box::pin(async move {
            // The connector's own limit ends with the TCP handshake; this one is for TLS too.
            let inner = tokio::time::timeout(timeout, connecting)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connect timeout"))??;
            open.fetch_add(1, Ordering::Relaxed);
            Ok(Open { inner, open })
        })
    }
}

/// A connection that counts, until it is dropped.
pub(super) struct Open<T> {
    inner: T,
    open: Arc<AtomicUsize>,
}

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Connection> Connection for Open<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

impl<T: Read + Unpin> Read for Open<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Open<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
