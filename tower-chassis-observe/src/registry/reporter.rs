//! Readers of one's own.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Registry, Snapshot};

/// How often to report if nothing else is known: 10 s.
pub const EVERY: Duration = Duration::from_secs(10);

/// A day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Gets what was measured, now and then, and takes it where it likes. Closures are reporters.
///
/// It is called on the task that runs [`Registry::report_every`]: what takes long is handed to another.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use tower_chassis_observe::registry::{EVERY, Registry, Snapshot, Value};
///
/// let registry = Arc::new(Registry::new());
/// let reports = registry.report_every(EVERY, |now: &Snapshot| {
///     for family in &now.families {
///         for series in &family.series {
///             if let Value::Counter(count) = series.value {
///                 println!("{} {:?} {count}", family.name, series.labels);
///             }
///         }
///     }
/// });
/// // tokio::spawn(reports);
/// # drop(reports);
/// ```
pub trait Reporter: Send {
    /// Everything that was measured from the start until now.
    fn report(&mut self, now: &Snapshot);
}

impl<F: FnMut(&Snapshot) + Send> Reporter for F {
    fn report(&mut self, now: &Snapshot) {
        self(now);
    }
}

impl Registry {
    /// Reports to `reporter`, the first time after `every` (a millisecond to a day), until the future is dropped. A reporter
    /// that panics is called again the next time; its first panic is logged. If it takes longer than `every`, the next
    /// report is late and none is made up for.
    ///
    /// Needs tokio's timer.
    pub fn report_every<R: Reporter>(
        self: &Arc<Self>,
        every: Duration,
        mut reporter: R,
    ) -> impl Future<Output = ()> + Send + use<R> {
        let registry = Arc::clone(self);
        async move {
            let every = every.clamp(Duration::from_millis(1), LONGEST);
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut warned = false;
            loop {
                ticks.tick().await;
                let now = registry.snapshot();
                let told = catch_unwind(AssertUnwindSafe(|| reporter.report(&now)));
                if told.is_err() && !warned {
                    warned = true;
                    tracing::error!("a reporter of metrics has panicked; this is said once");
                }
            }
        }
    }
}
