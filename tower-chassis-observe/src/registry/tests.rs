use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use metrics::{Level, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use proptest::prelude::*;

use super::*;

fn metadata() -> Metadata<'static> {
    Metadata::new("test", Level::INFO, None)
}

/// The lines but those of what the registry says of itself.
fn lines(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.contains(names::TELEMETRY_LOST))
        .collect()
}

#[derive(Clone, Debug)]
enum Call {
    Count(u64),
    AtLeast(u64),
    Add(f64),
    Take(f64),
    Set(f64),
    Record(f64),
    RecordMany(f64, usize),
}

/// A kind in which a name is used, in a suffix, so that none is used in two.
fn name(call: &Call, at: usize) -> String {
    let kinds = [
        [
            "orders.placed",
            "bytes_sent_total",
            "1a:b c",
            "x_seconds_total",
        ],
        ["queue.depth", "cpu.time", "x.y", "temperature"],
        ["wait.time", "http.body", "a-b", "s"],
    ];
    let kind = match call {
        Call::Count(_) | Call::AtLeast(_) => 0,
        Call::Add(_) | Call::Take(_) | Call::Set(_) => 1,
        Call::Record(_) | Call::RecordMany(..) => 2,
    };
    kinds[kind][at].to_owned()
}

fn call() -> impl Strategy<Value = Call> {
    // Sums of quarters are the same in any order.
    let number = || (-4_000..4_000_i32).prop_map(|n| f64::from(n) / 4.0);
    prop_oneof![
        (0..1_000_u64).prop_map(Call::Count),
        (0..1_000_u64).prop_map(Call::AtLeast),
        number().prop_map(Call::Add),
        number().prop_map(Call::Take),
        number().prop_map(Call::Set),
        number().prop_map(Call::Record),
        (number(), 0..9_usize).prop_map(|(value, count)| Call::RecordMany(value, count)),
    ]
}

fn make(recorder: &dyn Recorder, key: &Key, call: &Call) {
    let metadata = metadata();
    match *call {
        Call::Count(count) => recorder.register_counter(key, &metadata).increment(count),
        Call::AtLeast(count) => recorder.register_counter(key, &metadata).absolute(count),
        Call::Add(value) => recorder.register_gauge(key, &metadata).increment(value),
        Call::Take(value) => recorder.register_gauge(key, &metadata).decrement(value),
        Call::Set(value) => recorder.register_gauge(key, &metadata).set(value),
        Call::Record(value) => recorder.register_histogram(key, &metadata).record(value),
        Call::RecordMany(value, count) => {
            recorder
                .register_histogram(key, &metadata)
                .record_many(value, count);
        }
    }
}

/// What is said of some of the names.
fn tell(recorder: &dyn Recorder) {
    let text = SharedString::const_str;
    recorder.describe_counter(
        "orders.placed".into(),
        Some(Unit::Count),
        text("Orders\nplaced."),
    );
    recorder.describe_counter("bytes_sent_total".into(), Some(Unit::Bytes), text("Sent."));
    recorder.describe_counter(
        "x_seconds_total".into(),
        Some(Unit::Seconds),
        text("\"X\"."),
    );
    recorder.describe_gauge("cpu.time".into(), Some(Unit::Percent), text("Busy."));
    recorder.describe_histogram("wait.time".into(), Some(Unit::Bytes), text("Waited."));
    recorder.describe_histogram("wait.time".into(), Some(Unit::Seconds), text("Said again."));
    recorder.describe_histogram("http.body".into(), Some(Unit::Milliseconds), text("M."));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("CHASSIS_LONG").is_some() { 20_000 } else { 256 }
    ))]

    /// The same calls give the same page as Prometheus's exporter for the facade gives, but for the order of the lines.
    #[test]
    fn the_page_is_that_of_the_exporter(
        calls in proptest::collection::vec(
            (
                call(),
                0..4_usize,
                proptest::collection::btree_map("[a-c]|_x|9y|e\\.f", "[a-z\"\n {}=,é]{0,6}", 0..4),
            ),
            0..40,
        )
    ) {
        let ours = Registry::new();
        let oracle = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .unwrap()
            .with_recommended_naming(true)
            .build_recorder();
        tell(&ours);
        tell(&oracle);
        for (call, at, labels) in &calls {
            let labels = labels.iter().map(|(key, value)| Label::new(key.clone(), value.clone()));
            let key = Key::from_parts(name(call, *at), labels.collect::<Vec<_>>());
            make(&ours, &key, call);
            make(&oracle, &key, call);
        }
        let (ours, theirs) = (text(&ours.snapshot()), oracle.handle().render());
        prop_assert_eq!(lines(&ours), lines(&theirs));
    }
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels = labels
        .iter()
        .map(|(key, value)| Label::from_static_parts(key, value));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

