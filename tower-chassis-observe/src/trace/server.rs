//! The trace of a server's calls.

use std::cell::OnceCell;

use http::{Request, uri::Scheme};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Live, clock::Entered, settle::UntilEnd, verdict::Auto, wire::Start,
};
use tracing::{Span, field};

use super::{
    about::About,
    baggage,
    current::Scope,
    policy::{TraceHandle, TracePolicy},
    propagation::{self, Incoming},
    sink::SpanKind,
    span::{Place, TraceTicket, places},
    tracer::Tracer,
};
use crate::route::Route;

observer_layer! {
    /// Puts the calls of a server into their trace, and a span around each. See the [module](super).
    TraceLayer, Trace, TracePolicy, TraceHandle,
    /// The service of [`TraceLayer`].
    TraceService
}

tracer_setters!(TraceLayer);

impl TraceLayer {
    /// A span for every call.
    pub fn new() -> Self {
        Self {
            policy: Trace {
                tracer: Tracer::new(),
                https: false,
            },
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
    /// Whether the `baggage` header is read into the [`Invocation`](tower_chassis_core::Invocation::baggage). It is by
    /// default.
    pub const fn baggage(mut self, read: bool) -> Self {
        self.policy.tracer.baggage = read;
        self
    }

    /// What `url.scheme` is where the request does not say it, as HTTP/1 never does: behind a listener with TLS,
    /// `https`. By default `http`.
    pub fn scheme(mut self, scheme: &Scheme) -> Self {
        self.policy.https = *scheme == Scheme::HTTPS;
        self
    }
}

/// The policy of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace {
    tracer: Tracer,
    https: bool,
}

impl Trace {
    fn handle(&self) -> TraceHandle {
        self.tracer.handle()
    }

    fn fresh(&self) -> Self {
        Self {
            tracer: self.tracer.fresh(),
            ..*self
        }
    }

    fn with_policy(&self, live: Live<TracePolicy>) -> Self {
        Self {
            tracer: self.tracer.with_policy(live),
            ..*self
        }
    }
}

impl<B> Start<Request<B>> for Trace {
    type Ticket = Option<TraceTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        self.begin(request, || now)
    }

    fn start_on_entry(&self, request: &mut Request<B>, entry: &Entered) -> Self::Ticket {
        self.begin(request, || entry.now())
    }
}

impl Trace {
    fn begin<B>(
        &self,
        request: &mut Request<B>,
        now: impl FnOnce() -> Instant,
    ) -> Option<TraceTicket> {
        let tracer = &self.tracer;
        if !tracer.shared.begin() {
            return None;
        }
        let mut told = propagation::tells(request.headers());
        if told && !tracer.shared.trusts() {
            propagation::forget(request.headers_mut());
            told = false;
        }
        let mut parent = match told {
            true => tracer.propagation.read(request.headers()),
            false => Incoming::default(),
        };
        let context = tracer.next(&parent, SpanKind::Server)?;
        let baggage = match tracer.baggage && told {
            true => baggage::read(request.headers()),
            false => None,
        };
        let invocation = request.invocation_mut();
        let scope = Scope {
            context,
            state: parent.state.take(),
            request_id: invocation.request_id().cloned(),
        };
        invocation.set_trace(context, scope.state.clone());
        if baggage.is_some() {
            invocation.set_baggage(baggage);
        }
        let open = self.open(request, &scope, &parent, now);
        Some(TraceTicket::new(scope, open))
    }

    /// The span, where somebody takes it.
    fn open<B>(
        &self,
        request: &mut Request<B>,
        scope: &Scope,
        parent: &Incoming,
        now: impl FnOnce() -> Instant,
    ) -> Option<Box<Place>> {
        let tracer = &self.tracer;
        let place = OnceCell::new();
        let tell = || {
            let filled = || {
                let mut place = places::take();
                let scheme = if self.https { "https" } else { "http" };
                place.about.served(request, scheme);
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
        let route = Some(Route::of(request));
        place.open(tracer, scope, parent, span, route, now());
        Some(place)
    }
}

/// What it tells is asked for only if somebody listens.
fn span<'a>(tell: impl Fn() -> &'a About, scope: &Scope, parent: &Incoming) -> Span {
    tracing::info_span!(
        target: "tower_chassis::trace",
        "request",
        otel.name = field::display(tell().name()),
        otel.kind = "server",
        otel.status_code = field::Empty,
        trace_id = %scope.context.trace_id(),
        span_id = %scope.context.span_id(),
        parent_span_id = parent.parent.map(|parent| field::display(parent.span_id())),
        http.request.method = tell().http_method(),
        http.request.method_original = tell().method_original(),
        http.route = field::Empty,
        http.response.status_code = field::Empty,
        rpc.system.name = tell().rpc_system(),
        rpc.method = field::Empty,
        rpc.response.status_code = field::Empty,
        url.scheme = tell().scheme(),
        url.path = tell().path(),
        server.address = tell().server().0,
        server.port = tell().server().1,
        client.address = tell().client().map(field::display),
        network.protocol.version = tell().version(),
        user_agent.original = tell().agent(),
        "error.type" = field::Empty,
    )
}
