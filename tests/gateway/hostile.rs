//! (e) Clients that are slow on purpose, and clients that talk nonsense, beside honest ones.
//!
//! The attackers come from 127.0.0.2 to 127.0.0.9, the honest client from 127.0.0.1. Whether the gateway has let go
//! of a connection is read from the kernel's table of sockets: a client that does not read cannot see it.
//!
//! Fails where any of the limits is missing, is not armed (no timer), holds for the first request of a connection
//! only or strikes at once; where a body is measured by what its head announces; where a refusal is answered by
//! another status or leaves the connection open; where a client's fault counts against an upstream; where slow
//! connections hold what honest ones need, or memory and sockets are kept when they are gone.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, sleep, timeout, timeout_at},
};

use crate::{
    load::{Client, Load, connect, failures, quantile},
    process::{Dir, Gateway, Upstream, alone, bounded, established, eventually, long},
    raw::{Reply, exchange, exchange_on, read_to_end},
    upstream::{Mode, Switched},
};

const HEAD: Duration = Duration::from_secs(2);
const BODY: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(3);
const WRITE: Duration = Duration::from_secs(3);
/// How much later than its limit a connection may go, on a machine that is busy with all of them at once.
const SLACK: Duration = Duration::from_secs(3);

const SLOW: usize = 500;
const GARBAGE: usize = 200;

