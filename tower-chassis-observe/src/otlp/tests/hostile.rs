//! Collectors that mean ill, and applications that are not careful.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task,
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use metrics::Label;
use opentelemetry::{
    KeyValue,
    trace::{Span as _, Tracer, TracerProvider},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tonic::{Code, Status};
use tower::service_fn;
use tower_chassis_core::{Body, BoxError};

use super::{
    super::{Otlp, Protocol},
    SECOND,
    collector::{Collector, Mode},
    policy, put, snapshot, told,
};
use crate::registry::Registry;

const MINUTE: Duration = Duration::from_secs(60);

/// `google.rpc.Status` with a `RetryInfo` of so many seconds.
fn come_again_in(seconds: u64) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length], bytes].concat()
    };
    let mut varint = vec![0x08];
    let mut left = seconds;
    while left >= 0x80 {
        varint.push(left as u8 | 0x80);
        left >>= 7;
    }
    varint.push(left as u8);
    let url = field(1, b"type.googleapis.com/google.rpc.RetryInfo");
    let value = field(2, &field(1, &varint));
    field(3, &[url, value].concat())
}

#[tokio::test(start_paused = true)]
async fn who_says_never_is_not_waited_for() {
    for (protocol, wait) in [
        (Protocol::HttpProtobuf, u64::MAX),
        (Protocol::Grpc, u64::MAX),
        // As a signed number it is -1.
        (Protocol::Grpc, u64::MAX - 1),
        (Protocol::Grpc, 1 << 40),
    ] {
        let never = service_fn(move |_: Request<Body>| {
            std::future::ready(match protocol {
                Protocol::HttpProtobuf => Response::builder()
                    .status(503)
                    .header("retry-after", wait)
                    .body(Body::empty())
                    .map_err(BoxError::from),
                Protocol::Grpc => {
                    let details = come_again_in(wait).into();
                    Ok(Status::with_details(Code::Unavailable, "", details).into_http())
                }
            })
        });
        let to = policy(|config| config.protocol = protocol);
        let (otlp, worker) = Otlp::with_client(to, never);
        tokio::spawn(worker);
        let begun = Instant::now();
        for _ in 0..2 {
            put(&otlp, 0..10);
            let fault = otlp.flush(MINUTE).await.unwrap_err();
            assert_eq!((fault.lost(), fault.is_gone()), (10, false), "{wait}");
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_may_say_for_ever() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    put(&otlp, 0..10);
    otlp.flush(Duration::MAX).await.unwrap();
    otlp.shutdown(Duration::MAX).await.unwrap();
    assert_eq!(otlp.span_tally().sent, 10);

    let registry = Arc::new(Registry::new());
    let reports = registry.report_every(Duration::MAX, |_: &_| ());
    let reports = tokio::time::timeout(MINUTE, reports).await;
    assert!(reports.is_err());
}

/// Application spans of about a megabyte each.
fn large(otlp: &Otlp, spans: usize, bytes: usize) {
    let tracer = otlp.provider().tracer("shop");
    for _ in 0..spans {
        let mut span = tracer.start("large");
        span.set_attribute(KeyValue::new("text", "x".repeat(bytes)));
        span.end();
    }
}

#[tokio::test(start_paused = true)]
async fn no_message_is_larger_than_what_is_taken() {
    // Tonic takes 4 MiB, as all servers of gRPC do unless they are told.
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    large(&otlp, 10, 1 << 20);
    put(&otlp, 0..10);
    otlp.flush(MINUTE).await.unwrap();
    let (spans, batches) = collector.with(|got| (got.spans.len(), got.batches.clone()));
    assert_eq!((spans, otlp.span_tally().sent), (20, 20));
    assert!((3..=8).contains(&batches.len()), "{batches:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_parted_is_sent_as_it_is() {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let takes = service_fn(move |request: Request<Body>| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            seen.fetch_max(body.len(), Relaxed);
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    let http = policy(|config| config.protocol = Protocol::HttpProtobuf);
    let (otlp, worker) = Otlp::with_client(http, takes);
    tokio::spawn(worker);
    large(&otlp, 1, 5 << 20);
    large(&otlp, 4, 1000);
    otlp.flush(MINUTE).await.unwrap();
    assert_eq!(otlp.span_tally().sent, 5);
    assert!(largest.load(Relaxed) > 5 << 20);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_a_collector_goes_in_parts() {
    let requests = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&requests);
    // A proxy that takes little.
    let narrow = service_fn(move |request: Request<Body>| {
        let asked = Arc::clone(&asked);
        async move {
            asked.fetch_add(1, Relaxed);
            let body = request.into_body().collect().await?.to_bytes();
            let status = if body.len() > 5_000 { 413 } else { 200 };
            let response = Response::builder().status(status);
            Ok::<_, BoxError>(response.header("retry-after", "1").body(Body::empty())?)
        }
    });
    let http = policy(|config| config.protocol = Protocol::HttpProtobuf);
    let (otlp, worker) = Otlp::with_client(http, narrow);
    tokio::spawn(worker);
    large(&otlp, 16, 1_000);
    let begun = Instant::now();
    otlp.flush(MINUTE).await.unwrap();
    assert_eq!(
        (otlp.span_tally().sent, begun.elapsed()),
        (16, Duration::ZERO)
    );
    assert!(requests.load(Relaxed) <= 15, "{requests:?}");
    // One that is too large alone is lost, and only that one.
    large(&otlp, 1, 6_000);
    large(&otlp, 3, 10);
    let fault = otlp.flush(MINUTE).await.unwrap_err();
    assert_eq!((fault.lost(), otlp.span_tally().sent), (1, 19));
}

#[tokio::test(start_paused = true)]
async fn a_page_for_people_is_no_collector() {
    let login = service_fn(async |_: Request<Body>| {
        let page = Response::builder().header("content-type", "text/html; charset=utf-8");
        Ok::<_, BoxError>(page.body(Body::from("<html>Log in"))?)
    });
    let http = policy(|config| config.protocol = Protocol::HttpProtobuf);
    let (otlp, worker) = Otlp::with_client(http, login);
    tokio::spawn(worker);
    put(&otlp, 0..10);
    let fault = otlp.flush(MINUTE).await.unwrap_err();
    assert_eq!((fault.lost(), otlp.span_tally().sent), (10, 0));
    let misfits = otlp.check().await;
    assert_eq!(misfits.len(), 2);
    assert!(misfits[0].to_string().contains("HTML"), "{}", misfits[0]);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_once_among_attributes() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    otlp.metrics(|| {
        let mut snapshot = snapshot();
        let label = Label::from_static_parts;
        snapshot.families[1].series[0].labels = [
            label("http_route", "/a"),
            label("name", "x"),
            label("http.route", "/b"),
            label("name", "y"),
        ]
        .into();
        snapshot
    });
    otlp.flush(MINUTE).await.unwrap();
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let gauge = collector.with(|got| got.metrics[1].clone());
    let Some(Data::Gauge(gauge)) = gauge.data else {
        unreachable!("a gauge")
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        told(&gauge.data_points[0].attributes),
        [pair("http.route", "/b"), pair("name", "y")]
    );
}

#[tokio::test(start_paused = true)]
async fn any_number_may_shut_down() {
    for _ in 0..20 {
        let collector = Collector::default();
        let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
        otlp.metrics(snapshot);
        put(&otlp, 0..1_000);
        let worker = tokio::spawn(worker);
        // Early ones are dropped at their first poll.
        {
            let early = pin!(otlp.shutdown(MINUTE));
            let mut cx = task::Context::from_waker(task::Waker::noop());
            assert!(early.poll(&mut cx).is_pending());
        }
        let other = otlp.clone();
        let others = tokio::spawn(async move { other.shutdown(MINUTE).await });
        let (first, second) = tokio::join!(otlp.shutdown(MINUTE), otlp.shutdown(MINUTE));
        assert_eq!(
            (first, second, others.await.unwrap()),
            (Ok(()), Ok(()), Ok(()))
        );
        worker.await.unwrap();
        assert_eq!(otlp.shutdown(MINUTE).await, Ok(()));
        assert_eq!(collector.with(|got| got.spans.len()), 1_000);
        assert!(otlp.flush(MINUTE).await.unwrap_err().is_gone());
    }
}

#[tokio::test(start_paused = true)]
async fn however_many_shut_down_a_dead_collector_costs_its_time_once() {
    let collector = Collector::new(Mode::Hang);
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    otlp.metrics(snapshot);
    put(&otlp, 0..2_000);
    tokio::spawn(worker);
    let begun = Instant::now();
    let all = (0..40).map(|_| {
        let otlp = otlp.clone();
        tokio::spawn(async move { otlp.shutdown(3 * SECOND).await })
    });
    for each in all.collect::<Vec<_>>() {
        each.await.unwrap().unwrap_err();
    }
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    assert_eq!((otlp.span_tally().sent, otlp.span_tally().lost), (0, 2_000));
    let again = otlp.shutdown(3 * SECOND).await.unwrap_err();
    assert!(again.is_gone() && begun.elapsed() < 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn who_exits_without_a_shutdown_is_told() {
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
    #[derive(Clone, Default)]
    struct Lines(super::Shared<Vec<String>>);
    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            if event.metadata().target() == "tower_chassis::otlp" {
                self.0.lock().unwrap().push(format!("{event:?}"));
            }
        }
    }
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    let _in_force = tracing::subscriber::set_default(subscriber);
    let said = || std::mem::take(&mut *lines.0.lock().unwrap());

    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    put(&otlp, 0..10);
    drop(worker);
    let lines_said = said();
    assert_eq!(lines_said.len(), 1, "{lines_said:?}");
    assert!(lines_said[0].contains("lost: 10"), "{lines_said:?}");
    assert!(otlp.shutdown(SECOND).await.unwrap_err().is_gone());

    // Nothing is said of one that was told, and of one that has nothing to send.
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    let worker = tokio::spawn(worker);
    otlp.shutdown(SECOND).await.unwrap();
    worker.await.unwrap();
    let off = policy(|config| config.disabled = true);
    drop(Otlp::with_client(off, collector.client()));
    assert_eq!(said(), [""; 0]);
}

/// A way to a collector whose connections freeze: nothing goes on, and nobody closes them.
async fn freezing(to: std::net::SocketAddr) -> (std::net::SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let frozen = Arc::new(AtomicBool::new(false));
    let freeze = Arc::clone(&frozen);
    tokio::spawn(async move {
        loop {
            let (mut here, _) = listener.accept().await.unwrap();
            let mut there = TcpStream::connect(to).await.unwrap();
            let old = Arc::clone(&freeze);
            // Each connection works until the next freeze.
            old.store(false, Relaxed);
            tokio::spawn(async move {
                let relay = pin!(tokio::io::copy_bidirectional(&mut here, &mut there));
                let mut relay = relay;
                std::future::poll_fn(|cx| {
                    if old.load(Relaxed) {
                        return task::Poll::Ready(());
                    }
                    relay.as_mut().poll(cx).map(|_| ())
                })
                .await;
                // Open, and silent.
                std::future::pending::<()>().await;
            });
        }
    });
    (address, frozen)
}

#[tokio::test]
async fn a_connection_that_leads_nowhere_is_left() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = Collector::default();
        let to = match protocol {
            Protocol::Grpc => collector.grpc().await,
            Protocol::HttpProtobuf => collector.http().await,
        };
        let (address, frozen) = freezing(to).await;
        let (otlp, worker) = Otlp::new(policy(|config| {
            config.endpoint = Some(format!("http://{address}"));
            config.protocol = protocol;
            config.timeout = SECOND / 2;
            config.metrics.disabled = true;
        }));
        tokio::spawn(worker);
        put(&otlp, 0..10);
        otlp.flush(60 * SECOND).await.unwrap();
        frozen.store(true, Relaxed);
        put(&otlp, 10..20);
        assert_eq!(otlp.flush(60 * SECOND).await.unwrap_err().lost(), 10);
        for n in 2..5 {
            put(&otlp, n * 10..n * 10 + 10);
            otlp.flush(60 * SECOND).await.unwrap();
        }
        assert_eq!(collector.with(|got| got.spans.len()), 40, "{protocol:?}");
    }
}

/// Made before there is a runtime, and used by a thread that has none.
#[test]
fn it_is_made_outside_of_a_runtime() {
    let collector = Collector::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = runtime.block_on(collector.grpc());
    let (otlp, worker) = Otlp::new(policy(|config| {
        config.endpoint = Some(format!("http://{address}"));
    }));
    otlp.metrics(snapshot);
    put(&otlp, 0..10);
    let worker = runtime.spawn(worker);
    runtime.block_on(otlp.shutdown(60 * SECOND)).unwrap();
    runtime.block_on(worker).unwrap();
    assert_eq!((otlp.span_tally().sent, otlp.metric_tally().sent), (10, 3));
}
