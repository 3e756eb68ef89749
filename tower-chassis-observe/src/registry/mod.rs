//! Holds what was measured: a recorder for the `metrics` facade whose content is read as one [`Snapshot`].
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use tower_chassis_observe::{metrics::ServerMetricsLayer, registry::{Registry, text}};
//!
//! let registry = Arc::new(Registry::new().buckets("orders.value", &[10.0, 100.0, 1_000.0]));
//! let layer = ServerMetricsLayer::new().recorder(Arc::clone(&registry));
//! metrics::with_local_recorder(&*registry, || metrics::counter!("orders.placed").increment(1));
//! assert!(text(&registry.snapshot()).contains("orders_placed_total 1"));
//! # let _ = layer;
//! ```
//! `metrics::set_global_recorder(registry)` makes it the one of all layers and macros.
//!
//! # Who reads
//! * [`text`] writes a snapshot for Prometheus; [`Prometheus`](crate::prometheus::Prometheus) is a registry that is
//!   installed and served.
//! * A [`Reporter`] of your own gets one every ten seconds, or as often as [`Registry::report_every`] is told.
//!
//! Everything is counted from the start on, and reading takes nothing away: any number may read.
//!
//! # Configuration
//! | setter | default | |
//! |---|---|---|
//! | [`max_series`](Registry::max_series) | 100,000 | series of all metrics together |
//! | [`buckets`](Registry::buckets) | [`SECONDS`]; [`BYTES`] for what was described in bytes | upper bounds of a histogram |
//!
//! # Telemetry
//! A handle beyond [`max_series`](Registry::max_series) does nothing, and a value of a histogram that is no finite number is
//! left out: both count as `chassis_telemetry_lost_total` with `signal="metric"`.
//!
//! # Cost
//! A handle is looked up under a lock that readers share; layers do it once for a series. A count is one addition to a
//! word of the thread's core (2.4 ns), a value of a histogram two (10.5 ns), an addition to a gauge one (4 ns); `set` is a
//! store. A handle allocates nothing, and nothing grows while nobody reads. A counter and a histogram, which has three
//! strings as labels that are made for the call, take 200 ns by the macros, almost all of it for the labels.
//!
//! A counter takes 128 bytes for each core, of eight at the most, and so does a histogram with up to 14 bounds; a gauge
//! that is only set takes one word.

mod cells;
mod reporter;
mod snapshot;
mod store;
mod text;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, Metadata,
    Recorder, SharedString, Unit,
};

use self::{
    cells::{CounterCell, GaugeCell, HistogramCell},
    store::{Listed, Room, Store},
};
use crate::{
    events::Signal,
    metrics::{describe_to, names},
};

pub use self::{
    reporter::{EVERY, Reporter},
    snapshot::{Distribution, Family, MetricKind, Series, Snapshot, Value},
    text::text,
};

/// The bounds of durations, in seconds, as OpenTelemetry's conventions advise.
pub const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The bounds of sizes, in bytes: 128 bytes to 64 MiB.
pub const BYTES: [f64; 11] = [
    128.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
];

/// A recorder that holds what is recorded, in memory of a bounded size. See the [module](self).
pub struct Registry {
    started: SystemTime,
    room: Room,
    bounds: Vec<(Box<str>, Arc<[f64]>)>,
    seconds: Arc<[f64]>,
    bytes: Arc<[f64]>,
    counters: Store<CounterCell>,
    gauges: Store<GaugeCell>,
    histograms: Store<Recorded>,
    about: RwLock<HashMap<Arc<str>, About>>,
    lost: Arc<CounterCell>,
}

/// What was said of a metric.
#[derive(Clone)]
struct About {
    help: Arc<str>,
    unit: Option<Unit>,
}

/// A histogram, and where what it leaves out is counted.
struct Recorded {
    cell: HistogramCell,
    lost: Arc<CounterCell>,
}

impl Registry {
    /// An empty one, which knows the help texts and units of this crate's metrics.
    #[must_use]
    pub fn new() -> Self {
        let counters = Store::default();
        let signal = Label::from_static_parts("signal", Signal::Metric.as_str());
        let lost = Key::from_parts(names::TELEMETRY_LOST, vec![signal]);
        // It is there before something is lost, and takes nobody's room.
        let lost = counters.get(&lost, &Room::of(1), CounterCell::new);
        let registry = Self {
            started: SystemTime::now(),
            room: Room::of(100_000),
            bounds: Vec::new(),
            seconds: SECONDS.into(),
            bytes: BYTES.into(),
            counters,
            gauges: Store::default(),
            histograms: Store::default(),
            about: RwLock::default(),
            lost: lost.unwrap_or_else(|| Arc::new(CounterCell::new())),
        };
        describe_to(&registry);
        registry
    }

