//! Streams: those that stall, and those that do not end.

use std::{collections::VecDeque, convert::Infallible, task::Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{Sleep, advance, sleep};
use tower_chassis_core::{
    Carrier, Respond, events::Received, invocation::Upload, settle::UntilEnd, verdict::Auto,
};

use super::{super::body::Limit, *};

/// A frame for each pause, after it.
struct Stream {
    pauses: VecDeque<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    fn new(pauses: impl IntoIterator<Item = u64>) -> Self {
        Self {
            pauses: pauses.into_iter().collect(),
            sleep: None,
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(pause) = self.pauses.front().copied() else {
            return Poll::Ready(None);
        };
        if pause > 0 {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(ms(pause))));
            ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = None;
        self.pauses.pop_front();
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"frame")))))
    }
}

const NEVER: u64 = 1_000_000_000;

fn stream(pauses: impl IntoIterator<Item = u64>) -> Response<Stream> {
    Response::new(Stream::new(pauses))
}

/// How many frames came, what ended the body, and when.
async fn read<B>(body: B) -> (usize, Option<BoxError>, Duration)
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    let began = Instant::now();
    let (mut body, mut frames) = (std::pin::pin!(body), 0);
    let error = loop {
        match body.frame().await {
            Some(Ok(_)) => frames += 1,
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    let took = began.elapsed();
    if error.is_some() {
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none(), "it has ended");
    }
    (frames, error, took)
}

fn is_timeout(error: &BoxError) -> bool {
    Rejection::find(&**error).is_some_and(|rejection| {
        (rejection.kind(), rejection.layer()) == (Kind::Timeout, "timeout")
    })
}

/// As tokio's timer rounds up.
fn about(took: Duration, expected: u64) {
    assert!(
        ms(expected) <= took && took <= ms(expected + 3),
        "{took:?}, not {expected}"
    );
}

async fn idle(after: u64, pauses: Vec<u64>) -> Response<TimedBody<Stream>> {
    let service = IdleLayer::new(policy(after));
    let service = service.layer(service_fn(async |pauses: Request<Vec<u64>>| {
        Ok::<_, Infallible>(stream(pauses.into_body()))
    }));
    service.oneshot(Request::new(pauses)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_frame_begins_the_idle_time_anew() {
    let (frames, error, took) = read(idle(100, vec![0, 60, 90, 0, 0, 99]).await.into_body()).await;
    assert_eq!((frames, error.map(|error| error.to_string())), (6, None));
    about(took, 249);
    let (frames, error, took) = read(idle(100, vec![50, 60, 110, 0]).await.into_body()).await;
    assert_eq!((frames, is_timeout(&error.unwrap())), (2, true));
    about(took, 210);
}

/// For as long as nobody asks for a frame, it is not the service that stalls.
#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_reads_is_not_idle() {
    let mut body = idle(100, vec![0, 50, 50, NEVER]).await.into_body();
    for _ in 0..3 {
        advance(ms(500)).await;
        assert!(body.frame().await.unwrap().is_ok());
    }
    advance(ms(500)).await;
    let (frames, error, took) = read(body).await;
    assert_eq!((frames, is_timeout(&error.unwrap())), (0, true));
    about(took, 100);
}

#[test]
fn a_body_that_is_there_arms_no_timer() {
    // There is no runtime here: arming a timer would panic.
    let mut cx = Context::from_waker(Waker::noop());
    for limit in [
        Limit::Idle {
            after: ms(100),
            due: None,
            upload: None,
            seen: 0,
        },
        Limit::End(Instant::now() + ms(100_000)),
    ] {
        let body = Stream::new([0, 0]);
        let mut body = std::pin::pin!(TimedBody::new(body, limit, Verdict::TIMEOUT, Report(None)));
        for _ in 0..2 {
            assert!(matches!(
                body.as_mut().poll_frame(&mut cx),
                Poll::Ready(Some(Ok(_)))
            ));
        }
        assert!(matches!(
            body.as_mut().poll_frame(&mut cx),
            Poll::Ready(None)
        ));
    }
}

/// A stream of which the other half goes on is not idle.
#[tokio::test(start_paused = true)]
async fn what_is_uploaded_counts_as_movement() {
    let (upload, later): (Upload, _) = {
        let mut request = Request::new(());
        let upload = request.invocation_mut().upload();
        (upload, request)
    };
    let layer = IdleLayer::new(policy(100));
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(stream([10, NEVER]))
    }));
    // Before the wait: that does not count.
    upload.set_received();
    let body = service.oneshot(later).await.unwrap().into_body();
    let uploads = tokio::spawn(async move {
        for _ in 0..8 {
            sleep(ms(50)).await;
            upload.set_received();
        }
    });
    let (frames, error, took) = read(body).await;
    assert_eq!((frames, is_timeout(&error.unwrap())), (1, true));
    // The last frame came at 400: it is seen when the time was up at 410, and once more it has that long.
    about(took, 510);
    uploads.await.unwrap();
}

