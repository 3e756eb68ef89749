//! A profile of a process that burns CPU in a function with a name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![cfg(feature = "profile")]

use std::{
    collections::HashMap,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_chassis_core::Body;
use tower_chassis_observe::profile::{Guard, Profiler};

/// The profiler is the process's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn ask(profiler: &Profiler, method: Method, uri: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(uri).body(()).unwrap();
    profiler.service().oneshot(request).await.unwrap()
}

fn open() -> Profiler {
    Profiler::new(Guard::by(|_| true))
}

#[inline(never)]
fn burn_the_midnight_oil(stop: &AtomicBool) -> u64 {
    let mut sum = 1_u64;
    while !stop.load(SeqCst) {
        for n in 0..10_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_function_that_burns_is_in_the_profile() {
    let _alone = ALONE.lock().await;
    let stop = Arc::new(AtomicBool::new(false));
    let burning = std::thread::Builder::new().name("oil".into()).spawn({
        let stop = Arc::clone(&stop);
        move || burn_the_midnight_oil(&stop)
    });
    let profiler = open();
    let asked = tokio::spawn({
        let profiler = profiler.clone();
        async move {
            ask(
                &profiler,
                Method::GET,
                "/debug/pprof/profile?seconds=1&frequency=200",
            )
            .await
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = ask(&profiler, Method::GET, "/debug/pprof/profile?seconds=1").await;
    assert_eq!(second.status(), 409, "one at a time");
    let response = asked.await.unwrap();
    stop.store(true, SeqCst);
    burning.unwrap().join().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "application/octet-stream"
    );
    let zipped = response.into_body().collect().await.unwrap().to_bytes();
    let profile = Profile::read(&unzip(&zipped));
    assert_eq!(profile.types, ["samples/count", "cpu/nanoseconds"]);
    assert_eq!(profile.period, 5_000_000);
    assert!(
        (900_000_000..10_000_000_000).contains(&profile.duration),
        "{}",
        profile.duration
    );
    let burns: Vec<_> = profile
        .samples
        .iter()
        .filter(|sample| {
            sample
                .stack
                .iter()
                .any(|name| name.contains("burn_the_midnight_oil"))
        })
        .collect();
    let count: u64 = burns.iter().map(|sample| sample.values[0]).sum();
    assert!(count >= 10, "{count} samples of 200");
    for sample in burns {
        assert_eq!(sample.thread, "oil");
        assert_eq!(sample.values[1], sample.values[0] * 5_000_000);
        assert!(
            sample.stack.len() > 2,
            "with its callers: {:?}",
            sample.stack
        );
        let [inner, outer] = ["burn_the_midnight_oil", "thread"]
            .map(|part| sample.stack.iter().position(|name| name.contains(part)));
        assert!(inner < outer, "the innermost first: {:?}", sample.stack);
    }
    assert!(
        profile
            .files
            .iter()
            .any(|file| file.ends_with("profile.rs"))
    );
    // The place is free again.
    let again = ask(&profiler, Method::GET, "/debug/pprof/profile?seconds=1").await;
    assert_eq!(again.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_stops_it() {
    let _alone = ALONE.lock().await;
    let profiler = open();
    for _ in 0..3 {
        let mut tries = 0;
        loop {
            let asked = ask(&profiler, Method::GET, "/debug/pprof/profile?seconds=60");
            match tokio::time::timeout(Duration::from_millis(200), asked).await {
                Err(_) => break,
                // The one before has just begun to begin: that is not cut short.
                Ok(response) => assert_eq!(response.status(), 409),
            }
            tries += 1;
            assert!(tries < 100, "the place is kept");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Over a socket: a client that closes its connection frees the place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_stops_it() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tower_chassis_core::server::{Drain, Server, ServerPolicy};

    let _alone = ALONE.lock().await;
    let server = Server::new(ServerPolicy::default()).listen("127.0.0.1:0");
    let server = server.bind().await.unwrap();
    let address = server.addresses()[0].to_string();
    let address = address.strip_prefix("http://").unwrap();
    let drain = Drain::new();
    let service = Profiler::new(Guard::loopback()).service();
    let served = tokio::spawn(server.serve(service, drain.clone()));
    let send = async |seconds: u32| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let path = format!("/debug/pprof/profile?seconds={seconds}");
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    };
    let first = send(60).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(first);
    let mut tries = 0;
    loop {
        let mut answer = Vec::new();
        send(1).await.read_to_end(&mut answer).await.unwrap();
        if answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(answer.starts_with(b"HTTP/1.1 409"));
        tries += 1;
        assert!(tries < 100, "the place is kept");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drain.start();
    drain.hurry();
    let _ = served.await.unwrap();
}

#[tokio::test]
async fn what_else_is_asked() {
    for (method, uri, status) in [
        (Method::GET, "/debug/pprof/", 200),
        (Method::GET, "/debug/pprof", 200),
        (Method::HEAD, "/debug/pprof/profile", 200),
        (Method::POST, "/debug/pprof/profile", 405),
        (Method::GET, "/debug/pprof/cmdline", 404),
        (Method::GET, "/debug/pprof/profile/", 404),
        (Method::GET, "/profile", 404),
        (Method::GET, "/debug/pprof/profile?seconds=61", 400),
        (Method::GET, "/debug/pprof/profile?frequency=0", 400),
    ] {
        let response = ask(&open(), method.clone(), uri).await;
        assert_eq!(response.status(), status, "{method} {uri}");
    }
    let shut = Profiler::new(Guard::loopback());
    for uri in ["/debug/pprof/", "/debug/pprof/profile?seconds=61"] {
        assert_eq!(ask(&shut, Method::GET, uri).await.status(), 404);
    }
    let moved = open().at("/x/");
    assert_eq!(ask(&moved, Method::GET, "/x/").await.status(), 200);
}

fn unzip(zipped: &Bytes) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(&zipped[..])
        .read_to_end(&mut out)
        .unwrap();
    out
}

/// A profile, read by a decoder that knows nothing of what wrote it.
struct Profile {
    types: Vec<String>,
    samples: Vec<Sample>,
    files: Vec<String>,
    period: u64,
    duration: u64,
}

struct Sample {
    stack: Vec<String>,
    values: Vec<u64>,
    thread: String,
}

/// Field number, number or length, bytes.
type Fields<'a> = Vec<(u64, u64, &'a [u8])>;

fn fields(mut bytes: &[u8]) -> Fields<'_> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let value = number(&mut bytes);
        let inner = match key & 7 {
            0 => &[][..],
            2 => {
                let (inner, rest) = bytes.split_at(value as usize);
                bytes = rest;
                inner
            }
            other => panic!("wire type {other}"),
        };
        all.push((key >> 3, value, inner));
    }
    all
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn one(fields: &Fields<'_>, field: u64) -> u64 {
    let mut values = fields.iter().filter(|(number, _, _)| *number == field);
    let value = values.next().map_or(0, |(_, value, _)| *value);
    assert!(values.next().is_none(), "field {field} twice");
    value
}

fn packed(fields: &Fields<'_>, field: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for &(_, _, mut inner) in fields.iter().filter(|(number, _, _)| *number == field) {
        while !inner.is_empty() {
            all.push(number(&mut inner));
        }
    }
    all
}

impl Profile {
    fn read(bytes: &[u8]) -> Self {
        let all = fields(bytes);
        let of = |field: u64| {
            all.iter()
                .filter(move |(number, _, _)| *number == field)
                .map(|(_, _, inner)| *inner)
        };
        let texts: Vec<_> = of(6)
            .map(|text| std::str::from_utf8(text).unwrap().to_owned())
            .collect();
        assert_eq!(texts[0], "", "as the format wants it");
        let text = |at: u64| texts[at as usize].clone();
        let mut files = Vec::new();
        let functions: HashMap<u64, String> = of(5)
            .map(|function| {
                let function = fields(function);
                files.push(text(one(&function, 4)));
                (one(&function, 1), text(one(&function, 2)))
            })
            .collect();
        let locations: HashMap<u64, Vec<String>> = of(4)
            .map(|location| {
                let location = fields(location);
                let lines = location.iter().filter(|(number, _, _)| *number == 4);
                let names = lines.map(|(_, _, line)| functions[&one(&fields(line), 1)].clone());
                (one(&location, 1), names.collect())
            })
            .collect();
        let samples = of(2).map(|sample| {
            let sample = fields(sample);
            let label = sample.iter().find(|(number, _, _)| *number == 3).unwrap().2;
            let label = fields(label);
            assert_eq!(text(one(&label, 1)), "thread");
            Sample {
                stack: packed(&sample, 1)
                    .iter()
                    .flat_map(|at| locations[at].clone())
                    .collect(),
                values: packed(&sample, 2),
                thread: text(one(&label, 2)),
            }
        });
        Self {
            types: of(1)
                .map(|kind| {
                    let kind = fields(kind);
                    format!("{}/{}", text(one(&kind, 1)), text(one(&kind, 2)))
                })
                .collect(),
            samples: samples.collect(),
            period: one(&all, 12),
            duration: one(&all, 10),
            files,
        }
    }
}
