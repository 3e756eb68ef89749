use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use tokio::time::Instant;
use tower_chassis_core::{Body, BoxError, Kind, Rejection};
use tower_layer::Layer;
use tower_service::Service;

use super::*;

mod bodies;
mod budget;
mod calls;
mod limits;
mod own;
mod peek;
mod rules;

type Answer = Result<Response<Body>, BoxError>;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn status(code: u16) -> Answer {
    Ok(Response::builder()
        .status(code)
        .body(Body::from("text"))
        .unwrap())
}

fn with_header(code: u16, name: &'static str, value: &str) -> Answer {
    Ok(Response::builder()
        .status(code)
        .header(name, value)
        .body(Body::empty())
        .unwrap())
}

fn reject(kind: Kind) -> Answer {
    Err(Rejection::new(kind, "x").into())
}

/// A budget of tokens alone: as many retries under way as may be.
fn tokens(ratio: f64, min_per_second: f64) -> BudgetPolicy {
    BudgetPolicy::try_from(BudgetConfig {
        ratio,
        min_per_second,
        min_in_flight: 1_000_000,
        ..BudgetConfig::default()
    })
    .unwrap()
}

fn policy(config: RetryConfig) -> RetryPolicy {
    RetryPolicy::try_from(config).unwrap()
}

/// Three attempts, chance seeded, and as many retries as a test may want.
fn layer() -> RetryLayer {
    RetryLayer::new(policy(RetryConfig {
        budget_min_per_second: 1e6,
        ..RetryConfig::default()
    }))
    .seed(7)
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("/").body(Empty::new()).unwrap()
}

/// What one attempt looked like from below.
#[derive(Debug)]
struct Seen {
    at: Instant,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

/// How an upstream treats the body of a request.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    All,
    OneFrame,
    Nothing,
    /// In a task of its own, which goes on after the answer.
    Beside,
}

/// Answers attempt after attempt by a script, reads the body first, and panics when it is called unready.
struct Upstream {
    script: Arc<dyn Fn(usize) -> Answer + Send + Sync>,
    seen: Arc<Mutex<Vec<Seen>>>,
    clones: Arc<AtomicUsize>,
    reads: Reads,
    ready: bool,
}

impl Upstream {
    fn new(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        Self {
            script,
            seen: Arc::default(),
            clones: Arc::default(),
            reads: Reads::All,
            ready: false,
        }
    }

    fn always(code: u16) -> Self {
        Self::new(move |_| status(code))
    }

    fn reading(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn bodies(&self) -> Vec<Bytes> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.body.clone())
            .collect()
    }

    /// The waits between attempts.
    fn gaps(&self) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.windows(2)
            .map(|pair| pair[1].at - pair[0].at)
            .collect()
    }
}

impl Clone for Upstream {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            script: Arc::clone(&self.script),
            seen: Arc::clone(&self.seen),
            clones: Arc::clone(&self.clones),
            reads: self.reads,
            ready: false,
        }
    }
}

impl<B> Service<Request<B>> for Upstream
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Debug + Send,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(mem::take(&mut self.ready), "called unready");
        let (script, seen, reads) = (Arc::clone(&self.script), Arc::clone(&self.seen), self.reads);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut body = Box::pin(body);
            let at = Instant::now();
            let (mut read, mut trailers) = (Vec::new(), None);
            match reads {
                Reads::All => {
                    while let Some(Ok(frame)) = body.frame().await {
                        match frame.into_data() {
                            Ok(data) => read.extend_from_slice(&data),
                            Err(frame) => trailers = frame.into_trailers().ok(),
                        }
                    }
                }
                Reads::OneFrame => {
                    if let Some(Ok(frame)) = body.frame().await {
                        read.extend_from_slice(frame.data_ref().unwrap());
                    }
                }
                Reads::Nothing => {}
                Reads::Beside => {
                    tokio::spawn(async move { while body.frame().await.is_some() {} });
                    tokio::task::yield_now().await;
                }
            }
            let number = {
                let mut seen = seen.lock().unwrap();
                seen.push(Seen {
                    at,
                    headers: head.headers,
                    body: read.into(),
                    trailers,
                });
                seen.len()
            };
            script(number)
        })
    }
}

/// Makes a call through `layer`, as `oneshot` does.
async fn send<R, C, B>(layer: &RetryLayer<R, C>, upstream: &Upstream, request: Request<B>) -> Answer
where
    RetryLayer<R, C>: Layer<Upstream>,
    <RetryLayer<R, C> as Layer<Upstream>>::Service:
        Service<Request<B>, Response = Response<Body>, Error = BoxError>,
{
    let mut service = layer.layer(upstream.clone());
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// A body of these frames, of unknown length unless `exact`, which waits before each frame after the first.
struct Frames {
    frames: std::collections::VecDeque<Result<http_body::Frame<Bytes>, &'static str>>,
    exact: Option<u64>,
    pause: Option<Duration>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

fn frames<const N: usize>(frames: [&'static str; N]) -> Frames {
    let frames = frames
        .into_iter()
        .map(|frame| Ok(http_body::Frame::data(Bytes::from(frame))))
        .collect();
    Frames {
        frames,
        exact: None,
        pause: None,
        sleep: None,
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = self.pause.map(|pause| Box::pin(tokio::time::sleep(pause)));
        Poll::Ready(self.frames.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.exact.is_some() && self.frames.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.exact
            .map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
    }
}

fn post<B>(body: B) -> Request<B> {
    Request::post("/").body(body).unwrap()
}

fn put<B>(body: B) -> Request<B> {
    Request::put("/").body(body).unwrap()
}
