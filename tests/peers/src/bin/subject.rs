//! One small server, for `servers`: a role is named on the command line, and it says where it listens.
//!
//! All of them run as the gateway's binary does: tokio's multi-threaded runtime, with one worker.

use std::{convert::Infallible, env, error::Error, io};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_chassis::{
    router::{Router, get},
    server::{Drain, Server, ServerPolicy},
};

type Failure = Box<dyn Error + Send + Sync>;

const HELLO: &[u8] = b"Hello, World!";

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let role = env::args().nth(1).unwrap_or_default();
    let target = env::args().nth(2).unwrap_or_default();
    runtime.block_on(async {
        // The loop runs on the worker, as connections do.
        let server = match role.as_str() {
            "floor" => tokio::spawn(floor()),
            "hyper" => tokio::spawn(hyper()),
            "axum" => tokio::spawn(axum()),
            "chassis" => tokio::spawn(chassis()),
            "proxy" => tokio::spawn(proxy(target)),
            _ => return Err("a role: floor, hyper, axum, chassis, proxy ADDRESS".into()),
        };
        server.await?
    })
}

async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Parses nothing: what ends with an empty line is a request.
async fn floor() -> Result<(), Failure> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!";
    let listener = listen().await?;
    loop {
        let mut stream = accept(&listener).await?;
        tokio::spawn(async move {
            let mut buffer = [0; 16 * 1024];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                if buffer[..read].ends_with(b"\r\n\r\n") && stream.write_all(ANSWER).await.is_err()
                {
                    return;
                }
            }
        });
    }
}

/// hyper without anything.
async fn hyper() -> Result<(), Failure> {
    let listener = listen().await?;
    loop {
        let stream = accept(&listener).await?;
        tokio::spawn(async move {
            let hello = |_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(HELLO))))
            };
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(hello))
                .await;
        });
    }
}

/// axum, with one route.
async fn axum() -> Result<(), Failure> {
    let app = axum::Router::new().route(
        "/",
        axum::routing::get(|| async { Bytes::from_static(HELLO) }),
    );
    let listener = listen().await?;
    let listener =
        axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, app).await?)
}

/// Our router and server, as the example `hello`: one route, all limits of the server on.
async fn chassis() -> Result<(), Failure> {
    let app = Router::new()
        .route("/", get(|| async { Bytes::from_static(HELLO) }))
        .build()?;
    let server = Server::new(ServerPolicy::default())
        .listen("127.0.0.1:0")
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    let _ = server.serve(app, Drain::new()).await;
    Ok(())
}

/// A proxy of hyper's parts and nothing else: no table, no limit, no count.
async fn proxy(target: String) -> Result<(), Failure> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let authority: uri::Authority = target.parse()?;
    let listener = listen().await?;
    loop {
        let stream = accept(&listener).await?;
        let (client, authority) = (client.clone(), authority.clone());
        tokio::spawn(async move {
            let forward = |mut request: Request<Incoming>| {
                let mut parts = uri::Parts::default();
                parts.scheme = Some(uri::Scheme::HTTP);
                parts.authority = Some(authority.clone());
                parts.path_and_query = request.uri().path_and_query().cloned();
                *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
                request.headers_mut().remove(header::CONNECTION);
                request
                    .headers_mut()
                    .insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
                client.request(request)
            };
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(forward))
                .await;
        });
    }
}
