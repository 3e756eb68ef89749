//! What the tests of long connections share: a service that switches, a layer that counts, words both ways.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::*;
use crate::{Verdict, settle::Observe, verdict::Class, wire::Start};

pub(super) const UPGRADE: &[u8] =
    b"GET /hold HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chassis-test\r\n\r\n";

pub(super) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), what)
        .await
        .expect("this does not come any more")
}

/// A layer that counts its tickets.
#[derive(Clone, Default)]
pub(super) struct Tickets {
    given: Arc<AtomicU32>,
    ended: watch::Sender<Vec<Class>>,
}

pub(super) struct Ticket(Tickets);

impl<B> Start<Request<B>> for Tickets {
    type Ticket = Ticket;
    fn start(&self, _: &mut Request<B>, _: Instant) -> Ticket {
        self.given.fetch_add(1, Ordering::Relaxed);
        Ticket(self.clone())
    }
}

impl Observe for Ticket {
    fn done(self, verdict: Verdict, _: Instant) {
        self.0
            .ended
            .send_modify(|ended| ended.push(verdict.class()));
    }
}

impl Tickets {
    /// How those that ended did; there are `open` others.
    pub(super) fn ended(&self, open: usize) -> Vec<Class> {
        let ended = self.ended.borrow().clone();
        let given = self.given.load(Ordering::Relaxed) as usize;
        assert_eq!(given - ended.len(), open, "{ended:?}");
        ended
    }

    pub(super) async fn all_ended(&self) -> Vec<Class> {
        let all = |ended: &Vec<Class>| ended.len() == self.given.load(Ordering::Relaxed) as usize;
        soon(self.ended.subscribe().wait_for(all))
            .await
            .unwrap()
            .clone()
    }
}

/// The connections that `/hold` was given.
pub(super) type Held = mpsc::UnboundedReceiver<TokioIo<Upgraded>>;

/// `/hold` hands the upgraded connection to the test, `/forget` nobody.
pub(super) async fn switch<B>(
    mut request: Request<B>,
    held: mpsc::UnboundedSender<TokioIo<Upgraded>>,
) -> Result<Response<Body>, BoxError> {
    let mut response = Response::new(Body::empty());
    match request.uri().path() {
        "/hold" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move { held.send(TokioIo::new(upgrade.await.unwrap())) });
        }
        "/forget" => {}
        _ => return Ok(response),
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, "upgrade".parse()?);
    headers.insert(header::UPGRADE, "chassis-test".parse()?);
    Ok(response)
}

/// Reads a head, byte by byte: what follows is another protocol's.
pub(super) async fn head<T: tokio::io::AsyncRead + Unpin>(stream: &mut T) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if soon(stream.read(&mut byte)).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Bytes both ways.
pub(super) async fn speak<A, B>(client: &mut A, server: &mut B)
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut word = [0; 4];
    soon(client.write_all(b"ping")).await.unwrap();
    soon(server.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"ping");
    soon(server.write_all(b"pong")).await.unwrap();
    soon(client.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"pong");
}
