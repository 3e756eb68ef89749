//! What Prometheus gets: events as metrics, and a text that its own tool accepts.
#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "a test")]

mod support;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use http::Request;
use support::{Routes, find, get, one};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Events, Kind, events::Event};
use tower_chassis_observe::{
    events,
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    prometheus::Prometheus,
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
        Ok::<_, BoxError>(support::answer(200, ""))
    }));
    let _ = client.oneshot(get("http://a.test/x")).await;
    let layer = CallMetricsLayer::new().recorder(prometheus.recorder());
    let calls = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(support::answer(200, ""))
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
    assert_eq!(text.matches("# HELP").count(), 18, "{text}");

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

#[test]
fn a_second_global_recorder_is_an_error() {
    let prometheus = Prometheus::new();
    prometheus.install().unwrap();
    assert!(Prometheus::new().install().is_err());
    metrics::counter!("orders.placed").increment(1);
    prometheus.run_upkeep();
    assert_eq!(one(&prometheus.render(), "orders_placed_total", &[]), 1.0);
}
