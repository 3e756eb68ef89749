//! An upstream of the test's own, for what the demo service does not do: fall silent, break off, never end.
//!
//! HTTP/1.1 over raw sockets, requests without a body. What it does with a request is a switch that holds from
//! the next request on, connections that are open included.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::{Duration, sleep},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Answers as the demo service does.
    Answers = 0,
    /// Accepts, reads, never answers: a black hole.
    Silent = 1,
    /// Sends a head, half of the body that it announced, and resets the connection.
    Breaks = 2,
    /// Sends a body of 256 MiB, as fast as it is read.
    Endless = 3,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    connections: AtomicU64,
    used: AtomicU64,
    open: AtomicU64,
    peak: AtomicU64,
}

/// An HTTP server whose behaviour is a switch.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) address: SocketAddr,
    mode: Arc<AtomicU8>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

/// The length that a body has while it is whole.
const LENGTH: usize = 8 * 1024;

impl Switched {
    pub(crate) async fn start(version: &str, instance: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // What nobody reads is not to pile up in the kernel.
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let name = format!("{version}/{instance}");
        let mode = Arc::new(AtomicU8::new(Mode::Answers as u8));
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn({
            let (mode, counts) = (Arc::clone(&mode), Arc::clone(&counts));
            async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        continue;
                    };
                    let (mode, counts, name) =
                        (Arc::clone(&mode), Arc::clone(&counts), name.clone());
                    tokio::spawn(async move {
                        counts.connections.fetch_add(1, SeqCst);
                        counts
                            .peak
                            .fetch_max(counts.open.fetch_add(1, SeqCst) + 1, SeqCst);
                        serve(stream, &mode, &counts, &name).await;
                        counts.open.fetch_sub(1, SeqCst);
                    });
                }
            }
        });
        Self {
            address,
            mode,
            counts,
            task,
        }
    }

    /// Behaves otherwise from now on, and counts the peak of its open connections anew.
    pub(crate) fn switch(&self, mode: Mode) {
        self.counts
            .peak
            .store(self.counts.open.load(SeqCst), SeqCst);
        self.mode.store(mode as u8, SeqCst);
    }

    /// Attempts that have reached it: requests, and connections that never carried one.
    pub(crate) fn attempts(&self) -> u64 {
        let bare = self
            .counts
            .connections
            .load(SeqCst)
            .saturating_sub(self.counts.used.load(SeqCst));
        self.counts.requests.load(SeqCst) + bare
    }

    /// The most connections that were open at once since the last switch.
    pub(crate) fn peak(&self) -> u64 {
        self.counts.peak.load(SeqCst)
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, mode: &AtomicU8, counts: &Counts, name: &str) {
    _ = stream.set_nodelay(true);
    let mut first = true;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(1..) = stream.read_buf(&mut head).await else {
                return;
            };
        }
        counts.requests.fetch_add(1, SeqCst);
        if std::mem::take(&mut first) {
            counts.used.fetch_add(1, SeqCst);
        }
        let (version, instance) = name.split_once('/').unwrap_or((name, ""));
        let mut body =
            format!(r#"{{"service":"shop","version":"{version}","instance":"{instance}","pad":""#);
        while body.len() < LENGTH - 2 {
            body.push('x');
        }
        body.push_str("\"}");
        let answer = |length: usize| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 x-upstream: {name}\r\n\r\n"
            )
        };
        let mode = mode.load(SeqCst);
        if mode == Mode::Answers as u8 {
            if stream
                .write_all((answer(body.len()) + &body).as_bytes())
                .await
                .is_err()
            {
                return;
            }
        } else if mode == Mode::Silent as u8 {
            // Holds the connection until the other side lets go.
            while stream.read_u8().await.is_ok() {}
            return;
        } else if mode == Mode::Breaks as u8 {
            let half = answer(body.len()) + &body[..LENGTH / 2];
            if stream.write_all(half.as_bytes()).await.is_ok() {
                // A reset takes along what was not read yet. The head and the half are to arrive.
                sleep(Duration::from_millis(50)).await;
            }
            _ = stream.set_zero_linger();
            return;
        } else {
            let chunk = vec![b'x'; 64 * 1024];
            let times = 256 * 1024 * 1024 / chunk.len();
            let head =
                answer(times * chunk.len()).replace("application/json", "application/octet-stream");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            for _ in 0..times {
                if stream.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
    }
}
