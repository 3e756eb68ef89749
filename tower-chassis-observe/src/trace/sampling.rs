//! Which traces are recorded.

/// Which traces are recorded. Made into a [`TracePolicy`](super::TracePolicy), which is live.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sampling(Option<f64>);

impl Sampling {
    /// Every call has a span; a new trace is marked as sampled. The default.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Of the traces that begin here, this part (0 to 1) is sampled; of the others who began them has decided.
    /// The calls of a trace that is not sampled have no span, only the header. The id of the trace decides, as with
    /// OpenTelemetry's `TraceIdRatioBased`.
    #[must_use]
    pub const fn ratio(ratio: f64) -> Self {
        Self(Some(ratio))
    }

    /// The part of new traces that is sampled, if not every call has a span.
    pub(super) const fn of_new(self) -> Option<f64> {
        self.0
    }
}
