//! A service that ends as the last part of its path says.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Pending, pending},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryFutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tonic::server::NamedService;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError, RescueLayer,
    boxed::BoxFuture,
    timeout::{TimeoutLayer, TimeoutPolicy},
};

/// The service; it says when a call has come to it.
#[derive(Clone)]
pub(crate) struct App(pub(crate) watch::Sender<u32>);

impl<B> Service<Request<B>> for App
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.send_modify(|calls| *calls += 1);
        let rescued = RescueLayer::new().layer(service_fn(boxed));
        let call = rescued.oneshot(request.map(Body::new));
        Box::pin(call.map_ok(|answer| answer.map(Body::new)))
    }
}

impl NamedService for App {
    const NAME: &'static str = "ends.Ends";
}

/// What is between the observers and everything that could help them.
pub(crate) fn outside<B>(request: Request<B>) -> Request<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    assert!(
        !request.uri().path().ends_with("/panics-outside"),
        "planted"
    );
    request.map(Body::new)
}

/// Its error has a name that rustc can prove.
fn boxed(request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
    Box::pin(answer(request))
}

async fn answer(mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path().to_owned();
    let (_, end) = path.rsplit_once('/').unwrap_or_default();
    let status = |status: u16, body: Body| Ok(Response::builder().status(status).body(body)?);
    let frames = |last| Ok(Response::new(Body::new(Frames::then(last))));
    match end {
        "plain" => status(200, "hello".into()),
        "missing" => status(404, "no".into()),
        "broken" => status(500, "oh".into()),
        "same" => status(304, Body::empty()),
        "same-with-body" => status(304, "hello".into()),
        "none" => status(204, Body::empty()),
        "echo" => {
            let body = request.into_body().collect().await?.to_bytes();
            status(200, Body::full(body))
        }
        "streams" => frames(Last::End),
        "tells-its-length" => {
            let mut answer = frames(Last::End)?;
            answer
                .headers_mut()
                .insert(header::CONTENT_LENGTH, 4.into());
            Ok(answer)
        }
        "knows-its-length" => Ok(Response::new(Body::new(Known(Frames::then(Last::End))))),
        "breaks" => frames(Last::Breaks),
        "stalls" => frames(Last::Stalls),
        "panics-in-body" => frames(Last::Panics),
        "panics" => panic!("planted"),
        "waits" => pending().await,
        "fails" => Err("planted".into()),
        "late" => late(request).await,
        "switches" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgraded.await.unwrap());
                let (mut read, mut write) = tokio::io::split(&mut io);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            let answer = Response::builder().status(101);
            let answer = answer.header(header::CONNECTION, "upgrade");
            Ok(answer.header(header::UPGRADE, "echo").body(Body::empty())?)
        }
        "Ok" => grpc(Last::Trailers(0)),
        "NotFound" => grpc(Last::Trailers(5)),
        "Unavailable" => grpc(Last::Trailers(14)),
        "Silent" => grpc(Last::End),
        "Breaks" => grpc(Last::Breaks),
        "Stalls" => grpc(Last::Stalls),
        "Waits" => pending().await,
        "Late" => late(request).await,
        "Refuses" => {
            let mut answer = grpc(Last::End)?;
            answer.headers_mut().insert("grpc-status", 14.into());
            Ok(answer.map(|_| Body::empty()))
        }
        other => panic!("no such end: {other}"),
    }
}

/// A layer of ours gives up.
fn late(request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
    let policy = TimeoutPolicy::new(Duration::from_millis(5)).unwrap();
    let mut service = TimeoutLayer::per_try(policy).layer(service_fn(never));
    Box::pin(service.call(request))
}

fn never(_: Request<Body>) -> Pending<Result<Response<Body>, BoxError>> {
    pending()
}

fn grpc(last: Last) -> Result<Response<Body>, BoxError> {
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
    Ok(answer.body(Body::new(Frames::then(last)))?)
}

/// Two frames, and how they end.
struct Frames {
    frames: VecDeque<Bytes>,
    last: Last,
}

enum Last {
    End,
    Breaks,
    Stalls,
    Panics,
    Trailers(u16),
}

impl Frames {
    fn then(last: Last) -> Self {
        let frames = ["ab", "cd"].map(Bytes::from).into();
        Self { frames, last }
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match std::mem::replace(&mut self.last, Last::End) {
            Last::End => Poll::Ready(None),
            Last::Breaks => Poll::Ready(Some(Err("planted".into()))),
            Last::Panics => panic!("planted"),
            Last::Stalls => {
                self.last = Last::Stalls;
                Poll::Pending
            }
            Last::Trailers(code) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from(code));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }
}

/// Knows how much is left, and does not say when that is nothing.
struct Known(Frames);

impl http_body::Body for Known {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.frames.iter().map(Bytes::len).sum::<usize>();
        SizeHint::with_exact(left as u64)
    }
}
