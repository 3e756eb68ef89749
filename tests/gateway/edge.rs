//! What one hostile side must not do to the other: a client to the endpoints, an upstream to the clients, and a
//! change of the file to the calls beside it.
//!
//! Fails where a stalled upload is blamed on the endpoint that waits for it; where a length survives beside the
//! encoding that overrules it; where one of two hosts is believed; where a rule goes live before the endpoints
//! that it names.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Duration, sleep},
};

use crate::{
    load::Client,
    process::{Dir, Gateway, Upstream, alone, bounded, eventually},
    raw::exchange,
};

const LIMIT: Duration = Duration::from_secs(60);

fn config(endpoints: &str, rest: &str) -> String {
    format!(
        "log: {{ access: off }}\nservices:\n  shop:\n    endpoints:\n{endpoints}{rest}\nroutes:\n  - {{ path: /*, service: shop }}\n"
    )
}

fn endpoint(address: SocketAddr, version: &str) -> String {
    format!("      - {{ address: \"http://{address}\", tags: {{ version: {version} }} }}\n")
}

#[tokio::test]
async fn stalled_uploads_are_not_blamed_on_the_endpoint() {
    alone(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let rest =
            "    timeout: { per_try: 300ms, total: 20s }\n    breaker: { consecutive_failures: 3 }";
        let gateway = Gateway::start(&dir, &config(&endpoint(upstream.address, "v1"), rest)).await;
        let mut stalled = Vec::new();
        for _ in 0..12 {
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            let head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab";
            stream.write_all(head.as_bytes()).await.unwrap();
            stalled.push(stream);
        }
        sleep(Duration::from_millis(1_500)).await;
        let shop = gateway.endpoints("shop").await;
        assert_eq!(
            (shop[0].breaker.as_str(), shop[0].failures),
            ("closed", 0),
            "{shop:?}"
        );
        let answer = Client::new(gateway.address).get("/").await.unwrap();
        assert_eq!(answer.status, 200);
        drop(stalled);
        // A black hole is blamed as ever: the time of a try is for the head.
        let answer = Client::new(gateway.address)
            .get("/slow?ms=5000")
            .await
            .unwrap();
        assert_eq!(answer.status, 504);
        assert!(gateway.endpoints("shop").await[0].failures > 0);
    })
    .await;
}

/// Answers every connection with these bytes.
async fn says(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(bytes).await;
                sleep(Duration::from_secs(1)).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_that_contradicts_itself_shortens_nothing() {
    bounded(LIMIT, async {
        for (bytes, status, body) in [
            (
                &b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"[..],
                200,
                "hello",
            ),
            (&b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"[..], 502, "reset"),
        ] {
            let dir = Dir::new();
            let rest = "    retry: { attempts: 1 }";
            let gateway = Gateway::start(&dir, &config(&endpoint(says(bytes).await, "v1"), rest)).await;
            let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let reply = exchange(gateway.address, None, request, Duration::from_secs(10)).await;
            assert_eq!(reply.status(), Some(status), "{}", reply.text());
            assert!(reply.text().contains(body), "{}", reply.text());
        }
    })
    .await;
}

#[tokio::test]
async fn one_host_and_that_of_the_target() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let gateway = Gateway::start(&dir, &config(&endpoint(upstream.address, "v1"), "")).await;
        for (request, status, host) in [
            (
                "GET /headers HTTP/1.1\r\nHost: good\r\nHost: evil\r\nConnection: close\r\n\r\n",
                400,
                "",
            ),
            (
                "GET /headers HTTP/1.1\r\nConnection: close\r\n\r\n",
                400,
                "",
            ),
            (
                "GET http://real/headers HTTP/1.1\r\nHost: forged\r\nConnection: close\r\n\r\n",
                200,
                "\"host\":\"real\"",
            ),
            (
                "GET /headers HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n",
                200,
                "\"host\":\"good\"",
            ),
        ] {
            let reply = exchange(gateway.address, None, request, Duration::from_secs(10)).await;
            assert_eq!(
                reply.status(),
                Some(status),
                "{request:?}: {}",
                reply.text()
            );
            assert!(reply.text().contains(host), "{request:?}: {}", reply.text());
        }
    })
    .await;
}

#[tokio::test]
async fn rules_and_the_endpoints_that_they_name_change_together() {
    alone(LIMIT, async {
        let dir = Dir::new();
        let (one, two) = (Upstream::start(&dir, "v1", "a").await, Upstream::start(&dir, "v2", "b").await);
        let file = |at: &Upstream, version: &str| {
            let rest = format!("    traffic:\n      - {{ name: only, to: [{{ tags: {{ version: {version} }} }}], on_empty: refuse }}");
            // Endpoints of no rule, other ones at each turn: what the balancer has to take in takes a while.
            let spare = (1..=200).map(|port| endpoint(([127, 0, 1, version.as_bytes()[1]], port).into(), "spare"));
            config(&(endpoint(at.address, version) + &spare.collect::<String>()), &rest)
        };
        let gateway = Gateway::start(&dir, &file(&one, "v1")).await;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let load: Vec<_> = (0..4)
            .map(|_| {
                let (stop, address) = (stop.clone(), gateway.address);
                tokio::spawn(async move {
                    let client = Client::new(address);
                    let mut bad = Vec::new();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        match client.get("/").await {
                            Ok(answer) if answer.status == 200 => {}
                            other => bad.push(format!("{other:?}")),
                        }
                        sleep(Duration::from_millis(1)).await;
                    }
                    bad
                })
            })
            .collect();
        for turn in 0..8 {
            let (at, version) = if turn % 2 == 0 { (&two, "v2") } else { (&one, "v1") };
            std::fs::write(dir.path().join("gateway.yaml"), file(at, version)).unwrap();
            let client = Client::new(gateway.address);
            eventually("the change is live", Duration::from_secs(5), async || {
                let answer = client.get("/").await.ok()?;
                answer.text().contains(version).then_some(())
            })
            .await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for load in load {
            assert_eq!(load.await.unwrap(), Vec::<String>::new());
        }
    })
    .await;
}
