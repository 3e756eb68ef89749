//! What was measured by now.

use std::{sync::Arc, time::SystemTime};

use metrics::{Label, Unit};

/// Everything that was measured, read at one time: all its readers, a page for Prometheus, an exporter, a reporter of one's
/// own, are made from this.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Since when it was counted.
    pub started: SystemTime,
    /// When it was read.
    pub at: SystemTime,
    /// By name.
    pub families: Vec<Family>,
}

/// A metric.
#[derive(Clone, Debug)]
pub struct Family {
    /// As it was registered: `http.server.request.duration`.
    pub name: Arc<str>,
    /// What it says; empty if nobody has described it.
    pub help: Arc<str>,
    /// The unit, if it was described with one.
    pub unit: Option<Unit>,
    /// What its values are.
    pub kind: MetricKind,
    /// One for each set of labels.
    pub series: Vec<Series>,
}

/// What the values of a metric are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MetricKind {
    /// A count that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Values by size.
    Histogram,
}

/// A metric with certain labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the order in which they were registered.
    pub labels: Arc<[Label]>,
    /// What was measured, from the start on.
    pub value: Value,
}

/// What was measured of a series, from the start on.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram.
    Histogram(Distribution),
}

/// Values by size.
#[derive(Clone, PartialEq, Debug)]
pub struct Distribution {
    /// The upper bounds of the buckets, each included, from the lowest.
    pub bounds: Arc<[f64]>,
    /// How many are in each bucket alone; one more than there are bounds, for what is above the last.
    pub counts: Vec<u64>,
    /// All together.
    pub sum: f64,
}

impl Distribution {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
