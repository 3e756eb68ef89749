//! Requests of HTTP with a body.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{ServiceExt, service_fn};
use tower_chassis_core::Body;

use super::*;
use crate::deadline::{DeadlineLayer, DeadlinePolicy};

/// What each attempt was sent; the first is not answered.
type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn put<B>(layer: HedgeLayer, body: B) -> (Result<StatusCode, BoxError>, Seen)
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug + Into<BoxError>> + Send + 'static,
{
    let seen = Seen::default();
    let attempts = Arc::new(AtomicUsize::new(0));
    let service = service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<Body>| {
            let (seen, attempts) = (Arc::clone(&seen), Arc::clone(&attempts));
            async move {
                let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                seen.lock().unwrap().push((head.headers, body));
                if attempt == 0 {
                    sleep(ms(1_000)).await;
                }
                let status = [StatusCode::OK, StatusCode::ACCEPTED][attempt.min(1)];
                Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
            }
        }
    });
    let service = layer.rewrap::<Body>().layer(service);
    let request = Request::put("/").header("x", "1").body(body).unwrap();
    let status = service
        .oneshot(request)
        .await
        .map(|response| response.status());
    (status, seen)
}

/// The next service is told whose retry it serves, whichever attempt it sees and whether it is hedged.
#[tokio::test(start_paused = true)]
async fn under_a_retry_of_the_caller_every_attempt_says_so() {
    for (hedges, method, told) in [
        (1, "GET", vec!["4"; 2]),
        (0, "GET", vec!["4"]),
        (1, "POST", vec!["4"]),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let service = service_fn(move |request: Request<Body>| {
            let told = request.headers().get("x-chassis-attempt").cloned();
            log.lock().unwrap().push(told.unwrap());
            async {
                sleep(ms(100)).await;
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        });
        let policy = after_20().with(|config| config.hedges = hedges).unwrap();
        let service = HedgeLayer::new(policy).rewrap::<Body>().layer(service);
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method.parse().unwrap();
        request.invocation_mut().set_caller_attempt(4);
        service.oneshot(request).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_tells_what_is_left_by_then() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Body>| {
        let told = request.headers()["x-request-timeout-ms"].clone();
        log.lock()
            .unwrap()
            .push(told.to_str().unwrap().parse::<u64>().unwrap());
        async {
            sleep(ms(1_000)).await;
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    let policy = HedgePolicy::after(ms(500)).unwrap();
    let service = HedgeLayer::new(policy).rewrap::<Body>().layer(service);
    let deadline = DeadlineLayer::propagate(DeadlinePolicy::default());
    deadline
        .layer(service)
        .oneshot(Request::new(Body::empty()))
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [14_995, 14_495]);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again() {
    let layer = HedgeLayer::new(after_20());
    let (status, seen) = put(layer, Full::from("all of it")).await;
    assert_eq!(status.unwrap(), StatusCode::ACCEPTED);
    let seen = seen.lock().unwrap();
    let bodies: Vec<_> = seen.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies, ["all of it", "all of it"]);
    assert!(!seen[0].0.contains_key("x-chassis-attempt"));
    assert_eq!(seen[1].0["x-chassis-attempt"], "2");
    assert_eq!(seen[1].0["x"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_sent_once() {
    let policy = after_20().with(|config| config.body_limit = 4).unwrap();
    let layer = HedgeLayer::new(policy);
    let handle = layer.handle();
    let (status, seen) = put(layer, Full::from("too long")).await;
    assert_eq!(status.unwrap(), StatusCode::OK);
    assert_eq!((seen.lock().unwrap().len(), handle.sent()), (1, 0));
}

/// A body that is still on its way cannot be sent twice; once it is there, it is.
#[tokio::test(start_paused = true)]
async fn an_upload_is_waited_for() {
    let body = Slow {
        waits: vec![ms(30); 2],
        sleep: None,
    };
    let layer = HedgeLayer::new(after_20());
    let handle = layer.handle();
    let begun = Instant::now();
    let (status, seen) = put(layer, body).await;
    assert_eq!(status.unwrap(), StatusCode::ACCEPTED);
    // Looked for after 20, 40 and 80 ms.
    assert_eq!(begun.elapsed(), ms(80));
    assert_eq!((seen.lock().unwrap()[1].1.len(), handle.sent()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_waited_for_without_a_delay_too() {
    let body = Slow {
        waits: vec![ms(30)],
        sleep: None,
    };
    let policy = after_20().with(|config| config.delay = Some(Duration::ZERO));
    let layer = HedgeLayer::new(policy.unwrap());
    let handle = layer.handle();
    let (status, seen) = put(layer, body).await;
    assert_eq!(status.unwrap(), StatusCode::ACCEPTED);
    assert_eq!((seen.lock().unwrap()[1].1.len(), handle.sent()), (1, 1));
}

/// A byte after each wait.
struct Slow {
    waits: Vec<Duration>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        if self.sleep.is_none() {
            let Some(wait) = self.waits.pop() else {
                return Poll::Ready(None);
            };
            self.sleep = Some(Box::pin(sleep(wait)));
        }
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = None;
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"x")))))
    }
}
