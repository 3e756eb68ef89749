//! A protocol of one's own, length-delimited over TCP, under metrics, deadline, retry, timeout, balance and breaker.
//!
//! ```text
//! cargo run --example resilience_stack
//! ```
//! Two endpoints: one answers, nobody listens at the other. No call fails, the dead one's circuit opens, and the
//! deadline that the client gives arrives with each attempt, less what was used.
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::{
    borrow::Cow,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Extensions;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_chassis::{
    BoxError, Carrier, Endpoint, Kind, Rejection, Verdict,
    balance::{Balance, MakeEndpoint, RoundRobin},
    breaker::{BreakerLayer, BreakerPolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    discover::{Discover, StaticDiscover},
    metrics::CallMetricsLayer,
    prometheus::Prometheus,
    retry::{RetryConfig, RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
    verdict::Outcome,
};

/// A question. On the wire: the milliseconds that it may take, and a text.
#[derive(Clone, Debug, Default)]
struct Ask {
    text: String,
    millis: String,
    extensions: Extensions,
}

// All that our layers want to know of a request.
impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        let known = name == "x-request-timeout-ms";
        if known {
            self.millis = value.into_owned();
        }
        known
    }
    fn operation(&self) -> Cow<'_, str> {
        Cow::Borrowed("ask")
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

/// An answer, which says itself how it went.
#[derive(Debug)]
enum Reply {
    Text(String),
    Failed,
}

impl Outcome for Reply {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Text(_) => Verdict::SUCCESS,
            Self::Failed => Verdict::FAILURE,
        }
    }
}

/// The endpoint at an address: a connection for each call.
#[derive(Clone)]
struct Connect(SocketAddr);

impl Service<Ask> for Connect {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let connected = TcpStream::connect(address).await;
            // Nothing was sent: any request may be tried elsewhere.
            let mut stream = connected
                .map_err(|error| Rejection::new(Kind::Unreachable, "connect").because(error))?;
            write(&mut stream, &format!("{} {}", ask.millis, ask.text)).await?;
            let answer = read(&mut stream).await?;
            Ok(match answer.strip_prefix("ok ") {
                Some(text) => Reply::Text(text.to_owned()),
                None => Reply::Failed,
            })
        })
    }
}

async fn write(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(text.as_bytes()).await
}

async fn read(stream: &mut TcpStream) -> io::Result<String> {
    let length = stream.read_u32().await?;
    let mut text = String::new();
    let read = stream.take(length.into()).read_to_string(&mut text).await?;
    match read == length as usize && length <= 64 * 1024 {
        true => Ok(text),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Answers each question with what it heard.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let heard = read(&mut stream).await?;
            write(&mut stream, &format!("ok you said: {heard}")).await
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let alive = TcpListener::bind("127.0.0.1:0").await?;
    let dead = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let discover = StaticDiscover::new();
    discover.set(
        "oracle",
        [
            Endpoint::new(&format!("http://{}", alive.local_addr()?))?.with_id("alive"),
            Endpoint::new(&format!("http://{dead}"))?.with_id("dead"),
        ],
    );
    tokio::spawn(serve(alive));

    let breaker = BreakerPolicy::default().with(|config| config.consecutive_failures = 3)?;
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::new(
        Duration::from_secs(2),
        Duration::from_secs(10),
    )?);
    // Again directly above the connection, where it tells this attempt's endpoint what is left.
    let told = deadline.clone().tell_only();
    let (balance, worker) = Balance::new(
        discover.watch("oracle"),
        move |made: &MakeEndpoint<'_>| {
            let address = made.endpoint().address().authority();
            let address = address.and_then(|authority| authority.as_str().parse().ok());
            let breaker = BreakerLayer::new(breaker.clone())
                .named(made.endpoint().id().clone())
                .gate(made.gate().clone());
            ServiceBuilder::new()
                .layer(breaker)
                .layer(told.clone())
                .service(Connect(address.unwrap_or_else(|| ([0, 0, 0, 0], 0).into())))
        },
        RoundRobin::default(),
    );
    worker.spawn();
    let endpoints = balance.handle();

    let prometheus = Prometheus::new();
    let metrics = CallMetricsLayer::new()
        .service("oracle")
        .recorder(prometheus.recorder());
    let retry = RetryLayer::new(RetryPolicy::try_from(RetryConfig {
        backoff_base: Duration::from_millis(1),
        ..Default::default()
    })?);
    let retries = retry.handle();
    let mut oracle = ServiceBuilder::new()
        .layer(metrics)
        .layer(deadline)
        .layer(retry.clone_body())
        .layer(TimeoutLayer::per_try(TimeoutPolicy::new(
            Duration::from_millis(500),
        )?))
        .service(balance);

    for call in 1..=20 {
        let ask = Ask {
            text: format!("question {call}"),
            ..Ask::default()
        };
        match oracle.ready().await?.call(ask).await? {
            Reply::Text(text) if call == 1 => println!("{text}"),
            Reply::Text(_) => {}
            Reply::Failed => println!("question {call} failed"),
        }
    }
    // What never left us is tried again for free, as long as that helps.
    let again = retries.retries() + retries.transparent();
    println!("20 questions, {again} tried again");
    for endpoint in endpoints.endpoints() {
        let (id, open) = (endpoint.endpoint.id(), endpoint.open);
        println!("{id}: gate open: {open}, {} attempts", endpoint.attempts);
    }
    for line in prometheus.render().lines() {
        if line.starts_with("chassis_call_duration_seconds_count") {
            println!("{line}");
        }
    }
    Ok(())
}
