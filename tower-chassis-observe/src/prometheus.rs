//! A recorder whose content Prometheus scrapes.
//!
//! # Example
//! ```
//! use tower_chassis_observe::{metrics::ServerMetricsLayer, prometheus::Prometheus};
//!
//! let prometheus = Prometheus::new();
//! // One of your own for this layer; `prometheus.install()` would make it the global one.
//! let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
//! let text = prometheus.render();
//! # let _ = (layer, text);
//! ```
//! Serve what [`render`](Prometheus::render) gives under [`CONTENT_TYPE`].
//!
//! Every histogram is one and no summary, with the buckets that OpenTelemetry advises for durations in seconds,
//! those of the application too. Names are
//! Prometheus's: `http.server.request.duration` is `http_server_request_duration_seconds`, counters end
//! in `_total`.
//!
//! # Cost
//! The exporter keeps every measured duration (eight bytes) until the next rendering or upkeep: where nobody
//! scrapes, call [`run_upkeep`](Prometheus::run_upkeep) now and then.

use std::{fmt, sync::Arc};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::metrics::{RecorderHandle, describe};

/// The content type of [`Prometheus::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The buckets of durations, in seconds, as OpenTelemetry's conventions advise.
pub const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// A recorder and what was recorded. Clones share it.
#[derive(Clone)]
pub struct Prometheus {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Prometheus {
    /// An empty recorder, which knows the help texts of this crate's metrics.
    #[must_use]
    pub fn new() -> Self {
        let recorder = Arc::new(builder().build_recorder());
        describe(&RecorderHandle::from(Arc::clone(&recorder)));
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// The recorder, for a layer's `.recorder(…)` or for `metrics::with_local_recorder`.
    #[must_use]
    pub fn recorder(&self) -> Arc<PrometheusRecorder> {
        Arc::clone(&self.recorder)
    }

    /// Makes it the global recorder, before the first call is measured.
    ///
    /// # Errors
    /// There is one already.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        metrics::set_global_recorder(self.recorder()).map_err(|_| AlreadyInstalled { _private: () })
    }

    /// Everything that was recorded, in Prometheus's text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Sorts the measured durations into their buckets, as rendering does.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn builder() -> PrometheusBuilder {
    // Fails on an empty list of buckets only, and ours is not.
    PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .unwrap_or_default()
        .with_recommended_naming(true)
}

impl Default for Prometheus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").finish_non_exhaustive()
    }
}

/// There is a global recorder already.
#[derive(Clone, Copy, Debug)]
pub struct AlreadyInstalled {
    _private: (),
}

impl fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a global metrics recorder is already installed")
    }
}

impl std::error::Error for AlreadyInstalled {}