/// Two layers look at the same upload, and neither takes it from the other.
#[tokio::test(start_paused = true)]
async fn what_is_uploaded_counts_for_each_layer() {
    for (inner, outer) in [(100, 200), (200, 100), (100, 100)] {
        let mut request = Request::new(());
        let upload = request.invocation_mut().upload();
        let service = IdleLayer::new(policy(outer)).layer(IdleLayer::new(policy(inner)).layer(
            service_fn(async |_: Request<()>| Ok::<_, Infallible>(stream([10, NEVER]))),
        ));
        let body = service.oneshot(request).await.unwrap().into_body();
        let uploads = tokio::spawn(async move {
            for _ in 0..20 {
                sleep(ms(95)).await;
                upload.set_received();
            }
        });
        let (_, error, took) = read(body).await;
        assert!(is_timeout(&error.unwrap()));
        assert!(took > ms(1_900), "{inner} {outer} {took:?}");
        uploads.await.unwrap();
    }
}

/// What is inside is gone before the error is seen, and its guards know why.
#[tokio::test(start_paused = true)]
async fn the_guards_below_are_told_and_the_events_too() {
    let events = Events::new();
    let mut heard = events.subscribe(8);
    let inner = || async |_: Request<()>| Ok::<_, BoxError>(stream([10, NEVER]));
    let below = Below::default();
    let guarded = || Observed::new(service_fn(inner()), below.clone(), UntilEnd::new(Auto));
    let refused = Received::Event(Event::refused("timeout", Kind::Timeout));

    let idle = IdleLayer::new(policy(100))
        .events(events.clone())
        .layer(guarded());
    let body = idle.oneshot(Request::new(())).await.unwrap().into_body();
    let (frames, error, _) = read(body).await;
    assert_eq!((frames, is_timeout(&error.unwrap())), (1, true));
    assert_eq!(*below.0.lock().unwrap(), [Class::Timeout]);
    assert_eq!(heard.try_recv(), Ok(refused.clone()));

    for (layer, class) in [
        (TimeoutLayer::per_try(policy(100)), Class::Timeout),
        (TimeoutLayer::total(policy(100)), Class::Cancelled),
    ] {
        let service = layer.events(events.clone()).until_end().layer(guarded());
        let body = service.oneshot(Request::new(())).await.unwrap().into_body();
        let (frames, error, took) = read(body).await;
        assert_eq!((frames, is_timeout(&error.unwrap())), (1, true));
        about(took, 100);
        assert_eq!(below.0.lock().unwrap().pop(), Some(class));
        assert_eq!(heard.try_recv(), Ok(refused.clone()));
    }
    assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(start_paused = true)]
async fn until_end_counts_from_the_call_to_the_end_of_the_body() {
    let layer = TimeoutLayer::total(policy(100)).until_end();
    let service = layer.layer(service_fn(async |pauses: Vec<u64>| {
        sleep(ms(40)).await;
        Ok::<_, BoxError>(stream(pauses))
    }));
    let body = service
        .clone()
        .oneshot(vec![20, 30, 5])
        .await
        .unwrap()
        .into_body();
    let (frames, error, took) = read(body).await;
    assert_eq!((frames, error.is_none()), (3, true));
    about(took, 55);
    let body = service
        .clone()
        .oneshot(vec![20, 30, 15, 0])
        .await
        .unwrap()
        .into_body();
    let (frames, error, took) = read(body).await;
    assert_eq!((frames, is_timeout(&error.unwrap())), (2, true));
    about(took, 60);
    // One that nobody took in time, and one that never pends.
    let body = service.clone().oneshot(vec![0]).await.unwrap().into_body();
    advance(ms(70)).await;
    assert_eq!(read(body).await.0, 0);
    let mut endless = service.oneshot(vec![0; 10_000]).await.unwrap().into_body();
    for _ in 0..5_000 {
        assert!(endless.frame().await.unwrap().is_ok());
    }
    advance(ms(60)).await;
    assert!(is_timeout(&endless.frame().await.unwrap().unwrap_err()));
}

