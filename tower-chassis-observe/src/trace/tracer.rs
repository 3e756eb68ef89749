//! What both trace layers are made of.

use std::{fmt, sync::Arc};

use tower_chassis_core::{Live, trace::TraceContext};
use tracing::{Level, Span, level_filters::LevelFilter};

use super::{
    policy::{Shared, TraceHandle, TracePolicy},
    propagation::{Incoming, Propagation},
    sampler::Sampler,
    sink::{SpanKind, SpanSink},
};

/// What is live, and what a layer was built with.
#[derive(Clone)]
pub(super) struct Tracer {
    pub(super) shared: Arc<Shared>,
    pub(super) sink: Option<Arc<dyn SpanSink>>,
    pub(super) sampler: Option<Arc<dyn Sampler>>,
    pub(super) propagation: Propagation,
    pub(super) baggage: bool,
    pub(super) expects_export: bool,
}

impl Tracer {
    pub(super) fn new() -> Self {
        Self {
            shared: Shared::new(Live::new(TracePolicy::default())),
            sink: None,
            sampler: None,
            propagation: Propagation::default(),
            baggage: true,
            expects_export: false,
        }
    }

    pub(super) fn handle(&self) -> TraceHandle {
        TraceHandle(Arc::clone(&self.shared))
    }

    pub(super) fn fresh(&self) -> Self {
        Self {
            shared: self.shared.fresh(),
            ..self.clone()
        }
    }

    pub(super) fn with_policy(&self, live: Live<TracePolicy>) -> Self {
        Self {
            shared: Shared::new(live),
            ..self.clone()
        }
    }

    /// The span of a call, in the trace that it came with or in a new one.
    pub(super) fn next(&self, incoming: &Incoming, kind: SpanKind) -> Option<TraceContext> {
        let span = random().to_be_bytes();
        let context = match &incoming.parent {
            Some(parent) => parent.child(span)?,
            None => {
                let id = u128::from(random()) << 64 | u128::from(random());
                TraceContext::new(id.to_be_bytes(), span, true)?
            }
        };
        let trace = context.trace_id();
        let sampled = match (&self.sampler, incoming.sampled) {
            (None, Some(said)) => said,
            (None, None) => self.shared.samples(trace),
            (Some(own), said) => {
                let parent = incoming.parent.as_ref().filter(|_| said.is_some());
                own.sample(trace, parent, kind)
            }
        };
        if sampled == context.is_sampled() {
            return Some(context);
        }
        TraceContext::new(trace.to_bytes(), span, sampled)
    }

    /// Whether a call has a span for who listens to `tracing`.
    ///
    /// Where there is no subscriber `tracing` itself does not only find out that: with its feature `log`, which axum and
    /// others turn on for everybody, it asks for all fields first.
    pub(super) fn wants(&self, context: &TraceContext) -> bool {
        Level::INFO <= LevelFilter::current()
            && (context.is_sampled() || (self.sampler.is_none() && self.shared.every()))
    }

    /// Whether a sink takes the span of a call. Says so where nobody does and somebody should.
    pub(super) fn takes(&self, context: &TraceContext, span: &Span) -> bool {
        let sink = self.sink_for(context).is_some();
        if !sink && self.expects_export && context.is_sampled() && span.is_disabled() {
            self.shared.lost();
        }
        sink
    }

    /// Where the span of a call goes.
    pub(super) fn sink_for(&self, context: &TraceContext) -> Option<&Arc<dyn SpanSink>> {
        self.sink.as_ref().filter(|_| context.is_sampled())
    }
}

/// A number that is not 0.
fn random() -> u64 {
    match fastrand::u64(..) {
        0 => 1,
        random => random,
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("shared", &self.shared)
            .field("sink", &self.sink.is_some())
            .field("sampler", &self.sampler.is_some())
            .field("propagation", &self.propagation)
            .field("baggage", &self.baggage)
            .finish()
    }
}

/// What both layers can be told.
macro_rules! tracer_setters {
    ($layer:ident) => {
        impl<J> $layer<J> {
            /// Which traces are recorded; short for a [`policy`](Self::policy) of that.
            pub fn sampling(self, sampling: $crate::trace::Sampling) -> Self {
                self.policy($crate::trace::TracePolicy::from(sampling))
            }

            /// Where the spans of sampled traces go, besides `tracing`. None by default.
            pub fn sink(mut self, sink: impl $crate::trace::SpanSink) -> Self {
                self.policy.tracer.sink = Some(::std::sync::Arc::new(sink));
                self
            }

            /// A decision of one's own about which calls are recorded, instead of [`sampling`](Self::sampling). Calls
            /// that it leaves out have no span at all.
            pub fn sampler(mut self, sampler: impl $crate::trace::Sampler) -> Self {
                self.policy.tracer.sampler = Some(::std::sync::Arc::new(sampler));
                self
            }

            /// Which headers carry the trace: W3C's by default.
            pub const fn propagation(mut self, propagation: $crate::trace::Propagation) -> Self {
                self.policy.tracer.propagation = propagation;
                self
            }

            /// Says that somebody is to take the spans. A sampled trace that nobody takes (there is no
            /// [`sink`](Self::sink), and no subscriber listens) is then warned of, once, and
            /// [counted](super::TraceHandle::lost).
            pub const fn expects_export(mut self) -> Self {
                self.policy.tracer.expects_export = true;
                self
            }
        }
    };
}
