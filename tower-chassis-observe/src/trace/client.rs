//! The trace of a client's calls.

use std::sync::Arc;

use http::Request;
use tokio::time::Instant;
use tower_chassis_core::{Carrier, Invocation, Live, settle::UntilEnd, verdict::Auto, wire::Start};
use tracing::{Span, field};

use super::{
    current::{self, Scope},
    policy::{Sampler, TraceHandle, TracePolicy},
    sampling::Sampling,
    span::{Side, TraceTicket},
    state,
};
use crate::{method::KnownMethod, metrics::server_of};

observer_layer! {
    /// Sends the trace with the calls of a client, and puts a span around each. See the [module](super).
    ClientTraceLayer, ClientTrace, TracePolicy, TraceHandle,
    /// The service of [`ClientTraceLayer`].
    ClientTraceService
}

impl ClientTraceLayer {
    /// A span for every call.
    pub fn new() -> Self {
        let sampler = Sampler::new(Live::new(TracePolicy::default()));
        Self {
            policy: ClientTrace { sampler },
            settle: UntilEnd::new(Auto),
        }
    }
}

impl Default for ClientTraceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<J> ClientTraceLayer<J> {
    /// Which traces are recorded; short for a [`policy`](Self::policy) of that.
    pub fn sampling(self, sampling: Sampling) -> Self {
        self.policy(TracePolicy::from(sampling))
    }
}

/// The policy of [`ClientTraceLayer`].
#[derive(Clone, Debug)]
pub struct ClientTrace {
    sampler: Arc<Sampler>,
}

impl ClientTrace {
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

impl<B> Start<Request<B>> for ClientTrace {
    type Ticket = Option<TraceTicket>;

    fn start(&self, request: &mut Request<B>, _: Instant) -> Self::Ticket {
        if !self.sampler.begin() {
            return None;
        }
        let parent = parent_of(request);
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
        let span = match &scope {
            Some(scope) if self.sampler.wants(&scope.context) => {
                span(request, scope, parent.as_ref())
            }
            _ => Span::none(),
        };
        if let Some(scope) = &scope {
            state::write(request.headers_mut(), scope);
            // None is made for it: that costs more than the header, and `current` says it too.
            if let Some(invocation) = request.extensions_mut().get_mut::<Invocation>() {
                invocation.set_trace(scope.context, scope.state.clone());
            }
        }
        Some(TraceTicket::new(scope, span, Side::Client, &self.sampler))
    }
}

fn parent_of<B>(request: &Request<B>) -> Option<Scope> {
    let invocation = request.invocation();
    if let Some(context) = invocation.and_then(Invocation::trace) {
        return Some(Scope {
            context,
            state: invocation.and_then(Invocation::trace_state).cloned(),
        });
    }
    current::here().or_else(|| state::read(request.headers()))
}

fn span<B>(request: &Request<B>, scope: &Scope, parent: Option<&Scope>) -> Span {
    let method = KnownMethod::from(request.method());
    let (address, port) = server_of(request);
    let resent = request
        .invocation()
        .map_or(1, Invocation::attempt)
        .saturating_sub(1);
    tracing::info_span!(
        target: "tower_chassis::trace",
        "request",
        otel.name = method.span_name(),
        otel.kind = "client",
        otel.status_code = field::Empty,
        trace_id = %scope.context.trace_id(),
        span_id = %scope.context.span_id(),
        parent_span_id = parent.map(|parent| field::display(parent.context.span_id())),
        http.request.method = method.label(),
        http.request.resend_count = (resent > 0).then_some(resent),
        server.address = address,
        server.port = port,
        url.path = request.uri().path(),
        http.response.status_code = field::Empty,
        "error.type" = field::Empty,
    )
}
