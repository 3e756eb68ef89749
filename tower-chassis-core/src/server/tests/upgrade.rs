//! Upgraded connections on real sockets. No clock is asserted on; [`soon`] only keeps a fault from hanging.

use hyper::upgrade::Upgraded;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::mpsc};

use super::{
    switching::{Held, Tickets, UPGRADE, head, soon, speak, switch},
    *,
};
use crate::{
    settle::{UntilEnd, UntilHead},
    verdict::{Auto, Class},
    wire::Observed,
};

const FORGOTTEN: &[u8] =
    b"GET /forget HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chassis-test\r\n\r\n";
const UNASKED: &[u8] = b"GET /forget HTTP/1.1\r\nhost: a\r\n\r\n";

/// An address, `/hold`'s connections, tickets until the end and until the head, the drain and the server.
struct Up {
    address: String,
    held: Held,
    until_end: Tickets,
    until_head: Tickets,
    drain: Drain,
    server: tokio::task::JoinHandle<Drained>,
}

async fn up(config: ServerConfig) -> Up {
    let bound = Server::new(ServerPolicy::try_from(config).unwrap())
        .listen("127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let Address::Tcp(address) = bound.addresses()[0] else {
        unreachable!()
    };
    let (send, held) = mpsc::unbounded_channel();
    let (until_end, until_head) = (Tickets::default(), Tickets::default());
    let service = service_fn(move |request: Request<Body>| switch(request, send.clone()));
    let service = Observed::new(service, until_head.clone(), UntilHead::<Auto>::default());
    let service = Observed::new(service, until_end.clone(), UntilEnd::<Auto>::default());
    let drain = Drain::new();
    Up {
        address: address.to_string(),
        held,
        until_end,
        until_head,
        drain: drain.clone(),
        server: tokio::spawn(bound.serve(service, drain)),
    }
}

fn patient() -> ServerConfig {
    ServerConfig {
        drain_delay: Duration::ZERO,
        drain_limit: Duration::from_secs(3600),
        write_timeout: Duration::from_secs(3600),
        ..ServerConfig::default()
    }
}

async fn ask(address: &str, request: &[u8]) -> (TcpStream, String) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let _ = client.write_all(request).await;
    let head = head(&mut client).await;
    (client, head)
}

