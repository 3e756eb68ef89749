//! What counting and timing a call costs.

use std::{sync::Arc, time::Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tower::Layer;
use tower_chassis::{Carrier, invocation::RouteSlot};
use tower_chassis_observe::{
    metrics::{MetricsPolicy, ServerMetricsLayer},
    registry::{Registry, SECONDS},
};
use tower_chassis_peers::bench::{BATCH, Case};

use crate::world::{Answer, Around, FLOOR, Get, Matched, Read, get};

/// The exporter of `metrics`, for the macros and for who uses them.
pub(crate) fn exporter() -> PrometheusHandle {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .unwrap()
        .install_recorder()
        .unwrap()
}

/// Requests, and the upkeep that the exporter is to get now and then, which is not measured.
pub(crate) fn kept(
    exporter: &PrometheusHandle,
    mut make: impl FnMut() -> Get + 'static,
) -> impl FnMut() -> Get + 'static {
    let (exporter, mut made) = (exporter.clone(), 0_usize);
    move || {
        made += 1;
        if made.is_multiple_of(BATCH * 256) {
            exporter.run_upkeep();
        }
        make()
    }
}

/// Ours, with what is asked for beside the durations.
pub(crate) fn ours(others: bool) -> ServerMetricsLayer {
    let policy = MetricsPolicy::default().with(|config| {
        config.active = others;
        config.sizes = others;
    });
    ServerMetricsLayer::new()
        .recorder(Arc::new(Registry::new()))
        .policy(policy.unwrap())
}

/// With `String`s, as nearly everybody writes it.
fn record(method: &http::Method, route: &RouteSlot, answer: &Answer, seconds: f64) {
    let route = route.get().map_or("", |route| route.template());
    let labels = [
        ("method", method.to_string()),
        ("route", route.to_owned()),
        ("status", answer.status().as_u16().to_string()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_requests_duration_seconds", &labels).record(seconds);
}

pub(crate) fn cases() -> Vec<Case> {
    let exporter = exporter();
    let macros = Around(Matched::new(), |request: &mut Get| {
        let method = request.method().clone();
        let route = request.invocation_mut().route_slot();
        move |answer: &Answer| record(&method, &route, answer, 0.012)
    });
    let timed = Around(Matched::new(), |request: &mut Get| {
        let (method, start) = (request.method().clone(), Instant::now());
        let route = request.invocation_mut().route_slot();
        move |answer: &Answer| record(&method, &route, answer, start.elapsed().as_secs_f64())
    });
    let timed_name = "macros, as a service";
    vec![
        Case::new(FLOOR, "", Read(Matched::new()), get),
        Case::new("macros", "", Read(macros), kept(&exporter, get)),
        Case::new(timed_name, "", Read(timed), kept(&exporter, get)),
        Case::new(
            "metrics",
            timed_name,
            Read(ours(false).layer(Matched::new())),
            get,
        ),
        Case::new(
            "metrics, active and sizes",
            timed_name,
            Read(ours(true).layer(Matched::new())),
            get,
        ),
    ]
}
