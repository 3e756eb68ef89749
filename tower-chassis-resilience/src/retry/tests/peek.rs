//! A status that comes in the trailers.

use std::collections::VecDeque;

use http_body::Frame;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{Class, invocation::Idempotent, verdict::Outcome};

use super::*;

/// The body of an answer: frames as they come, then the end, or nothing more for ever.
#[derive(Default)]
struct Talk {
    frames: VecDeque<Result<Frame<Bytes>, &'static str>>,
    hangs: bool,
}

impl http_body::Body for Talk {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.frames.pop_front() {
            None if self.hangs => Poll::Pending,
            next => Poll::Ready(next),
        }
    }
}

fn message() -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from("message")))
}

fn trailers(words: &[(&'static str, &'static str)]) -> Result<Frame<Bytes>, &'static str> {
    let words = words
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    Ok(Frame::trailers(words.collect::<HeaderMap>()))
}

fn answer<const N: usize>(
    kind: &'static str,
    frames: [Result<Frame<Bytes>, &'static str>; N],
) -> Response<Talk> {
    let body = Talk {
        frames: frames.into(),
        hangs: false,
    };
    Response::builder()
        .header("content-type", kind)
        .body(body)
        .unwrap()
}

fn unary(idempotent: bool) -> Request<Empty<Bytes>> {
    let mut request = post(Empty::new());
    if idempotent {
        request.extensions_mut().insert(Idempotent);
    }
    request
}

const GRPC: &str = "application/grpc+proto";

/// How often a call is made, how long it takes, and what comes of it.
async fn run(
    request: Request<Empty<Bytes>>,
    script: impl Fn() -> Response<Talk> + Clone,
) -> (usize, Duration, Response<PeekBody<Talk>>) {
    let (made, start) = (AtomicUsize::new(0), Instant::now());
    let service = ServiceBuilder::new()
        .layer(layer().clone_body())
        .layer(PeekLayer::new())
        .service(service_fn(|_: Request<Empty<Bytes>>| {
            made.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, BoxError>(script()))
        }));
    let response = service.oneshot(request).await.unwrap();
    (made.into_inner(), start.elapsed(), response)
}

async fn frames_of(response: Response<PeekBody<Talk>>) -> Vec<String> {
    let mut body = std::pin::pin!(response.into_body());
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        seen.push(match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                Err(frame) => format!("{:?}", frame.into_trailers().unwrap()["grpc-status"]),
            },
            Err(error) => error.to_owned(),
        });
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_trailers_is_tried_again_if_no_message_came() {
    let unavailable = || answer(GRPC, [trailers(&[("grpc-status", "14")])]);
    let (made, _, response) = run(unary(true), unavailable).await;
    assert_eq!(made, 3);
    assert_eq!(response.verdict().grpc_code(), Some(14));
    assert_eq!(frames_of(response).await, ["\"14\""], "as they came");

    let after = || answer(GRPC, [message(), trailers(&[("grpc-status", "14")])]);
    let (made, _, response) = run(unary(true), after).await;
    assert_eq!((made, frames_of(response).await.len()), (1, 2));

    let other = || answer(GRPC, [trailers(&[("grpc-status", "5")])]);
    assert_eq!(run(unary(true), other).await.0, 1);
    let well = || answer(GRPC, [trailers(&[("grpc-status", "0")])]);
    let (made, _, response) = run(unary(true), well).await;
    assert_eq!((made, response.verdict().class()), (1, Class::Success));
}

#[tokio::test(start_paused = true)]
async fn a_pushback_in_the_trailers_is_heard() {
    let said = |value| {
        move || {
            let words = [("grpc-status", "14"), ("grpc-retry-pushback-ms", value)];
            answer(GRPC, [trailers(&words)])
        }
    };
    let (made, took, _) = run(unary(true), said("60")).await;
    assert_eq!((made, took), (3, ms(120)));
    assert_eq!(run(unary(true), said("-1")).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn what_ends_without_a_word_or_breaks() {
    // gRPC's UNKNOWN, which is not in the list.
    let (made, _, response) = run(unary(true), || answer(GRPC, [])).await;
    assert_eq!((made, response.verdict().grpc_code()), (1, Some(2)));
    assert!(http_body::Body::is_end_stream(response.body()));
    assert!(frames_of(response).await.is_empty());
    let no_status = || answer(GRPC, [trailers(&[("x", "y")])]);
    let (_, _, response) = run(unary(true), no_status).await;
    assert_eq!(response.verdict().grpc_code(), Some(2));
    let (made, _, response) = run(unary(true), || answer(GRPC, [Err("broke")])).await;
    assert_eq!((made, frames_of(response).await), (3, vec!["broke".into()]));
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_waited_for() {
    let hangs = |kind| {
        move || {
            let mut response = answer(kind, []);
            response.body_mut().hangs = true;
            response
        }
    };
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for (kind, idempotent, ready) in [
        (GRPC, true, false),
        (GRPC, false, true),
        ("application/json", true, true),
        ("application/grpc-web+proto", true, true),
    ] {
        let mut future = Box::pin(run(unary(idempotent), hangs(kind)));
        let is_ready = future.as_mut().poll(&mut cx).is_ready();
        assert_eq!(is_ready, ready, "{kind} {idempotent}");
    }
    // A head that says how it went.
    let said = || {
        let mut response = hangs(GRPC)();
        let zero = "0".parse().unwrap();
        response.headers_mut().insert("grpc-status", zero);
        response
    };
    assert_eq!(run(unary(true), said).await.0, 1);
    // Unless it is asked for.
    let mut every = PeekLayer::new().every().layer(service_fn(move |_| {
        std::future::ready(Ok::<_, BoxError>(hangs(GRPC)()))
    }));
    let mut future = Box::pin(every.call(unary(false)));
    assert!(future.as_mut().poll(&mut cx).is_pending());
}

#[test]
fn a_body_has_room_for_a_frame_and_says_its_length() {
    let body = PeekBody::after("first", "hello");
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(10));
    assert!(!http_body::Body::is_end_stream(&body));
}
