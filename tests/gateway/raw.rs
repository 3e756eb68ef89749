//! Bytes on a socket, for what no client library would send.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, Instant, timeout_at},
};

use crate::load::connect;

/// What came back on a connection until its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    /// From the moment when the test began to wait to the end of the connection; `None` if it is still open.
    pub(crate) closed: Option<Duration>,
}

impl Reply {
    /// The status of the first answer, if there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        let line = self.bytes.strip_prefix(b"HTTP/1.")?;
        std::str::from_utf8(line.get(2..5)?).ok()?.parse().ok()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The JSON behind the head (of an answer that is not chunked).
    pub(crate) fn json(&self) -> Value {
        let text = self.text();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
    }
}

/// Reads until the connection ends, or `limit` has passed.
pub(crate) async fn read_to_end(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    limit: Duration,
) -> Reply {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match timeout_at(begun + limit, stream.read(&mut chunk)).await {
            Err(_) => {
                return Reply {
                    bytes,
                    closed: None,
                };
            }
            // A reset is an end as well.
            Ok(Ok(0) | Err(_)) => {
                return Reply {
                    bytes,
                    closed: Some(begun.elapsed()),
                };
            }
            Ok(Ok(n)) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Sends `bytes` on a connection of its own and reads what comes until the other side ends it.
///
/// Reading goes on while writing is refused: who answers early need not read everything.
pub(crate) async fn exchange(
    to: SocketAddr,
    from: Option<IpAddr>,
    bytes: impl Into<Vec<u8>>,
    limit: Duration,
) -> Reply {
    let stream = match connect(to, from, None).await {
        Ok(stream) => stream,
        Err(e) => panic!("no connection to {to} from {from:?}: {e}"),
    };
    exchange_on(stream, bytes, limit).await
}

/// The same on a connection that is there.
pub(crate) async fn exchange_on(
    stream: TcpStream,
    bytes: impl Into<Vec<u8>>,
    limit: Duration,
) -> Reply {
    let (mut reader, mut writer) = stream.into_split();
    let bytes = bytes.into();
    let writing = tokio::spawn(async move {
        _ = writer.write_all(&bytes).await;
        // Kept until the answer is there: a half-closed connection is another case.
        writer
    });
    let reply = read_to_end(&mut reader, limit).await;
    writing.abort();
    reply
}