/// The head came late: answered, or failed, as without the body.
#[tokio::test(start_paused = true)]
async fn until_end_bounds_the_head_too() {
    let late = async |_: Request<()>| {
        sleep(ms(200)).await;
        Ok::<_, Infallible>(stream([]))
    };
    let layer = TimeoutLayer::total(policy(100)).until_end();
    let error = layer
        .layer(service_fn(late))
        .oneshot(Request::new(()))
        .await;
    assert!(is_timeout(&error.map(drop).unwrap_err()));
    let answers: TimeoutLayer<_, Respond, _> = layer.respond();
    let response = answers
        .layer(service_fn(late))
        .oneshot(Request::new(()))
        .await;
    assert_eq!(
        response.unwrap().status(),
        http::StatusCode::GATEWAY_TIMEOUT
    );
}

#[tokio::test(start_paused = true)]
async fn time_for_the_upload_is_time_for_the_end_as_well() {
    let layer = TimeoutLayer::per_try(policy(100))
        .until_end()
        .not_while_uploading();
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let upload = request.invocation().unwrap().upload();
        upload.set_waiting(true);
        sleep(ms(150)).await;
        upload.set_waiting(false);
        Ok::<_, BoxError>(stream([20, NEVER]))
    }));
    let mut request = Request::new(());
    request.invocation_mut();
    let began = Instant::now();
    let body = service.oneshot(request).await.unwrap().into_body();
    assert_eq!(read(body).await.0, 1);
    about(began.elapsed(), 200);
}

#[tokio::test(start_paused = true)]
async fn trailers_and_a_known_length_pass_unharmed() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let made = trailers.clone();
    let service = IdleLayer::default().layer(service_fn(move |_: Request<()>| {
        let body = http_body_util::Full::new(Bytes::from_static(b"hello"));
        let trailers = std::future::ready(Some(Ok(made.clone())));
        std::future::ready(Ok::<_, Infallible>(Response::new(
            body.with_trailers(trailers),
        )))
    }));
    let body = service.oneshot(Request::new(())).await.unwrap().into_body();
    let read = body.collect().await.unwrap();
    assert_eq!(read.trailers(), Some(&trailers));
    assert_eq!(read.to_bytes(), "hello");

    let full = http_body_util::Full::new(Bytes::from_static(b"hello"));
    let limit = Limit::End(Instant::now() + ms(5));
    let body = TimedBody::new(full, limit, Verdict::TIMEOUT, Report(None));
    assert_eq!(body.size_hint().exact(), Some(5));
    let empty = http_body_util::Empty::<Bytes>::new();
    let over = Limit::End(Instant::now());
    let body = TimedBody::new(empty, over, Verdict::TIMEOUT, Report(None));
    assert!(body.is_end_stream());
    assert_eq!(body.collect().await.unwrap().to_bytes(), "");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_for_bodies_that_begin_after_it() {
    let layer = IdleLayer::new(policy(100));
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(stream([NEVER]))
    }));
    let old = service.clone().oneshot(Request::new(())).await.unwrap();
    layer.handle().config().set(policy(300)).unwrap();
    let new = service.oneshot(Request::new(())).await.unwrap();
    about(read(old.into_body()).await.2, 100);
    about(read(new.into_body()).await.2, 300);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the stream and its reader do: it is ended at the first pause that is too long, and at no other.
    #[test]
    fn an_idle_stream_ends_where_a_list_of_pauses_says(
        pauses in prop::collection::vec(
            prop_oneof![3 => Just(0), 6 => 1_u64..=97, 1 => 104_u64..400], 0..30,
        ),
        // How long the reader does something else before it asks again.
        breaks in prop::collection::vec(prop_oneof![3 => Just(0), 1 => 1_u64..500], 31),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut body = idle(100, pauses.clone()).await.into_body();
            let mut expected = pauses.iter();
            for elsewhere in &breaks {
                advance(ms(*elsewhere)).await;
                let asked = Instant::now();
                match (body.frame().await, expected.next()) {
                    (Some(Ok(_)), Some(pause)) if *pause <= 97 => about(asked.elapsed(), *pause),
                    (Some(Err(error)), Some(pause)) if *pause > 100 && is_timeout(&error) => {
                        about(asked.elapsed(), 100);
                        return;
                    }
                    (None, None) => return,
                    (frame, pause) => panic!("{frame:?} after {pause:?}"),
                }
            }
        });
    }
}
