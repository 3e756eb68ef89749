//! What layers cost that are put around a route of axum.

use std::{convert::Infallible, time::Duration};

use axum::{Router, extract::Request, response::IntoResponse, routing::Route};
use axum_prometheus::PrometheusMetricLayer;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics,
        exporter::PushMetricExporter,
    },
};
use tower::{Layer, Service, layer::util::Identity};
use tower_chassis_observe::trace::TraceLayer;
use tower_chassis_peers::bench::Case;

use crate::{
    metered::{exporter, kept, ours},
    spans::{Looks, heard},
    world::{FLOOR, Read, TEXT, bare, get},
};

/// Exports nothing.
struct Nothing;

impl PushMetricExporter for Nothing {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        Ok(())
    }
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// A router with a layer, and its only route.
fn router<L>(layer: L) -> Read<Router>
where
    L: Layer<Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request>>::Response: IntoResponse + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    let route = axum::routing::get(|| async { TEXT });
    Read(Router::new().route("/users/{id}", route).layer(layer))
}

pub(crate) fn metrics() -> Vec<Case> {
    let exporter = exporter();
    // Asked once an hour: what it costs to read is not measured.
    let reader = PeriodicReader::builder(Nothing)
        .with_interval(Duration::from_secs(3_600))
        .build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let towers = tower_otel::metrics::HttpLayer::server(&provider.meter("peers"));
    // It must outlive the cases.
    std::mem::forget(provider);
    let axums = "axum-prometheus";
    vec![
        Case::new(FLOOR, "", router(Identity::new()), get),
        Case::new(
            axums,
            "",
            router(PrometheusMetricLayer::new()),
            kept(&exporter, get),
        ),
        Case::new("tower-otel: metrics", "", router(towers), get),
        Case::new("metrics", axums, router(ours(false)), get),
        Case::new("metrics, active and sizes", axums, router(ours(true)), get),
        Case::new("metrics, invocation made", axums, router(ours(false)), bare),
    ]
}

pub(crate) fn spans() -> Vec<Case> {
    heard();
    let towers = tower_otel::trace::HttpLayer::server(tracing::Level::INFO);
    let theirs = "tower-otel: trace";
    let ours = TraceLayer::new().sink(Looks);
    vec![
        Case::new(FLOOR, "", router(Identity::new()), get),
        Case::new(theirs, "", router(towers), get),
        Case::new("trace", theirs, router(ours.clone()), get),
        Case::new("trace, invocation made", theirs, router(ours), bare),
    ]
}
