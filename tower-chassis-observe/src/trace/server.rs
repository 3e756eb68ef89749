//! The trace of a server's calls.

use std::sync::Arc;

use http::Request;
use tokio::time::Instant;
use tower_chassis_core::{Carrier, Live, settle::UntilEnd, verdict::Auto, wire::Start};
use tracing::{Span, field};

use super::{
    current::Scope,
    policy::{Sampler, TraceHandle, TracePolicy},
    sampling::Sampling,
    span::{Side, TraceTicket},
    state,
};
use crate::method::KnownMethod;

observer_layer! {
    /// Puts the calls of a server into their trace, and a span around each. See the [module](super).
    TraceLayer, Trace, TracePolicy, TraceHandle,
    /// The service of [`TraceLayer`].
    TraceService
}

impl TraceLayer {
    /// A span for every call.
    pub fn new() -> Self {
        let sampler = Sampler::new(Live::new(TracePolicy::default()));
        Self {
            policy: Trace { sampler },
            settle: UntilEnd::new(Auto),
        }
    }
}

impl Default for TraceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<J> TraceLayer<J> {
    /// Which traces are recorded; short for a [`policy`](Self::policy) of that.
    pub fn sampling(self, sampling: Sampling) -> Self {
        self.policy(TracePolicy::from(sampling))
    }
}

/// The policy of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace {
    sampler: Arc<Sampler>,
}

impl Trace {
    fn handle(&self) -> TraceHandle {
        TraceHandle(Arc::clone(&self.sampler))
    }

    fn fresh(&self) -> Self {
        Self {
            sampler: self.sampler.fresh(),
        }
    }

    fn with_policy(&self, live: Live<TracePolicy>) -> Self {
        Self {
            sampler: Sampler::new(live),
        }
    }
}

impl<B> Start<Request<B>> for Trace {
    type Ticket = Option<TraceTicket>;

    fn start(&self, request: &mut Request<B>, _: Instant) -> Self::Ticket {
        if !self.sampler.begin() {
            return None;
        }
        let parent = state::read(request.headers());
        let scope = match &parent {
            Some(Scope { context, state }) => Some(Scope {
                context: self.sampler.child(context),
                state: state.clone(),
            }),
            None => self.sampler.root().map(|context| Scope {
                context,
                state: None,
            }),
        };
        let method = KnownMethod::from(request.method());
        let span = match &scope {
            Some(scope) if self.sampler.wants(&scope.context) => {
                span(request, method, scope, parent.as_ref())
            }
            _ => Span::none(),
        };
        let invocation = request.invocation_mut();
        if let Some(scope) = &scope {
            invocation.set_trace(scope.context, scope.state.clone());
        }
        let route = (!span.is_disabled()).then(|| invocation.route_slot());
        let end = Side::Server { method, route };
        Some(TraceTicket::new(scope, span, end, &self.sampler))
    }
}

fn span<B>(
    request: &Request<B>,
    method: KnownMethod,
    scope: &Scope,
    parent: Option<&Scope>,
) -> Span {
    tracing::info_span!(
        target: "tower_chassis::trace",
        "request",
        otel.name = method.span_name(),
        otel.kind = "server",
        otel.status_code = field::Empty,
        trace_id = %scope.context.trace_id(),
        span_id = %scope.context.span_id(),
        parent_span_id = parent.map(|parent| field::display(parent.context.span_id())),
        http.request.method = method.label(),
        http.route = field::Empty,
        url.path = request.uri().path(),
        http.response.status_code = field::Empty,
        "error.type" = field::Empty,
    )
}
