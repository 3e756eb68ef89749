//! A client that notices everything, and a load of a bounded rate made of it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::sync::Mutex;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{Duration, Instant, MissedTickBehavior, interval, timeout},
};

/// No answer of a test takes longer, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a connection is used again. Shorter than any server's limit here: whoever sends on a connection in the
/// moment in which the server gives it up loses a request through nobody's fault.
const KEEP: Duration = Duration::from_secs(1);

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }

    /// `VERSION/INSTANCE` of who answered; empty if it was the gateway itself.
    pub(crate) fn upstream(&self) -> &str {
        self.header("x-upstream")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {:?}", self.body))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is not a whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection.
    Connect(String),
    /// A connection, and no head.
    Head(String),
    /// A head, and a body that broke: the client knows that it did not get everything.
    Broken(String),
    /// A body that ended as if it were whole, and is not. The worst.
    Short(String),
    /// Nothing for too long.
    Hangs,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(e) => write!(f, "no connection: {e}"),
            Self::Head(e) => write!(f, "no head: {e}"),
            Self::Broken(e) => write!(f, "a broken body: {e}"),
            Self::Short(e) => write!(f, "a short body that looks whole: {e}"),
            Self::Hangs => f.write_str("no answer"),
        }
    }
}

/// A TCP connection from an address of ours.
pub(crate) async fn connect(
    to: SocketAddr,
    from: Option<IpAddr>,
    receive_buffer: Option<u32>,
) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(ip) = from {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Text of an error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

/// A client with a few connections that it keeps. Clones share them.
#[derive(Clone)]
pub(crate) struct Client(Arc<Pool>);

struct Pool {
    to: SocketAddr,
    from: Option<IpAddr>,
    idle: Mutex<Vec<(Instant, SendRequest<Full<Bytes>>)>>,
    permits: Semaphore,
    opened: AtomicU64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?} -> {})", self.0.from, self.0.to)
    }
}

impl Client {
    /// At most sixteen connections.
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self::with(to, None, 16)
    }

    pub(crate) fn connections(self, most: usize) -> Self {
        Self::with(self.0.to, self.0.from, most)
    }

    /// From an address of its own.
    pub(crate) fn bound_to(self, ip: impl Into<Ipv4Addr>) -> Self {
        Self::with(
            self.0.to,
            Some(IpAddr::V4(ip.into())),
            self.0.permits.available_permits(),
        )
    }

    fn with(to: SocketAddr, from: Option<IpAddr>, most: usize) -> Self {
        let permits = Semaphore::new(most);
        Self(Arc::new(Pool {
            to,
            from,
            idle: Mutex::default(),
            permits,
            opened: AtomicU64::new(0),
        }))
    }

    /// How many connections it has opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, Fault> {
        self.get_with(path, &[]).await
    }

    pub(crate) async fn get_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Fault> {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer, Fault> {
        self.send(Request::post(path).body(Full::new(body.into())).unwrap())
            .await
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        timeout(PATIENCE, self.exchange(request))
            .await
            .unwrap_or(Err(Fault::Hangs))
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Fault> {
        let refused = |e: &dyn std::error::Error| Fault::Connect(chain(e));
        let stream = connect(self.0.to, self.0.from, None)
            .await
            .map_err(|e| refused(&e))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| refused(&e))?;
        tokio::spawn(connection);
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        Ok(sender)
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Fault> {
        if !request.headers().contains_key(header::HOST) {
            let host = self.0.to.to_string().parse().unwrap();
            request.headers_mut().insert(header::HOST, host);
        }
        let _permit = self.0.permits.acquire().await.unwrap();
        let (mut sender, response) = loop {
            let kept = self.0.idle.lock().unwrap().pop();
            let reused = kept.is_some();
            let mut sender = match kept {
                Some((since, sender)) if sender.is_closed() || since.elapsed() > KEEP => continue,
                Some((_, sender)) => sender,
                None => self.open().await?,
            };
            if sender.ready().await.is_err() {
                if reused {
                    continue;
                }
                return Err(Fault::Head("closed before a request".to_owned()));
            }
            match sender.try_send_request(request).await {
                Ok(response) => break (sender, response),
                // Given back: not a byte was sent, the connection had been closed while it was idle.
                Err(mut error) => match error.take_message() {
                    Some(back) if reused => request = back,
                    _ => return Err(Fault::Head(chain(error.error()))),
                },
            }
        };

        let (head, mut body) = response.into_parts();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => whole.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Err(e) => {
                    return Err(Fault::Broken(format!(
                        "{} after {} bytes: {}",
                        head.status,
                        whole.len(),
                        chain(&e)
                    )));
                }
            }
        }
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: whole.freeze(),
        };
        is_whole(&answer)?;
        if sender.ready().await.is_ok() {
            self.0.idle.lock().unwrap().push((Instant::now(), sender));
        }
        Ok(answer)
    }
}

