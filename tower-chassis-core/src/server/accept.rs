use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Notify,
    time::Instant,
};
use tower_service::Service;

use super::{
    Drain, Drained, ServerConfig, ServerPolicy,
    connection::{Check, Io, Shared},
    drain::Phase,
    service::PerConnection,
};
use crate::{Body, BoxError, Live};

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Address {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A unix socket; a stale file in its place is removed.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A server that does not listen yet. See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "a server does nothing until it is bound and serves"]
pub struct Server {
    policy: Live<ServerPolicy>,
    listen: Vec<String>,
}

impl Server {
    /// A server with these limits.
    pub fn new(policy: impl Into<Live<ServerPolicy>>) -> Self {
        Self {
            policy: policy.into(),
            listen: Vec::new(),
        }
    }

    /// Listens on `host:port` or `unix:/path` too. Port 0 takes a free one.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Opens the listeners.
    ///
    /// # Errors
    /// An address cannot be resolved or bound; the message names it.
    pub async fn bind(self) -> io::Result<Bound> {
        let mut listeners = Vec::new();
        for address in &self.listen {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            };
            listeners.push(match address.strip_prefix("unix:") {
                Some(path) => Listener::unix(Path::new(path)).map_err(named)?,
                None => Listener::Tcp(TcpListener::bind(address).await.map_err(named)?),
            });
        }
        Ok(Bound {
            policy: self.policy,
            listeners,
        })
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        // Only a socket that nobody answers at is stale.
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err()
        {
            std::fs::remove_file(path)?;
        }
        Ok(Self::Unix(UnixListener::bind(path)?, path.to_owned()))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A server that listens and does not serve yet.
#[derive(Debug)]
#[must_use = "a bound server does nothing until it serves"]
pub struct Bound {
    policy: Live<ServerPolicy>,
    listeners: Vec<Listener>,
}

impl Bound {
    /// Where it listens, ports resolved, in the order in which they were given.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Listener::Unix(_, path) => Some(Address::Unix(path.clone())),
        };
        self.listeners.iter().filter_map(address).collect()
    }

    /// Serves until `drain` says to stop, and what is in flight has ended or was cut.
    ///
    /// Dropping the future closes the listeners and leaves the connections to themselves.
    pub async fn serve<S, B>(self, service: S, drain: Drain) -> Drained
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let server = Arc::new(Serving {
            policy: self.policy,
            drain: drain.clone(),
            open: AtomicUsize::new(0),
            gone: Notify::new(),
            per_ip: Mutex::default(),
        });
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(Arc::clone(&server).accept(listener, service.clone()));
        }
        drain.reached(Phase::Announced).await;
        let delay = server.policy.load().config().drain_delay;
        tokio::select! {
            () = tokio::time::sleep(delay) => drain.hurry(),
            () = drain.reached(Phase::Closing) => {}
        }
        while accepting.join_next().await.is_some() {}
        let limit = server.policy.load().config().drain_limit;
        let cut = tokio::select! {
            // What is gone because it was forced was cut, so this is asked first.
            biased;
            () = drain.reached(Phase::Forced) => true,
            () = server.all_gone() => false,
            () = tokio::time::sleep(limit) => true,
        };
        if cut {
            // Several servers may share the drain; only ours is told by what it holds.
            drain.force();
            let _ = tokio::time::timeout(Duration::from_secs(1), server.all_gone()).await;
            return Drained::CutShort;
        }
        Drained::Clean
    }
}

struct Serving {
    policy: Live<ServerPolicy>,
    drain: Drain,
    open: AtomicUsize,
    gone: Notify,
    per_ip: Mutex<HashMap<IpAddr, u32>>,
}

impl Serving {
    async fn accept<S, B>(self: Arc<Self>, listener: Listener, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut closing = std::pin::pin!(self.drain.reached(Phase::Closing));
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
        let ip = peer.map(|peer| one_client(peer.ip()));
        let Some(place) = Place::take(self, ip, limits) else {
            tracing::debug!(target: "tower_chassis::server", ?peer, "too many connections");
            return;
        };
        let limits = Arc::new(limits.clone());
        tokio::spawn(async move {
            serve_connection(stream, peer, service, limits, &place).await;
        });
    }

    async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            gone.await;
        }
    }
}

async fn serve_connection<T, S, B>(
    stream: T,
    peer: Option<SocketAddr>,
    service: S,
    limits: Arc<ServerConfig>,
    place: &Place,
) where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let shared = Shared::new(Instant::now());
    let io = TokioIo::new(Io::new(stream, shared.clone()));
    let service = PerConnection {
        service,
        limits: Arc::clone(&limits),
        shared: shared.clone(),
        peer,
    };
    let builder = protocol(&limits);
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, service));
    let mut phase = place.serving.drain.watch();
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

/// Who counts as one: an IPv4 address, an IPv6 /64, which is what one client is given and can move about in.
fn one_client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
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

/// A connection that counts, until it is dropped.
struct Place {
    serving: Arc<Serving>,
    ip: Option<IpAddr>,
}

impl Place {
    fn take(serving: &Arc<Serving>, ip: Option<IpAddr>, limits: &ServerConfig) -> Option<Self> {
        if serving.open.fetch_add(1, Ordering::AcqRel) >= limits.max_connections as usize {
            serving.leave();
            return None;
        }
        let place = Self {
            serving: Arc::clone(serving),
            ip,
        };
        if let Some(ip) = ip {
            let mut per_ip = serving
                .per_ip
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = per_ip.entry(ip).or_default();
            *count += 1;
            if *count > limits.max_connections_per_ip {
                drop(per_ip);
                return None;
            }
        }
        Some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ip) = self.ip {
            let mut per_ip = self
                .serving
                .per_ip
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = per_ip.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    per_ip.remove(&ip);
                }
            }
        }
        self.serving.leave();
    }
}

impl Serving {
    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gone.notify_waiters();
        }
    }
}
