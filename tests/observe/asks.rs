//! Clients that behave, and that do not.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Version, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{ends::Row, seen::Seen, servers::Wire};

/// How long a client stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stays {
    /// It reads what there is.
    ToTheEnd,
    /// It waits for the `100 Continue`, and then sends.
    Asks,
    /// It leaves when the call has come to the handler.
    NoHead,
    /// It leaves after the first bytes of the body.
    Midway,
    /// It speaks another protocol, and leaves.
    Switches,
}

/// A client's connection, which closes when it is dropped.
pub(crate) enum Left {
    Closed,
    /// The stream is over, the connection is not.
    Open(#[allow(dead_code, reason = "held")] hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

pub(crate) async fn ask(wire: Wire, address: SocketAddr, row: &Row, seen: &Seen) -> Left {
    let stream = TcpStream::connect(address).await.unwrap();
    match wire {
        Wire::One => one(stream, row, seen).await,
        Wire::Two => two(stream, row, seen).await,
    }
}

async fn one(mut stream: TcpStream, row: &Row, seen: &Seen) -> Left {
    let method = row.method;
    let mut head = format!("{method} {} HTTP/1.1\r\nhost: x\r\n", row.path());
    if !row.sends.is_empty() {
        head += &format!("content-length: {}\r\n", row.sends.len());
    }
    head += match row.stays {
        Stays::Asks => "expect: 100-continue\r\nconnection: close\r\n",
        Stays::Switches => "connection: upgrade\r\nupgrade: echo\r\n",
        _ => "connection: close\r\n",
    };
    head += "\r\n";
    if row.stays != Stays::Asks {
        head += row.sends;
    }
    stream.write_all(head.as_bytes()).await.unwrap();
    match row.stays {
        // What breaks under the server resets it.
        Stays::ToTheEnd => _ = stream.read_to_end(&mut Vec::new()).await,
        Stays::NoHead => seen.entered().await,
        Stays::Midway => until(&mut stream, "ab").await,
        Stays::Asks => {
            until(&mut stream, "100 Continue\r\n\r\n").await;
            stream.write_all(row.sends.as_bytes()).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
        Stays::Switches => {
            until(&mut stream, "\r\n\r\n").await;
            for _ in 0..2 {
                stream.write_all(b"ping").await.unwrap();
                until(&mut stream, "ping").await;
            }
            seen.switched();
        }
    }
    Left::Closed
}

async fn until(stream: &mut TcpStream, end: &str) {
    let mut heard = String::new();
    while !heard.contains(end) {
        let mut piece = [0; 256];
        let n = stream.read(&mut piece).await.unwrap();
        assert!(n > 0, "{heard:?} and then the end");
        heard.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
}

async fn two(stream: TcpStream, row: &Row, seen: &Seen) -> Left {
    let io = TokioIo::new(stream);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(row.method)
        .version(Version::HTTP_2)
        .uri(format!("http://x{}", row.path()));
    if row.is_rpc() {
        request = request.header(header::CONTENT_TYPE, "application/grpc");
        request = request.header(header::TE, "trailers");
    }
    let request = request.body(Full::new(row.sends.into())).unwrap();
    let call = client.send_request(request);
    match row.stays {
        Stays::ToTheEnd => {
            if let Ok(answer) = call.await {
                let _ = answer.into_body().collect().await;
            }
        }
        Stays::NoHead => tokio::select! {
            _ = call => panic!("an answer"),
            () = seen.entered() => {}
        },
        Stays::Midway => {
            let mut body = call.await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
        }
        Stays::Asks | Stays::Switches => unreachable!("{} is one of HTTP/1", row.name),
    }
    Left::Open(client)
}
