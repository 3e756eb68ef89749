//! A service whose spans and metrics go to a collector of OpenTelemetry.
//!
//! ```text
//! docker run --rm -p 4317:4317 -p 16686:16686 jaegertracing/jaeger   # one that shows traces: http://localhost:16686
//! cargo run --example otlp --features otlp
//! curl http://127.0.0.1:3000/orders/7
//! ```
//! Where to, and how, is said by OpenTelemetry's own variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! `OTEL_EXPORTER_OTLP_PROTOCOL` … Ctrl-C drains the server; what waits is sent before the program ends.
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::{sync::Arc, time::Duration};

use tower::Layer;
use tower_chassis::{
    BoxError, ObserveLayer, RescueLayer,
    metrics::ServerMetricsLayer,
    observe::{
        otlp::{Otlp, OtlpConfig, OtlpPolicy},
        registry::Registry,
    },
    router::{Params, Router, get},
    server::{Drain, Server, ServerPolicy},
    trace::TraceLayer,
};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

/// Its span is a part of that of the request.
async fn order(params: Params) -> String {
    let id = params.get("id").unwrap_or_default().into_owned();
    let pack = tracing::info_span!("pack", order = id);
    async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        format!("order {id} is packed\n")
    }
    .instrument(pack)
    .await
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut config = OtlpConfig::default().read_env()?;
    config.service_name.get_or_insert_with(|| "orders".into());
    let (otlp, worker) = Otlp::new(OtlpPolicy::try_from(config)?);
    tokio::spawn(worker);

    // The spans of the application, and its lines to the terminal.
    let subscriber = tracing_subscriber::registry()
        .with(otlp.layer())
        .with(tracing_subscriber::fmt::layer());
    tracing::subscriber::set_global_default(subscriber)?;

    // The spans and metrics of calls.
    let registry = Arc::new(Registry::new());
    otlp.record(Arc::clone(&registry));
    let read = Arc::clone(&registry);
    otlp.metrics(move || read.snapshot());
    let trace = TraceLayer::new().sink(otlp.spans()).expects_export();
    let observe = ObserveLayer::new((trace, ServerMetricsLayer::new().recorder(registry)));

    let app = Router::new().route("/orders/{id}", get(order)).build()?;
    let service = observe.layer(RescueLayer::new().layer(app));
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3000".into());
    let server = Server::new(ServerPolicy::default())
        .listen(address)
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    // What would be lost without a word is a warning.
    let ask = otlp.clone();
    tokio::spawn(async move { ask.check().await });

    let drain = Drain::new();
    otlp.shutdown_after(&drain, Duration::from_secs(5));
    let on_signal = drain.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.start();
            on_signal.hurry();
        }
    });
    println!("drained: {:?}", server.serve(service, drain).await);
    println!("sent {} spans", otlp.span_tally().sent);
    Ok(())
}
