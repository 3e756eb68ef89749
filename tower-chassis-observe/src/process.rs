//! What the process takes from the system, by the names that Prometheus's own clients use.
//!
//! Read from `/proc/self`: on Linux, elsewhere nothing is recorded.
//!
//! # Example
//! ```
//! use tower_chassis_observe::{process, prometheus::Prometheus};
//!
//! let prometheus = Prometheus::new();
//! let recorder = prometheus.recorder();
//! // Read before each page.
//! let page = prometheus.service().before(move || process::sample(recorder.clone()));
//! # let _ = page;
//! process::sample(prometheus.recorder());
//! # if cfg!(target_os = "linux") {
//! assert!(prometheus.render().contains("process_open_fds"));
//! # }
//! ```
//!
//! # Telemetry
//! | metric | kind |
//! |---|---|
//! | `process_cpu_seconds_total` | counter, of whole seconds: counters of the `metrics` facade are whole numbers |
//! | `process_resident_memory_bytes` | gauge |
//! | `process_virtual_memory_bytes` | gauge |
//! | `process_open_fds` | gauge |
//! | `process_max_fds` | gauge; not where there is no limit |
//! | `process_start_time_seconds` | gauge: Unix time |
//! | `process_threads` | gauge |
//!
//! # Cost
//! Five small files of `/proc` and a listing of the open descriptors, some tens of microseconds: on a task that may take
//! that, every few seconds.

use std::fs;

use metrics::{Recorder, Unit};

use crate::metrics::RecorderHandle;

pub(crate) const CPU: &str = "process_cpu_seconds_total";
pub(crate) const RESIDENT: &str = "process_resident_memory_bytes";
pub(crate) const VIRTUAL: &str = "process_virtual_memory_bytes";
pub(crate) const OPEN_FDS: &str = "process_open_fds";
pub(crate) const MAX_FDS: &str = "process_max_fds";
pub(crate) const START: &str = "process_start_time_seconds";
pub(crate) const THREADS: &str = "process_threads";

/// Ticks of `/proc/self/stat` in a second, on all platforms of Linux that Rust has (`USER_HZ`).
const TICKS: u64 = 100;

/// Reads what this process takes into metrics.
pub fn sample(recorder: impl Into<RecorderHandle>) {
    let recorder = recorder.into();
    let gauge = |name, value: Option<f64>| {
        if let Some(value) = value {
            recorder.gauge(name, Vec::new()).set(value);
        }
    };
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (status, limits) = (read("/proc/self/status"), read("/proc/self/limits"));
    let (stat, system) = (read("/proc/self/stat"), read("/proc/stat"));
    if let Some(ticks) = cpu_ticks(&stat) {
        recorder.counter(CPU, Vec::new()).absolute(ticks / TICKS);
    }
    let kilobytes = |name| Some(field(&status, name)? as f64 * 1024.0);
    gauge(RESIDENT, kilobytes("VmRSS:"));
    gauge(VIRTUAL, kilobytes("VmSize:"));
    gauge(THREADS, field(&status, "Threads:").map(|n| n as f64));
    gauge(MAX_FDS, field(&limits, "Max open files").map(|n| n as f64));
    gauge(START, start(&stat, &system));
    // One of them is the listing's own.
    let open = fs::read_dir("/proc/self/fd").map(|fds| fds.count().saturating_sub(1));
    gauge(OPEN_FDS, open.ok().map(|n| n as f64));
}

/// The first number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/stat`, numbered as in proc(5). The second, the name of the program, may hold anything.
fn of_stat(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    Some(of_stat(stat, 14)? + of_stat(stat, 15)?)
}

fn start(stat: &str, system: &str) -> Option<f64> {
    let after_boot = of_stat(stat, 22)? as f64 / TICKS as f64;
    Some(field(system, "btime ")? as f64 + after_boot)
}

/// The help texts.
pub(crate) fn describe(recorder: &dyn Recorder) {
    for (name, unit, help) in [
        (
            RESIDENT,
            Some(Unit::Bytes),
            "Resident memory size in bytes.",
        ),
        (VIRTUAL, Some(Unit::Bytes), "Virtual memory size in bytes."),
        (OPEN_FDS, None, "Number of open file descriptors."),
        (MAX_FDS, None, "Maximum number of open file descriptors."),
        (
            START,
            Some(Unit::Seconds),
            "Start time of the process since unix epoch in seconds.",
        ),
        (THREADS, None, "Number of OS threads in the process."),
    ] {
        recorder.describe_gauge(name.into(), unit, help.into());
    }
    let help = "Total user and system CPU time spent in seconds.";
    recorder.describe_counter(CPU.into(), Some(Unit::Seconds), help.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) b (c) 1) R 1 2 3 4 5 6 7 8 9 10 250 60 13 14 15 16 17 18 12345 20 21";
        assert_eq!(cpu_ticks(stat), Some(310));
        let at = start(stat, "cpu 1 2\nbtime 1700000000\n").unwrap();
        assert!((at - 1_700_000_123.45).abs() < 1e-6, "{at}");
        assert_eq!((cpu_ticks(""), cpu_ticks("7 (a) R")), (None, None));
        let limits = "Max cpu time   unlimited\nMax open files            1024   4096   files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field(limits, "Max cpu time"), None);
    }
}