#[test]
fn the_order_of_labels_is_none() {
    let registry = Registry::new();
    for labels in [[("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")]] {
        registry
            .register_counter(&key("c", &labels), &metadata())
            .increment(1);
    }
    assert_eq!(registry.series(), 1);
    assert!(text(&registry.snapshot()).contains("\nc_total{a=\"1\",b=\"2\"} 2\n"));
}

#[test]
fn what_the_text_cannot_tell_apart_is_there_once() {
    let registry = Registry::new();
    let count = |key: &Key| registry.register_counter(key, &metadata()).increment(1);
    for labels in [
        &[("a.b", "1")][..],
        &[("a_b", "1")],
        &[("a_b", "0"), ("a.b", "1")],
    ] {
        count(&key("c", labels));
    }
    // Another metric of the same name in the text, of the same kind and of another.
    count(&key("c_total", &[("a_b", "1")]));
    count(&key("c_total", &[("a_b", "2")]));
    registry
        .register_gauge(&key("c_total", &[]), &metadata())
        .set(9.0);
    let histogram = key("h", &[("le", "x")]);
    registry
        .register_histogram(&histogram, &metadata())
        .record(1e9);
    let page = text(&registry.snapshot());
    assert_eq!(page.matches("c_total{a_b=\"1\"} 1\n").count(), 1, "{page}");
    assert_eq!(page.matches("c_total{a_b=\"2\"} 1\n").count(), 1, "{page}");
    assert_eq!(page.matches("# TYPE c_total ").count(), 1, "{page}");
    assert!(!page.contains("c_total 9"), "{page}");
    // What would be a second count of the histogram, and a name in the place of its own.
    for name in ["h_count", "h_sum", "h_bucket"] {
        let key = key(name, &[("le", "x")]);
        registry.register_gauge(&key, &metadata()).set(9.0);
    }
    count(&key("forged", &[("__name__", "h_sum")]));
    count(&key("x_count", &[]));
    let with_them = text(&registry.snapshot());
    let added: Vec<&str> = with_them
        .lines()
        .filter(|line| !page.contains(line))
        .collect();
    assert_eq!(
        added,
        [
            "# TYPE forged_total counter",
            "forged_total{exported___name__=\"h_sum\"} 1",
            "# TYPE x_count_total counter",
            "x_count_total 1"
        ]
    );
    assert!(
        page.contains("h_bucket{exported_le=\"x\",le=\"10\"} 0\n"),
        "{page}"
    );
    assert!(
        page.contains("h_bucket{exported_le=\"x\",le=\"+Inf\"} 1\n"),
        "{page}"
    );
}

#[test]
fn backslashes_are_escaped_and_numbers_are_go_s() {
    let registry = Registry::new();
    let gauge = |name, value: f64| {
        registry
            .register_gauge(&key(name, &[("a", "\\n\\\\")]), &metadata())
            .set(value);
    };
    gauge("x", f64::INFINITY);
    gauge("y", f64::NEG_INFINITY);
    gauge("z", f64::NAN);
    let page = text(&registry.snapshot());
    for line in [
        "x{a=\"\\\\n\\\\\\\\\"} +Inf",
        "y{a=\"\\\\n\\\\\\\\\"} -Inf",
        "z{a=\"\\\\n\\\\\\\\\"} NaN",
    ] {
        assert!(page.lines().any(|there| there == line), "{page}");
    }
}

#[test]
fn beyond_the_bound_there_are_no_series_and_it_is_told() {
    let registry = Registry::new().max_series(3);
    let metadata = metadata();
    for n in 0..10 {
        let key = Key::from_parts("c", vec![Label::new("n", n.to_string())]);
        registry.register_counter(&key, &metadata).increment(1);
    }
    registry.register_gauge(&key("g", &[]), &metadata).set(1.0);
    let h = registry.register_histogram(&key("h", &[]), &metadata);
    h.record(1.0);
    assert_eq!(registry.series(), 3);
    let page = text(&registry.snapshot());
    assert_eq!(page.matches("\nc_total{").count(), 3, "{page}");
    assert!(
        page.contains("chassis_telemetry_lost_total{signal=\"metric\"} 9\n"),
        "{page}"
    );
    // What is known stays.
    let first = Key::from_parts("c", vec![Label::new("n", "0")]);
    registry.register_counter(&first, &metadata).increment(4);
    assert!(text(&registry.snapshot()).contains("c_total{n=\"0\"} 5\n"));
}