/// Whether the body is what the head promised, and JSON if that was promised.
fn is_whole(answer: &Answer) -> Result<(), Fault> {
    let length = answer.header("content-length");
    if !length.is_empty() && length.parse() != Ok(answer.body.len()) {
        return Err(Fault::Short(format!(
            "{} bytes of {length}",
            answer.body.len()
        )));
    }
    let kind = answer.header("content-type");
    if (kind.starts_with("application/json") || kind.starts_with("application/problem+json"))
        && let Err(e) = serde_json::from_slice::<Value>(&answer.body)
    {
        return Err(Fault::Short(format!(
            "{} bytes of JSON: {e}",
            answer.body.len()
        )));
    }
    Ok(())
}

/// One request of a load.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When it should have been sent.
    pub(crate) at: Instant,
    /// From then to the end of the body.
    pub(crate) took: Duration,
    /// Status and upstream.
    pub(crate) result: Result<(u16, String), Fault>,
}

impl Sample {
    pub(crate) fn is_ok(&self) -> bool {
        matches!(self.result, Ok((200, _)))
    }

    /// Whether `name` answered it.
    pub(crate) fn is_by(&self, name: &str) -> bool {
        matches!(&self.result, Ok((_, upstream)) if upstream == name)
    }
}

/// GET at a bounded rate, whether answers come or not: a slow answer does not slow the next request down.
#[derive(Debug)]
pub(crate) struct Load {
    begun: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(client: Client, path: &str, per_second: u32) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn({
            let (samples, path) = (Arc::clone(&samples), path.to_owned());
            async move {
                let mut requests = JoinSet::new();
                let mut ticks = interval(Duration::from_secs(1) / per_second);
                // A machine that was away does not make up for it with a burst: the rate is a bound.
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                loop {
                    let at = tokio::select! {
                        biased;
                        _ = stopped.changed() => break,
                        at = ticks.tick() => at,
                    };
                    while requests.try_join_next().is_some() {}
                    let (client, samples, path) =
                        (client.clone(), Arc::clone(&samples), path.clone());
                    requests.spawn(async move {
                        let result = client.get(&path).await;
                        let result =
                            result.map(|answer| (answer.status, answer.upstream().to_owned()));
                        samples.lock().unwrap().push(Sample {
                            at,
                            took: at.elapsed(),
                            result,
                        });
                    });
                }
                requests.join_all().await;
            }
        });
        Self {
            begun: Instant::now(),
            samples,
            stop,
            task,
        }
    }

    /// What has been answered so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap().clone()
    }

    /// How many were answered well so far, by `upstream`.
    pub(crate) fn answers_of(&self, upstream: &str) -> u64 {
        self.samples
            .lock()
            .unwrap()
            .iter()
            .filter(|s| s.is_by(upstream))
            .count() as u64
    }

    /// Sends nothing more, waits for what is under way.
    pub(crate) async fn stop(mut self) -> Vec<Sample> {
        self.stop.send_replace(true);
        (&mut self.task).await.expect("the load ran");
        self.samples()
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every request that was not answered 200 and whole, for a message; the first twenty.
pub(crate) fn failures(samples: &[Sample], begun: Instant) -> Vec<String> {
    let line = |s: &Sample| {
        let at = s.at.saturating_duration_since(begun).as_secs_f64();
        match &s.result {
            Ok((status, upstream)) => {
                format!("at {at:.3} s: {status} from `{upstream}` in {:?}", s.took)
            }
            Err(fault) => format!("at {at:.3} s: {fault} in {:?}", s.took),
        }
    };
    samples
        .iter()
        .filter(|s| !s.is_ok())
        .take(20)
        .map(line)
        .collect()
}

/// The latency below which a share of the samples lies.
pub(crate) fn quantile<'a>(samples: impl IntoIterator<Item = &'a Sample>, share: f64) -> Duration {
    let mut all: Vec<_> = samples.into_iter().map(|s| s.took).collect();
    all.sort_unstable();
    let at = ((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1));
    all.get(at).copied().unwrap_or_default()
}