impl Up {
    async fn upgraded(&mut self) -> (TcpStream, TokioIo<Upgraded>) {
        let (client, head) = ask(&self.address, UPGRADE).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head:?}");
        (client, soon(self.held.recv()).await.unwrap())
    }

    /// Until a place is free.
    async fn served(&self) {
        soon(async {
            let get = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            while !ask(&self.address, get).await.1.starts_with("HTTP/1.1 200") {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_ticket_lasts_while_both_sides_speak_until_the_client_closes() {
    let mut up = up(patient()).await;
    let (mut client, mut io) = up.upgraded().await;
    assert_eq!(
        up.until_head.ended(0),
        [Class::Success],
        "until the head: at the switch"
    );
    for _ in 0..3 {
        speak(&mut client, &mut io).await;
        assert_eq!(up.until_end.ended(1), []);
    }
    drop(client);
    // As an echo would: to the end, and away.
    assert_eq!(soon(io.read(&mut [0; 8])).await.unwrap(), 0);
    assert_eq!(up.until_end.ended(1), [], "half closed is not closed");
    drop(io);
    assert_eq!(up.until_end.ended(0), [Class::Success]);
    assert_eq!(up.until_head.ended(0), [Class::Success], "once");
}

#[tokio::test]
async fn a_ticket_ends_when_the_handler_lets_go_of_the_connection() {
    let mut up = up(patient()).await;
    let (mut client, io) = up.upgraded().await;
    assert_eq!(up.until_end.ended(1), []);
    let (reader, writer) = tokio::io::split(io);
    drop(reader);
    assert_eq!(up.until_end.ended(1), []);
    drop(writer);
    assert_eq!(up.until_end.ended(0), [Class::Success]);
    assert_eq!(soon(client.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_handler_that_panics_on_an_upgraded_connection_leaks_nothing() {
    let mut up = up(ServerConfig {
        max_connections: 1,
        ..patient()
    })
    .await;
    let (_client, io) = up.upgraded().await;
    let handler = tokio::spawn(async move {
        let _io = io;
        panic!("planted")
    });
    assert!(handler.await.unwrap_err().is_panic());
    assert_eq!(up.until_end.ended(0).len(), 1);
    up.served().await;
}

#[tokio::test]
async fn an_upgraded_connection_has_a_place_until_it_closes() {
    let (in_all, of_one) = (
        ServerConfig {
            max_connections: 1,
            ..patient()
        },
        ServerConfig {
            max_connections_per_ip: 1,
            ..patient()
        },
    );
    for config in [in_all, of_one] {
        let mut up = up(config).await;
        let (mut client, mut io) = up.upgraded().await;
        for _ in 0..3 {
            let (_, head) = ask(&up.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert_eq!(head, "", "one connection is all there may be");
            speak(&mut client, &mut io).await;
        }
        drop((client, io));
        up.served().await;
    }
}

#[tokio::test]
async fn nothing_stays_of_a_switch_that_nobody_takes_or_asked_for() {
    for request in [FORGOTTEN, UNASKED] {
        let up = up(ServerConfig {
            max_connections: 1,
            ..patient()
        })
        .await;
        let (mut client, head) = ask(&up.address, request).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head:?}");
        assert_eq!(up.until_end.all_ended().await, [Class::Success]);
        assert_eq!(soon(client.read(&mut [0; 1])).await.unwrap_or(0), 0);
        up.served().await;
    }
}

#[tokio::test]
async fn a_drain_waits_for_upgraded_connections() {
    let mut up = up(patient()).await;
    let (mut client, mut io) = up.upgraded().await;
    up.drain.start();
    soon(async {
        while TcpStream::connect(&up.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    speak(&mut client, &mut io).await;
    assert!(!up.server.is_finished());
    drop(io);
    assert_eq!(soon(up.server).await.unwrap(), Drained::Clean);
    assert_eq!(up.until_end.ended(0), [Class::Success]);
}

#[tokio::test]
async fn a_handler_that_hears_of_the_drain_is_not_cut() {
    let mut up = up(patient()).await;
    let (mut client, mut io) = up.upgraded().await;
    let drain = up.drain.clone();
    let goodbye = tokio::spawn(async move {
        drain.announced().await;
        io.write_all(b"bye").await.unwrap();
        io.shutdown().await.unwrap();
    });
    up.drain.start();
    soon(goodbye).await.unwrap();
    let mut last = String::new();
    soon(client.read_to_string(&mut last)).await.unwrap();
    assert_eq!(last, "bye");
    assert_eq!(soon(up.server).await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn a_drain_cuts_upgraded_connections_at_its_limit_and_says_so() {
    let mut up = up(ServerConfig {
        drain_limit: Duration::from_millis(20),
        ..patient()
    })
    .await;
    let (mut client, io) = up.upgraded().await;
    let (mut reader, mut writer) = tokio::io::split(io);
    let reads = tokio::spawn(async move { reader.read(&mut [0; 8]).await });
    // More than the sockets hold: this waits for a client that does not read.
    let writes = tokio::spawn(async move {
        loop {
            if let Err(error) = writer.write(&[0; 65536]).await {
                return error;
            }
        }
    });
    let (mut busy, mut busy_io) = up.upgraded().await;
    busy.write_all(b"ping").await.unwrap();
    soon(busy_io.read_exact(&mut [0; 1])).await.unwrap();
    assert_eq!(up.until_end.ended(2), []);
    up.drain.start();
    soon(up.drain.reached(drain::Phase::Forced)).await;
    let error = soon(reads).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    let error = soon(writes).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    // One whose bytes are always there is cut as well.
    let error = busy_io.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(
        up.until_end.ended(0),
        [Class::Cancelled; 2],
        "cut, while it is still held"
    );
    drop(busy_io);
    assert_eq!(soon(up.server).await.unwrap(), Drained::CutShort);
    let mut rest = Vec::new();
    let _ = soon(client.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_forced_drain_does_not_wait_for_a_connection_that_nobody_looks_at() {
    let mut up = up(patient()).await;
    let (_client, io) = up.upgraded().await;
    up.drain.start();
    up.drain.force();
    assert_eq!(soon(up.server).await.unwrap(), Drained::CutShort);
    assert_eq!(up.until_end.ended(1), []);
    drop(io);
    assert_eq!(up.until_end.ended(0), [Class::Success]);
}

#[tokio::test]
async fn under_another_server_a_ticket_ends_at_the_switch() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, mut held) = mpsc::unbounded_channel();
    let tickets = Tickets::default();
    let service = service_fn(move |request| switch(request, send.clone()));
    let service = Observed::new(service, tickets.clone(), UntilEnd::<Auto>::default());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
            .await
    });
    let (mut client, head) = ask(&address, UPGRADE).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head:?}");
    assert_eq!(tickets.all_ended().await, [Class::Success]);
    let mut io = soon(held.recv()).await.unwrap();
    speak(&mut client, &mut io).await;
    assert_eq!(tickets.ended(0).len(), 1, "once");
}