/// Who loses values of metrics elsewhere counts them in the same series.
#[test]
fn what_is_lost_is_one_series() {
    let registry = Arc::new(Registry::new().max_series(0));
    let counter = registry.register_counter(&key("c", &[]), &metadata());
    counter.increment(1);
    let lost = crate::events::lost(&Arc::clone(&registry).into(), Signal::Metric);
    lost.increment(4);
    let [family] = &registry.snapshot().families[..] else {
        panic!("one")
    };
    assert_eq!(family.series.len(), 1);
    assert_eq!(family.series[0].value, Value::Counter(5));
    assert_eq!((registry.series(), family.help.is_empty()), (0, false));
}

#[test]
fn a_value_that_is_no_number_is_left_out_and_counted() {
    let registry = Registry::new();
    let histogram = registry.register_histogram(&key("h", &[]), &metadata());
    for value in [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0] {
        histogram.record(value);
    }
    let page = text(&registry.snapshot());
    assert!(page.contains("h_sum 3\nh_count 2\n"), "{page}");
    assert!(
        page.contains("chassis_telemetry_lost_total{signal=\"metric\"} 3\n"),
        "{page}"
    );
}

#[test]
fn bounds_are_those_of_the_unit_or_of_one_s_own() {
    let registry = Registry::new()
        .buckets("own", &[9.0])
        .buckets("own", &[3.0, f64::NAN, 1.0, f64::INFINITY, 3.0])
        .buckets("none", &[]);
    registry.describe_histogram("sizes".into(), Some(Unit::Bytes), "".into());
    for name in ["own", "none", "sizes", "times"] {
        registry
            .register_histogram(&key(name, &[]), &metadata())
            .record(2.0);
    }
    let now = registry.snapshot();
    let bounds = |name: &str| {
        let family = now
            .families
            .iter()
            .find(|family| *family.name == *name)
            .unwrap();
        let [
            Series {
                value: Value::Histogram(distribution),
                ..
            },
        ] = &family.series[..]
        else {
            panic!("{family:?}")
        };
        assert_eq!(distribution.count(), 1);
        distribution.bounds.to_vec()
    };
    assert_eq!(bounds("own"), [1.0, 3.0]);
    assert!(bounds("none").is_empty());
    assert_eq!(
        (bounds("sizes"), bounds("times")),
        (BYTES.to_vec(), SECONDS.to_vec())
    );
}

#[test]
fn macros_reach_it_and_a_snapshot_is_in_order() {
    let registry = Registry::new();
    with_local_recorder(&registry, || {
        metrics::counter!("b", "l" => "1").increment(1);
        metrics::gauge!("c").set(1.5);
        metrics::histogram!("a").record(Duration::from_millis(5));
        metrics::describe_counter!("b", "B.");
    });
    let now = registry.snapshot();
    let seen = now
        .families
        .iter()
        .filter(|family| *family.name != *names::TELEMETRY_LOST);
    let seen: Vec<_> = seen
        .map(|family| (&*family.name, family.kind, &*family.help))
        .collect();
    assert_eq!(
        seen,
        [
            ("a", MetricKind::Histogram, ""),
            ("b", MetricKind::Counter, "B."),
            ("c", MetricKind::Gauge, ""),
        ]
    );
    assert!(now.started <= now.at);
}

#[test]
fn threads_that_make_the_same_series_make_one() {
    let registry = Registry::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..500 {
                    let key = Key::from_parts("c", vec![Label::new("n", (n % 50).to_string())]);
                    registry.register_counter(&key, &metadata()).increment(1);
                }
            });
        }
    });
    assert_eq!(registry.series(), 50);
    let now = registry.snapshot();
    let family = now
        .families
        .iter()
        .find(|family| *family.name == *"c")
        .unwrap();
    assert!(
        family
            .series
            .iter()
            .all(|series| series.value == Value::Counter(80))
    );
    assert_eq!(family.series.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_reporter_is_told_in_time_and_again_after_a_panic() {
    let registry = Arc::new(Registry::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let (noted, start) = (Arc::clone(&told), tokio::time::Instant::now());
    let reports = registry.report_every(EVERY, move |now: &Snapshot| {
        let count = now
            .families
            .iter()
            .find(|family| *family.name == *"c")
            .map(|c| c.series[0].value.clone());
        let mut told = noted.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((start.elapsed().as_secs(), count));
        assert!(told.len() != 1, "planted");
    });
    let running = tokio::spawn(reports);
    tokio::time::sleep(Duration::from_secs(15)).await;
    registry
        .register_counter(&key("c", &[]), &metadata())
        .increment(7);
    tokio::time::sleep(Duration::from_secs(10)).await;
    running.abort();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*told, [(10, None), (20, Some(Value::Counter(7)))]);
}

#[test]
fn nothing_grows_while_nobody_reads() {
    let registry = Registry::new();
    let histogram = registry.register_histogram(&key("h", &[]), &metadata());
    for _ in 0..1_000_000 {
        histogram.record(0.5);
    }
    assert!(text(&registry.snapshot()).contains("h_count 1000000\n"));
}