    /// How many series there may be, of all metrics together. Default 100,000. Handles of those beyond do nothing.
    #[must_use]
    pub fn max_series(mut self, most: usize) -> Self {
        self.room.most = most;
        self
    }

    /// The upper bounds of the buckets of a histogram, by its name as it is recorded. They may come in any order; what is
    /// no finite number, or there twice, is left out. To be said before the first value of the metric.
    #[must_use]
    pub fn buckets(mut self, metric: &str, bounds: &[f64]) -> Self {
        let mut bounds: Vec<f64> = bounds
            .iter()
            .copied()
            .filter(|bound| bound.is_finite())
            .collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        self.bounds.retain(|(name, _)| **name != *metric);
        self.bounds.push((metric.into(), bounds.into()));
        self
    }

    /// How many series there are.
    #[must_use]
    pub fn series(&self) -> usize {
        self.room.used.load(Relaxed)
    }

    /// Everything that was measured by now. Families are in the order of their names.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut families = BTreeMap::new();
        let mut add = |kind, name: Arc<str>, series| {
            families.insert((name, kind as u8), (kind, series));
        };
        for (name, series) in self.counters.list() {
            let value = |cell: &CounterCell| Value::Counter(cell.get());
            add(MetricKind::Counter, name, read(&series, value));
        }
        for (name, series) in self.gauges.list() {
            let value = |cell: &GaugeCell| Value::Gauge(cell.get());
            add(MetricKind::Gauge, name, read(&series, value));
        }
        for (name, series) in self.histograms.list() {
            add(MetricKind::Histogram, name, read(&series, Recorded::value));
        }
        let about = self.about.read().unwrap_or_else(PoisonError::into_inner);
        let families = families.into_iter().map(|((name, _), (kind, series))| {
            let about = about.get(&name);
            Family {
                help: about.map_or_else(|| "".into(), |about| Arc::clone(&about.help)),
                unit: about.and_then(|about| about.unit),
                name,
                kind,
                series,
            }
        });
        Snapshot {
            started: self.started,
            families: families.collect(),
            at: SystemTime::now(),
        }
    }

    fn bounds_of(&self, name: &str) -> Arc<[f64]> {
        if let Some((_, bounds)) = self.bounds.iter().find(|(metric, _)| **metric == *name) {
            return Arc::clone(bounds);
        }
        let about = self.about.read().unwrap_or_else(PoisonError::into_inner);
        let in_bytes = about
            .get(name)
            .is_some_and(|about| about.unit == Some(Unit::Bytes));
        Arc::clone(if in_bytes { &self.bytes } else { &self.seconds })
    }

    /// The last word counts: what is known of this crate's metrics can be said in other words.
    fn describe(&self, name: &KeyName, unit: Option<Unit>, help: &str) {
        let mut about = self.about.write().unwrap_or_else(PoisonError::into_inner);
        let help = help.into();
        about.insert(name.as_str().into(), About { help, unit });
    }
}

fn read<T>(series: &[Listed<T>], value: impl Fn(&T) -> Value) -> Vec<Series> {
    let series = series.iter().map(|series| Series {
        labels: Arc::clone(&series.labels),
        value: value(&series.cell),
    });
    series.collect()
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("series", &self.series())
            .field("max_series", &self.room.most)
            .field("lost", &self.lost.get())
            .finish_non_exhaustive()
    }
}

impl Recorder for Registry {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, unit, &help);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, unit, &help);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&key, unit, &help);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.counters.get(key, &self.room, CounterCell::new) {
            Some(cell) => Counter::from_arc(cell),
            None => {
                self.lost.add(1);
                Counter::noop()
            }
        }
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.gauges.get(key, &self.room, GaugeCell::new) {
            Some(cell) => Gauge::from_arc(cell),
            None => {
                self.lost.add(1);
                Gauge::noop()
            }
        }
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let make = || Recorded {
            cell: HistogramCell::new(self.bounds_of(key.name())),
            lost: Arc::clone(&self.lost),
        };
        match self.histograms.get(key, &self.room, make) {
            Some(cell) => Histogram::from_arc(cell),
            None => {
                self.lost.add(1);
                Histogram::noop()
            }
        }
    }
}

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.add(value);
    }
    fn absolute(&self, value: u64) {
        self.at_least(value);
    }
}

impl GaugeFn for GaugeCell {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, value: f64) {
        Self::set(self, value);
    }
}

impl Recorded {
    fn value(&self) -> Value {
        let (counts, sum) = self.cell.get();
        Value::Histogram(Distribution {
            bounds: Arc::clone(self.cell.bounds()),
            counts,
            sum,
        })
    }
}

impl HistogramFn for Recorded {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }
    fn record_many(&self, value: f64, count: usize) {
        if value.is_finite() {
            self.cell.record(value, count as u64);
        } else {
            self.lost.add(1);
        }
    }
}

#[cfg(test)]
mod tests;
