use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::{TcpListener, UnixListener};
use tower_service::Service;

use super::{
    Drain, Drained, ServerPolicy, accept::Serving, drain::Phase, last::Serves, slots::Slots,
};
use crate::{Body, BoxError, Events, Live};

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
    gauge: Option<(Arc<str>, Events)>,
}

impl Server {
    /// A server with these limits.
    pub fn new(policy: impl Into<Live<ServerPolicy>>) -> Self {
        Self {
            policy: policy.into(),
            listen: Vec::new(),
            gauge: None,
        }
    }

    /// Offers how many connections are open, idle and upgraded ones included, as the gauge
    /// `chassis_server_connections` of this name.
    pub fn events(mut self, name: impl Into<Arc<str>>, events: Events) -> Self {
        self.gauge = Some((name.into(), events));
        self
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
            gauge: self.gauge,
        })
    }
}

#[derive(Debug)]
pub(super) enum Listener {
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
    gauge: Option<(Arc<str>, Events)>,
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

    /// Serves until `drain` says to stop, and what is in flight has ended or was cut. The last server of a drain then does
    /// what was said to be done [finally](Drain::finally).
    ///
    /// Dropping the future closes the listeners and leaves the connections to themselves.
    pub fn serve<S, B>(self, service: S, drain: Drain) -> impl Future<Output = Drained>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // From now on, and not from the first poll: another server, which ends before that, is not the last one.
        let serves = drain.serves();
        self.serve_until(service, drain, serves)
    }

    async fn serve_until<S, B>(self, service: S, drain: Drain, serves: Serves) -> Drained
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let policy = self.policy.clone();
        let slots = Slots::new(drain.clone());
        if let Some((name, events)) = self.gauge {
            let open = |slots: &Slots| slots.open() as f64;
            events.gauge("chassis_server_connections", name, &slots, open);
        }
        let server = Arc::new(Serving::new(self.policy, Arc::clone(&slots)));
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(Arc::clone(&server).accept(listener, service.clone()));
        }
        drain.reached(Phase::Announced).await;
        let delay = policy.load().config().drain_delay;
        tokio::select! {
            () = tokio::time::sleep(delay) => drain.hurry(),
            () = drain.reached(Phase::Closing) => {}
        }
        while accepting.join_next().await.is_some() {}
        let limit = policy.load().config().drain_limit;
        let cut = tokio::select! {
            // What is gone because it was forced was cut, so this is asked first.
            biased;
            () = drain.reached(Phase::Forced) => true,
            () = slots.all_gone() => false,
            () = tokio::time::sleep(limit) => true,
        };
        if cut {
            // Several servers may share the drain; only ours is told by what it holds.
            drain.force();
            let _ = tokio::time::timeout(Duration::from_secs(1), slots.all_gone()).await;
        }
        serves.ended().await;
        if cut {
            Drained::CutShort
        } else {
            Drained::Clean
        }
    }
}
