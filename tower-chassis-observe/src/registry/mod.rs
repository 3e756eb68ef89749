//! What was measured, for whoever passes it on.

mod snapshot;

pub use self::snapshot::{Distribution, Family, MetricKind, Series, Snapshot, Value};
