//! What Prometheus gets: events as metrics, and a text that its own tool accepts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{Routes, find, get, one};
use http::Request;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Class, Events, Kind, events::Event};
use tower_chassis_observe::{
    events,
    metrics::{CallMetricsLayer, ClientMetricsLayer, RecorderHandle, ServerMetricsLayer, describe},
    prometheus::Prometheus,
    runtime,
};

#[tokio::test]
async fn events_are_counted() {
    let prometheus = Prometheus::new();
    let reports = Events::new();
    events::record(&reports, prometheus.recorder());
    for (to, reason) in [
        ("open", "failure-rate"),
        ("half-open", "time"),
        ("open", "probe-failed"),
    ] {
        reports.emit(|| Event::breaker("a", to, reason, None));
    }
    reports.emit(|| Event::retry(2, Duration::ZERO));
    reports.emit(|| Event::BudgetExhausted);
    for kind in [Kind::CircuitOpen, Kind::CircuitOpen, Kind::Overloaded] {
        reports.emit(|| Event::refused("breaker", kind));
    }
    reports.emit(|| Event::endpoints("orders", 3));
    for seconds in [1, 2] {
        let shut_for = Duration::from_secs(seconds);
        reports.emit(|| Event::ejected("a", "failure-rate", shut_for));
    }
    reports.emit(|| Event::config_applied(7));
    reports.emit(|| Event::config_refused(3));
    reports.emit(|| Event::fault_injected("slow", "delay"));
    reports.emit(|| Event::mirrored("dropped"));
    for n in 0..1200 {
        reports.emit(|| Event::breaker(format!("churn-{n}"), "open", "x", None));
    }
    let text = prometheus.render();
    let transitions = "chassis_breaker_transitions_total";
    assert_eq!(
        one(
            &text,
            transitions,
            &[r#"name="a""#, r#"reason="probe-failed""#, r#"to="open""#]
        ),
        1.0
    );
    let state = "chassis_breaker_state";
    assert_eq!(one(&text, state, &[r#"name="a""#, r#"state="open""#]), 1.0);
    assert_eq!(
        one(&text, state, &[r#"name="a""#, r#"state="half-open""#]),
        0.0
    );
    assert_eq!(
        one(&text, state, &[r#"name="a""#, r#"state="closed""#]),
        0.0
    );
    let delays = [r#"rule="slow""#, r#"fault="delay""#];
    assert_eq!(one(&text, "chassis_faults_total", &delays), 1.0);
    let dropped = [r#"outcome="dropped""#];
    assert_eq!(one(&text, "chassis_mirrored_total", &dropped), 1.0);
    assert_eq!(one(&text, "chassis_retry_attempts_total", &[]), 1.0);
    assert_eq!(one(&text, "chassis_retry_budget_exhausted_total", &[]), 1.0);
    assert_eq!(
        one(
            &text,
            "chassis_refused_total",
            &[r#"layer="breaker""#, r#"kind="circuit-open""#]
        ),
        2.0
    );
    assert_eq!(
        one(&text, "chassis_endpoints", &[r#"service="orders""#]),
        3.0
    );
    let ejected = [r#"name="a""#, r#"reason="failure-rate""#];
    assert_eq!(one(&text, "chassis_ejections_total", &ejected), 2.0);
    assert_eq!(one(&text, "chassis_config_version", &[]), 7.0);
    assert_eq!(one(&text, "chassis_config_refused_total", &[]), 1.0);
    // "a" and "orders" have names too.
    assert_eq!(one(&text, transitions, &[r#"name="_OTHER""#]), 203.0);
    assert!(find(&text, state, &["_OTHER"]).is_empty());
}

/// What a breaker that only observes would have done is counted, and its mode is a gauge, of which one value is 1.
#[test]
fn a_breaker_that_is_forced_or_only_observes_is_seen() {
    let prometheus = Prometheus::new();
    let reports = Events::new();
    events::record(&reports, prometheus.recorder());
    let modes = [
        "auto",
        "forced-open",
        "forced-closed",
        "disabled",
        "observe-only",
    ];
    // Back to `auto` at the end: nothing stays behind at 1.
    for is in modes.into_iter().chain(["auto"]) {
        reports.emit(|| Event::breaker_forced("a", is, Some(Duration::from_secs(9))));
        let text = prometheus.render();
        for mode in modes {
            let labels = [r#"name="a""#, &format!(r#"mode="{mode}""#)];
            let shown = one(&text, "chassis_breaker_mode", &labels);
            assert_eq!(shown, f64::from(u8::from(mode == is)), "{mode} in {is}");
        }
    }
    for (name, reason) in [
        ("a", "failure-rate"),
        ("a", "slow-calls"),
        ("b", "failure-rate"),
        ("a", "failure-rate"),
    ] {
        let open_for = Some(Duration::from_secs(5));
        reports.emit(|| Event::breaker_would_open(name, reason, open_for));
    }
    let text = prometheus.render();
    let would = |labels: &[&str]| one(&text, "chassis_breaker_would_open_total", labels);
    assert_eq!(would(&[r#"name="a""#, r#"reason="failure-rate""#]), 2.0);
    assert_eq!(would(&[r#"name="a""#, r#"reason="slow-calls""#]), 1.0);
    assert_eq!(would(&[r#"name="b""#]), 1.0);
    // It has not opened.
    assert!(find(&text, "chassis_breaker_transitions_total", &[]).is_empty());
    assert!(find(&text, "chassis_breaker_state", &[]).is_empty());
}

/// Beyond a thousand names there is none.
#[test]
fn modes_are_gauges() {
    let prometheus = Prometheus::new();
    let reports = Events::new();
    events::record(&reports, prometheus.recorder());
    for n in 0..1200 {
        reports.emit(|| Event::breaker_forced(format!("churn-{n}"), "disabled", None));
    }
    let text = prometheus.render();
    let modes = find(&text, "chassis_breaker_mode", &[r#"mode="auto""#]);
    assert_eq!(modes.len(), 1000);
}

/// Limits and balancers offer what they are: also before anything has changed, and no longer than there are any.
#[tokio::test(start_paused = true)]
async fn what_layers_are_is_read_from_the_start() {
    use tower_chassis_core::{
        Endpoint, Live,
        discover::{Discover, StaticDiscover},
    };
    use tower_chassis_resilience::{
        adaptive::{AdaptiveConfig, AdaptiveLayer, AdaptivePolicy},
        balance::{Balance, Picker},
    };
    let prometheus = Prometheus::new();
    let reports = Events::new();
    events::record(&reports, prometheus.recorder());
    let page = || {
        events::sample(&reports, prometheus.recorder());
        prometheus.render()
    };

    let gauge = "chassis_concurrency_limit";
    let config = AdaptiveConfig::default();
    let start = f64::from(config.start);
    let policy = Live::new(AdaptivePolicy::try_from(config).unwrap());
    let limit = AdaptiveLayer::new(policy)
        .named("stock")
        .events(reports.clone());
    assert_eq!(one(&page(), gauge, &[r#"name="stock""#]), start);
    limit.handle().force(7);
    assert_eq!(one(&page(), gauge, &[r#"name="stock""#]), 7.0);
    drop(limit);
    assert_eq!(one(&page(), gauge, &[r#"name="stock""#]), 0.0);

    let discover = StaticDiscover::new();
    let endpoints = [
        "http://10.0.0.1:80",
        "http://10.0.0.2:80",
        "http://10.0.0.3:80",
    ];
    discover.set("shop", endpoints.map(|at| Endpoint::new(at).unwrap()));
    let mut gates = Vec::new();
    let (see, seen) = std::sync::mpsc::channel();
    let (balance, worker) = Balance::new(
        discover.watch("shop"),
        move |make| {
            let _ = see.send(make.gate().clone());
            service_fn(async |_: Request<()>| Ok::<_, BoxError>(http::Response::new(())))
        },
        Picker::default(),
    );
    gates.extend(seen.try_iter());
    let balance = balance.events(reports.clone()).named("shop").named("other");
    let states = || {
        let page = page();
        ["open", "shut"].map(|state| {
            let state = format!("state=\"{state}\"");
            one(
                &page,
                "chassis_balance_endpoints",
                &[r#"name="shop""#, &state],
            )
        })
    };
    assert_eq!(states(), [3.0, 0.0]);
    gates[0].shut_until(tokio::time::Instant::now() + Duration::from_secs(5));
    assert_eq!((states(), balance.handle().available()), ([2.0, 1.0], 2));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(states(), [3.0, 0.0]);
    drop((balance, worker));
    assert_eq!(states(), [0.0, 0.0]);
}

/// What is offered for reading is a gauge: names that are the same are one, and beyond a thousand there is `_OTHER`.
#[test]
fn what_is_read_is_a_gauge() {
    let prometheus = Prometheus::new();
    let reports = Events::new();
    let owner = Arc::new(());
    let offer = |name: String, value: f64| {
        reports.gauge("chassis_bulkhead_limit", name, &owner, move |()| value);
    };
    offer("a".into(), 3.0);
    offer("a".into(), 4.0);
    for n in 0..1001 {
        offer(format!("churn-{n:04}"), 2.0);
    }
    events::sample(&reports, prometheus.recorder());
    let text = prometheus.render();
    let gauge = "chassis_bulkhead_limit";
    assert_eq!(one(&text, gauge, &[r#"name="a""#]), 7.0);
    assert_eq!(one(&text, gauge, &[r#"name="_OTHER""#]), 4.0);
    assert_eq!(find(&text, gauge, &[]).len(), 1001);
    // Those with a label more are told apart by it.
    for (kind, value) in [("live", 1.0), ("ready", 0.5)] {
        let label = ("kind", kind);
        reports.gauge_in("chassis_health", "db", label, &owner, move |()| value);
    }
    events::sample(&reports, prometheus.recorder());
    let text = prometheus.render();
    for (kind, value) in [("live", 1.0), ("ready", 0.5)] {
        let labels = [r#"name="db""#, &format!(r#"kind="{kind}""#)];
        assert_eq!(one(&text, "chassis_health", &labels), value);
    }
}

/// What has a further label: one that is not known is not there, and beyond a thousand names there is none.
#[test]
fn what_is_read_may_have_a_further_label() {
    let prometheus = Prometheus::new();
    let reports = Events::new();
    let owner = Arc::new(());
    let offer = |name: &str, kind: &'static str, value: f64| {
        reports.gauge_in("chassis_health", name, ("kind", kind), &owner, move |()| {
            value
        });
    };
    offer("a", "live", 0.5);
    offer("a", "ready", 1.0);
    offer("b", "ready", f64::NAN);
    for n in 0..1_001 {
        offer(&format!("churn-{n:04}"), "live", 0.0);
    }
    events::sample(&reports, prometheus.recorder());
    let text = prometheus.render();
    let health = "chassis_health";
    let labels = |kind| [r#"name="a""#, kind];
    assert_eq!(one(&text, health, &labels(r#"kind="live""#)), 0.5);
    assert_eq!(one(&text, health, &labels(r#"kind="ready""#)), 1.0);
    assert!(find(&text, health, &[r#"name="b""#]).is_empty());
    // `a` has two, and `b` is a name.
    assert_eq!(find(&text, health, &[]).len(), 2 + 998);
}

/// A kind and names of labels, of each metric.
type Metrics = BTreeMap<String, (&'static str, BTreeSet<String>)>;

/// A recorder that notes what it is told of, and in which form.
#[derive(Default)]
struct Noted {
    described: Mutex<BTreeMap<String, &'static str>>,
    used: Mutex<Metrics>,
}

impl Noted {
    fn describe(&self, name: &KeyName, kind: &'static str) {
        let mut described = self.described.lock().unwrap();
        let before = described.insert(name.as_str().to_owned(), kind);
        assert_eq!(before, None, "{name:?} is described twice");
    }

    fn note(&self, key: &Key, kind: &'static str) {
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        let mut used = self.used.lock().unwrap();
        let now = (kind, labels);
        let before = used.insert(key.name().to_owned(), now.clone());
        assert!(
            before.is_none_or(|before| before == now),
            "{key:?} has two forms"
        );
    }
}

impl Recorder for Noted {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key, "counter");
    }
    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key, "gauge");
    }
    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&key, "histogram");
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key, "counter");
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key, "gauge");
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key, "histogram");
        Histogram::noop()
    }
}

/// The rows of our own metrics in the tables of a page: `| name | kind … | label, label: value … |`.
fn table(file: &str) -> Metrics {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = fs::read_to_string(path).unwrap();
    let mut rows = Metrics::new();
    let mut in_table = false;
    for line in text.lines().take_while(|line| line.starts_with("//!")) {
        let row = line.strip_prefix("//! | `chassis_");
        // A row that stands by itself is text to whoever reads the page.
        assert!(
            row.is_none() || in_table,
            "{file}: outside of a table: {line}"
        );
        in_table = line.starts_with("//! |");
        let Some(row) = row else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, kind, labels, ""] = cells[..] else {
            panic!("{file}: {line}")
        };
        let name = format!("chassis_{}", name.trim_end_matches('`'));
        let kinds = ["counter", "gauge", "histogram"];
        let kind = kinds.into_iter().find(|known| kind.starts_with(known));
        let labels = labels.split(':').next().unwrap_or_default();
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned);
        let before = rows.insert(name, (kind.unwrap(), labels.collect()));
        assert_eq!(before, None, "{file}: twice: {line}");
    }
    rows
}

/// Everything that can happen.
fn everything() -> Vec<Event> {
    let time = Duration::from_secs(1);
    vec![
        Event::breaker("a", "open", "x", None),
        Event::ejected("a", "x", time),
        Event::retry(2, time),
        Event::BudgetExhausted,
        Event::refused("breaker", Kind::CircuitOpen),
        Event::config_applied(1),
        Event::config_refused(1),
        Event::endpoints("a", 1),
        Event::breaker_would_open("a", "x", None),
        Event::breaker_forced("a", "auto", None),
        Event::limit("a", 1, "x"),
        Event::fallback("a", Class::Failure),
        Event::coalesced("a"),
        Event::cache("a", "hit"),
        Event::cache_evicted("a", 1),
        Event::fault_injected("a", "delay"),
        Event::mirrored("ok"),
        Event::hedged("a", 2, time, "won"),
        Event::endpoint_turned("a", "b", "ejected", "x", Some(time)),
    ]
}

/// Who adds an event adds it above.
#[test]
fn everything_is_everything() {
    let path = "../tower-chassis-core/src/events/event.rs";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(path).unwrap();
    let (_, variants) = text.split_once("pub enum Event {").unwrap();
    let (variants, _) = variants.split_once("\n}\n").unwrap();
    let is_variant = |line: &&str| {
        line.strip_prefix("    ")
            .is_some_and(|rest| rest.starts_with(char::is_uppercase))
    };
    let variants = variants.lines().filter(is_variant).count();
    let known: BTreeSet<String> = everything()
        .iter()
        .map(|event| {
            let text = format!("{event:?}");
            let end = text.find([' ', '{']).unwrap_or(text.len());
            text[..end].to_owned()
        })
        .collect();
    assert_eq!(known.len(), variants, "{known:?}");
}

/// The tables of the pages, what is described, and what is recorded are the same, with their kinds and labels.
#[tokio::test]
async fn the_tables_say_what_is_recorded() {
    let mut rows = table("events/mod.rs");
    for (name, row) in table("metrics/mod.rs")
        .into_iter()
        .chain(table("runtime.rs"))
    {
        assert!(rows.insert(name, row).is_none());
    }

    let noted = Arc::new(Noted::default());
    let recorder = RecorderHandle::from(Arc::clone(&noted));
    describe(&recorder);
    let reports = Events::new();
    events::record(&reports, recorder.clone());
    for event in everything() {
        reports.emit(|| event);
    }
    let layer = CallMetricsLayer::new().recorder(recorder.clone());
    let calls = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(crate::support::answer(200, ""))
    }));
    calls.oneshot(get("/x")).await.unwrap();
    // What layers offer for reading: that they do, and nothing else, is for those who see the layers.
    let read = [
        "chassis_bulkhead_in_flight",
        "chassis_bulkhead_queued",
        "chassis_bulkhead_limit",
        "chassis_shed_threshold",
        "chassis_concurrency_limit",
        "chassis_server_connections",
        "chassis_client_connections",
    ];
    let owner = Arc::new(());
    for metric in read {
        reports.gauge(metric, "a", &owner, |()| 1.0);
    }
    reports.gauge_in("chassis_health", "a", ("kind", "ready"), &owner, |()| 1.0);
    let open = ("state", "open");
    reports.gauge_in("chassis_balance_endpoints", "a", open, &owner, |()| 1.0);
    events::sample(&reports, recorder.clone());
    events::lost(&recorder, events::Signal::Log).increment(1);
    runtime::sample(&tokio::runtime::Handle::current(), recorder.clone());
    let stats = runtime::AllocatorStats {
        active: Some(1),
        ..runtime::AllocatorStats::default()
    };
    runtime::allocator(stats, recorder.clone());

    assert_eq!(*noted.used.lock().unwrap(), rows);
    let ours = noted.described.lock().unwrap().clone().into_iter();
    let ours: BTreeMap<_, _> = ours
        .filter(|(name, _)| name.starts_with("chassis_"))
        .collect();
    let kinds: BTreeMap<_, _> = rows
        .into_iter()
        .map(|(name, (kind, _))| (name, kind))
        .collect();
    assert_eq!(ours, kinds);
}

#[tokio::test]
async fn promtool_finds_nothing() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    for path in ["/users/1", "/nothing", "/users/fail"] {
        let _ = service.clone().oneshot(get(path)).await.unwrap();
    }
    let layer = ClientMetricsLayer::new().recorder(prometheus.recorder());
    let client = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(crate::support::answer(200, ""))
    }));
    let _ = client.oneshot(get("http://a.test/x")).await;
    let layer = CallMetricsLayer::new().recorder(prometheus.recorder());
    let calls = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(crate::support::answer(200, ""))
    }));
    let _ = calls.oneshot(get("/x")).await;
    let reports = Events::new();
    events::record(&reports, prometheus.recorder());
    reports.emit(|| Event::breaker("a\"\n\\", "open", "x", None));
    reports.emit(|| Event::refused("breaker", Kind::CircuitOpen));
    reports.emit(|| Event::endpoints("orders", 3));
    reports.emit(|| Event::ejected("a", "x", Duration::ZERO));
    reports.emit(|| Event::config_applied(1));
    let text = prometheus.render();
    assert_eq!(text.matches("# HELP").count(), 26, "{text}");

    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match spawned {
        Ok(promtool) => promtool,
        Err(error) => {
            assert!(
                std::env::var("CHASSIS_PEERS").as_deref() != Ok("required"),
                "promtool: {error}"
            );
            eprintln!(
                "SKIPPED: promtool is not installed ({error}); Debian has it in the package prometheus"
            );
            return;
        }
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}\n{text}",
        String::from_utf8_lossy(&said)
    );
}

/// When a configuration came into force, and whether the last one did.
#[test]
fn the_last_reload_is_seen() {
    let prometheus = Prometheus::new();
    let reports = Events::new();
    events::record(&reports, prometheus.recorder());
    let seen = |name: &str| one(&prometheus.render(), name, &[]);
    let now = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs_f64()
    };
    let (time, successful) = (
        "chassis_config_last_reload_timestamp_seconds",
        "chassis_config_last_reload_successful",
    );
    let before = now();
    reports.emit(|| Event::config_applied(1));
    let first = seen(time);
    assert!((before..=now()).contains(&first));
    assert_eq!(seen(successful), 1.0);
    reports.emit(|| Event::config_refused(2));
    assert_eq!((seen(time), seen(successful)), (first, 0.0));
    reports.emit(|| Event::config_applied(2));
    assert!(seen(time) >= first);
    assert_eq!(seen(successful), 1.0);
}

#[test]
fn what_telemetry_loses_is_counted_by_signal() {
    use events::{Signal, lost};

    let prometheus = Prometheus::new();
    let recorder = RecorderHandle::from(prometheus.recorder());
    lost(&recorder, Signal::Span).increment(2);
    // A count of one's own, said again.
    for _ in 0..2 {
        lost(&recorder, Signal::AccessLog).absolute(5);
    }
    let text = prometheus.render();
    let name = "chassis_telemetry_lost_total";
    for (signal, count) in [("span", 2.0), ("access_log", 5.0), ("metric", 0.0)] {
        let label = format!("signal=\"{signal}\"");
        assert_eq!(one(&text, name, &[&label]), count);
    }
}

#[tokio::test]
async fn the_page_is_served() {
    use http::{Method, StatusCode, header};
    use http_body_util::BodyExt;

    let prometheus = Prometheus::new();
    let recorder = prometheus.recorder();
    let service = prometheus.service().before(move || {
        metrics::with_local_recorder(&*recorder, || metrics::gauge!("pages").increment(1));
    });
    let call = async |method: Method| {
        let mut request = get("/any/path?x");
        *request.method_mut() = method;
        let (head, body) = service.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name| {
            let value = head
                .headers
                .get(name)
                .map(|value: &http::HeaderValue| value.to_str());
            value.map(|value| value.unwrap().to_owned())
        };
        let length = header(header::CONTENT_LENGTH);
        (
            head.status,
            header(header::CONTENT_TYPE),
            header(header::ALLOW),
            length,
            body,
        )
    };
    let kind = Some("text/plain; version=0.0.4; charset=utf-8".to_owned());
    let (status, content, _, length, body) = call(Method::GET).await;
    assert_eq!((status, &content), (StatusCode::OK, &kind));
    assert_eq!(length, Some(body.len().to_string()));
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(one(&text, "pages", &[]), 1.0);
    let (status, content, _, length, body) = call(Method::HEAD).await;
    assert_eq!(
        (status, content, length),
        (StatusCode::OK, kind, Some(text.len().to_string()))
    );
    assert!(body.is_empty());
    let (status, _, allow, _, body) = call(Method::POST).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        (allow.as_deref(), body.is_empty()),
        (Some("GET, HEAD"), true)
    );
    // No page, so nothing was read for it.
    assert_eq!(one(&prometheus.render(), "pages", &[]), 2.0);
}

#[test]
fn a_second_global_recorder_is_an_error() {
    let prometheus = Prometheus::new();
    prometheus.install().unwrap();
    assert!(Prometheus::new().install().is_err());
    metrics::counter!("orders.placed").increment(1);
    assert_eq!(one(&prometheus.render(), "orders_placed_total", &[]), 1.0);
}
