//! A decision of one's own.

use tower_chassis_core::trace::{TraceContext, TraceId};

use super::sink::SpanKind;

/// Decides which calls are recorded, instead of [`Sampling`](super::Sampling).
///
/// It is asked once for every call, on its way in, and must be quick. What it says is what the services behind hear
/// in the headers. A closure is one, too.
///
/// ```
/// use tower_chassis_observe::trace::{AlwaysOff, SpanKind, TraceContext, TraceId, TraceLayer};
///
/// // What callers decided, and nothing that begins here.
/// let layer = TraceLayer::new().sampler(
///     |_: TraceId, parent: Option<&TraceContext>, _: SpanKind| parent.is_some_and(TraceContext::is_sampled),
/// );
/// let none = TraceLayer::new().sampler(AlwaysOff);
/// ```
pub trait Sampler: Send + Sync + 'static {
    /// Whether a call is recorded. The `parent` is the one that has decided before; there is none where the trace begins
    /// here, or where who began it left the decision to others.
    fn sample(&self, trace: TraceId, parent: Option<&TraceContext>, kind: SpanKind) -> bool;
}

impl<F> Sampler for F
where
    F: Fn(TraceId, Option<&TraceContext>, SpanKind) -> bool + Send + Sync + 'static,
{
    fn sample(&self, trace: TraceId, parent: Option<&TraceContext>, kind: SpanKind) -> bool {
        self(trace, parent, kind)
    }
}

/// Records every call, whatever its caller decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AlwaysOn;

impl Sampler for AlwaysOn {
    fn sample(&self, _: TraceId, _: Option<&TraceContext>, _: SpanKind) -> bool {
        true
    }
}

/// Records no call, whatever its caller decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AlwaysOff;

impl Sampler for AlwaysOff {
    fn sample(&self, _: TraceId, _: Option<&TraceContext>, _: SpanKind) -> bool {
        false
    }
}
