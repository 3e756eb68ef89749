//! A collector that is slow, absent, full or choosy: nothing waits for it, and what is lost is counted to the one.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::time::Instant;
use tonic::Code;
use tower::service_fn;
use tower_chassis_core::{Body, BoxError};

use super::{
    super::Otlp,
    SECOND,
    collector::{Collector, Mode},
    policy, put, snapshot, span,
};
use crate::trace::SpanSink;

const MINUTE: Duration = Duration::from_secs(60);

/// Sent, lost, waiting.
fn spans(otlp: &Otlp) -> (u64, u64, usize) {
    let tally = otlp.span_tally();
    (tally.sent, tally.lost, tally.waiting)
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_is_full_or_due() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    let sent = || collector.with(|got| got.batches.clone());
    put(&otlp, 0..511);
    tokio::time::sleep(4 * SECOND).await;
    assert!(sent().is_empty());
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(sent(), [511]);
    // Full before its time: the rest waits for its own.
    put(&otlp, 0..513);
    tokio::time::sleep(SECOND).await;
    assert_eq!(sent(), [511, 512]);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(sent(), [511, 512, 1]);
    // Each time.
    for _ in 0..3 {
        put(&otlp, 0..512);
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(sent()[3..], [512, 512, 512]);
    assert_eq!(spans(&otlp), (2_560, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_lost() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    put(&otlp, 0..5_000);
    assert_eq!(spans(&otlp), (0, 2_952, 2_048));
    let worker = tokio::spawn(worker);
    otlp.shutdown(SECOND).await.unwrap();
    worker.await.unwrap();
    assert_eq!(spans(&otlp), (2_048, 2_952, 0));
    // The first ones are there, in order.
    let last = collector.with(|got| got.spans.last().unwrap().span_id.clone());
    assert_eq!(last, 2_048u64.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_now_is_sent_again_and_arrives_once() {
    let collector = Collector::new(Mode::Fail(Code::Unavailable, 3));
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    put(&otlp, 0..10);
    otlp.flush(MINUTE).await.unwrap();
    assert_eq!(spans(&otlp), (10, 0, 0));
    // One of the four was the one of metrics, which are nothing: no message at all.
    assert_eq!(
        collector.with(|got| (got.requests, got.spans.len())),
        (4, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn a_collector_says_when_to_come_again() {
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let times = Arc::clone(&asked);
    let busy = service_fn(move |_: Request<Body>| {
        let response = match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => Response::builder().status(503).header("retry-after", "7"),
            1 => Response::builder().status(429),
            _ => Response::builder(),
        };
        std::future::ready(response.body(Body::empty()).map_err(BoxError::from))
    });
    let http = policy(|config| config.protocol = super::super::Protocol::HttpProtobuf);
    let (otlp, worker) = Otlp::with_client(http, busy);
    tokio::spawn(worker);
    put(&otlp, 0..10);
    let begun = Instant::now();
    otlp.flush(MINUTE).await.unwrap();
    // Then by our own wait, of at most 100 ms.
    let took = begun.elapsed();
    assert!(
        (7 * SECOND..7_200 * SECOND / 1_000).contains(&took),
        "{took:?}"
    );
    assert_eq!(spans(&otlp), (10, 0, 0));
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_is_lost_at_once() {
    for code in [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::ResourceExhausted,
    ] {
        let collector = Collector::new(Mode::Fail(code, usize::MAX));
        let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
        tokio::spawn(worker);
        put(&otlp, 0..10);
        let begun = Instant::now();
        let fault = otlp.flush(MINUTE).await.unwrap_err();
        assert_eq!(
            (fault.lost(), fault.is_late(), fault.is_gone()),
            (10, false, false)
        );
        assert_eq!(
            (spans(&otlp), begun.elapsed()),
            ((0, 10, 0), Duration::ZERO)
        );
        assert_eq!(collector.with(|got| got.requests), 1, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_never_comes_back_costs_its_time_and_no_more() {
    for mode in [Mode::Hang, Mode::Fail(Code::Unavailable, usize::MAX)] {
        let collector = Collector::new(mode);
        let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
        tokio::spawn(worker);
        put(&otlp, 0..600);
        let begun = Instant::now();
        let fault = otlp.flush(MINUTE).await.unwrap_err();
        // Two batches of ten seconds each.
        assert_eq!(fault.lost(), 600);
        assert!(
            (10 * SECOND..=20 * SECOND).contains(&begun.elapsed()),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(spans(&otlp), (0, 600, 0));
        // It comes back: what comes then arrives.
        collector.with(|got| got.mode = Mode::Take);
        put(&otlp, 0..5);
        otlp.flush(MINUTE).await.unwrap();
        assert_eq!(spans(&otlp), (5, 600, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_collector_does_not_take_of_a_batch_is_lost() {
    let collector = Collector::new(Mode::Partial(3));
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    otlp.metrics(snapshot);
    tokio::spawn(worker);
    put(&otlp, 0..10);
    let fault = otlp.flush(MINUTE).await.unwrap_err();
    assert_eq!(fault.lost(), 6);
    assert_eq!(spans(&otlp), (7, 3, 0));
    let points = otlp.metric_tally();
    assert_eq!((points.sent, points.lost), (0, 3));
    // It cannot refuse more than there was.
    collector.with(|got| got.mode = Mode::Partial(1_000));
    put(&otlp, 0..2);
    otlp.flush(MINUTE).await.unwrap_err();
    assert_eq!(spans(&otlp), (7, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_in_its_time_and_counts_the_rest() {
    let collector = Collector::new(Mode::Hang);
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    let worker = tokio::spawn(worker);
    put(&otlp, 0..3_000);
    let begun = Instant::now();
    let fault = otlp.shutdown(3 * SECOND).await.unwrap_err();
    assert!(fault.is_late() && begun.elapsed() < 4 * SECOND, "{fault}");
    worker.await.unwrap();
    assert_eq!(spans(&otlp), (0, 3_000, 0));
    assert_eq!(fault.lost(), 2_048);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_has_lost_what_it_had() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    let worker = tokio::spawn(worker);
    put(&otlp, 0..100);
    otlp.flush(MINUTE).await.unwrap();
    collector.with(|got| got.mode = Mode::Hang);
    put(&otlp, 0..2_100);
    // One batch is under way, the others wait.
    tokio::time::sleep(SECOND).await;
    let (_, lost, waiting) = spans(&otlp);
    assert_eq!((lost, waiting), (52, 1_536));
    worker.abort();
    assert!(worker.await.unwrap_err().is_cancelled());
    assert_eq!(spans(&otlp), (100, 2_100, 0));
    let fault = otlp.flush(MINUTE).await.unwrap_err();
    assert!(fault.is_gone());
}

/// Spans from four threads, a worker that is stopped in between: each is sent or lost.
#[test]
fn none_is_forgotten_under_load() {
    let rounds = if std::env::var_os("CHASSIS_LONG").is_some() {
        200
    } else {
        10
    };
    for round in 0..rounds {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let collector = Collector::default();
        let (otlp, worker) = Otlp::with_client(
            policy(|config| (config.queue, config.batch) = (256, 64)),
            collector.client(),
        );
        let worker = runtime.spawn(worker);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| put(&otlp, 0..2_000));
            }
            if round % 2 == 0 {
                worker.abort();
            }
        });
        if round % 2 == 1 {
            runtime.block_on(otlp.shutdown(10 * SECOND)).unwrap();
        }
        let _ = runtime.block_on(worker);
        let (sent, lost, waiting) = spans(&otlp);
        assert_eq!((sent + lost, waiting), (8_000, 0));
        let arrived = collector.with(|got| got.spans.len() as u64);
        // Stopped between the answer and its counting, one batch may have arrived that counts as lost.
        assert!((sent..=sent + 64).contains(&arrived), "{sent} {arrived}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_worker_a_flush_ends_too() {
    let collector = Collector::default();
    let (otlp, _worker) = Otlp::with_client(policy(|_| ()), collector.client());
    put(&otlp, 0..10);
    for stop in [false, true] {
        let fault = match stop {
            false => otlp.flush(SECOND).await,
            true => otlp.shutdown(SECOND).await,
        };
        assert!(fault.unwrap_err().is_late());
    }
    assert_eq!(spans(&otlp), (0, 0, 10));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_nobody_can_reach_ends() {
    use opentelemetry::trace::{Tracer, TracerProvider};
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    let worker = tokio::spawn(worker);
    let (sink, tracer) = (otlp.spans(), otlp.provider().tracer("theirs"));
    drop(otlp);
    tokio::time::sleep(MINUTE).await;
    sink.ended(span(1));
    drop(sink);
    tokio::time::sleep(MINUTE).await;
    assert!(!worker.is_finished());
    drop(tracer.start("theirs"));
    drop(tracer);
    // What was there is sent before.
    worker.await.unwrap();
    assert_eq!(collector.with(|got| got.spans.len()), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_what_is_switched_off() {
    let collector = Collector::default();
    let all_off = policy(|config| config.disabled = true);
    let (otlp, worker) = Otlp::with_client(all_off, collector.client());
    put(&otlp, 0..10_000);
    otlp.metrics(snapshot);
    assert_eq!(otlp.check().await, []);
    worker.await;
    otlp.flush(SECOND).await.unwrap();
    otlp.shutdown(SECOND).await.unwrap();
    assert_eq!(spans(&otlp), (0, 0, 0));
    assert_eq!(collector.with(|got| got.requests), 0);

    let (otlp, worker) = Otlp::with_client(
        policy(|config| config.traces.disabled = true),
        collector.client(),
    );
    tokio::spawn(worker);
    otlp.metrics(snapshot);
    put(&otlp, 0..10);
    otlp.flush(SECOND).await.unwrap();
    assert_eq!((spans(&otlp), otlp.metric_tally().sent), ((0, 0, 0), 3));
}

#[tokio::test(start_paused = true)]
async fn metrics_go_by_themselves_and_a_source_that_panics_stays() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    let mut calls = 0;
    otlp.metrics(move || {
        calls += 1;
        assert_ne!(calls, 2, "planted");
        snapshot()
    });
    tokio::spawn(worker);
    let taken = || collector.with(|got| got.metrics.len());
    tokio::time::sleep(59 * SECOND).await;
    assert_eq!(taken(), 0);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(taken(), 3);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(taken(), 3);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(taken(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_large_reading_goes_in_parts() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    otlp.metrics(|| {
        let mut all = snapshot();
        let many = all.families[0].series[0].clone();
        all.families[0].series = vec![many; 4_500];
        all
    });
    tokio::spawn(worker);
    otlp.flush(MINUTE).await.unwrap();
    assert_eq!(otlp.metric_tally().sent, 4_502);
    // 2,000 and 2,000 of the first, then what is left of it with the others.
    assert_eq!(
        collector.with(|got| (got.requests, got.metrics.len())),
        (3, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_a_metric() {
    use crate::{
        events::{Signal, lost},
        metrics::RecorderHandle,
        registry::{Registry, text},
    };
    let registry = Arc::new(Registry::new());
    let refuses =
        service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(BoxError::from("no")));
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), refuses);
    otlp.record(Arc::clone(&registry));
    otlp.metrics(snapshot);
    // Others count there too.
    lost(&RecorderHandle::from(Arc::clone(&registry)), Signal::Metric).increment(100);
    tokio::spawn(worker);
    let said = |spans: u64, points: u64| {
        let text = text(&registry.snapshot());
        for (signal, count) in [("span", spans), ("metric", points)] {
            let line = format!("chassis_telemetry_lost_total{{signal=\"{signal}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    };
    put(&otlp, 0..2_100);
    otlp.flush(2 * MINUTE).await.unwrap_err();
    said(2_100, 103);
    put(&otlp, 0..10);
    otlp.flush(2 * MINUTE).await.unwrap_err();
    said(2_110, 106);
    // To the last one.
    put(&otlp, 0..5);
    otlp.shutdown(Duration::ZERO).await.unwrap_err();
    said(2_115, 106);
}

/// What the layers measure, as they measure it.
#[tokio::test(start_paused = true)]
async fn a_registry_is_sent() {
    use crate::registry::Registry;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let registry = Arc::new(Registry::new());
    metrics::with_local_recorder(&*registry, || {
        metrics::counter!("orders.placed", "shop" => "a").increment(3);
        metrics::histogram!("http.server.request.duration", "http_route" => "/a").record(0.3);
    });
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    otlp.metrics(move || registry.snapshot());
    otlp.flush(MINUTE).await.unwrap();
    collector.with(|got| {
        let find = |name: &str| {
            got.metrics
                .iter()
                .find(|metric| metric.name == name)
                .unwrap()
        };
        assert!(matches!(&find("orders.placed").data, Some(Data::Sum(sum)) if sum.is_monotonic));
        let duration = find("http.server.request.duration");
        let Some(Data::Histogram(values)) = &duration.data else {
            panic!("{duration:?}")
        };
        let point = &values.data_points[0];
        assert_eq!(
            (point.count, point.sum, &*duration.unit),
            (1, Some(0.3), "s")
        );
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert!(!duration.description.is_empty());
        assert!(point.start_time_unix_nano <= point.time_unix_nano);
        let route = super::attribute(&point.attributes, "http.route");
        assert_eq!(route.as_deref(), Some("/a"));
    });
}

#[test]
fn a_span_needs_no_runtime() {
    let (otlp, worker) = Otlp::new(policy(|_| ()));
    otlp.spans().ended(span(1));
    drop(worker);
    assert_eq!(spans(&otlp), (0, 1, 0));
}

/// What a model of it says: of spans that were put, some found no room, some were taken, some were not.
#[derive(Clone, Debug)]
enum Step {
    Put(u64),
    Wait(u64),
    Flush,
    Now(Mode),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let mode = prop_oneof![
        3 => Just(Mode::Take),
        1 => Just(Mode::Hang),
        1 => (0..9_usize).prop_map(|times| Mode::Fail(Code::Unavailable, times)),
        1 => Just(Mode::Fail(Code::Unavailable, usize::MAX)),
        1 => (0..3_usize).prop_map(|times| Mode::Fail(Code::InvalidArgument, times)),
    ];
    let step = prop_oneof![
        4 => (0..120_u64).prop_map(Step::Put),
        3 => (0..7_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        2 => mode.prop_map(Step::Now),
    ];
    prop::collection::vec(step, 0..24)
}

#[test]
fn whatever_happens_each_span_is_sent_once_or_lost_once() {
    let mut config = proptest::test_runner::Config::with_cases(256);
    if std::env::var_os("CHASSIS_LONG").is_some() {
        config.cases = 10_000;
    }
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&steps(), |steps| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(happens(steps));
            Ok(())
        })
        .unwrap();
}

async fn happens(steps: Vec<Step>) {
    const BATCH: u64 = 16;
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(
        policy(|config| (config.queue, config.batch) = (100, BATCH as u32)),
        collector.client(),
    );
    let worker = tokio::spawn(worker);
    let mut offered = 0;
    for step in steps {
        match step {
            Step::Put(count) => {
                let (_, lost, waiting) = spans(&otlp);
                put(&otlp, offered..offered + count);
                offered += count;
                // Nothing else ran meanwhile: what found no room is known.
                let room = 100 - waiting as u64;
                let (_, now, waiting) = spans(&otlp);
                assert_eq!(now - lost, count.saturating_sub(room));
                assert!(waiting <= 100);
            }
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Flush => {
                let (_, before, _) = spans(&otlp);
                let answer = otlp.flush(30 * MINUTE).await;
                let (_, lost, waiting) = spans(&otlp);
                assert_eq!(waiting, 0);
                let said = answer.err().map_or(0, |fault| fault.lost());
                assert_eq!(said, lost - before);
            }
            Step::Now(mode) => collector.with(|got| got.mode = mode),
        }
        let (sent, lost, waiting) = spans(&otlp);
        let under_way = offered - sent - lost - waiting as u64;
        assert!(under_way <= BATCH, "{under_way}");
        // In order, none twice.
        collector.with(|got| {
            let ids = got.spans.iter().map(|span| &span.span_id);
            assert!(ids.clone().zip(ids.skip(1)).all(|(a, b)| a < b));
            assert!(got.batches.iter().all(|&count| count as u64 <= BATCH));
        });
    }
    let _ = otlp.shutdown(30 * MINUTE).await;
    worker.await.unwrap();
    let (sent, lost, waiting) = spans(&otlp);
    assert_eq!((sent + lost, waiting), (offered, 0));
    assert_eq!(sent, collector.with(|got| got.spans.len() as u64));
}

/// A worker that is dropped between any two of its polls.
#[tokio::test(start_paused = true)]
async fn a_worker_may_be_dropped_at_any_poll() {
    use std::{future::Future, pin::pin, task};
    let mut ended = false;
    for polls in 0.. {
        let collector = Collector::default();
        let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
        otlp.metrics(snapshot);
        put(&otlp, 0..1_500);
        {
            let mut worker = pin!(worker);
            let mut stop = pin!(otlp.shutdown(MINUTE));
            let mut cx = task::Context::from_waker(task::Waker::noop());
            assert!(stop.as_mut().poll(&mut cx).is_pending());
            for _ in 0..polls {
                tokio::task::yield_now().await;
                if worker.as_mut().poll(&mut cx).is_ready() {
                    ended = true;
                    break;
                }
            }
        }
        let (sent, lost, waiting) = spans(&otlp);
        assert_eq!((sent + lost, waiting), (1_500, 0), "after {polls}");
        let arrived = collector.with(|got| got.spans.len() as u64);
        assert!((sent..=sent + 512).contains(&arrived));
        let points = otlp.metric_tally();
        assert!(points.sent + points.lost == 3 || polls == 0);
        if ended {
            assert_eq!((sent, points.sent), (1_500, 3));
            break;
        }
        assert!(polls < 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_logged_once_a_minute_and_without_secrets() {
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
    let repeats = service_fn(async |request: Request<Body>| {
        let key = request.headers()["authorization"].to_str()?;
        let text = format!("wrong key {key} {} {key}", "x".repeat(280));
        let status = tonic::Status::unauthenticated(text);
        Ok::<_, BoxError>(status.into_http())
    });
    let (otlp, worker) = Otlp::with_client(
        policy(|config| {
            let header = ("authorization".to_owned(), "Bearer geheim".to_owned());
            config.headers = [header].into();
        }),
        repeats,
    );
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    let _in_force = tracing::subscriber::set_default(subscriber);
    tokio::spawn(worker);
    for _ in 0..5 {
        put(&otlp, 0..10);
        otlp.flush(SECOND).await.unwrap_err();
    }
    tokio::time::sleep(MINUTE).await;
    put(&otlp, 0..10);
    otlp.flush(SECOND).await.unwrap_err();
    let mut lines = lines.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("lost: 10") && lines[1].contains("lost: 50"),
        "{lines:?}"
    );
    lines.extend(otlp.check().await.iter().map(ToString::to_string));
    for line in lines {
        assert!(line.contains("wrong key *** ***"), "{line}");
        assert!(!line.contains("gehe") && line.len() < 1_500, "{line}");
    }
}
