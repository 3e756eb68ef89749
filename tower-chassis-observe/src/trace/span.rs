//! What a trace layer holds for the length of a call.

use std::{fmt, sync::Arc};

use tokio::time::Instant;
use tower_chassis_core::{
    Verdict,
    invocation::{MatchedRoute, RouteSlot},
    settle::Observe,
};
use tracing::{Span, field};

use super::{current::Scope, policy::Sampler};
use crate::{fault::Outcome, method::KnownMethod};

/// What [`Trace`](super::Trace) and [`ClientTrace`](super::ClientTrace) hold for the length of a call.
#[derive(Debug)]
pub struct TraceTicket {
    scope: Option<Scope>,
    span: Span,
    end: Side,
    /// Counts the span, where there is one.
    sampler: Option<Arc<Sampler>>,
}

impl TraceTicket {
    pub(super) fn new(scope: Option<Scope>, span: Span, end: Side, sampler: &Arc<Sampler>) -> Self {
        let sampler = (!span.is_disabled()).then(|| {
            sampler.begin_span();
            Arc::clone(sampler)
        });
        Self {
            scope,
            span,
            end,
            sampler,
        }
    }
}

/// How a span is finished.
pub(super) enum Side {
    Server {
        method: KnownMethod,
        route: Option<RouteSlot>,
    },
    Client,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server { .. } => "Server",
            Self::Client => "Client",
        })
    }
}

impl Observe for TraceTicket {
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let Self { scope, span, .. } = self;
        if span.is_disabled() {
            return Scope::enter(scope, poll);
        }
        Scope::enter(scope, || span.in_scope(poll))
    }

    fn done(self, verdict: Verdict, _: Instant) {
        let Some(sampler) = &self.sampler else {
            return;
        };
        sampler.end_span();
        let span = &self.span;
        let outcome = match &self.end {
            Side::Server { method, route } => {
                if let Some(template) = route
                    .as_ref()
                    .and_then(RouteSlot::get)
                    .map(MatchedRoute::template)
                {
                    span.record("http.route", template);
                    span.record(
                        "otel.name",
                        field::display(format_args!("{} {template}", method.span_name())),
                    );
                }
                Outcome::server(verdict)
            }
            Side::Client => Outcome::client(verdict),
        };
        if let Some(status) = outcome.status {
            span.record("http.response.status_code", status);
        }
        if let Some(error) = outcome.error_type() {
            span.record("error.type", &*error);
        }
        if outcome.is_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}
