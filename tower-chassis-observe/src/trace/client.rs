//! The trace of a client's calls.

use std::cell::OnceCell;

use http::Request;
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Invocation, Live, clock::Entered, settle::UntilEnd, verdict::Auto, wire::Start,
};
use tracing::{Span, field};

use super::{
    about::About,
    baggage,
    current::{self, Scope},
    policy::{TraceHandle, TracePolicy},
    propagation::{self, Incoming},
    sink::SpanKind,
    span::{Place, TraceTicket, places},
    tracer::Tracer,
};

observer_layer! {
    /// Sends the trace with the calls of a client, and puts a span around each. See the [module](super).
    ClientTraceLayer, ClientTrace, TracePolicy, TraceHandle,
    /// The service of [`ClientTraceLayer`].
    ClientTraceService
}

tracer_setters!(ClientTraceLayer);

impl ClientTraceLayer {
    /// A span for every call.
    pub fn new() -> Self {
        Self {
            policy: ClientTrace {
                tracer: Tracer::new(),
            },
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
    /// Whether the [baggage](tower_chassis_core::Invocation::baggage) that a call carries is written into the `baggage`
    /// header. It is by default; a call that carries none keeps the header that it has. False where it must not
    /// leave the house.
    pub const fn baggage(mut self, write: bool) -> Self {
        self.policy.tracer.baggage = write;
        self
    }
}

/// The policy of [`ClientTraceLayer`].
#[derive(Clone, Debug)]
pub struct ClientTrace {
    tracer: Tracer,
}

impl ClientTrace {
    fn handle(&self) -> TraceHandle {
        self.tracer.handle()
    }

    fn fresh(&self) -> Self {
        Self {
            tracer: self.tracer.fresh(),
        }
    }

    fn with_policy(&self, live: Live<TracePolicy>) -> Self {
        Self {
            tracer: self.tracer.with_policy(live),
        }
    }
}

impl<B> Start<Request<B>> for ClientTrace {
    type Ticket = Option<TraceTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        self.begin(request, || now)
    }

    fn start_on_entry(&self, request: &mut Request<B>, entry: &Entered) -> Self::Ticket {
        self.begin(request, || entry.now())
    }
}

impl ClientTrace {
    fn begin<B>(
        &self,
        request: &mut Request<B>,
        now: impl FnOnce() -> Instant,
    ) -> Option<TraceTicket> {
        let tracer = &self.tracer;
        if !tracer.shared.begin() {
            return None;
        }
        let (mut parent, request_id) = self.parent_of(request);
        let scope = Scope {
            context: tracer.next(&parent, SpanKind::Client)?,
            state: parent.state.take(),
            request_id,
        };
        let open = self.open(request, &scope, &parent, now);
        let (context, state) = (scope.context, scope.state.as_deref());
        tracer
            .propagation
            .write(request.headers_mut(), &context, state);
        // None is made for it: that costs more than the header, and `current` says it too.
        let mut carried = None;
        if let Some(invocation) = request.extensions_mut().get_mut::<Invocation>() {
            invocation.set_trace(context, scope.state.clone());
            carried = invocation.baggage().filter(|_| tracer.baggage).cloned();
        }
        if let Some(carried) = carried {
            baggage::write(request.headers_mut(), &carried);
        }
        Some(TraceTicket::new(scope, open))
    }

    /// The call that this one is made for, and the id of its request.
    fn parent_of<B>(&self, request: &Request<B>) -> (Incoming, Option<std::sync::Arc<str>>) {
        let invocation = request.invocation();
        let named = invocation.and_then(Invocation::request_id).cloned();
        if let Some(context) = invocation.and_then(Invocation::trace) {
            let state = invocation.and_then(Invocation::trace_state).cloned();
            return (Incoming::local(context, state), named);
        }
        if let Some(here) = current::here() {
            let named = named.or(here.request_id);
            return (Incoming::local(here.context, here.state), named);
        }
        if !propagation::tells(request.headers()) {
            return (Incoming::default(), named);
        }
        (self.tracer.propagation.read(request.headers()), named)
    }

    /// The span, where somebody takes it.
    fn open<B>(
        &self,
        request: &Request<B>,
        scope: &Scope,
        parent: &Incoming,
        now: impl FnOnce() -> Instant,
    ) -> Option<Box<Place>> {
        let tracer = &self.tracer;
        let place = OnceCell::new();
        let tell = || {
            let filled = || {
                let mut place = places::take();
                place.about.made(request);
                place
            };
            &place.get_or_init(filled).about
        };
        let span = if tracer.wants(&scope.context) {
            span(tell, scope, parent)
        } else {
            Span::none()
        };
        if tracer.takes(&scope.context, &span) {
            tell();
        }
        let mut place = place.into_inner()?;
        place.open(tracer, scope, parent, span, None, now());
        Some(place)
    }
}

/// What it tells is asked for only if somebody listens.
fn span<'a>(tell: impl Fn() -> &'a About, scope: &Scope, parent: &Incoming) -> Span {
    tracing::info_span!(
        target: "tower_chassis::trace",
        "request",
        otel.name = field::display(tell().name()),
        otel.kind = "client",
        otel.status_code = field::Empty,
        trace_id = %scope.context.trace_id(),
        span_id = %scope.context.span_id(),
        parent_span_id = parent.parent.map(|parent| field::display(parent.span_id())),
        http.request.method = tell().http_method(),
        http.request.method_original = tell().method_original(),
        http.request.resend_count = tell().resent(),
        http.response.status_code = field::Empty,
        rpc.system.name = tell().rpc_system(),
        rpc.method = field::Empty,
        rpc.response.status_code = field::Empty,
        server.address = tell().server().0,
        server.port = tell().server().1,
        url.scheme = tell().scheme(),
        url.path = tell().path(),
        network.protocol.version = tell().version(),
        "error.type" = field::Empty,
    )
}
