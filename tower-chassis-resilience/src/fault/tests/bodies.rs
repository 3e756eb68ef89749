//! Slow bodies and bodies that break.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, service_fn};
use tower_chassis_core::{
    Body, BoxError, Class, Verdict,
    testing::{Control, ControlledService, Marked, settle},
};

use super::{
    super::{ByCarrier, FaultBody, FaultHandle, FaultLayer, FaultRule, Http, InjectedFault},
    ALL, SECOND, fine, get, layer, send,
};

struct Rig {
    layer: FaultLayer<ByCarrier, Http>,
    inner: ControlledService,
    handle: FaultHandle,
    control: Control,
}

impl Rig {
    fn new(rule: FaultRule, frames: &[usize]) -> Self {
        let (layer, inner) = (layer(rule).http(), ControlledService::new());
        let control = inner.control();
        control.frames(frames.iter().map(|len| vec![b'x'; *len]));
        Self {
            handle: layer.handle(),
            layer,
            inner,
            control,
        }
    }

    async fn body(&self) -> FaultBody<Body> {
        let service = self.layer.layer(self.inner.clone());
        let response: Response<_> = send(&service, get("/")).await.unwrap();
        assert_eq!(response.headers()["x-chassis-fault"], "r");
        response.into_body()
    }

    fn is_at_rest(&self) -> bool {
        let counts = self.control.counts();
        (self.handle.active(), counts.in_flight, counts.bodies) == (0, 0, 0)
    }
}

/// Reads a body to its end: bytes and the time at which they came, and how it ended.
async fn read(body: FaultBody<Body>) -> (Vec<(usize, Duration)>, Result<bool, BoxError>) {
    let began = Instant::now();
    let mut body = std::pin::pin!(body);
    let (mut came, mut trailers) = (Vec::new(), false);
    loop {
        match body.frame().await {
            None => return (came, Ok(trailers)),
            Some(Err(error)) => return (came, Err(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => came.push((data.len(), began.elapsed())),
                Err(_) => trailers = true,
            },
        }
    }
}

fn sum(came: &[(usize, Duration)]) -> usize {
    came.iter().map(|(len, _)| len).sum()
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_delivers_each_byte_in_its_time() {
    for (frames, rate) in [
        (&[25][..], 10),
        (&[1, 2, 3, 4, 15], 10),
        (&[5_000, 3, 0, 2_000], 1_000),
        (&[1_000_000], 250_000),
    ] {
        let rig = Rig::new(FaultRule::new("r").throttle(ALL, rate), frames);
        rig.control.trailers(true);
        let (came, end) = read(rig.body().await).await;
        let all: usize = frames.iter().sum();
        assert_eq!((sum(&came), end.unwrap()), (all, true), "trailers pass");
        let mut through = 0;
        for (len, at) in came {
            through += len;
            let due = Duration::from_secs_f64(through as f64 / rate as f64);
            // tokio's timer is of a millisecond.
            assert!(
                at + Duration::from_millis(1) >= due,
                "{through} at {at:?}, not {due:?}"
            );
            assert!(
                at <= due + Duration::from_millis(2),
                "{through} at {at:?}, not {due:?}"
            );
            assert!(len as u64 <= rate.div_ceil(10).max(1));
        }
        assert!(rig.is_at_rest());
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_idle_has_saved_nothing_up() {
    let rig = Rig::new(FaultRule::new("r").throttle(ALL, 10), &[10, 10]);
    rig.control.hold_bodies(1);
    let body = rig.body().await;
    let control = rig.control.clone();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND * 60).await;
        control.release_bodies();
    });
    let (came, _) = read(body).await;
    assert_eq!(came[9].1, SECOND);
    assert_eq!(came[10].1, SECOND * 60 + SECOND / 10);
    assert_eq!(came[19].1, SECOND * 61);
}

#[tokio::test]
async fn a_body_breaks_after_its_bytes_whatever_was_announced() {
    for (frames, after, whole) in [
        (&[10, 10][..], 0, false),
        (&[10, 10], 5, false),
        (&[10, 10], 10, false),
        (&[10, 10], 15, false),
        (&[10, 10], 20, true),
        (&[10, 10], 21, true),
        (&[], 0, true),
    ] {
        let rig = Rig::new(FaultRule::new("r").truncate(ALL, after), frames);
        let (came, end) = read(rig.body().await).await;
        assert_eq!(
            sum(&came) as u64,
            (frames.iter().sum::<usize>() as u64).min(after)
        );
        match end {
            Ok(_) => assert!(whole, "{frames:?} {after}"),
            Err(error) => {
                assert!(!whole, "{frames:?} {after}");
                assert_eq!(InjectedFault::find(&*error).unwrap().rule(), "r");
                assert_eq!(Verdict::of_error(&error).class(), Class::Unreachable);
            }
        }
        assert!(rig.is_at_rest(), "{frames:?} {after}");
    }
    // The head announces what the service announced.
    let cut = layer(FaultRule::new("r").truncate(ALL, 5)).http();
    let body = send(&cut.layer(service_fn(fine)), get("/")).await;
    let mut body = body.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(10));
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, Bytes::from_static(b"01234"));
    assert_eq!(body.size_hint().exact(), Some(5));
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none() && body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn slow_and_cut_off_together() {
    let rig = Rig::new(
        FaultRule::new("r").throttle(ALL, 10).truncate(ALL, 15),
        &[10, 10],
    );
    let (came, end) = read(rig.body().await).await;
    assert_eq!((sum(&came), came.last().unwrap().1), (15, SECOND * 15 / 10));
    assert!(end.is_err() && rig.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn a_kill_lets_slow_bodies_pass_and_whole() {
    for restored in [false, true] {
        let rule = FaultRule::new("r").throttle(ALL, 1).truncate(ALL, 15);
        let rig = Rig::new(rule, &[10, 10]);
        let reads = tokio::spawn(read(rig.body().await));
        tokio::time::sleep(SECOND * 7 / 2).await;
        settle().await;
        assert_eq!(rig.handle.active(), 1);
        let began = Instant::now();
        rig.handle.kill();
        if restored {
            rig.handle.restore();
        }
        let (came, end) = reads.await.unwrap();
        assert_eq!((sum(&came), end.unwrap()), (20, false));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(rig.is_at_rest());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_by_itself_breaks_as_it_did() {
    let rig = Rig::new(FaultRule::new("r").throttle(ALL, 10), &[5, 5]);
    rig.control.break_bodies(1);
    let (came, end) = read(rig.body().await).await;
    assert_eq!(sum(&came), 5);
    assert!(Marked::find(&*end.unwrap_err()).is_some());
    assert!(rig.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_gives_its_place_back() {
    for polls in 0..6 {
        let rig = Rig::new(FaultRule::new("r").throttle(ALL, 10), &[10]);
        let mut body = Box::pin(rig.body().await);
        assert_eq!(rig.handle.active(), 1);
        for _ in 0..polls {
            assert!(
                tokio::time::timeout(SECOND / 20, body.frame())
                    .await
                    .is_err()
                    || polls > 1
            );
        }
        drop(body);
        assert!(rig.is_at_rest(), "{polls}");
    }
    // One without a body to slow down holds no place.
    let rig = Rig::new(FaultRule::new("r").throttle(ALL, 10), &[10]);
    let empty = service_fn(async |_| Ok::<_, BoxError>(Response::new(Body::empty())));
    let response = send(&rig.layer.layer(empty), get("/")).await.unwrap();
    assert!(response.body().is_end_stream() && rig.handle.active() == 0);
}
