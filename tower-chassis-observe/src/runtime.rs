//! What tokio's runtime does, as metrics; and what the allocator does, where it says so.
//!
//! Only what tokio gives without `tokio_unstable`.
//!
//! # Example
//! ```
//! use tower_chassis_observe::{metrics::RecorderHandle, process, runtime};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let recorder = RecorderHandle::global();
//! // Before each page (`MetricsService::before`), or every ten seconds.
//! runtime::sample(&tokio::runtime::Handle::current(), recorder.clone());
//! process::sample(recorder);
//! # }
//! ```
//!
//! # Telemetry
//! | metric | kind | labels |
//! |---|---|---|
//! | `chassis_runtime_workers` | gauge: worker threads | |
//! | `chassis_runtime_alive_tasks` | gauge: tasks that have not ended | |
//! | `chassis_runtime_global_queue_depth` | gauge: tasks that wait in the global queue | |
//! | `chassis_runtime_worker_parks_total` | counter: how often a worker went to sleep | `worker`: its number |
//! | `chassis_runtime_worker_busy_seconds` | gauge that only grows: how long a worker was busy | `worker` |
//! | `chassis_allocator_bytes` | gauge | `kind`: `allocated`, `active`, `resident`, `mapped` |
//!
//! `rate(chassis_runtime_worker_busy_seconds[1m])` is how busy a worker is, 0 to 1. It is a gauge because counters of the
//! `metrics` facade are whole numbers.
//!
//! # Cost
//! Nothing until it is sampled; then a few atomic reads per worker.

use metrics::{Label, Recorder, Unit};
use tokio::runtime::Handle;

use crate::metrics::RecorderHandle;

pub(crate) const WORKERS: &str = "chassis_runtime_workers";
pub(crate) const ALIVE_TASKS: &str = "chassis_runtime_alive_tasks";
pub(crate) const QUEUE_DEPTH: &str = "chassis_runtime_global_queue_depth";
pub(crate) const PARKS: &str = "chassis_runtime_worker_parks_total";
pub(crate) const BUSY: &str = "chassis_runtime_worker_busy_seconds";
pub(crate) const ALLOCATOR: &str = "chassis_allocator_bytes";

/// What the allocator says, in bytes. What it does not say is none.
///
/// ```
/// use tower_chassis_observe::{metrics::RecorderHandle, runtime::{self, AllocatorStats}};
///
/// // With jemalloc: `tikv_jemalloc_ctl::epoch::advance()`, then `stats::allocated::read()`, ….
/// let stats = AllocatorStats { allocated: Some(10 << 20), resident: Some(16 << 20), ..AllocatorStats::default() };
/// runtime::allocator(stats, RecorderHandle::global());
/// ```
#[derive(Clone, Copy, Default, Debug)]
pub struct AllocatorStats {
    /// What the program has asked for and not given back.
    pub allocated: Option<u64>,
    /// Pages in which that lies.
    pub active: Option<u64>,
    /// Of these and the allocator's own, what is in memory.
    pub resident: Option<u64>,
    /// Address space.
    pub mapped: Option<u64>,
}

/// Reads what a runtime does into metrics.
pub fn sample(runtime: &Handle, recorder: impl Into<RecorderHandle>) {
    let recorder = recorder.into();
    let metrics = runtime.metrics();
    let gauge = |name, value: usize| recorder.gauge(name, Vec::new()).set(value as f64);
    gauge(WORKERS, metrics.num_workers());
    gauge(ALIVE_TASKS, metrics.num_alive_tasks());
    gauge(QUEUE_DEPTH, metrics.global_queue_depth());
    #[cfg(target_has_atomic = "64")]
    for worker in 0..metrics.num_workers() {
        let labels = vec![Label::new("worker", worker.to_string())];
        let busy = metrics.worker_total_busy_duration(worker).as_secs_f64();
        recorder.gauge(BUSY, labels.clone()).set(busy);
        let parks = metrics.worker_park_count(worker);
        recorder.counter(PARKS, labels).absolute(parks);
    }
}

/// Records what the allocator says.
pub fn allocator(stats: AllocatorStats, recorder: impl Into<RecorderHandle>) {
    let recorder = recorder.into();
    for (kind, bytes) in [
        ("allocated", stats.allocated),
        ("active", stats.active),
        ("resident", stats.resident),
        ("mapped", stats.mapped),
    ] {
        if let Some(bytes) = bytes {
            let labels = vec![Label::from_static_parts("kind", kind)];
            recorder.gauge(ALLOCATOR, labels).set(bytes as f64);
        }
    }
}

/// The help texts.
pub(crate) fn describe(recorder: &dyn Recorder) {
    for (name, unit, help) in [
        (WORKERS, None, "Worker threads of the runtime."),
        (
            ALIVE_TASKS,
            None,
            "Tasks of the runtime that have not ended.",
        ),
        (
            QUEUE_DEPTH,
            None,
            "Tasks that wait in the global queue of the runtime.",
        ),
        (
            BUSY,
            Some(Unit::Seconds),
            "Time that a worker of the runtime was busy.",
        ),
        (
            ALLOCATOR,
            Some(Unit::Bytes),
            "Memory as the allocator counts it.",
        ),
    ] {
        recorder.describe_gauge(name.into(), unit, help.into());
    }
    let help = "Times that a worker of the runtime went to sleep.";
    recorder.describe_counter(PARKS.into(), None, help.into());
}