fn config(shop: [u16; 2], big: u16) -> String {
    let [a, b] = shop;
    format!(
        "\
log:
  access: off
server:
  header_read_timeout: 2s
  body_read_timeout: 2s
  idle_timeout: 3s
  write_timeout: 3s
  max_head: 32KiB
  max_uri: 8KiB
  max_body: 2MiB
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:{a}
      - address: http://127.0.0.1:{b}
    timeout:
      per_try: 10s
      total: 15s
  big:
    endpoints:
      - address: http://127.0.0.1:{big}
    timeout:
      per_try: 10s
      total: 60s
routes:
  - name: big
    path: /big
    service: big
  - name: shop
    path: /*
    service: shop
"
    )
}

/// The gateway and what stands behind it.
struct House {
    gateway: Gateway,
    _shop: [Upstream; 2],
    _big: Switched,
    _dir: Dir,
}

impl House {
    async fn new() -> Self {
        let dir = Dir::new();
        let shop = [
            Upstream::start(&dir, "v1", "a").await,
            Upstream::start(&dir, "v1", "b").await,
        ];
        let big = Switched::start("v1", "big").await;
        big.switch(Mode::Endless);
        let ports = [shop[0].address.port(), shop[1].address.port()];
        let gateway = Gateway::start(&dir, &config(ports, big.address.port())).await;
        Self {
            gateway,
            _shop: shop,
            _big: big,
            _dir: dir,
        }
    }
}

fn attacker(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + (n % 8) as u8))
}

/// What an attacker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    /// A byte of a head that never ends, every 500 ms.
    Head,
    /// A head that announces a body, ten bytes of it, and nothing more.
    Body,
    /// Asks for 256 MiB and does not read.
    Reader,
    /// Opens and says nothing.
    Silent,
}

impl Slow {
    const ALL: [Self; 4] = [Self::Head, Self::Body, Self::Silent, Self::Reader];

    /// One in ten asks for much; what it is sent before it stalls is work for all of this machine.
    fn of(n: usize) -> Self {
        Self::ALL[if n % 10 == 9 { 3 } else { n % 3 }]
    }

    fn limit(self) -> Duration {
        match self {
            Self::Head => HEAD,
            Self::Body => BODY,
            Self::Reader => WRITE,
            // Which of the two governs a connection without a byte is the product's choice.
            Self::Silent => HEAD.max(IDLE),
        }
    }

    /// One connection, until it is closed; how long that took, or what was wrong.
    async fn attack(
        self,
        to: SocketAddr,
        from: IpAddr,
        mut sockets: watch::Receiver<HashSet<SocketAddr>>,
    ) -> Result<Duration, String> {
        let small = (self == Self::Reader).then_some(4096);
        let mut stream = connect(to, Some(from), small)
            .await
            .map_err(|e| format!("no connection: {e}"))?;
        let most = self.limit() + SLACK;
        let begun = Instant::now();
        let reply = match self {
            Self::Head => {
                let (mut reader, mut writer) = stream.into_split();
                let drip = async {
                    for byte in b"GET / HTTP/1.1\r\nhost: shop\r\nx-slow: "
                        .iter()
                        .chain(std::iter::repeat(&b'x'))
                    {
                        if writer.write_all(&[*byte]).await.is_err() {
                            break;
                        }
                        sleep(Duration::from_millis(500)).await;
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = drip => unreachable!("it drips for ever"),
                    reply = read_to_end(&mut reader, most) => reply,
                }
            }
            Self::Body => {
                let head =
                    b"POST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000\r\n\r\n0123456789";
                stream.write_all(head).await.map_err(|e| e.to_string())?;
                read_to_end(&mut stream, most).await
            }
            Self::Reader => {
                let local = stream.local_addr().map_err(|e| e.to_string())?;
                stream
                    .write_all(b"GET /big HTTP/1.1\r\nhost: shop\r\n\r\n")
                    .await
                    .map_err(|e| e.to_string())?;
                // The picture that is there, and the next one, may have been begun before this connection was.
                for _ in 0..2 {
                    sockets.mark_unchanged();
                    _ = sockets.changed().await;
                }
                let gone = timeout_at(
                    begun + most,
                    sockets.wait_for(|open| !open.contains(&local)),
                );
                let closed = gone.await.is_ok().then(|| begun.elapsed());
                Reply {
                    bytes: Vec::new(),
                    closed,
                }
            }
            Self::Silent => read_to_end(&mut stream, most).await,
        };
        let closed = reply
            .closed
            .ok_or_else(|| format!("still open after {most:?}"))?;
        match self {
            Self::Body if reply.status() != Some(408) => {
                Err(format!("no 408 but: {:?}", reply.text()))
            }
            Self::Head | Self::Silent if !reply.bytes.is_empty() => {
                Err(format!("an answer: {:?}", reply.text()))
            }
            // A limit that strikes at once would cut honest clients off.
            _ if closed < self.limit().min(HEAD) / 2 => {
                Err(format!("closed after {closed:?} already"))
            }
            _ => Ok(closed),
        }
    }
}

/// Who is connected to `port`, five times a second, for all attackers together.
fn sockets(port: u16) -> watch::Receiver<HashSet<SocketAddr>> {
    let (sender, receiver) = watch::channel(HashSet::new());
    tokio::spawn(async move {
        while !sender.is_closed() {
            let table =
                tokio::task::spawn_blocking(move || established(port).into_iter().collect());
            sender.send_replace(table.await.unwrap());
            sleep(Duration::from_millis(200)).await;
        }
    });
    receiver
}

/// Nonsense of every sort. What is answered at all must be a refusal.
fn garbage(n: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let noise = |random: &mut fastrand::Rng, n: usize| -> Vec<u8> {
        (0..n).map(|_| random.u8(..)).collect()
    };
    match n % 12 {
        0 => noise(random, 2_000),
        1 => [noise(random, 300), b"\r\n\r\n".to_vec()].concat(),
        // The greeting of a TLS client.
        2 => [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), noise(random, 500)].concat(),
        3 => [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), noise(random, 1_000)].concat(),
        // A connection of HTTP/2 that is well-formed and then silent: empty SETTINGS.
        4 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        5 => vec![0; 5_000],
        6 => b"GET / HTTP/1.1\r\nhost: shop\r\nbad header : x\r\n\r\n".to_vec(),
        7 => b"POST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: -1\r\n\r\n".to_vec(),
        8 => b"POST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_vec(),
        9 => b"POST /echo HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n".to_vec(),
        10 => vec![b'A'; 100_000],
        _ => b"\r\n\r\n\r\nHELO mail.example\r\n".to_vec(),
    }
}

/// A runtime beside that of the test. May be dropped in the middle of it.
struct Apart(Option<Runtime>);

impl Apart {
    fn new() -> Self {
        Self(
            Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .ok(),
        )
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_garbage_clients_do_not_touch_honest_ones() {
    let hold = Duration::from_secs(if long() { 60 } else { 8 });
    alone(hold + Duration::from_secs(90), async {
        let house = House::new().await;
        let (to, process) = (house.gateway.address, &house.gateway.process);
        // The honest client has a thread of its own: it is not to wait for the attackers of this process.
        let own = Apart::new();
        let client = Client::new(to).bound_to([127, 0, 0, 1]).connections(32);
        let load = {
            let _inside = own.0.as_ref().map(Runtime::enter);
            Load::start(client, "/", 100)
        };
        sleep(Duration::from_secs(3)).await;
        let quiet = load.samples();
        let (rss, files) = (process.rss(), process.open_files());

        // Everybody is there all the time: who is thrown out comes again.
        let over = Arc::new(AtomicBool::new(false));
        let sockets = sockets(to.port());
        let mut slow = JoinSet::new();
        for n in 0..SLOW {
            let (over, sockets) = (Arc::clone(&over), sockets.clone());
            slow.spawn(async move {
                let (kind, from) = (Slow::of(n), attacker(n / 10));
                sleep(Duration::from_millis(2 * n as u64)).await;
                let mut took = Vec::new();
                while !over.load(SeqCst) {
                    took.push(
                        kind.attack(to, from, sockets.clone())
                            .await
                            .map_err(|e| format!("{kind:?} from {from}: {e}")),
                    );
                }
                (kind, took)
            });
        }
        let mut nonsense = JoinSet::new();
        let attack = Instant::now();
        for n in 0..GARBAGE {
            let mut random = fastrand::Rng::with_seed(n as u64);
            nonsense.spawn(async move {
                // Spread over the time of the attack.
                sleep(hold.mul_f64(0.8 * n as f64 / GARBAGE as f64)).await;
                let limit = HEAD.max(BODY).max(IDLE) + SLACK;
                (
                    n,
                    exchange(to, Some(attacker(n)), garbage(n, &mut random), limit).await,
                )
            });
        }
        sleep(Duration::from_millis(1_500)).await;
        let (peak_files, peak_connections) = (process.open_files(), established(to.port()).len());
        sleep(hold.saturating_sub(attack.elapsed())).await;
        let peak_rss = process.rss();
        over.store(true, SeqCst);
        let (slow, nonsense) = (slow.join_all().await, nonsense.join_all().await);
        let ended = Instant::now();
        sleep(Duration::from_secs(1)).await;
        let begun = load.begun();
        let samples = load.stop().await;

        let during: Vec<_> = samples
            .iter()
            .filter(|s| s.at >= attack && s.at <= ended)
            .collect();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        eprintln!(
            "honest: p99 {:.1} ms before ({}), {:.1} ms during ({}), slowest {:.1} ms; \
             {peak_connections} connections, {peak_files} files",
            ms(quantile(&quiet, 0.99)),
            quiet.len(),
            ms(quantile(during.iter().copied(), 0.99)),
            during.len(),
            ms(quantile(during.iter().copied(), 1.0)),
        );
        for kind in Slow::ALL {
            let took: Vec<_> = slow
                .iter()
                .filter(|(k, _)| *k == kind)
                .flat_map(|(_, t)| t)
                .flatten()
                .collect();
            let (least, most) = (took.iter().min(), took.iter().max());
            eprintln!(
                "{kind:?}: {} connections, closed after {least:?} to {most:?}, limit {:?}",
                took.len(),
                kind.limit()
            );
        }
        assert!(
            peak_connections >= SLOW * 9 / 10,
            "only {peak_connections} connections at once: this was no attack"
        );
        assert_eq!(
            failures(&samples, begun),
            Vec::<String>::new(),
            "honest requests"
        );
        assert!(
            during.len() >= 300,
            "only {} honest requests: this was no load",
            during.len()
        );
        let late: Vec<_> = during
            .iter()
            .filter(|s| s.took > Duration::from_secs(2))
            .map(|s| s.took)
            .collect();
        assert!(
            late.is_empty(),
            "honest requests that took more than 2 s: {late:?}"
        );

        let wrong: Vec<_> = slow
            .iter()
            .flat_map(|(_, took)| took)
            .filter_map(|t| t.as_ref().err())
            .collect();
        assert!(
            wrong.is_empty(),
            "{} slow connections, among them: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(10)]
        );
        for (n, reply) in &nonsense {
            let kind = n % 12;
            assert!(
                reply.closed.is_some(),
                "garbage {n} (sort {kind}) is still connected; it got {:?}",
                reply.text()
            );
            let refused = reply
                .status()
                .is_none_or(|status| (400..500).contains(&status));
            assert!(
                refused,
                "garbage {n} (sort {kind}) was answered {:?}",
                reply.text()
            );
        }

        // What they took is given back: files at once (but for pooled connections), memory soon.
        eventually(
            "sockets are given back",
            Duration::from_secs(10),
            async || (process.open_files() <= files + 40).then_some(()),
        )
        .await;
        let mut now = process.rss();
        let settle = Instant::now();
        while now > rss + 16 * 1024 && settle.elapsed() < Duration::from_secs(15) {
            sleep(Duration::from_millis(500)).await;
            now = process.rss();
        }
        eprintln!(
            "memory: {rss} KiB before, {peak_rss} KiB during, {now} KiB after {:?}",
            settle.elapsed()
        );
        assert!(
            now <= rss + 16 * 1024,
            "memory did not come back: {rss} KiB before, {now} KiB after"
        );
    })
    .await;
}

/// A request of which the parts can be stretched.
fn request(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

fn headers(count: usize, length: usize) -> String {
    (0..count)
        .map(|n| format!("x-{n:03}: {}\r\n", "v".repeat(length)))
        .collect()
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn chunked(total: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..total.div_ceil(16 * 1024) {
        body.extend_from_slice(b"4000\r\n");
        body.extend_from_slice(&[b'x'; 16 * 1024]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_what_is_wrong() {
    bounded(Duration::from_secs(120), async {
        let house = House::new().await;
        let to = house.gateway.address;
        let bytes = |text: &str| text.as_bytes().to_vec();
        #[rustfmt::skip]
        let table: Vec<(&str, Vec<u8>, Option<u16>)> = vec![
            // Malformed.
            ("no request line", bytes("HELLO\r\n\r\n"), Some(400)),
            ("two words", bytes("GET /\r\nhost: shop\r\n\r\n"), Some(400)),
            ("a version that is none", bytes("GET / HTTX/1.1\r\nhost: shop\r\n\r\n"), Some(400)),
            ("a control character in the path", bytes("GET /\x01 HTTP/1.1\r\nhost: shop\r\n\r\n"), Some(400)),
            ("a space before the colon", request("/", "x-a : b\r\n"), Some(400)),
            ("NUL in a value", request("/", "x-a: a\0b\r\n"), Some(400)),
            ("a line of a head without a colon", request("/", "nonsense\r\n"), Some(400)),
            ("a length that is no number", post("content-length: five", b"hello"), Some(400)),
            ("a negative length", post("content-length: -5", b"hello"), Some(400)),
            ("two lengths that differ", post("content-length: 5\r\ncontent-length: 6", b"hello"), Some(400)),
            // The path.
            ("a path just under its limit", request(&format!("/{}", "p".repeat(8_000)), ""), Some(200)),
            ("a path over its limit", request(&format!("/{}", "p".repeat(9_000)), ""), Some(414)),
            ("a query over the limit", request(&format!("/?{}", "q".repeat(9_000)), ""), Some(414)),
            // The head.
            ("a head just under its limit", request("/", &headers(28, 1_000)), Some(200)),
            ("a head over its limit", request("/", &headers(40, 1_000)), Some(431)),
            ("one header over the limit", request("/", &headers(1, 40_000)), Some(431)),
            ("eighty headers", request("/", &headers(80, 4)), Some(200)),
            ("more than a hundred headers", request("/", &headers(101, 4)), Some(431)),
            // The body.
            ("a body under its limit", post(&format!("content-length: {MIB}"), &vec![b'x'; MIB]), Some(200)),
            ("a chunked body under its limit", post("transfer-encoding: chunked", &chunked(MIB)), Some(200)),
            ("a length over the limit, no body", post(&format!("content-length: {}", 2 * MIB + 1), b""), Some(413)),
            ("a length over the limit, and the body", post(&format!("content-length: {}", 3 * MIB), &vec![b'x'; 3 * MIB]), Some(413)),
            ("a chunked body over the limit", post("transfer-encoding: chunked", &chunked(3 * MIB)), Some(413)),
            ("a chunked body over the limit that does not end", post("transfer-encoding: chunked", &chunked(3 * MIB)[..2 * MIB + 64 * 1024]), Some(413)),
            // What stalls.
            ("a body that stalls", post("content-length: 100", b"ten bytes."), Some(408)),
            ("a body that never begins", post("content-length: 100", b""), Some(408)),
            ("a chunked body that stalls", post("transfer-encoding: chunked", b"5\r\nhello\r\n"), Some(408)),
            ("a head that stalls", bytes("GET / HTTP/1.1\r\nhost: sh"), None),
            ("a request line that stalls", bytes("GET /"), None),
            ("not a byte", Vec::new(), None),
        ];
        let mut wrong = Vec::new();
        for (what, bytes, status) in table {
            let begun = Instant::now();
            let reply = exchange(to, None, bytes, HEAD.max(BODY).max(IDLE) + SLACK).await;
            let got = (reply.status(), reply.closed.is_some());
            let silent = status.is_some() || reply.bytes.is_empty();
            eprintln!("{what}: {:?} after {:?}", reply.status(), begun.elapsed());
            if got != (status, true) || !silent {
                let text: String = reply.text().chars().take(300).collect();
                wrong.push(format!("{what}: wanted {status:?} and the end, got {:?}, closed {:?}: {text:?}", got.0, reply.closed));
            }
            let answer = Client::new(to).get("/").await;
            if !answer.as_ref().is_ok_and(|a| a.status == 200) {
                wrong.push(format!("{what}: the honest request behind it: {answer:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    })
    .await;
}

/// The second request on a connection has the same limits as the first; between the two, the connection is idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_for_every_request_of_a_connection() {
    bounded(Duration::from_secs(60), async {
        let house = House::new().await;
        let to = house.gateway.address;
        let good = b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
        let after_one = async |rest: &'static [u8]| {
            let mut stream = connect(to, None, None).await.unwrap();
            stream.write_all(good).await.unwrap();
            first_answer(&mut stream).await;
            let begun = Instant::now();
            let reply = exchange_on(stream, rest, IDLE + SLACK).await;
            (reply, begun.elapsed())
        };
        let (reply, took) = after_one(b"").await;
        assert!(
            reply.closed.is_some() && reply.bytes.is_empty(),
            "idle: {reply:?}"
        );
        assert!(
            took >= IDLE / 2,
            "an idle connection was closed after {took:?} already"
        );
        let (reply, _) = after_one(b"GET / HT").await;
        assert!(
            reply.closed.is_some() && reply.bytes.is_empty(),
            "a second head that stalls: {reply:?}"
        );
        let (reply, _) =
            after_one(b"POST /echo HTTP/1.1\r\nhost: shop\r\ncontent-length: 9\r\n\r\nhalf").await;
        assert!(
            reply.closed.is_some() && reply.status() == Some(408),
            "a second body that stalls: {reply:?}"
        );
    })
    .await;
}

async fn first_answer(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    let whole = async {
        loop {
            let n = tokio::io::AsyncReadExt::read(stream, &mut chunk)
                .await
                .unwrap();
            assert!(
                n > 0,
                "closed before the first answer: {:?}",
                String::from_utf8_lossy(&seen)
            );
            seen.extend_from_slice(&chunk[..n]);
            let text = String::from_utf8_lossy(&seen);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{text}");
                let length = head.lines().find_map(|l| {
                    l.to_ascii_lowercase()
                        .strip_prefix("content-length: ")
                        .map(str::to_owned)
                });
                if length.is_none_or(|l| l.parse() == Ok(body.len())) {
                    return;
                }
            }
        }
    };
    timeout(Duration::from_secs(10), whole)
        .await
        .expect("the first answer");
}
