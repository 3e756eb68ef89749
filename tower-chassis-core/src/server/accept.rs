use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tower_service::Service;

use super::{
    ServerConfig, ServerPolicy,
    connection::{Check, Shared},
    drain::Phase,
    io::Io,
    listen::Listener,
    service::PerConnection,
    slots::{Place, Slots},
};
use crate::{Body, BoxError, Live};

pub(super) struct Serving {
    policy: Live<ServerPolicy>,
    slots: Arc<Slots>,
}

impl Serving {
    pub(super) const fn new(policy: Live<ServerPolicy>, slots: Arc<Slots>) -> Self {
        Self { policy, slots }
    }

    pub(super) async fn accept<S, B>(self: Arc<Self>, listener: Listener, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut closing = std::pin::pin!(self.slots.drain().reached(Phase::Closing));
        loop {
            let error = match &listener {
                Listener::Tcp(tcp) => {
                    let accepted = tokio::select! {
                        biased;
                        () = &mut closing => return,
                        accepted = tcp.accept() => accepted,
                    };
                    match accepted {
                        Ok((stream, peer)) => {
                            let _ = stream.set_nodelay(true);
                            keep_unsent_small(&stream);
                            self.admit(stream, Some(peer), service.clone());
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Listener::Unix(unix, _) => {
                    let accepted = tokio::select! {
                        biased;
                        () = &mut closing => return,
                        accepted = unix.accept() => accepted,
                    };
                    match accepted {
                        Ok((stream, _)) => {
                            self.admit(stream, None, service.clone());
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            };
            // A connection that died in the queue is its own matter; out of descriptors is ours, and
            // asking again at once would spin.
            if !matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::Interrupted
            ) {
                tracing::warn!(target: "tower_chassis::server", %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn admit<T, S, B>(self: &Arc<Self>, stream: T, peer: Option<SocketAddr>, service: S)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let policy = self.policy.load();
        let limits = policy.config();
        let Some(place) = Place::take(&self.slots, peer.map(|peer| peer.ip()), limits) else {
            tracing::debug!(target: "tower_chassis::server", ?peer, "too many connections");
            return;
        };
        let limits = Arc::new(limits.clone());
        tokio::spawn(serve_connection(stream, peer, service, limits, place));
    }
}

/// Serves HTTP on a connection until it ends, is cut, or speaks another protocol: then its bytes are their
/// user's, and all that has to outlast this task goes with them ([`Io`]).
pub(super) async fn serve_connection<T, S, B>(
    stream: T,
    peer: Option<SocketAddr>,
    service: S,
    limits: Arc<ServerConfig>,
    place: Place,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let shared = Shared::new(Instant::now());
    let mut phase = place.drain().watch();
    let io = Io::new(stream, shared.clone(), limits.write_timeout, place);
    let service = PerConnection {
        service,
        limits: Arc::clone(&limits),
        shared: shared.clone(),
        peer,
    };
    let builder = protocol(&limits);
    let mut connection =
        std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    // What was said before this task began counts as news.
    phase.mark_changed();
    let mut closing = false;
    let mut watchdog = std::pin::pin!(tokio::time::sleep(limits.header_read_timeout));
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(target: "tower_chassis::server", ?peer, error, "connection ended");
                }
                return;
            }
            changed = phase.changed() => {
                let now = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Forced };
                if now >= Phase::Forced {
                    return;
                }
                if now >= Phase::Closing && !closing {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = watchdog.as_mut() => match shared.check(Instant::now(), &limits) {
                Check::At(next) => watchdog.as_mut().reset(next),
                Check::Over(what) => {
                    tracing::debug!(target: "tower_chassis::server", ?peer, limit = what, "connection closed");
                    return;
                }
            },
        }
    }
}

/// What waits in the kernel for a slow reader. Without it some megabytes do, and a steady reader looks like one
/// that has stopped: the socket takes no more until a third of them is gone.
fn keep_unsent_small(stream: &tokio::net::TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(128 * 1024);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = stream;
}

fn protocol(limits: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        // A head of `max_head` bytes as hyper counts them, and the start of a body behind it.
        .max_buf_size((limits.max_head as usize * 2).max(64 * 1024))
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
