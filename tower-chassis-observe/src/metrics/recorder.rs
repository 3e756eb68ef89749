//! Where metrics go.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

static METADATA: Metadata<'static> = Metadata::new(
    "tower_chassis::metrics",
    Level::INFO,
    Some("tower_chassis_observe"),
);

/// Where metrics go: to the global recorder by default, or to one of your own.
#[derive(Clone, Default)]
pub struct RecorderHandle(Option<Arc<dyn Recorder + Send + Sync>>);

impl RecorderHandle {
    /// The global recorder, as it is when a series is first used.
    #[must_use]
    pub const fn global() -> Self {
        Self(None)
    }

    /// Runs `f` with the recorder.
    pub fn with<R>(&self, f: impl FnOnce(&dyn Recorder) -> R) -> R {
        match &self.0 {
            Some(recorder) => f(&**recorder),
            None => metrics::with_recorder(f),
        }
    }

    pub(crate) fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.with(|recorder| recorder.register_counter(&Key::from_parts(name, labels), &METADATA))
    }

    pub(crate) fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&Key::from_parts(name, labels), &METADATA))
    }

    pub(crate) fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&Key::from_parts(name, labels), &METADATA))
    }
}

impl<R: Recorder + Send + Sync + 'static> From<Arc<R>> for RecorderHandle {
    fn from(recorder: Arc<R>) -> Self {
        Self(Some(recorder))
    }
}

impl From<Arc<dyn Recorder + Send + Sync>> for RecorderHandle {
    fn from(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        Self(Some(recorder))
    }
}

impl fmt::Debug for RecorderHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "RecorderHandle(own)"
        } else {
            "RecorderHandle(global)"
        })
    }
}

/// Tells a recorder, which may be a user's own. If it panics that is its fault, and not the call's. The hook of the process
/// has told it.
#[inline]
pub(super) fn told(tell: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(tell));
}
